"""Means over seeds with 95 % t intervals, and differences of arms that share their seeds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its interval; without a second seed there is none (NaN).

    `p` is the probability of a mean as far from 0 if the true one were 0, by a two-sided t test.
    """

    mean: float
    low: float
    high: float
    p: float
    count: int


def estimate(values: Sequence[float]) -> Estimate:
    """The mean of one value a seed."""
    count, mean = len(values), float(np.mean(values))
    if count < 2:
        return Estimate(mean, math.nan, math.nan, math.nan, count)
    error = float(np.std(values, ddof=1)) / math.sqrt(count)
    return _by_t(mean, error, count - 1, count)


def paired(reference: Mapping[int, float], rival: Mapping[int, float]) -> Estimate | None:
    """The mean of reference - rival over the seeds that both have; None where there are fewer than two."""
    seeds = sorted(reference.keys() & rival.keys())
    return estimate([reference[seed] - rival[seed] for seed in seeds]) if len(seeds) > 1 else None


def difference(one: Estimate, other: Estimate) -> Estimate:
    """The difference of two independent means, by Welch's t interval."""
    spans = [(value.high - value.low) / 2 / _quantile(value.count - 1) for value in (one, other)]
    error = math.hypot(*spans)
    if error == 0:
        freedom = float(one.count + other.count - 2)
    else:
        shares = (span**4 / (value.count - 1) for span, value in zip(spans, (one, other), strict=True))
        freedom = error**4 / sum(shares)
    return _by_t(one.mean - other.mean, error, freedom, min(one.count, other.count))


def holm(probabilities: Sequence[float]) -> list[float]:
    """The probabilities adjusted, by Holm's method, for how many there are."""
    adjusted, least = [0.0] * len(probabilities), 0.0
    for rank, index in enumerate(np.argsort(probabilities, kind="stable")):
        least = max(least, min(1.0, (len(probabilities) - rank) * probabilities[index]))
        adjusted[index] = least
    return adjusted


def _by_t(mean: float, error: float, freedom: float, count: int) -> Estimate:
    reach = error * _quantile(freedom)
    p = float(2 * stats.t.sf(abs(mean) / error, freedom)) if error > 0 else float(mean == 0)
    return Estimate(mean, mean - reach, mean + reach, p, count)


def _quantile(freedom: float) -> float:
    return float(stats.t.ppf((1 + LEVEL) / 2, freedom))
