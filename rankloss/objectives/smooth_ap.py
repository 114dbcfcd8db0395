"""Smooth-AP: average precision with the step of its ranks made a logistic function."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rankloss._arguments import check_flag, check_temperature
from rankloss._framework import Array, Framework
from rankloss._ranks import rank_loss_and_gradient
from rankloss._relevance import Relevance


@dataclass(frozen=True)
class SmoothAP:
    r"""Smooth average precision (Brown et al., ECCV 2020, arXiv 2007.12163), as a loss.

    A query with candidates V, positives P ⊆ V and scores s loses

        L = 1 − 1/|P| Σ_{i∈P} R⁺_i / R_i
        R_i  = 1 + Σ_{j∈V, j≠i} σ((s_j − s_i)/τ)      the smooth rank of i
        R⁺_i = 1 + Σ_{j∈P, j≠i} σ((s_j − s_i)/τ)      its smooth rank among the positives

    with σ(x) = 1/(1 + exp(−x)). It lies in [0, 1) and becomes 1 − AP as τ → 0 where no scores tie; tied items
    count ½ each. It equals the plain expression over all [queries, positives, items] triples, and never holds
    them: they are made and used a chunk at a time.

    Args:
        temperature: τ > 0, in units of the scores (cosines by default). A pair of items whose scores differ
            by much more than τ gives no gradient.
        exact: whether all triples are always compared. Otherwise PyTorch on the CPU, JAX and TensorFlow read the
            ranks of many positives in float32 (from some 30 to 70 of a query in thousands of items; in
            smaller batches from more) off sums over a grid of the score axis. Its cost stops growing with their
            number, and it errs by little more than float32 does: by under 1e-6 of a loss, and 1e-5 of a gradient's
            largest entry at temperatures of 0.002 and more.
            Second derivatives of JAX err by about 1e-4 there. float64 is always exact.

    Raises:
        TypeError: if the temperature is not a number, or `exact` not True or False.
        ValueError: if it is not from 1e-30 to 1e30.

    Example:
        >>> import numpy as np
        >>> import rankloss
        >>> scores = np.array([[0.9, 0.8, 0.1]])
        >>> relevant = np.array([[False, True, True]])
        >>> loss = rankloss.score_loss(rankloss.SmoothAP(temperature=0.001), scores, relevant)
        >>> print(f"{loss:.4f}")  # precision 1/2 at the first positive, 2/3 at the second
        0.4167
    """

    temperature: float = 0.01
    exact: bool = False

    # In PyTorch at 16,384 rows 1.76, 1.59 and 1.51 times the floor in blocks of 64, 128 and 256, and 3.3 in 512.
    block_factor: ClassVar[int] = 2

    def __post_init__(self) -> None:
        object.__setattr__(self, "temperature", check_temperature(self.temperature))
        check_flag("exact", self.exact)

    def loss_and_gradient(
        self, framework: Framework, scores: Array, relevance: Relevance, scale: Array | None
    ) -> tuple[Array, Array | None]:
        """Losses [q] and their gradient by the scores [q, g] times `scale` [q]; no gradient if that is None."""
        return rank_loss_and_gradient(
            framework, self._of_ranks, self.temperature, scores, relevance, scale, self.exact
        )

    @staticmethod
    def _of_ranks(rank: Array, rank_among_positives: Array) -> tuple[Array, Array, Array]:
        precision = rank_among_positives / rank
        return 1 - precision, precision / rank, -1 / rank
