"""The exact metrics that the losses smooth. Higher is better; ties count against the query."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

from rankloss._arguments import check_count
from rankloss._framework import Array, Framework
from rankloss._relevance import Relevance


class _Ranking(NamedTuple):
    """The items of a block of queries, best first [q, g].

    Attributes:
        positive: 1.0 where the item is a positive, else 0.0.
        rank: how many candidates score as high or higher.
        precision: how many of these are positives, over the rank.
        count: [q, 1] number of positives, 1 where there is none.
    """

    positive: Array
    rank: Array
    precision: Array
    count: Array


@runtime_checkable
class Metric(Protocol):
    """An exact metric of how a query ranks its candidates."""

    def of_ranking(self, framework: Framework, ranking: _Ranking) -> Array:
        """The metric [q] of queries that have a positive each."""
        ...


@dataclass(frozen=True)
class AveragePrecision:
    """Average precision: the mean over a query's positives of the precision at their ranks.

    The rank of an item is the number of candidates that score as high or higher, so that it equals
    scikit-learn's `average_precision_score`, ties included. `SmoothAP` tends to one minus it as τ → 0.

    Example:
        >>> import numpy as np
        >>> import rankloss
        >>> scores, relevant = np.array([[0.9, 0.8, 0.1]]), np.array([[False, True, True]])
        >>> print(f"{rankloss.score_metric(rankloss.AveragePrecision(), scores, relevant):.4f}")
        0.5833
    """

    def of_ranking(self, framework: Framework, ranking: _Ranking) -> Array:
        return framework.xp.sum(ranking.positive * ranking.precision / ranking.count, axis=1)


@dataclass(frozen=True)
class RecallAtK:
    """Recall at k as retrieval counts it: 1 if any positive has a rank of at most k, else 0.

    Args:
        k: how many of the best items are looked at, at least 1.

    Example:
        >>> import numpy as np
        >>> import rankloss
        >>> scores, relevant = np.array([[0.9, 0.8, 0.1]]), np.array([[False, True, True]])
        >>> [float(rankloss.score_metric(rankloss.RecallAtK(k), scores, relevant)) for k in (1, 2)]
        [0.0, 1.0]
    """

    k: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "k", check_count("k", self.k))

    def of_ranking(self, framework: Framework, ranking: _Ranking) -> Array:
        xp = framework.xp
        return xp.max(xp.where(ranking.rank <= self.k, ranking.positive, 0), axis=1)


@dataclass(frozen=True)
class RPrecision:
    """R-precision: the share of a query's R positives that have a rank of at most R.

    Example:
        >>> import numpy as np
        >>> import rankloss
        >>> scores, relevant = np.array([[0.9, 0.8, 0.1]]), np.array([[False, True, True]])
        >>> float(rankloss.score_metric(rankloss.RPrecision(), scores, relevant))
        0.5
    """

    def of_ranking(self, framework: Framework, ranking: _Ranking) -> Array:
        xp = framework.xp
        return xp.sum(xp.where(ranking.rank <= ranking.count, ranking.positive, 0) / ranking.count, axis=1)


@dataclass(frozen=True)
class AveragePrecisionAtR:
    """Average precision at R (mAP@R; Musgrave et al., ECCV 2020, arXiv 2003.08505).

    1/R times the sum of the precision at the ranks of those of a query's R positives whose rank is at most R.

    Example:
        >>> import numpy as np
        >>> import rankloss
        >>> scores, relevant = np.array([[0.9, 0.8, 0.1]]), np.array([[False, True, True]])
        >>> float(rankloss.score_metric(rankloss.AveragePrecisionAtR(), scores, relevant))
        0.25
    """

    def of_ranking(self, framework: Framework, ranking: _Ranking) -> Array:
        xp = framework.xp
        precision = ranking.positive * ranking.precision / ranking.count
        return xp.sum(xp.where(ranking.rank <= ranking.count, precision, 0), axis=1)


def check_metric(metric: object) -> None:
    """Raise TypeError unless `metric` is one."""
    if isinstance(metric, type) or not isinstance(metric, Metric):
        raise TypeError(f"metric must be a metric such as AveragePrecision(), found {metric!r}")


def evaluate_metric(
    metric: Metric, framework: Framework, scores: Array, relevance: Relevance, scale: None
) -> tuple[Array, None]:
    """A metric [q] of a block of queries, NaN where a candidate's score is, 0 where there is no positive."""
    xp = framework.xp
    scores = relevance.hide(scores, -float("inf"))
    ranking = _ranking(framework, scores, relevance)
    value = xp.where(xp.any(xp.isnan(scores), axis=1), float("nan"), metric.of_ranking(framework, ranking))
    return xp.where(relevance.has_positive, value, 0), None


def _ranking(framework: Framework, scores: Array, relevance: Relevance) -> _Ranking:
    xp = framework.xp
    order = xp.argsort(scores, axis=1, descending=True, stable=False)
    scores = framework.take_along(scores, order)
    positive = framework.add_columns(
        xp.zeros_like(scores), relevance.window, xp.astype(relevance.positives, scores.dtype)
    )
    positive = framework.take_along(positive, order)
    hits = xp.cumulative_sum(positive, axis=1)
    # Tied items share the place of the last of them: the next place, from their own on, after which scores
    # fall.
    places = framework.arange(scores.shape[1], scores)[None, :] + 0 * order
    falls = xp.concat([scores[:, :-1] > scores[:, 1:], xp.ones_like(scores[:, :1]) > 0], axis=1)
    last = framework.least_to_the_right(xp.where(falls, places, scores.shape[1] - 1))
    rank = xp.astype(last + 1, scores.dtype)
    count = xp.where(relevance.has_positive, relevance.count, 1)[:, None]
    return _Ranking(positive, rank, framework.take_along(hits, last) / rank, count)
