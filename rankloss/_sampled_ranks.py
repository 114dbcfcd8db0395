"""Smooth ranks of many positives by a grid of the score axis, at a cost that hardly depends on how many there are."""

from __future__ import annotations

from typing import Any

from rankloss._framework import Array, Framework
from rankloss._rank_mean import RankMean, by_own_scores
from rankloss._relevance import Positives, Relevance
from rankloss._score_grid import BLOCK, Places, ScoreGrid, Tables, score_grid

LEAST_SPREAD, MOST_SPREAD = 70.0, 2100.0
"""For how far apart a query's positives, in temperatures, a grid is made: where that is not known, and at most."""

MOST_TRACED_BLOCKS = 11
"""How large a grid is where the spread is not known; 214 temperatures, all cosines at the temperature 0.01."""


def grid_for(
    framework: Framework, temperature: float, spread: Array, scores: Array, relevance: Relevance
) -> tuple[ScoreGrid, Array] | None:
    """A grid where one may pay, and whether it does and holds positives `spread` [q, 1] temperatures apart."""
    xp = framework.xp
    items, turns, width = scores.shape[1], relevance.turns, relevance.window.width
    if scores.dtype == xp.float64 or framework.turns_an_item is None:
        return None

    def cost(blocks: int) -> Any:
        """What a query costs by the grid, in comparisons of a positive with an item."""
        return framework.turns_an_item * items + framework.turns_a_node * BLOCK * blocks

    # Blocks with a narrow window are those of classes that fill half of it at most.
    most = turns if isinstance(turns, int) else width if width == items else width // 2
    if isinstance(most, int) and isinstance(items, int) and most * items <= cost(ScoreGrid.LEAST_BLOCKS):
        return None
    known = framework.known(spread)
    if known is None:
        blocks = min(ScoreGrid.blocks_for(max(2 / temperature, LEAST_SPREAD)), MOST_TRACED_BLOCKS)
    else:
        widest = float(xp.max(known))
        if not widest <= MOST_SPREAD:  # or NaN
            return None
        blocks = ScoreGrid.blocks_for(widest)
    grid = score_grid(framework, blocks, scores)
    holds = xp.all(spread <= grid.most_spread)
    if not isinstance(turns, int):
        return grid, holds & (turns * items > cost(blocks))
    return (grid, holds) if turns * items > cost(blocks) else None


def sampled_loss_and_gradient(
    framework: Framework, mean: RankMean, grid: ScoreGrid, items: Array, positives: Positives
) -> tuple[Array, Array | None]:
    """Losses [q] and gradients [q, g] as by the direct sums, up to what the grid errs.

    `items` are s/τ, centred on the positives.
    """
    xp, queries, gradient = framework.xp, items.shape[0], mean.weight is not None
    places_of_items = grid.places(items)
    near = Places(*(positives.among(array) for array in places_of_items))
    turns = positives.relevance.turns
    # The positives in chunks where their number is not known, all at once where it is.
    chunk = turns if isinstance(turns, int) else framework.sampled_a_turn
    count = framework.chunks(turns, chunk)

    def chunk_of(number: Array | int) -> tuple[Array, Array, Places]:
        columns, real = positives.places(number * chunk, chunk)
        if isinstance(turns, int):  # `near` are the positives, and all of them
            return columns, real, near
        return columns, real, Places(*(framework.take_along(array, columns) for array in near))

    def gather(number: Array | int, tables: Tables) -> Tables:
        _, real, places = chunk_of(number)
        return grid.add(tables, places, xp.astype(real, items.dtype))

    of_items = grid.add(grid.tables(queries), places_of_items, xp.ones_like(items))
    of_positives = framework.loop(count, gather, grid.tables(queries))
    nodes = grid.near(of_items, of_positives)
    counts = grid.counts(nodes)
    slopes: Array = grid.slopes(nodes) if gradient else None

    def rank(number: Array | int, carry: tuple[Any, ...]) -> tuple[Any, ...]:
        losses, d_near, d_items, d_positives = carry
        columns, real, places = chunk_of(number)
        total = grid.at(counts[:, :queries, ...], places)
        total_among = grid.at(counts[:, queries:, ...], places)
        terms, d_rank, d_among = mean.terms(total, total_among, real)
        losses = losses + terms
        if not gradient:
            return losses, None, None, None
        slope = grid.at(slopes[:, :queries, ...], places)
        slope_among = grid.at(slopes[:, queries:, ...], places)
        d_near = framework.add_at(d_near, columns, by_own_scores(d_rank, slope, d_among, slope_among))
        return losses, d_near, grid.add(d_items, places, d_rank), grid.add(d_positives, places, d_among)

    losses = framework.zeros((queries, 1), items)
    if not gradient:
        return framework.loop(count, rank, (losses, None, None, None))[0][:, 0], None
    start = losses, xp.zeros_like(near.offsets), grid.tables(queries), grid.tables(queries)
    losses, d_near, *tables = framework.loop(count, rank, start)
    heights = grid.slopes(grid.near(*tables))

    def spread(number: Array | int, d_near: Array) -> Array:
        columns, real, places = chunk_of(number)
        d_positives = grid.at(heights[:, queries:, ...], places)
        return framework.add_at(d_near, columns, xp.where(real, d_positives, 0))

    d_near = framework.loop(count, spread, d_near)
    return losses[:, 0], positives.add(grid.at(heights[:, :queries, ...], places_of_items), d_near)
