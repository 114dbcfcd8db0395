"""A loss that is a mean over a query's positives, from their ranks however these were found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rankloss._framework import Array, Framework

OfRanks = Callable[[Array, Array], tuple[Array, Array, Array]]
"""(rank, rank among the positives) → (f, ∂f/∂rank, ∂f/∂rank among the positives), elementwise."""


@dataclass(frozen=True)
class RankMean:
    """The mean of f over the positives of each query, and what its gradient is multiplied with.

    Attributes:
        share: [q, 1] what a positive counts in the loss: one over their number, 0 where there is none.
        weight: [q, 1] what its ranks' derivatives are multiplied with: the share times the query's scale, over τ;
            None where no gradient is wanted.
    """

    framework: Framework
    of_ranks: OfRanks
    share: Array
    weight: Array | None

    def terms(
        self, total: Array, total_among: Array, real: Array
    ) -> tuple[Array, Array | None, Array | None]:
        """What positives [q, p] add to the losses [q, 1], and the gradients by both their ranks.

        The totals are Σ_j σ(s_j − s_i) over the items and over the positives, `real` says where there is a positive.
        The positive itself is among the terms, with σ(0) = ½: R = 1 + (Σ σ − ½).
        """
        xp = self.framework.xp
        value, d_rank, d_among = self.of_ranks(total + 0.5, total_among + 0.5)
        losses = xp.sum(xp.where(real, value, 0), axis=1, keepdims=True) * self.share
        if self.weight is None:
            return losses, None, None
        return losses, xp.where(real, d_rank, 0) * self.weight, xp.where(real, d_among, 0) * self.weight


def by_own_scores(d_rank: Array, slopes: Array, d_among: Array, slopes_among: Array) -> Array:
    """What the ranks of positives [q, p] give to the gradient by their own scores, from Σ_j σ'(s_j − s_i).

    ∂R_i/∂s_j is σ'_ij/τ for j ≠ i, and −Σ_{j≠i} σ'_ij/τ for j = i. Both this sum and what the items get include
    j = i; the two cancel.
    """
    return -(d_rank * slopes + d_among * slopes_among)
