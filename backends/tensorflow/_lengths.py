"""Lengths that are known only when a graph runs, checked then: the core checks the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import tensorflow as tf

from rankloss._arguments import EmbeddingBatch, ScoreBatch
from rankloss._framework import Framework
from rankloss._passes import Result
from rankloss.tensorflow._array import Array, Length, as_length


def assert_lengths_of_embeddings(batch: EmbeddingBatch, num_blocks: int = 1) -> EmbeddingBatch:
    """The batch, at which the graph raises InvalidArgumentError where arguments do not fit."""
    queries = batch.query_shape
    checks = _assert_shape("labels", batch.labels, queries, "one a row of embeddings")
    checks += _assert_shape("weights", batch.weights, queries, "one weight a query")
    if batch.gallery is not None:
        items = batch.gallery.shape[0]
        checks += _assert_shape("gallery_labels", batch.gallery_labels, (items,), "one a gallery row")
        checks += _assert_shape("relevant", batch.relevant, (queries[0], items), "[queries, gallery]")
    if isinstance(queries[0], Length):
        message = f"num_blocks must divide the batch, found {num_blocks} blocks"
        rest = (queries[0] % num_blocks).tensor
        checks.append(tf.debugging.assert_equal(rest, as_length(0), message=message))
    checked: EmbeddingBatch = _after(checks, batch)
    return checked


def assert_lengths_of_scores(batch: ScoreBatch) -> ScoreBatch:
    """The batch, at which the graph raises InvalidArgumentError where arguments do not fit."""
    shape = batch.scores.shape
    checks = _assert_shape("relevant", batch.relevant, shape, "the shape of scores")
    checks += _assert_shape("valid", batch.valid, shape, "the shape of scores")
    checks += _assert_shape("weights", batch.weights, shape[:1], "one weight a query")
    checked: ScoreBatch = _after(checks, batch)
    return checked


def unless_empty(
    framework: Framework, lengths: tuple[Any, ...], run: Callable[[], Result], nothing: Callable[[], Result]
) -> Result:
    """`run()`, or `nothing()` where a length that only the graph's run tells turns out to be 0.

    The core sees to the lengths that are known.
    """
    unknown = [length.tensor for length in lengths if isinstance(length, Length)]
    if not unknown:
        return run()
    result: Result = framework.choose(Array(tf.reduce_any(tf.stack(unknown) == 0)), nothing, run)
    return result


def _assert_shape(name: str, array: Array | None, wanted: tuple[Any, ...], meaning: str) -> list[Any]:
    checks: list[Any] = []
    if array is None:
        return checks
    message = f"{name} must have another length: {meaning}"
    for found, length in zip(array.shape, wanted, strict=True):
        if isinstance(found, Length) or isinstance(length, Length):
            checks.append(tf.debugging.assert_equal(as_length(found), as_length(length), message=message))
    return checks


def _after(checks: list[Any], batch: Any) -> Any:
    """The batch once the checks have passed, lest an operation in its midst fails first, in other words."""
    if not checks:
        return batch
    arrays = {name: array for name, array in vars(batch).items() if isinstance(array, Array)}
    with tf.control_dependencies(checks):
        return replace(batch, **{name: Array(tf.identity(array.tensor)) for name, array in arrays.items()})
