"""Sums of triangular weights over bins, for values on an axis with nodes at 0, 1, 2, …

With hats max(0, 1 − |y − l|) around the nodes l, the running sum of their values at y up to node l is
clip(l + 1 − y, 0, 1). Both classes give these running sums over the items of each row, and go back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from rankloss._framework import Array, Framework


class Bins(Protocol):
    """Values y [q, g] between 0 and `count`, or `count + 1` for an item that does not count."""

    def running_sums(self) -> Array:
        """Σ_j clip(l + 1 − y[q, j], 0, 1) for l = 0 … count, [q, count + 1]."""

    def spread(self, heights: Array) -> Array:
        """heights[q, l] for the items with l < y ≤ l + 1, [q, g]; 0 for those with y ≤ 0 or y ≥ count."""


def bins_of(framework: Framework, y: Array, count: int) -> Bins:
    """Values over `count` bins, in the form that is faster in the framework."""
    if count <= framework.most_bin_passes:
        return PassedBins(framework, y, count)
    return ScatteredBins.of(framework, y, count)


@dataclass(frozen=True)
class PassedBins:
    """By the definition, a pass a node: for compilers, which fuse them, and where there is no scatter."""

    framework: Framework
    y: Array
    count: int

    def running_sums(self) -> Array:
        xp = self.framework.xp
        nodes = range(self.count + 1)
        sums = self.framework.sums(lambda y: [xp.clip(node + 1 - y, 0.0, 1.0) for node in nodes], self.y)
        return xp.stack(sums, axis=1)

    def spread(self, heights: Array) -> Array:
        xp, y = self.framework.xp, self.y
        found = 0 * y  # NaN where y is
        for node in range(self.count):
            found = xp.where(y > node, heights[:, node : node + 1], found)
        return xp.where(y >= self.count, 0, found)


@dataclass(frozen=True)
class ScatteredBins:
    """By two scatters: an item with k − 1 < y ≤ k adds k − y to the sum at k − 1, and 1 to all later ones.

    Items at or beyond the last node have a place of their own, k = count + 1, for they get no height.
    """

    framework: Framework
    index: Array
    ramp: Array
    count: int

    @classmethod
    def of(cls, framework: Framework, y: Array, count: int) -> ScatteredBins:
        xp = framework.xp
        upper = xp.ceil(framework.replace_from(y, float(count), float(count + 1)))
        ramp = upper - y
        # NaN takes a place that counts, so that its ramp makes the sum NaN.
        return cls(framework, framework.to_index(upper, of_nan=1), ramp, count)

    def running_sums(self) -> Array:
        counts, ramps = self.framework.counts_and_sums_at(self.index, self.ramp, self.count + 2)
        return self.framework.xp.cumulative_sum(counts, axis=1)[:, :-1] + ramps[:, 1:]

    def spread(self, heights: Array) -> Array:
        xp = self.framework.xp
        nothing = xp.zeros_like(heights[:, :1])
        return self.framework.take_along(xp.concat([nothing, heights, nothing], axis=1), self.index)
