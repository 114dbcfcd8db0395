"""FastAP: average precision over histograms of distances."""

from __future__ import annotations

from dataclasses import dataclass

from rankloss._arguments import check_count
from rankloss._bins import bins_of
from rankloss._framework import Array, Framework
from rankloss._relevance import Relevance


@dataclass(frozen=True)
class FastAP:
    r"""FastAP (Cakir et al., CVPR 2019): average precision by histogram binning, as a loss.

    A query's squared distances d_j = 2 − 2 s_j (of unit vectors; clipped to [0, 4]) are spread over the nodes
    z_l = 4l/B, l = 0 … B, with triangular weights max(0, 1 − |d_j − z_l|·B/4). With h and h⁺ the sums of the
    weights over the candidates and the positives P, and H and H⁺ their running sums over l,

        L = 1 − 1/|P| Σ_l h⁺_l H⁺_l / H_l,        a bin with H_l = 0 counting 0.

    It lies in [0, 1). It equals the plain expression over [queries, items, nodes], and never holds that.

    The derivative by d_j is constant between nodes. At a node it is that of the side below (towards d = 0);
    at the ends and outside [0, 4] it is 0.

    Args:
        num_bins: B ≥ 1, how many bins [0, 4] is cut into.

    Raises:
        TypeError: if `num_bins` is not an integer.
        ValueError: if it is below 1.

    Example:
        >>> import numpy as np
        >>> import rankloss
        >>> scores = np.array([[0.9, 0.8, 0.1]])
        >>> relevant = np.array([[False, True, True]])
        >>> print(f"{rankloss.score_loss(rankloss.FastAP(num_bins=20), scores, relevant):.4f}")
        0.4167
    """

    num_bins: int = 10

    def __post_init__(self) -> None:
        object.__setattr__(self, "num_bins", check_count("num_bins", self.num_bins))

    def loss_and_gradient(
        self, framework: Framework, scores: Array, relevance: Relevance, scale: Array | None
    ) -> tuple[Array, Array | None]:
        """Losses [q] and their gradient by the scores [q, g] times `scale` [q]; no gradient if that is None."""
        xp, bins = framework.xp, self.num_bins
        window, some = relevance.window, relevance.has_positive
        # y = d·B/4 lies in [0, B], with the nodes at whole numbers; B + 1 is where nothing counts.
        if not relevance.always:  # a query without a positive has no loss, whatever its scores
            scores = xp.where(some[:, None], scores, 0)
        y = scores
        y -= 1
        y *= -bins / 2
        y = relevance.hide(xp.clip(y, 0.0, float(bins)), float(bins + 1))
        near = xp.where(relevance.positives, framework.columns(y, window), bins + 1)
        items, positives = bins_of(framework, y, bins), bins_of(framework, near, bins)
        total, positive = items.running_sums(), positives.running_sums()

        safe = xp.where(total == 0, 1, total)
        precision = positive / safe
        share = xp.where(some, 1 / xp.where(some, relevance.count, 1), 0)
        before = xp.concat([xp.zeros_like(positive[:, :1]), positive[:, :-1]], axis=1)
        at_node = positive - before
        losses = xp.where(some, 1 - share * xp.sum(at_node * precision, axis=1), 0)
        if scale is None:
            return losses, None

        # ∂L/∂H_l = h⁺_l H⁺_l / (|P| H_l²), and H⁺_l stands in h⁺_l, in H⁺_l and, negated, in h⁺_{l+1}. Item j with
        # l < y_j ≤ l + 1 enters H_l at the rate −∂y, and ∂y/∂s = −B/2, so that ∂L/∂s_j = B/2 ∂L/∂H_l, for a
        # positive plus B/2 ∂L/∂H⁺_l.
        rate = xp.where(some, share * scale * (bins / 2), 0)[:, None]
        d_total = (at_node * precision / safe)[:, :-1] * rate
        d_positive = (precision[:, 1:] - precision[:, :-1] - (at_node / safe)[:, :-1]) * rate
        return losses, framework.add_columns(items.spread(d_total), window, positives.spread(d_positive))
