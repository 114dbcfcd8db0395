"""Losses that are a mean over positives of a function of their smooth ranks: value and gradient, blockwise.

The smooth rank of a positive i among the candidates V, and among the positives P, of a query is

    R_i = 1 + Σ_{j∈V, j≠i} σ((s_j − s_i)/τ),    R⁺_i = 1 + Σ_{j∈P, j≠i} σ((s_j − s_i)/τ).

An objective gives f(R, R⁺) with its partial derivatives; everything else is here, once.
"""

from __future__ import annotations

from collections.abc import Callable

from rankloss._framework import Array, Framework
from rankloss._relevance import Relevance
from rankloss._sampled_ranks import grid_for, sampled_loss_and_gradient

OfRanks = Callable[[Array, Array], tuple[Array, Array, Array]]
"""(rank, rank among the positives) → (f, ∂f/∂rank, ∂f/∂rank among the positives), elementwise."""


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
    exponents, spread = _centred(framework, scores, relevance, temperature)
    share = xp.where(some, 1 / xp.where(some, relevance.count, 1), 0)[:, None]
    weight = None if scale is None else share * (1 / temperature) * scale[:, None]
    # σ((s_j − s_i)/τ) = u_j / (u_j + u_i) with u = exp(s/τ − c) costs one exponential a score instead of one a
    # triple. Clipping the exponents at ±limit changes nothing beyond rounding while every positive stays
    # `margin` inside the limit, where σ is so near 0 or 1 that many thousand clipped items together don't matter
    # either. exp(±87) are float32's last powers that are neither subnormal nor overflow in a sum of two.
    limit, margin = (700.0, 40.0) if scores.dtype == xp.float64 else (87.0, 25.0)

    def by_shares() -> tuple[Array, Array | None]:
        items = relevance.hide(framework.clipped_exp(exponents, limit), 0.0)
        return _over_positives(framework, of_ranks, framework.shares, items, 1.0, relevance, share, weight)

    def by_sigmoid() -> tuple[Array, Array | None]:
        items = relevance.hide(exponents, -float("inf"))
        sigmoid = framework.sigmoid_of_differences
        return _over_positives(framework, of_ranks, sigmoid, items, 0.0, relevance, share, weight)

    def directly() -> tuple[Array, Array | None]:
        losses, d_scores = framework.choose(xp.all(spread <= 2 * (limit - margin)), by_shares, by_sigmoid)
        return losses, d_scores

    relevance.places(0, 1)  # what it keeps must not be made in a branch, which may be traced by itself
    sampled = None if exact else grid_for(framework, temperature, spread, scores, relevance)
    if sampled is None:
        return directly()
    grid, pays = sampled

    def by_grid() -> tuple[Array, Array | None]:
        items = relevance.hide(exponents, -float("inf"))
        return sampled_loss_and_gradient(framework, of_ranks, grid, items, relevance, share, weight)

    losses, d_scores = framework.choose(pays, by_grid, directly)
    return losses, d_scores


def _centred(
    framework: Framework, scores: Array, relevance: Relevance, temperature: float
) -> tuple[Array, Array]:
    """(s − c)/τ with c midway between a query's extreme positive scores, and the distance of these in τ."""
    xp = framework.xp
    some = relevance.has_positive[:, None]
    if relevance.window.width == 0:
        return xp.zeros_like(scores), framework.zeros((1, 1), scores)
    within = framework.columns(scores, relevance.window)
    inf = float("inf")
    highest = xp.max(xp.where(relevance.positives, within, -inf), axis=1, keepdims=True)
    lowest = xp.min(xp.where(relevance.positives, within, inf), axis=1, keepdims=True)
    highest, lowest = xp.where(some, highest, 0), xp.where(some, lowest, 0)
    centre = lowest + (highest - lowest) / 2
    exponents = scores
    exponents -= centre
    exponents *= 1 / temperature
    if not relevance.always:  # a query without a positive has no loss, whatever its scores
        exponents = xp.where(some, exponents, 0)
    return exponents, (highest - lowest) / temperature


def _over_positives(
    framework: Framework,
    of_ranks: OfRanks,
    sigmoid_of: Callable[[Array, Array], Array],
    items: Array,
    neutral: float,
    relevance: Relevance,
    share: Array,
    weight: Array | None,
) -> tuple[Array, Array | None]:
    """The loop over chunks of positives; `sigmoid_of(items, positives)` is σ [q, p, g] of their differences."""
    xp = framework.xp
    window = relevance.window
    queries, width = items.shape
    near = framework.columns(items, window)
    is_positive = xp.astype(relevance.positives, items.dtype)[:, None, :]
    turns = relevance.turns
    chunk = framework.positives_a_turn(queries, width, turns)

    def turn(
        number: Array | int, carry: tuple[Array, Array | None, Array | None]
    ) -> tuple[Array, Array | None, Array | None]:
        losses, d_scores, d_near = carry
        first = number * chunk
        known = isinstance(turns, int) and isinstance(first, int)
        places, real = relevance.places(first, min(chunk, turns - first) if known else chunk)
        positives = xp.where(real, framework.take_along(near, places), neutral)
        sigmoid = sigmoid_of(items, positives)
        # The positive itself is among the items with σ(0) = ½: R = 1 + (Σ σ − ½).
        rank = xp.sum(sigmoid, axis=2) + 0.5
        rank_among_positives = xp.sum(framework.columns(sigmoid, window) * is_positive, axis=2) + 0.5
        value, d_rank, d_rank_among = of_ranks(rank, rank_among_positives)
        losses = losses + xp.sum(xp.where(real, value, 0), axis=1, keepdims=True) * share
        if weight is None:
            return losses, None, None
        d_rank = xp.where(real, d_rank, 0) * weight
        d_rank_among = xp.where(real, d_rank_among, 0) * weight
        # ∂R_i/∂s_j = σ'_ij/τ for j ≠ i and −Σ_{j≠i} σ'_ij/τ for j = i; the term j = i of both sums cancels.
        slope = framework.sigmoid_slope(sigmoid)
        slope_of_positives = framework.columns(slope, window) * is_positive
        d_own = d_rank * xp.sum(slope, axis=2) + d_rank_among * xp.sum(slope_of_positives, axis=2)
        d_scores = framework.add_weighted(d_scores, d_rank, slope)
        d_near = framework.add_weighted(d_near, d_rank_among, slope_of_positives)
        return losses, d_scores, framework.add_at(d_near, places, -d_own)

    count = framework.chunks(turns, chunk)
    nothing = (None, None) if weight is None else (xp.zeros_like(items), xp.zeros_like(near))
    losses, d_scores, d_near = framework.loop(count, turn, (framework.zeros((queries, 1), items), *nothing))
    return losses[:, 0], None if weight is None else framework.add_columns(d_scores, window, d_near)
