"""Supervised contrastive loss, and with it SimCLR's NT-Xent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rankloss._arguments import check_temperature
from rankloss._framework import Array, Framework
from rankloss._relevance import Relevance


@dataclass(frozen=True)
class SupCon:
    r"""Supervised contrastive loss (Khosla et al., NeurIPS 2020, arXiv 2004.11362), the L_out form.

    A query with candidates V, positives P ⊆ V and scores s loses

        L = −1/|P| Σ_{i∈P} [s_i/τ − log Σ_{j∈V} exp(s_j/τ)].

    With two views an image it is SimCLR's NT-Xent (Chen et al., ICML 2020, arXiv 2002.05709); with one
    positive it is the cross-entropy of picking it. It is at least 0 and has no upper bound.

    Args:
        temperature: τ > 0, in units of the scores (cosines by default).

    Raises:
        TypeError: if the temperature is not a number.
        ValueError: if it is not from 1e-30 to 1e30.

    Example:
        >>> import numpy as np
        >>> import rankloss
        >>> scores = np.array([[0.0, 0.0, 0.0]])
        >>> relevant = np.array([[False, True, True]])
        >>> print(f"{rankloss.score_loss(rankloss.SupCon(), scores, relevant):.4f}")  # log 3
        1.0986
    """

    temperature: float = 0.1

    block_factor: ClassVar[int] = 4

    def __post_init__(self) -> None:
        object.__setattr__(self, "temperature", check_temperature(self.temperature))

    def loss_and_gradient(
        self, framework: Framework, scores: Array, relevance: Relevance, scale: Array | None
    ) -> tuple[Array, Array | None]:
        """Losses [q] and their gradient by the scores [q, g] times `scale` [q]; no gradient if that is None."""
        xp, temperature = framework.xp, self.temperature
        window = relevance.window
        some = relevance.has_positive
        share = xp.where(some, 1 / xp.where(some, relevance.count, 1), 0)
        scores = relevance.hide(scores, -float("inf"))
        if not relevance.always:  # a query without a positive has no loss, whatever its scores
            scores = xp.where(some[:, None], scores, 0)
        highest = xp.max(scores, axis=1, keepdims=True)
        # Made anew for the positives: what is used twice XLA keeps, and reads again for the exponentials.
        of_positives = (framework.columns(scores, window) - highest) * (1 / temperature)
        of_positives = xp.where(relevance.positives, of_positives, 0)
        exponents = scores
        exponents -= highest
        exponents *= 1 / temperature
        mean_positive = xp.sum(of_positives, axis=1) * share
        exponentials = xp.exp(exponents)
        total = xp.sum(exponentials, axis=1)
        losses = xp.where(some, xp.log(total) - mean_positive, 0)
        if scale is None:
            return losses, None
        rate = xp.where(some, scale / temperature, 0)
        d_scores = exponentials
        d_scores *= (rate / total)[:, None]
        d_positive = xp.where(relevance.positives, -(rate * share)[:, None], 0)
        return losses, framework.add_columns(d_scores, window, d_positive)
