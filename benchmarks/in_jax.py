"""JAX under jit: our losses, the floor and optax."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from batches import Run, Setting, embeddings, labels
from jax import Array
from machine import DEVICE

import rankloss.jax as rl

FLOOR_BLOCK = 256 if DEVICE == "cpu" else 4096

# As our losses do; GPUs would round the floor's factors, and the peers', to 10 bits.
jax.config.update("jax_default_matmul_precision", "highest")


class Jitted:
    """A jitted function and what it is called with."""

    def __init__(self, function: Callable[..., Any], setting: Setting) -> None:
        self.function = jax.jit(function)
        self.arguments = (jnp.asarray(embeddings(setting)), jnp.asarray(labels(setting)))

    def __call__(self) -> Any:
        return jax.block_until_ready(self.function(*self.arguments))

    def planned_bytes(self) -> int:
        """What XLA says that it allocates beside the arguments: temporaries and results."""
        plan = self.function.lower(*self.arguments).compile().memory_analysis()
        return int(plan.temp_size_in_bytes + plan.output_size_in_bytes)


def floor(setting: Setting) -> Run:
    """Scores, and the two products that make a gradient out of an array of their size, block by block."""

    def products(x: Array, _: Array) -> tuple[Array, Array]:
        def step(d_gallery: Array, queries: Array) -> tuple[Array, Array]:
            scores = queries @ x.T
            return d_gallery + scores.T @ queries, scores @ x

        return jax.lax.scan(step, jnp.zeros_like(x), x.reshape(-1, min(FLOOR_BLOCK, len(x)), x.shape[1]))

    return Jitted(products, setting)


def ours(objective: Any, setting: Setting) -> Run:
    """One of our losses; labels are traced."""

    def loss_fn(x: Array, labels: Array) -> Array:
        if setting.layout == "labels":
            return rl.embedding_loss(objective, x, labels, block_size=setting.block_size)
        views = x.reshape(-1, setting.per_class, setting.dimensions)
        return rl.embedding_loss(objective, views, block_size=setting.block_size)

    return Jitted(jax.value_and_grad(loss_fn), setting)


def ntxent(setting: Setting) -> Run:
    """optax's NT-Xent."""
    return Jitted(
        jax.value_and_grad(lambda x, labels: optax.losses.ntxent(x, labels, temperature=0.1)), setting
    )


def ranking_softmax(setting: Setting) -> Run:
    """optax's softmax loss of lists of scores, given those of all pairs."""

    def loss_fn(x: Array, labels: Array) -> Array:
        unit = x / jnp.linalg.norm(x, axis=1, keepdims=True)
        others = ~jnp.eye(len(x), dtype=bool)
        relevant = (labels[:, None] == labels[None, :]) & others
        shares = relevant / jnp.sum(relevant, axis=1, keepdims=True)
        return optax.losses.ranking_softmax_loss(unit @ unit.T / 0.1, shares, where=others)

    return Jitted(jax.value_and_grad(loss_fn), setting)


FLOORS = {"JAX": floor}
OURS = {"JAX": ours}
PEERS = {("optax", "ntxent"): ntxent, ("optax", "ranking_softmax_loss"): ranking_softmax}
