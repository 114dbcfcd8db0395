"""The pretraining methods as flax.nnx modules: what the loss of a batch of views is.

A method is called with the float32 embeddings of every kind of crop, `[pictures, views, d]` each, and the step.
"""

from typing import Any

import jax.numpy as jnp
from flax import nnx
from jax import Array, lax

import rankloss.jax as rl
from jax_s2r2.networks import DEFAULT_INIT
from pretraining import swav
from pretraining.objectives import objective
from pretraining.options import Options


def build_method(options: Options, rngs: nnx.Rngs) -> "Ranking | SwAV":
    """The method that the options ask for."""
    if options.method == "swav":
        return SwAV(options, rngs)
    return Ranking(objective(options), include_query=options.method == "s2r2" and options.include_query)


class Ranking(nnx.Module):
    """Each view is a query, and the other views of its picture are what it should find among all others."""

    def __init__(self, objective: Any, *, include_query: bool = False) -> None:
        self.objective, self.include_query = objective, include_query

    def before_step(self) -> None:
        """Nothing to do: a ranking loss has no parameters."""

    def __call__(self, embeddings: list[Array], step: Array) -> Array:
        views = jnp.concatenate(embeddings, axis=1)
        return rl.embedding_loss(self.objective, views, include_query=self.include_query)


class Queue(nnx.Variable):
    """Earlier full crops' embeddings: state of a method, which no gradient changes."""


class SwAV(nnx.Module):
    """A view predicts which prototypes a full crop of the same picture is assigned to."""

    def __init__(self, options: Options, rngs: nnx.Rngs) -> None:
        self.loss = swav.SwAV.of(options)
        width = options.head_dim
        self.prototypes = nnx.Param(DEFAULT_INIT(rngs.params(), (width, options.prototypes)).T)
        size = options.queue_size
        self.queues = Queue(jnp.zeros((2, size, width))) if size else None

    def before_step(self) -> None:
        """Put the prototypes back onto the unit sphere."""
        self.prototypes[...] = swav.unit_rows(jnp, self.prototypes[...])

    def __call__(self, embeddings: list[Array], step: Array) -> Array:
        queues = None if self.queues is None else self.queues[...]
        prototypes = self.prototypes[...]
        loss, queues = self.loss(jnp, lax.stop_gradient, embeddings, prototypes, queues, step)
        if self.queues is not None:
            self.queues[...] = queues
        return loss
