"""Forms that XLA fuses well, for the frameworks that it compiles."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from rankloss._framework import Array, Framework

FEW_PLACES = 16
"""Up to how many values, or places that get them, a scatter is written out as sums."""

TOGETHER = 4
"""How many positives of a query are compared with the items in a turn: the items are read once for all."""

FOLDS, LEAST_FOLDED = 8, 16
"""Into how many pieces a row is folded for sums over it, and how long they are at least."""

SUMMED_TOGETHER = 3
"""How many sums are taken in one loop over a row: at 4,096 rows JAX' FastAP takes 1.28 times the floor with three,
1.42 with four and 1.78 with six."""


class XlaFramework(Framework):
    """An array library whose functions XLA compiles."""

    recomputes = True  # XLA fuses σ with what uses it

    # Few arrays of a block's size are written, and matrix products of few rows are slow: at 16,384 rows on two cores,
    # JAX' SupCon takes 1.50, 1.09 and 1.13 times the floor in blocks of 64, 128 and 256, Smooth-AP 1.54, 1.56 and
    # 1.35; at 8,192 TensorFlow's FastAP 1.42, 1.30, 1.26, 1.30 and 1.38 in blocks of 64 to 1,024.
    block_elements = 1 << 20  # twice as many take JAX' Smooth-AP with labels beyond 256 MiB at 16,384 rows
    least_rows, most_rows = 128, 256

    # A batch of one block needs no loop: at 1,024 rows JAX' Smooth-AP takes 2.15 times the floor in four blocks, 1.71
    # in one, and SupCon 1.49 and 1.26.
    few_elements = 1 << 20

    # At 4,096 rows JAX takes 4.0 and 7.0 times the floor to compare 63 and 127 positives one by one and 4.7 by the
    # grid, at 8,192 rows 4.2 and 6.8, and 3.5; TensorFlow at 4,096 rows 4.4 and 10, and 4.9. With 127 positives
    # TensorFlow takes 5.1, 5.5 and 6.4 times in turns of 256, 512 and 1,024, with 1,023 it takes 6.3, 6.1 and 6.1.
    turns_an_item = 50
    turns_a_node = 90
    sampled_a_turn = 256

    # At 4,096 rows with 255 positives JAX takes 4.7 times the floor, and 5.7 where each number is scattered alone.
    scatters_vectors = True

    def countable(self, array: Array) -> bool:
        """Whether one index of `index_dtype` can say where an entry [q, k] is.

        XLA on a CPU writes out pairs of indices: values of polynomials are read off a grid twice as fast by one.
        """
        count = array.shape[0] * array.shape[1]
        return isinstance(count, int) and count <= self.xp.iinfo(self.index_dtype).max

    def folded_sums(self, terms: Sequence[Array]) -> Sequence[Array]:
        """Sums [q, w] over the folds of each of the terms [q, fold, w], in one loop."""
        return [self.xp.sum(term, axis=1) for term in terms]

    def add_at(self, array: Array, index: Array, values: Array) -> Array:
        width, count = array.shape[1], index.shape[1]
        few_values = isinstance(count, int) and count <= FEW_PLACES
        few_places = isinstance(count, int) and isinstance(width, int) and width <= FEW_PLACES
        if few_values or few_places:  # sums that are fused with what makes the values
            return Framework.add_at(self, array, index, values)
        return self.add_vectors_at(array, index, values)

    def sums(self, terms: Callable[[Array], Sequence[Array]], array: Array) -> list[Array]:
        # A sum along a row, XLA on a CPU fuses with what makes the terms in a loop that is not vectorised, or not at
        # all. That of a row's eighths is a vectorised loop while it is written out.
        xp, items = self.xp, array.shape[1]
        if (isinstance(items, int) and items < FOLDS * LEAST_FOLDED) or not self.on_cpu(array):
            plain: list[Array] = super().sums(terms, array)
            return plain
        width = items // FOLDS
        folded = tuple(terms(xp.reshape(array[:, : FOLDS * width], (array.shape[0], FOLDS, width))))
        groups = [
            self.folded_sums(folded[first : first + SUMMED_TOGETHER])
            for first in range(0, len(folded), SUMMED_TOGETHER)
        ]
        sums = [xp.sum(each, axis=1) for group in groups for each in group]
        if FOLDS * width == items:
            return sums
        rest = terms(array[:, None, FOLDS * width :])
        return [each + xp.sum(term, axis=(1, 2)) for each, term in zip(sums, rest, strict=True)]

    def positives_a_turn(self, queries: int, items: int, most: Array | int) -> int:
        return max(1, min(most, TOGETHER)) if isinstance(most, int) else TOGETHER

    def add_weighted(self, total: Array, weights: Array, array: Array) -> Array:
        for number in range(array.shape[1]):  # one fused pass; a sum along the axis is fused less well
            total = total + weights[:, number, None] * array[:, number, :]
        return total

    def convolved(self, array: Array, weights: npt.NDArray[np.float64]) -> Array:
        xp = self.xp
        outputs, inputs, taps = weights.shape
        count = array.shape[1] - (taps - 1)
        sums = [
            sum(float(weights[o, i, r]) * array[i, r : r + count] for i in range(inputs) for r in range(taps))
            for o in range(outputs)
        ]
        return xp.stack(sums, axis=0)

    def shares(self, items: Array, positives: Array) -> Array:
        return shares(items, positives)


def shares(items: Array, positives: Array) -> Array:
    """items / (items + positives), in a form that is fused with each of its uses."""
    return items * (1 / (items + positives))
