"""FastAP: average precision over histograms of distances."""

from __future__ import annotations

from dataclasses import dataclass

from rankloss._arguments import check_count
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
        first, last = relevance.window
        # y = d·B/4 lies in [0, B]. An item with k − 1 < y ≤ k adds k − y to H_{k−1} and 1 to H_k and all later
        # ones, so that a scatter of each at k gives the running sums without any h. Items at or beyond the ends
        # have places of their own, k = 0 and k = B + 1, for they have no gradient.
        y = scores
        y -= 1
        y *= -bins / 2
        y = xp.clip(y, 0.0, float(bins))
        upper = xp.ceil(xp.where(y >= bins, float(bins + 1), y))
        index = framework.to_index(
            upper, of_nan=1
        )  # a place that counts, so that its ramp makes the loss NaN
        ramp = relevance.hide(upper - y, 0.0)
        one = relevance.hide(xp.ones_like(ramp), 0.0)
        is_positive = xp.astype(relevance.positives, ramp.dtype)
        within = slice(first, last)
        total = self._running(framework, index, ramp, one)
        positive = self._running(framework, index[:, within], ramp[:, within] * is_positive, is_positive)

        safe = xp.where(total == 0, 1, total)
        precision = positive / safe
        share = xp.where(relevance.has_positive, 1 / xp.where(relevance.has_positive, relevance.count, 1), 0)
        before = xp.concat([xp.zeros_like(positive[:, :1]), positive[:, :-1]], axis=1)
        at_node = positive - before
        some = relevance.has_positive
        losses = xp.where(some, 1 - share * xp.sum(at_node * precision, axis=1), 0)
        if scale is None:
            return losses, None

        # ∂L/∂H_l = h⁺_l H⁺_l / (|P| H_l²), and H⁺_l stands in h⁺_l, in H⁺_l and, negated, in h⁺_{l+1}. Item j
        # enters H_{k−1} at the rate −∂y, and ∂y/∂s = −B/2, so that ∂L/∂s_j = B/2 ∂L/∂H_{k−1}, for a positive
        # plus B/2 ∂L/∂H⁺_{k−1}.
        d_total = at_node * precision / safe
        d_positive = precision[:, 1:] - precision[:, :-1] - (at_node / safe)[:, :-1]
        rate = xp.where(some, share * scale * (bins / 2), 0)[:, None]
        nothing = xp.zeros_like(rate)
        by_place = xp.concat([nothing, d_total[:, :-1] * rate, nothing], axis=1)
        by_place_of_positive = xp.concat([nothing, d_positive * rate, nothing], axis=1)
        d_scores = framework.take_along(by_place, index)
        d_scores = framework.add_columns(
            d_scores, first, is_positive * framework.take_along(by_place_of_positive, index[:, within])
        )
        d_scores = relevance.hide(d_scores, 0.0)
        return losses, d_scores if relevance.always else xp.where(some[:, None], d_scores, 0)

    def _running(self, framework: Framework, index: Array, ramp: Array, one: Array) -> Array:
        """Running sums H_0 … H_B [q, B + 1] of the triangular weights."""
        shape = (index.shape[0], self.num_bins + 2)
        ramps = framework.add_at(framework.zeros(shape, ramp), index, ramp)
        counts = framework.add_at(framework.zeros(shape, ramp), index, one)
        return framework.xp.cumulative_sum(counts, axis=1)[:, :-1] + ramps[:, 1:]
