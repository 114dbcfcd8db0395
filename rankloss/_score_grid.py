"""Sums of σ and σ' over many items at many places of the score axis, by way of a grid of nodes.

As a function of t, the sum Σ_j w_j f(s_j − t) of a smooth f is smooth. So each item is replaced by equivalent weights
on the nodes around it, f is summed from node to node by matrix products, which do not depend on the scores, and the
sum is interpolated between nodes at each place t where it is wanted. Both steps are the same polynomial weights, and
the cost is a few passes over the items and the places, however many there are of both.

Coordinates are in temperatures, and nodes lie `STEP` apart. An item at the offset δ from the middle between two nodes
counts Σ_m C[m, r] δ^m at the r-th of the eight nodes around: the Lagrange polynomials of these nodes, cut down to
degree 3. For an item and a place within 24 temperatures of each other this errs by up to 4e-7 in σ and 9e-7 in σ',
and by up to 4e-6 of either; farther apart σ counts as 0 or 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from rankloss._framework import Array, Framework

STEP = 0.25
"""The distance of two nodes: a power of two, so that no digit of a coordinate is lost."""

MOMENTS = 4
AROUND = 8
BLOCK = 96
"""How many nodes make a block: f is summed over those of neighbouring blocks, beyond which σ is 0 or 1."""

BLOCK_REACH = BLOCK * STEP
"""The length of a block: σ(−24) = 4e-11 is what an item beyond the neighbouring blocks could add."""

Tables = tuple[Array, ...]
"""For every moment m, the sums [q, bins] of w_j δ_j^m over the items of each bin, with empty bins at both ends."""

SCATTERED = 1 << 18
"""How many items are scattered as vectors at a time, on a CPU: these fill 4 MiB, and stay in a cache."""


class Places(NamedTuple):
    """Where items lie: their bins, between two nodes each, and their offsets from the middle of these."""

    bins: Array
    offsets: Array


@dataclass(frozen=True)
class ScoreGrid:
    """A grid of `blocks` blocks around 0 for each query, of which the inner ones are for the places."""

    framework: Framework
    blocks: int
    like: Array
    """Any array of the scores' dtype."""

    LEAST_BLOCKS: ClassVar[int] = 3

    @staticmethod
    def blocks_for(spread: float) -> int:
        """How many blocks a grid must have for places within ± spread/2."""
        return 2 + int(np.ceil((spread + 2) / BLOCK_REACH))

    @property
    def most_spread(self) -> float:
        """How far apart the places around 0 may be."""
        return (self.blocks - 2) * BLOCK_REACH - 2

    @property
    def _width(self) -> int:
        return self.blocks * BLOCK

    def places(self, coordinates: Array) -> Places:
        """The places of items [q, n]; those outside the grid count as at its ends. May overwrite them."""
        xp, middle = self.framework.xp, self._width // 2
        coordinates *= 1 / STEP
        coordinates = xp.clip(coordinates, float(AROUND - middle), float(middle - AROUND))
        bins = xp.ceil(coordinates)
        coordinates -= bins
        coordinates += 0.5
        bins += middle
        # An item at NaN goes to a bin at the top, which is in every sum, but to none whose nodes the next row has.
        return Places(self.framework.to_index(bins, of_nan=self._width - 2 * AROUND), coordinates)

    def tables(self, queries: int) -> Tables:
        """Tables in which no item is."""
        return tuple(self.framework.zeros((queries, self._width), self.like) for _ in range(MOMENTS))

    def add(self, tables: Tables, places: Places, weights: Array) -> Tables:
        """Tables with items [q, n] of some weights put in. May overwrite both."""
        added = []
        for table in tables:
            added.append(self.framework.add_at(table, places.bins, weights))
            if len(added) < MOMENTS:
                weights *= places.offsets
        return tuple(added)

    def near(self, *many: Tables) -> Array:
        """The weights of items on the nodes of each block and its neighbours, of each of `many` tables in turn.

        [many, q, blocks, nodes], with all but the last axis in one.
        """
        xp = self.framework.xp
        # Rows may run into each other, for their first and last bins are empty.
        nodes = self._padded(self._on_nodes(many), AROUND // 2 - 1, AROUND // 2)
        nodes = xp.reshape(nodes, (-1, self.blocks, BLOCK))
        nothing = xp.zeros_like(nodes[:, :1, :])
        nodes = xp.concat([nothing, nodes, nothing], axis=1)
        shifted = [nodes[:, first : first + self.blocks, :] for first in range(3)]
        return xp.reshape(xp.concat(shifted, axis=2), (-1, 3 * BLOCK))

    def _on_nodes(self, many: Sequence[Tables]) -> Array:
        """What the bins of all rows of all tables, one after another, count on the nodes in the middle of eight."""
        xp = self.framework.xp
        moments = xp.concat([table for same in zip(*many, strict=True) for table in same], axis=0)
        return self.framework.convolved(xp.reshape(moments, (MOMENTS, -1)), _weights()[None, :, ::-1])[0, :]

    def counts(self, near: Array) -> Array:
        """Σ_j w_j σ(s_j − t) as a function of t: polynomials [moments, many · q, bins] to read by `at`."""
        xp = self.framework.xp
        own = xp.sum(near[:, BLOCK : 2 * BLOCK], axis=1)
        # Summed block by block, not as a difference of running sums, which would lose the digits of the few above.
        above = xp.reshape(own, (-1, self.blocks)) @ self._constant(_above(self.blocks))
        return self._polynomials(near @ self._constant(_kernels()[0]) + xp.reshape(above, (-1, 1)))

    def slopes(self, near: Array) -> Array:
        """Σ_j w_j σ'(s_j − t) as a function of t, or with σ' being even, of items and places interchanged."""
        return self._polynomials(near @ self._constant(_kernels()[1]))

    def at(self, polynomials: Array, places: Places) -> Array:
        """The values [q, n] of a function of t at some places."""
        take, (bins, offsets) = self.framework.take_along, places
        value = take(polynomials[MOMENTS - 1, ...], bins)
        for m in reversed(range(MOMENTS - 1)):
            value *= offsets
            value += take(polynomials[m, ...], bins)
        return value

    def _polynomials(self, at_nodes: Array) -> Array:
        """Polynomials in the offset between the two nodes of every bin."""
        xp = self.framework.xp
        padded = self._padded(xp.reshape(at_nodes, (-1,)), AROUND // 2, AROUND // 2 - 1)
        polynomials = self.framework.convolved(padded[None, :], _weights()[:, None, :])
        return xp.reshape(polynomials, (MOMENTS, -1, self._width))

    def _padded(self, array: Array, before: int, after: int) -> Array:
        zeros = self.framework.zeros((AROUND,), array)
        return self.framework.xp.concat([zeros[:before], array, zeros[:after]], axis=0)

    def _constant(self, values: npt.NDArray[np.float64]) -> Array:
        return self.framework.constant(values, self.like)


class VectorScoreGrid(ScoreGrid):
    """A grid for frameworks that scatter a vector in the time of a number: a bin's moments lie side by side."""

    def tables(self, queries: int) -> Tables:
        return (self.framework.zeros((queries, self._width, MOMENTS), self.like),)

    def add(self, tables: Tables, places: Places, weights: Array) -> Tables:
        (table,) = tables
        for piece in self._pieces(*weights.shape):
            offsets, powers = places.offsets[:, piece], [weights[:, piece]]
            while len(powers) < MOMENTS:
                powers.append(powers[-1] * offsets)
            vectors = self.framework.xp.stack(powers, axis=-1)
            table = self.framework.add_vectors_at(table, places.bins[:, piece], vectors)
        return (table,)

    def _pieces(self, queries: int, items: int) -> list[slice]:
        if not (isinstance(queries, int) and isinstance(items, int) and self.framework.on_cpu(self.like)):
            return [slice(None)]
        size = max(1, SCATTERED // queries)
        return [slice(first, min(first + size, items)) for first in range(0, items, size)]

    def _on_nodes(self, many: Sequence[Tables]) -> Array:
        xp = self.framework.xp
        moments = xp.concat([table for (table,) in many], axis=0)
        parts = xp.reshape(moments, (-1, AROUND * MOMENTS)) @ self._constant(_of_bins_together())
        shared = self._padded(xp.reshape(parts[1:, : AROUND - 1], (-1,)), 0, AROUND - 1)
        nodes = parts[:, AROUND:] + xp.reshape(shared, (-1, AROUND - 1))
        nodes = xp.concat([parts[:, AROUND - 1 : AROUND], nodes], axis=1)
        return xp.reshape(nodes, (-1,))[: 1 - AROUND]


def score_grid(framework: Framework, blocks: int, like: Array) -> ScoreGrid:
    """The grid in the form that suits a framework."""
    return (VectorScoreGrid if framework.scatters_vectors else ScoreGrid)(framework, blocks, like)


@cache
def _weights() -> npt.NDArray[np.float64]:
    """C[m, r]: what δ^m counts at the r-th node around, the Lagrange polynomials at the Chebyshev points."""
    nodes = np.arange(AROUND) - (AROUND - 1) / 2
    points = np.cos((2 * np.arange(MOMENTS) + 1) * np.pi / (2 * MOMENTS)) / 2
    lagrange = np.ones((MOMENTS, AROUND))
    for r in range(AROUND):
        others = np.delete(nodes, r)
        lagrange[:, r] = np.prod((points[:, None] - others) / (nodes[r] - others), axis=1)
    return np.asarray(np.linalg.solve(np.vander(points, increasing=True), lagrange), np.float64)


@cache
def _of_bins_together() -> npt.NDArray[np.float64]:
    """What the moments of eight neighbouring bins, the row, count on each of the 15 nodes around them."""
    weights = np.zeros((AROUND, MOMENTS, 2 * AROUND - 1))
    for place in range(AROUND):
        weights[place, :, place : place + AROUND] = _weights()
    return weights.reshape(AROUND * MOMENTS, -1)


@cache
def _kernels() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """σ and σ' from the nodes of three blocks to those of the one in the middle."""
    ahead = np.arange(3 * BLOCK)[:, None] - BLOCK - np.arange(BLOCK)[None, :]
    sigmoid = 1 / (1 + np.exp(-STEP * ahead))
    return sigmoid, sigmoid * (1 - sigmoid)


@cache
def _above(blocks: int) -> npt.NDArray[np.float64]:
    """1 where a block, the row, is above the neighbours of another, the column."""
    return np.tril(np.ones((blocks, blocks)), -2)
