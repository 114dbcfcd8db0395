"""Batches of which a Keras mask takes rows out: they are no queries, no positives and no negatives.

The functions of embeddings know of no items that are no candidates; those of scores do. So a masked batch is
ranked by its scores [n, n], which are kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from rankloss.keras._backend import checked_weights
from rankloss.keras._batches import Batch
from rankloss.objectives import Blockwise


def evaluated(
    of_embeddings: Callable[..., Any],
    of_scores: Callable[..., Any],
    what: Any,
    batch: Batch,
    reduction: str,
    *,
    normalize: bool,
    include_query: bool,
    block_size: int | None,
) -> Any:
    """An objective or a metric of a batch, by the function of embeddings or, with a mask, by that of scores."""
    if batch.mask is None:
        rows = batch.ranked()
        values = of_embeddings(
            what,
            rows.embeddings,
            rows.labels,
            weights=rows.weights,
            reduction=reduction,
            normalize=normalize,
            include_query=include_query,
            block_size=block_size,
        )
    else:
        inner, num_blocks = (what.objective, what.num_blocks) if isinstance(what, Blockwise) else (what, 1)
        rows = batch.ranked()
        checked_weights(rows.embeddings, rows.labels, rows.weights, num_blocks)
        rows = batch.flat()
        scores, relevant, valid = _masked_scores(rows, normalize, include_query, num_blocks)
        values = of_scores(inner, scores, relevant, valid=valid, weights=rows.weights, reduction=reduction)
    return ops.reshape(values, ops.shape(batch.embeddings)[:-1]) if len(values.shape) else values


def _masked_scores(
    batch: Batch, normalize: bool, include_query: bool, num_blocks: int
) -> tuple[Any, Any, Any]:
    """Scores, relevant pairs and valid pairs [n, n] of a batch."""
    rows, mask = _wide(batch.embeddings), batch.mask
    if normalize:
        rows = _normalized(rows)
    valid = ops.logical_and(mask[:, None], mask[None, :])
    places = ops.arange(ops.shape(rows)[0], dtype="int32")
    if not include_query:
        valid = ops.logical_and(valid, places[:, None] != places[None, :])
    if num_blocks > 1:
        block = places // (ops.shape(rows)[0] // num_blocks)
        valid = ops.logical_and(valid, block[:, None] == block[None, :])
    return ops.matmul(rows, ops.transpose(rows)), batch.labels[:, None] == batch.labels[None, :], valid


def _wide(rows: Any) -> Any:
    """Half precision as float32, in which the backends score it."""
    return (
        ops.cast(rows, "float32") if keras.backend.standardize_dtype(rows.dtype).endswith("float16") else rows
    )


def _normalized(rows: Any) -> Any:
    """Rows of length 1, or 0: `rankloss._rows` in operations that the framework differentiates."""
    largest = ops.stop_gradient(ops.max(ops.abs(rows), axis=1, keepdims=True))
    nothing = largest == 0
    scaled = rows / ops.where(nothing, ops.ones_like(largest), largest)
    squares = ops.sum(scaled * scaled, axis=1, keepdims=True)
    return scaled / ops.sqrt(ops.where(nothing, ops.ones_like(squares), squares))
