"""The pass over blocks of queries: the loss of a batch and its gradient, each block dropped as soon as it is used."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

from rankloss._arguments import EmbeddingBatch, Reduction, ScoreBatch
from rankloss._framework import Array, Framework
from rankloss._relevance import (
    MaskRelation,
    Relation,
    Relevance,
    relation_of_labels,
    relation_of_views,
)
from rankloss._rows import Rows, finite_or_nan

Evaluate = Callable[[Framework, Array, Relevance, "Array | None"], "tuple[Array, Array | None]"]
"""What to compute of a block: `RankingObjective.loss_and_gradient`, or a metric, which has no gradient."""


class Result(NamedTuple):
    """A reduced value, and its gradients by the queries and the gallery where they were wanted."""

    value: Array
    d_queries: Array = None
    d_gallery: Array = None


@dataclass(frozen=True)
class _Part:
    """Queries, the gallery that they rank, and the order in which both are stored."""

    queries: Array
    gallery: Array
    relation: Relation
    order: Array | None = None
    gallery_order: Array | None = None


def embedding_pass(
    framework: Framework,
    evaluate: Evaluate,
    batch: EmbeddingBatch,
    num_blocks: int = 1,
    gradient: tuple[bool, bool] = (False, False),
    block_factor: int = 1,
) -> Result:
    """The value of a batch of embeddings; `gradient`: by the embeddings, by the gallery.

    Gradients have the shape of their arrays and the type in which scores are computed.
    """
    rows = Rows.of(framework, batch.embeddings, batch.normalize)
    gallery = None if batch.gallery is None else Rows.of(framework, batch.gallery, batch.normalize)
    parts = _parts(framework, batch, rows.array, None if gallery is None else gallery.array, num_blocks)
    count = rows.array.shape[0]
    has_positive = _concat(framework, [_unsorted(framework, p.relation.count > 0, p.order) for p in parts])
    if not parts[0].relation.always and count:
        _warn_without_positives(framework, has_positive)
    scale = _scale(framework, batch, has_positive, rows.array)

    wanted = (gradient[0], gradient[1] or (gradient[0] and gallery is None))
    size = count // num_blocks
    results = []
    for number, part in enumerate(parts):
        own_scale = scale[number * size : (number + 1) * size] if any(wanted) else None
        block_size = batch.block_size or framework.rows_a_block(
            part.queries.shape[0], part.gallery.shape[0], part.gallery, block_factor
        )
        results.append(_part_pass(framework, evaluate, part, own_scale, wanted, block_size))
    losses = _concat(framework, [r.value for r in results])
    value = _reduce(framework, batch.reduction, losses, scale, has_positive, batch.query_shape)
    if gallery is None:
        if not wanted[0]:
            return Result(value)
        d_rows = _concat(framework, [r.d_queries + r.d_gallery for r in results])
        return Result(value, rows.backward(d_rows, batch.embeddings.shape))
    (result,) = results
    return Result(
        value,
        rows.backward(result.d_queries, batch.embeddings.shape) if wanted[0] else None,
        gallery.backward(result.d_gallery, tuple(gallery.array.shape)) if wanted[1] else None,
    )


def score_pass(
    framework: Framework,
    evaluate: Evaluate,
    batch: ScoreBatch,
    gradient: bool = False,
    block_factor: int = 1,
) -> Result:
    """The value of a batch of scores, and its gradient by the scores in the type in which they are computed."""
    xp = framework.xp
    queries, items = batch.scores.shape
    scores = finite_or_nan(framework, xp.astype(batch.scores, framework.compute_dtype(batch.scores.dtype)))
    relation = MaskRelation(framework, batch.relevant, batch.valid)
    has_positive = relation.count > 0
    if queries:
        _warn_without_positives(framework, has_positive)
    scale = _scale(framework, batch, has_positive, scores)
    if queries == 0 or items == 0:
        losses, d_scores = framework.zeros((queries,), scores), framework.zeros((queries, items), scores)
    else:

        def step(carry: None, block: tuple[Array, ...]) -> tuple[None, tuple[Array, ...]]:
            block_scores, own_scale, *relation_rows = block
            relevance = relation.of_block(tuple(relation_rows), block_scores)
            losses, d_scores = evaluate(framework, block_scores, relevance, own_scale if gradient else None)
            if d_scores is None:
                return None, (losses,)
            return None, (losses, relevance.hide(d_scores, 0.0))

        outputs = framework.scan(
            step,
            None,
            (scores, scale, *relation.rows),
            framework.rows_a_block(queries, items, scores, block_factor),
        )[1]
        losses, d_scores = outputs if gradient else (outputs[0], None)
    value = _reduce(framework, batch.reduction, losses, scale, has_positive, (queries,))
    return Result(value, d_scores if gradient else None)


def warn_of_embeddings(framework: Framework, batch: EmbeddingBatch, num_blocks: int = 1) -> None:
    """Warn if no query of a batch has a positive, as its pass does; the embeddings' values do not matter."""
    count = 1
    for length in batch.query_shape:
        count *= length
    rows = framework.xp.reshape(batch.embeddings, (count, batch.embeddings.shape[-1]))
    parts = _parts(framework, batch, rows, batch.gallery, num_blocks)
    if not parts[0].relation.always and count:
        _warn_without_positives(framework, _concat(framework, [part.relation.count > 0 for part in parts]))


def warn_of_scores(framework: Framework, batch: ScoreBatch) -> None:
    """Warn if no query of a batch has a positive, as its pass does."""
    if batch.scores.shape[0]:
        relation = MaskRelation(framework, batch.relevant, batch.valid)
        _warn_without_positives(framework, relation.count > 0)


# -- parts


def _parts(
    framework: Framework, batch: EmbeddingBatch, queries: Array, gallery: Array | None, num_blocks: int
) -> list[_Part]:
    if gallery is not None:
        return [_part_of_gallery(framework, batch, queries, gallery)]
    size = queries.shape[0] // num_blocks
    pieces = [slice(number * size, (number + 1) * size) for number in range(num_blocks)]
    if batch.labels is None:
        images, views = batch.query_shape
        relation = relation_of_views(framework, images // num_blocks, views, queries, not batch.include_query)
        return [_Part(queries[p, ...], queries[p, ...], relation) for p in pieces]
    return [_part_of_labels(framework, batch.labels[p], queries[p, ...], batch.include_query) for p in pieces]


def _part_of_labels(framework: Framework, labels: Array, rows: Array, include_query: bool) -> _Part:
    (keys,) = framework.label_keys(labels)
    order = framework.xp.argsort(keys)
    keys = framework.take_rows(keys, order)
    own = None if include_query else framework.arange(rows.shape[0], rows)
    relation = relation_of_labels(framework, keys, keys, own)
    rows = framework.take_rows(rows, order)
    return _Part(rows, rows, relation, order, order)


def _part_of_gallery(framework: Framework, batch: EmbeddingBatch, queries: Array, gallery: Array) -> _Part:
    xp = framework.xp
    if batch.relevant is not None:
        return _Part(queries, gallery, MaskRelation(framework, batch.relevant))
    # The queries are sorted too, so that the positives of a block of them lie close together.
    keys, gallery_keys = framework.label_keys(batch.labels, batch.gallery_labels)
    order, gallery_order = xp.argsort(keys), xp.argsort(gallery_keys)
    keys = framework.take_rows(keys, order)
    relation = relation_of_labels(framework, keys, framework.take_rows(gallery_keys, gallery_order), None)
    if framework.wraps(batch.labels) != framework.wraps(batch.gallery_labels):
        # The one wraps from 2^63 on to negative numbers, which the other's negative labels must not meet.
        relation = replace(relation, last=xp.where(keys < 0, relation.first, relation.last))
    return _Part(
        framework.take_rows(queries, order),
        framework.take_rows(gallery, gallery_order),
        relation,
        order,
        gallery_order,
    )


def _part_pass(
    framework: Framework,
    evaluate: Evaluate,
    part: _Part,
    scale: Array | None,
    gradient: tuple[bool, bool],
    block_size: int,
) -> Result:
    """Losses [q] of a part and the gradients by its rows, all in the order of the batch."""
    queries, gallery = part.queries, part.gallery
    if queries.shape[0] == 0 or gallery.shape[0] == 0:
        return Result(
            framework.zeros((queries.shape[0],), queries),
            framework.xp.zeros_like(queries) if gradient[0] else None,
            framework.xp.zeros_like(gallery) if gradient[1] else None,
        )
    if scale is not None and part.order is not None:
        scale = framework.take_rows(scale, part.order)
    scales = () if scale is None else (scale,)
    step = partial(_step, framework, evaluate, part, gradient)
    d_gallery, (losses, *d_queries) = framework.scan(
        step,
        framework.xp.zeros_like(gallery) if gradient[1] else None,
        (queries, *scales, *part.relation.rows),
        block_size,
    )
    return Result(
        _unsorted(framework, losses, part.order),
        _unsorted(framework, d_queries[0], part.order) if gradient[0] else None,
        _unsorted(framework, d_gallery, part.gallery_order) if gradient[1] else None,
    )


def _step(
    framework: Framework,
    evaluate: Evaluate,
    part: _Part,
    gradient: tuple[bool, bool],
    d_gallery: Array | None,
    block: tuple[Array, ...],
) -> tuple[Array | None, tuple[Array, ...]]:
    """One block of queries: the heart of the package."""
    queries, *rest = block
    scale = rest.pop(0) if any(gradient) else None
    scores = queries @ part.gallery.T
    relevance = part.relation.of_block(tuple(rest), scores)
    if gradient[1] and not relevance.always:
        # A NaN in a query without a positive must not reach the gallery.
        queries = framework.xp.where(relevance.has_positive[:, None], queries, 0)
    narrowed = None if scale is None else relevance.narrowed()
    if narrowed is None:
        losses, d_scores = evaluate(framework, scores, relevance, scale)
    else:
        fits, narrow = narrowed
        losses, d_scores = framework.choose(
            fits,
            lambda: evaluate(framework, scores, narrow, scale),
            lambda: evaluate(framework, scores, relevance, scale),
        )
    if gradient[1]:
        d_gallery = framework.add_product(d_gallery, d_scores, queries)
    return d_gallery, (losses, d_scores @ part.gallery) if gradient[0] else (losses,)


# -- reduction


def _scale(
    framework: Framework, batch: EmbeddingBatch | ScoreBatch, has_positive: Array, like: Array
) -> Array:
    """What each query's loss is multiplied with [q]: its weight, for "mean" over their sum; 0 without a positive.

    A mean takes weights in proportion to the largest, in their own type: sums of any normal numbers are finite so.
    """
    xp, shape = framework.xp, has_positive.shape
    if batch.weights is None:
        weights = framework.zeros(shape, like) + 1
    else:
        weights = xp.reshape(batch.weights, shape)
        if weights.dtype != xp.float64:
            weights = xp.astype(weights, like.dtype)
    weights = xp.where(has_positive, weights, 0)
    if batch.reduction == "mean" and batch.weights is not None and shape[0]:
        # XLA multiplies with the reciprocal, which is a normal number up to a 64th of the largest one.
        largest = xp.clip(xp.max(weights), 0.0, float(xp.finfo(weights.dtype).max) / 64)
        weights = weights / xp.where(largest == 0, 1, largest)
    weights = xp.astype(weights, like.dtype)
    if batch.reduction != "mean":
        return weights
    total = xp.sum(weights)
    # A NaN among the weights must not reach queries that have no loss.
    return xp.where(has_positive, weights * (1 / xp.where(total == 0, 1, total)), 0)


def _reduce(
    framework: Framework,
    reduction: Reduction,
    losses: Array,
    scale: Array,
    has_positive: Array,
    shape: tuple[int, ...],
) -> Array:
    xp = framework.xp
    losses = xp.where(has_positive, losses * scale, 0)
    return xp.reshape(losses, shape) if reduction == "none" else xp.sum(losses)


def _warn_without_positives(framework: Framework, has_positive: Array) -> None:
    known = framework.known(has_positive)
    if known is not None and not bool(framework.xp.any(known)):
        warnings.warn(
            "no query of the batch has a positive: the loss and its gradient are 0", UserWarning, stacklevel=2
        )


def _unsorted(framework: Framework, array: Array, order: Array | None) -> Array:
    return array if order is None else framework.take_rows(array, framework.xp.argsort(order))


def _concat(framework: Framework, arrays: list[Array]) -> Array:
    return arrays[0] if len(arrays) == 1 else framework.xp.concat(arrays, axis=0)
