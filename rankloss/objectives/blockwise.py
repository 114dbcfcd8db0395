"""An objective over each block of the batch by itself."""

from __future__ import annotations

from dataclasses import dataclass

from rankloss._arguments import check_count
from rankloss.objectives._objective import RankingObjective, check_objective


@dataclass(frozen=True)
class Blockwise:
    """Rank each query within its own block of the batch only.

    The batch is cut into `num_blocks` contiguous, equal blocks (of images, or of rows where there are
    labels), and each block is ranked as a batch of its own; the losses of all queries are then reduced
    together. This is what data-parallel training computes when it does not gather the embeddings of all
    devices. The cost falls by `num_blocks`, and so does the number of negatives: a query meets fewer items
    that could outrank its positives, so **the average precision within blocks flatters the one over the whole
    batch**, the more blocks the more. With one and the same set of embeddings, of 128 images in 8 noisy views:

        blocks               1     2     4     8     16    32
        mean AP within them  0.17  0.25  0.35  0.47  0.60  0.74

    Args:
        objective: what to compute in each block.
        num_blocks: how many blocks. 1 is the objective itself.

    Raises:
        TypeError: if `objective` is not an objective, is itself blockwise, or `num_blocks` not an integer.
        ValueError: if `num_blocks` is below 1; when used, if it does not divide the batch, or with a gallery.

    Example:
        >>> import numpy as np
        >>> import rankloss
        >>> views = np.random.default_rng(0).normal(size=(8, 4, 16)) + 0.5
        >>> whole = rankloss.embedding_loss(rankloss.SmoothAP(), views)
        >>> within = rankloss.embedding_loss(rankloss.Blockwise(rankloss.SmoothAP(), num_blocks=4), views)
        >>> print(f"{whole:.2f} {within:.2f}")
        0.84 0.47
    """

    objective: RankingObjective
    num_blocks: int

    def __post_init__(self) -> None:
        if isinstance(self.objective, Blockwise):
            raise TypeError(
                f"objective of a Blockwise must not be blockwise itself, found {self.objective!r}: "
                "multiply the two num_blocks instead"
            )
        check_objective(self.objective, "objective")
        object.__setattr__(self, "num_blocks", check_count("num_blocks", self.num_blocks))


Objective = RankingObjective | Blockwise


def split_objective(objective: Objective) -> tuple[RankingObjective, int]:
    """The objective inside and the number of blocks; TypeError if it is no objective."""
    if isinstance(objective, Blockwise):
        return objective.objective, objective.num_blocks
    check_objective(objective, "objective")
    return objective, 1
