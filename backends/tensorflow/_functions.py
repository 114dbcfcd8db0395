"""`embedding_loss`, `score_loss` and the exact metrics of tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, ParamSpec, Unpack

import tensorflow as tf

from rankloss._arguments import (
    EmbeddingBatch,
    EmbeddingOptions,
    ScoreBatch,
    ScoreOptions,
    check_embedding_batch,
    check_score_batch,
)
from rankloss._functions import check_score_objective
from rankloss._metrics import Metric, check_metric, evaluate_metric
from rankloss._passes import Evaluate, Result, embedding_pass, score_pass
from rankloss.objectives import Objective
from rankloss.objectives._objective import block_factor
from rankloss.objectives.blockwise import split_objective
from rankloss.tensorflow._array import Array, wrapped
from rankloss.tensorflow._framework import TensorFlowFramework, framework_here
from rankloss.tensorflow._gradients import differentiable
from rankloss.tensorflow._lengths import (
    assert_lengths_of_embeddings,
    assert_lengths_of_scores,
    unless_empty,
)

Parameters = ParamSpec("Parameters")


def _as_written(function: Callable[Parameters, tf.Tensor]) -> Callable[Parameters, tf.Tensor]:
    """Keep AutoGraph from rewriting the library's code, which makes its loops and branches itself."""
    unconverted: Callable[Parameters, tf.Tensor] = tf.autograph.experimental.do_not_convert(function)
    return unconverted


@_as_written
def embedding_loss(
    objective: Objective,
    embeddings: tf.Tensor | tuple[tf.Tensor, ...],
    labels: tf.Tensor | None = None,
    **options: Unpack[EmbeddingOptions],
) -> tf.Tensor:
    """`rankloss.embedding_loss` of tensors, differentiable by the embeddings and the gallery.

    Definition, arguments, errors and options are those of `rankloss.embedding_loss`. It runs eagerly, in a
    `tf.function` and compiled by XLA, also where lengths are known at run time only. With embeddings of half
    precision, scores and sums are float32, the loss is float32, and the gradient has the embeddings' dtype.
    Where no tape records, no gradient is computed. There is no second derivative: asking for one is a
    RuntimeError.

    Example:
        >>> import tensorflow as tf
        >>> import rankloss.tensorflow as rl
        >>> embeddings = tf.Variable([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.6, 0.6]])
        >>> with tf.GradientTape() as tape:
        ...     loss = rl.embedding_loss(rl.SmoothAP(), embeddings, tf.constant([7, 7, 3, 3]))
        >>> print(f"{loss:.4f}", tape.gradient(loss, embeddings).shape)
        0.1500 (4, 2)
    """
    inner, num_blocks = split_objective(objective)
    framework = TensorFlowFramework()
    batch = check_embedding_batch(
        framework,
        "embedding_loss",
        wrapped("embeddings", embeddings),
        wrapped("labels", labels),
        _wrapped_options(options),
        num_blocks,
    )
    batch = assert_lengths_of_embeddings(batch, num_blocks)

    def evaluate(arrays: tuple[Array, ...], wanted: tuple[bool, ...], **changes: Any) -> Result:
        gallery = arrays[1] if len(arrays) > 1 else None
        changed = replace(batch, embeddings=arrays[0], gallery=gallery, **changes)
        by_both = (wanted[0], len(wanted) > 1 and wanted[1])
        return _of_embeddings(inner.loss_and_gradient, changed, num_blocks, by_both, block_factor(inner))

    arrays = (batch.embeddings,) if batch.gallery is None else (batch.embeddings, batch.gallery)
    return differentiable(evaluate, arrays, batch.weights, batch.reduction)


@_as_written
def score_loss(
    objective: Objective, scores: tf.Tensor, relevant: tf.Tensor, **options: Unpack[ScoreOptions]
) -> tf.Tensor:
    """`rankloss.score_loss` of tensors, differentiable by the scores.

    Example:
        >>> import tensorflow as tf
        >>> import rankloss.tensorflow as rl
        >>> scores = tf.Variable([[0.5, 0.5]])
        >>> with tf.GradientTape() as tape:
        ...     loss = rl.score_loss(rl.SmoothAP(1.0), scores, tf.constant([[True, False]]))
        >>> [round(slope, 4) for slope in tape.gradient(loss, scores).numpy()[0].tolist()]
        [-0.1111, 0.1111]
    """
    ranking = check_score_objective(objective)
    framework = TensorFlowFramework()
    batch = check_score_batch(
        framework,
        "score_loss",
        wrapped("scores", scores),
        wrapped("relevant", relevant),
        _wrapped_options(options),
    )
    batch = assert_lengths_of_scores(batch)

    def evaluate(arrays: tuple[Array, ...], wanted: tuple[bool, ...], **changes: Any) -> Result:
        changed = replace(batch, scores=arrays[0], **changes)
        return _of_scores(ranking.loss_and_gradient, changed, wanted[0], block_factor(ranking))

    return differentiable(evaluate, (batch.scores,), batch.weights, batch.reduction)


@_as_written
def embedding_metric(
    metric: Metric,
    embeddings: tf.Tensor | tuple[tf.Tensor, ...],
    labels: tf.Tensor | None = None,
    **options: Unpack[EmbeddingOptions],
) -> tf.Tensor:
    """`rankloss.embedding_metric` of tensors, which records no gradient.

    Example:
        >>> import tensorflow as tf
        >>> import rankloss.tensorflow as rl
        >>> embeddings = tf.constant([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.6, 0.6]])
        >>> float(rl.embedding_metric(rl.RecallAtK(1), embeddings, tf.constant([7, 7, 3, 3])))
        0.75
    """
    check_metric(metric)
    framework = TensorFlowFramework()
    batch = check_embedding_batch(
        framework,
        "embedding_metric",
        wrapped("embeddings", embeddings),
        wrapped("labels", labels),
        _wrapped_options(options),
    )
    batch = assert_lengths_of_embeddings(batch)
    batch = _unrecorded(batch, "embeddings", "gallery", "weights")
    return _of_embeddings(partial(evaluate_metric, metric), batch).value.tensor


@_as_written
def score_metric(
    metric: Metric, scores: tf.Tensor, relevant: tf.Tensor, **options: Unpack[ScoreOptions]
) -> tf.Tensor:
    """`rankloss.score_metric` of tensors, which records no gradient."""
    check_metric(metric)
    framework = TensorFlowFramework()
    batch = check_score_batch(
        framework,
        "score_metric",
        wrapped("scores", scores),
        wrapped("relevant", relevant),
        _wrapped_options(options),
    )
    batch = assert_lengths_of_scores(batch)
    batch = _unrecorded(batch, "scores", "weights")
    return _of_scores(partial(evaluate_metric, metric), batch).value.tensor


def _of_embeddings(
    evaluate: Evaluate,
    batch: EmbeddingBatch,
    num_blocks: int = 1,
    wanted: tuple[bool, bool] = (False, False),
    factor: int = 1,
) -> Result:
    framework = framework_here()
    arrays = (batch.embeddings,) if batch.gallery is None else (batch.embeddings, batch.gallery)
    shape = batch.query_shape if batch.reduction == "none" else ()
    return unless_empty(
        framework,
        (*batch.query_shape, arrays[-1].shape[0]),
        lambda: embedding_pass(framework, evaluate, batch, num_blocks, wanted, factor),
        lambda: _nothing(framework, shape, arrays, wanted),
    )


def _of_scores(
    evaluate: Evaluate,
    batch: ScoreBatch,
    wanted: bool = False,
    factor: int = 1,
) -> Result:
    framework = framework_here()
    shape = batch.scores.shape[:1] if batch.reduction == "none" else ()
    return unless_empty(
        framework,
        batch.scores.shape,
        lambda: score_pass(framework, evaluate, batch, wanted, factor),
        lambda: _nothing(framework, shape, (batch.scores,), (wanted,)),
    )


def _nothing(
    framework: TensorFlowFramework,
    shape: tuple[Any, ...],
    arrays: tuple[Array, ...],
    wanted: tuple[bool, ...],
) -> Result:
    dtype = framework.compute_dtype(arrays[0].dtype)
    zeros = framework.xp.zeros
    gradients = [
        zeros(array.shape, dtype) if want else None for array, want in zip(arrays, wanted, strict=False)
    ]
    return Result(zeros(shape, dtype), *gradients)


def _wrapped_options(options: Any) -> Any:
    return {name: wrapped(name, option) for name, option in options.items()}


def _unrecorded(batch: Any, *names: str) -> Any:
    arrays = {name: getattr(batch, name) for name in names}
    return replace(
        batch,
        **{
            name: Array(tf.stop_gradient(array.tensor)) for name, array in arrays.items() if array is not None
        },
    )
