"""JAX as the core sees it: loops and branches that a traced function can hold, in forms that XLA fuses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as xp
import numpy as np
from jax import Array, lax

from rankloss._framework import Window
from rankloss._xla import XlaFramework, shares

_apart: Callable[[Array], Array] = lax.optimization_barrier

UNROLLED = 16
"""Up to how many turns of a loop are written out: XLA fuses these better than a loop."""


class JaxFramework(XlaFramework):
    """Arrays with values and traced ones alike."""

    name = "jax"

    exact_windows = False

    def __init__(self) -> None:
        super().__init__(xp)

    def is_array(self, value: object) -> bool:
        return isinstance(value, Array)

    def on_cpu(self, array: Array) -> bool:
        return jax.default_backend() == "cpu"  # a traced array does not say where it is

    def known(self, array: Array) -> Array | None:
        if isinstance(array, jax.core.Tracer) or not array.is_fully_addressable:
            return None
        return array if all(device.platform == "cpu" for device in array.devices()) else None

    # -- loops

    def scan(self, step: Callable[..., Any], carry: Any, rows: Sequence[Array], block_size: int) -> Any:
        length = rows[0].shape[0]
        if length <= block_size:
            return step(carry, tuple(rows))
        number = -(-length // block_size)
        blocks = tuple(_blocks(array, number, block_size) for array in rows)
        carry, outputs = lax.scan(step, carry, blocks)
        return carry, tuple(
            array.reshape(number * block_size, *array.shape[2:])[:length] for array in outputs
        )

    def loop(self, count: Array | int, turn: Callable[[Any, Any], Any], carry: Any) -> Any:
        if isinstance(count, int) and count <= UNROLLED:
            return super().loop(count, turn, carry)
        first = 0 if isinstance(count, int) else xp.zeros_like(count)
        return lax.fori_loop(first, count, turn, carry)

    def most(self, counts: Array) -> Array:
        return xp.max(counts)

    def choose(self, condition: Array, yes: Callable[[], Any], no: Callable[[], Any]) -> Any:
        return lax.cond(_of_all_batches(condition), yes, no)

    # -- what the standard lacks

    def add_vectors_at(self, array: Array, index: Array, values: Array) -> Array:
        added: Array = self._entries(array, index).add(values, mode="promise_in_bounds")
        return added.reshape(array.shape)

    def take_along(self, array: Array, index: Array) -> Array:
        taken: Array = self._entries(array, index).get(mode="promise_in_bounds")
        return taken

    def _entries(self, array: Array, index: Array) -> Any:
        """The entries [q, index[q, k]] of an array, or of it with its rows in one, to be read or added to."""
        rows, width, *rest = array.shape
        row = self.arange(rows, array)[:, None]
        if not self.countable(array):
            return array.at[row, index]
        return array.reshape(rows * width, *rest).at[index + row * width]

    def put(self, array: Array, index: Array, value: float) -> Array:
        return xp.where(self.arange(array.shape[1], array)[None, :] == index[:, None], value, array)

    def take_rows(self, array: Array, order: Array) -> Array:
        return array.at[order].get(mode="promise_in_bounds", unique_indices=True)

    def least_to_the_right(self, array: Array, step: int = 1) -> Array:
        width = array.shape[1]
        places = xp.arange(width)

        def body(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            step, array, _ = state
            beyond = xp.take(array, xp.minimum(places + step, width - 1), axis=1, mode="clip")
            nearer = xp.minimum(array, beyond)
            return 2 * step, nearer, xp.any(nearer != array)

        start = (xp.asarray(step, dtype=xp.int32), array, xp.asarray(True))
        return lax.while_loop(lambda state: (state[0] < width) & state[2], body, start)[1]

    def columns(self, array: Array, window: Window) -> Array:
        if window.width == array.shape[-1]:
            return array
        return lax.dynamic_slice_in_dim(array, window.start, window.width, axis=-1)

    def add_columns(self, array: Array, window: Window, values: Array) -> Array:
        if window.width == array.shape[-1]:
            return array + values
        array = _apart(array)  # fused with what makes it, it would be copied before it is updated
        values = values + self.columns(array, window)
        return lax.dynamic_update_slice_in_dim(array, values, window.start, axis=-1)

    # -- forms whose derivatives are as exact as they are, for second derivatives of a loss

    def folded_sums(self, terms: Sequence[Array]) -> Sequence[Array]:
        return _folded_sums(tuple(terms))

    def clipped_exp(self, exponents: Array, limit: float) -> Array:
        return _clipped_exp(exponents, limit)

    def shares(self, items: Array, positives: Array) -> Array:
        return _shares(items, positives)

    # -- types

    @property
    def index_dtype(self) -> Any:
        return xp.result_type(int)  # of 64 bits where JAX has these enabled

    def arange(self, count: int, like: Array) -> Array:
        return xp.arange(count, dtype=self.index_dtype)

    def zeros(self, shape: tuple[int, ...], like: Array) -> Array:
        return xp.zeros(shape, dtype=like.dtype)

    def constant(self, values: Any, like: Array) -> Array:
        return xp.asarray(values, dtype=like.dtype)


@jax.custom_batching.custom_vmap
def _of_all_batches(condition: Array) -> Array:
    """The condition; where vmap makes it one a batch, whether it holds for all: then a branch stays a branch."""
    return condition


@_of_all_batches.def_vmap
def _(size: int, batched: list[bool], conditions: Array) -> tuple[Array, bool]:
    return _of_all_batches(xp.all(conditions, axis=0)), False


def _blocks(array: Array, number: int, size: int) -> Array:
    """[number, size, ...] of an array's rows, zeros behind the last: no positives, no weight."""
    padding = [(0, number * size - array.shape[0])] + [(0, 0)] * (array.ndim - 1)
    return xp.pad(array, padding).reshape(number, size, *array.shape[1:])


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _clipped_exp(exponents: Array, limit: float) -> Array:
    return xp.exp(xp.clip(exponents, -limit, limit))


@_clipped_exp.defjvp
def _(limit: float, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    value = _clipped_exp(*primals, limit)
    # Near the limit, too, where the tangent would overflow: there shares are within rounding of 0 and 1.
    inside = xp.abs(primals[0]) < limit - 12
    return value, xp.where(inside, value * tangents[0], 0)


@jax.custom_jvp
def _shares(items: Array, positives: Array) -> Array:
    product: Array = shares(items, positives)
    return product


@_shares.defjvp
def _(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    # dσ = σ (1 − σ) (du/u − dv/v): the quotient rule divides by a square, which overflows.
    share = _shares(*primals)
    of_items, of_positives = (
        xp.where(value == 0, 0, tangent / xp.where(value == 0, 1, value))
        for value, tangent in zip(primals, tangents, strict=True)
    )
    return share, share * (1 - share) * (of_items - of_positives)


@jax.custom_jvp
def _folded_sums(terms: tuple[Array, ...]) -> tuple[Array, ...]:
    """Sums [q, w] over the folds of each of the terms [q, fold, w], in one loop."""
    zeros = tuple(np.zeros((), term.dtype) for term in terms)
    sums: tuple[Array, ...] = lax.reduce(terms, zeros, _added, (1,))
    return sums


@_folded_sums.defjvp
def _(primals: tuple[tuple[Array, ...]], tangents: tuple[tuple[Array, ...]]) -> Any:
    return _folded_sums(*primals), tuple(xp.sum(tangent, axis=1) for tangent in tangents[0])


def _added(left: Sequence[Array], right: Sequence[Array]) -> tuple[Array, ...]:
    return tuple(a + b for a, b in zip(left, right, strict=True))
