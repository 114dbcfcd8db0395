"""Losses that are a mean over positives of a function of their smooth ranks: value and gradient, blockwise.

The smooth rank of a positive i among the candidates V, and among the positives P, of a query is

    R_i = 1 + Σ_{j∈V, j≠i} σ((s_j − s_i)/τ),    R⁺_i = 1 + Σ_{j∈P, j≠i} σ((s_j − s_i)/τ).

An objective gives f(R, R⁺) with its partial derivatives; everything else is here, once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from rankloss._framework import Array, Framework
from rankloss._rank_mean import OfRanks, RankMean, by_own_scores
from rankloss._relevance import Positives, Relevance
from rankloss._sampled_ranks import grid_for, sampled_loss_and_gradient


class _Form(NamedTuple):
    """A way to σ(s_j − s_i): a function of what scores are turned into."""

    sigmoid_of: Callable[[Array, Array], Array]
    """(items, positives), arrays that broadcast → σ."""
    neutral: float
    """In place of a positive that is none."""
    hidden: float
    """In place of an item that is none: its σ and σ' are 0."""


def rank_loss_and_gradient(
    framework: Framework,
    of_ranks: OfRanks,
    temperature: float,
    scores: Array,
    relevance: Relevance,
    scale: Array | None,
    exact: bool = True,
) -> tuple[Array, Array | None]:
    """Mean of f(R_i, R⁺_i) over the positives of each query [q], and its gradient times `scale[q]`, or None.

    Unless `exact`, float32 losses may be computed by `sampled_loss_and_gradient`.
    """
    xp, some = framework.xp, relevance.has_positive
    positives = Positives.of(framework, relevance)
    exponents, spread = _centred(framework, scores, positives, temperature)
    share = xp.where(some, 1 / xp.where(some, relevance.count, 1), 0)[:, None]
    weight = None
    if scale is not None:  # which may be NaN for a query without a positive
        weight = xp.where(some[:, None], share * (1 / temperature) * scale[:, None], 0)
    mean = RankMean(framework, of_ranks, share, weight)
    # σ((s_j − s_i)/τ) = u_j / (u_j + u_i) with u = exp(s/τ − c) costs one exponential a score instead of one a
    # triple. Clipping the exponents at ±limit changes nothing beyond rounding while every positive stays
    # `margin` inside the limit, where σ is so near 0 or 1 that many thousand clipped items together don't matter
    # either. exp(±87) are float32's last powers that are neither subnormal nor overflow in a sum of two.
    limit, margin = (700.0, 40.0) if scores.dtype == xp.float64 else (87.0, 25.0)

    def by_shares() -> tuple[Array, Array | None]:
        form = _Form(framework.shares, neutral=1.0, hidden=0.0)
        items = relevance.hide(framework.clipped_exp(exponents(), limit), form.hidden)
        return _over_positives(framework, mean, form, items, positives)

    def by_sigmoid() -> tuple[Array, Array | None]:
        form = _Form(framework.sigmoid_of_differences, neutral=0.0, hidden=-float("inf"))
        items = relevance.hide(exponents(), form.hidden)
        return _over_positives(framework, mean, form, items, positives)

    def directly() -> tuple[Array, Array | None]:
        losses, d_scores = framework.choose(xp.all(spread <= 2 * (limit - margin)), by_shares, by_sigmoid)
        return losses, d_scores

    sampled = None if exact else grid_for(framework, temperature, spread, scores, relevance)
    if sampled is None:
        return directly()
    grid, pays = sampled

    def by_grid() -> tuple[Array, Array | None]:
        items = relevance.hide(exponents(), -float("inf"))
        return sampled_loss_and_gradient(framework, mean, grid, items, positives)

    losses, d_scores = framework.choose(pays, by_grid, directly)
    return losses, d_scores


def _centred(
    framework: Framework, scores: Array, positives: Positives, temperature: float
) -> tuple[Callable[[], Array], Array]:
    """(s − c)/τ with c midway between a query's extreme positive scores, and the distance of these in τ.

    The former is a function, to be called once: within a branch, where XLA fuses it with what comes then. It may
    overwrite the scores.
    """
    xp = framework.xp
    some = positives.relevance.has_positive[:, None]
    if positives.real.shape[1] == 0:
        return lambda: xp.zeros_like(scores), framework.zeros((1, 1), scores)
    near = positives.among(scores)
    inf = float("inf")
    highest = xp.max(xp.where(positives.real, near, -inf), axis=1, keepdims=True)
    lowest = xp.min(xp.where(positives.real, near, inf), axis=1, keepdims=True)
    highest, lowest = xp.where(some, highest, 0), xp.where(some, lowest, 0)
    centre = lowest + (highest - lowest) / 2

    def exponents() -> Array:
        found = scores
        found -= centre
        found *= 1 / temperature
        # A query without a positive has no loss, whatever its scores.
        return found if positives.relevance.always else xp.where(some, found, 0)

    return exponents, (highest - lowest) / temperature


def _over_positives(
    framework: Framework, mean: RankMean, form: _Form, items: Array, positives: Positives
) -> tuple[Array, Array | None]:
    """The loop over chunks of positives."""
    xp = framework.xp
    queries, width = items.shape
    near = xp.where(positives.real, positives.among(items), form.hidden)
    turns = positives.relevance.turns
    chunk = framework.positives_a_turn(queries, width, turns)
    gradient = mean.weight is not None

    def turn(
        number: Array | int, carry: tuple[Array, Array | None, Array | None]
    ) -> tuple[Array, Array | None, Array | None]:
        losses, d_scores, d_near = carry
        first = number * chunk
        known = isinstance(turns, int) and isinstance(first, int)
        places, real = positives.places(first, min(chunk, turns - first) if known else chunk)
        own = framework.kept(xp.where(real, framework.take_along(near, places), form.neutral))[:, :, None]

        total, slope, total_slope = _compared(framework, form.sigmoid_of, items, own, gradient)
        near_total, near_slope, near_total_slope = _compared(framework, form.sigmoid_of, near, own, gradient)
        terms, d_rank, d_rank_among = mean.terms(total, near_total, real)
        losses = losses + terms
        if not gradient:
            return losses, None, None
        d_own = by_own_scores(d_rank, total_slope, d_rank_among, near_total_slope)
        d_scores = framework.add_weighted(d_scores, d_rank, slope)
        d_near = framework.add_weighted(d_near, d_rank_among, near_slope)
        return losses, d_scores, framework.add_at(d_near, places, d_own)

    count = framework.chunks(turns, chunk)
    nothing = (xp.zeros_like(items), xp.zeros_like(near)) if gradient else (None, None)
    losses, d_scores, d_near = framework.loop(count, turn, (framework.zeros((queries, 1), items), *nothing))
    return losses[:, 0], positives.add(d_scores, d_near) if gradient else None


def _compared(
    framework: Framework,
    sigmoid_of: Callable[[Array, Array], Array],
    items: Array,
    own: Array,
    gradient: bool,
) -> tuple[Array, Array | None, Array | None]:
    """Σ_j σ [q, p] over the items [q, g] against positives `own` [q, p, 1]; σ' [q, p, g] and its sum, or None."""
    xp = framework.xp
    if framework.recomputes:
        each_own = [own[:, number : number + 1, :] for number in range(own.shape[1])]
        if not gradient:
            sums = framework.sums(lambda part: [sigmoid_of(part, one) for one in each_own], items)
            return xp.stack(sums, axis=1), None, None

        def terms(one: Array, part: Array) -> tuple[Array, Array]:
            again = sigmoid_of(part, one)
            return again, framework.sigmoid_slope(again)

        pairs = [framework.sums(partial(terms, one), items) for one in each_own]
        total, total_slope = (xp.stack(parts, axis=1) for parts in zip(*pairs, strict=True))
        return total, framework.sigmoid_slope(sigmoid_of(items[:, None, :], own)), total_slope
    sigmoid = sigmoid_of(items[:, None, :], own)
    total = xp.sum(sigmoid, axis=2)
    if not gradient:
        return total, None, None
    slope = framework.sigmoid_slope(sigmoid)
    return total, slope, xp.sum(slope, axis=2)
