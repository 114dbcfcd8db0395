"""The optimisers in optax; their learning rate is the run's, step by step."""

from functools import lru_cache

import jax
import jax.numpy as jnp
import optax
from jax import Array

from pretraining.options import Options

LARS_TRUST = 1e-3


def build_optimizer(options: Options) -> optax.GradientTransformation:
    """SGD, LARS or AdamW, with PyTorch's defaults; biases and batch norms get no weight decay.

    Equal options give the same one, by which JAX knows that it has compiled their step before.
    """
    rates = tuple(options.learning_rate_at(step) for step in range(1, options.steps + 1))
    return _build(options.optimizer, rates, options.momentum, options.weight_decay)


@lru_cache
def _build(
    name: str, rates: tuple[float, ...], momentum: float, weight_decay: float
) -> optax.GradientTransformation:
    def learning_rate(count: Array) -> Array:
        return jnp.asarray(rates, jnp.float32)[count]

    if name == "adamw":
        return optax.adamw(learning_rate, weight_decay=weight_decay, mask=_matrices)
    decayed = optax.add_decayed_weights(weight_decay, mask=_matrices)
    by_trust = optax.scale_by_trust_ratio(trust_coefficient=LARS_TRUST, eps=1e-8)
    return optax.chain(
        decayed,
        optax.masked(by_trust, _matrices) if name == "lars" else optax.identity(),
        # optax.lars has its momentum after the learning rate. Before it, as PyTorch and lightly have it, the
        # momentum follows a falling rate at once.
        optax.trace(momentum),
        optax.scale_by_learning_rate(learning_rate),
    )


def _matrices(parameters: optax.Params) -> optax.Params:
    return jax.tree.map(lambda parameter: parameter.ndim > 1, parameters)
