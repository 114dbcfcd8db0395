"""`embedding_loss`, `score_loss` and the exact metrics of JAX arrays."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Unpack, cast

import array_api_compat.numpy
import jax
import numpy as np
from jax import Array

from rankloss._arguments import (
    EmbeddingBatch,
    EmbeddingOptions,
    ScoreBatch,
    ScoreOptions,
    check_embedding_batch,
    check_score_batch,
)
from rankloss._framework import Framework
from rankloss._functions import check_score_objective
from rankloss._metrics import Metric, check_metric
from rankloss._passes import warn_of_embeddings, warn_of_scores
from rankloss.jax._framework import JaxFramework
from rankloss.jax._gradients import Constants, Plan, Variables, run_embeddings, run_scores, value
from rankloss.objectives import Objective, RankingObjective
from rankloss.objectives.blockwise import split_objective


def embedding_loss(
    objective: Objective,
    embeddings: Array | tuple[Array, ...],
    labels: Array | None = None,
    **options: Unpack[EmbeddingOptions],
) -> Array:
    """`rankloss.embedding_loss` of JAX arrays, differentiable by the embeddings and the gallery.

    Definition, arguments, errors and options are those of `rankloss.embedding_loss`. A pure function: it may
    stand in `jax.jit`, `jax.grad`, `jax.vmap` and `lax.scan`, with labels and masks traced, and is compiled
    once for a shape, whatever the labels. With embeddings of half precision, scores and sums are float32, the
    loss is float32, and the gradient has the embeddings' dtype. `jax.jvp` of `jax.grad` gives
    Hessian-vector products; the loss by itself has no forward mode.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import rankloss.jax as rl
        >>> embeddings, labels = jnp.array([[1, 0], [0.9, 0.1], [0, 1], [0.6, 0.6]]), jnp.array([7, 7, 3, 3])
        >>> loss, gradient = jax.value_and_grad(lambda x: rl.embedding_loss(rl.SmoothAP(), x, labels))(embeddings)
        >>> print(f"{loss:.4f}", gradient.shape)
        0.1500 (4, 2)
    """
    inner, num_blocks = split_objective(objective)
    batch = check_embedding_batch(JaxFramework(), "embedding_loss", embeddings, labels, options, num_blocks)
    _warn_of_embeddings(batch, num_blocks)
    return value(run_embeddings, *_embedding_arguments(inner, batch, num_blocks))


def score_loss(
    objective: Objective, scores: Array, relevant: Array, **options: Unpack[ScoreOptions]
) -> Array:
    """`rankloss.score_loss` of JAX arrays, differentiable by the scores.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import rankloss.jax as rl
        >>> relevant = jnp.array([[True, False]])
        >>> gradient = jax.grad(lambda s: rl.score_loss(rl.SmoothAP(1.0), s, relevant))(jnp.array([[0.5, 0.5]]))
        >>> [round(slope, 4) for slope in gradient[0].tolist()]
        [-0.1111, 0.1111]
    """
    ranking = check_score_objective(objective)
    batch = check_score_batch(JaxFramework(), "score_loss", scores, relevant, options)
    _warn_of_scores(batch)
    return value(run_scores, *_score_arguments(ranking, batch))


def embedding_metric(
    metric: Metric,
    embeddings: Array | tuple[Array, ...],
    labels: Array | None = None,
    **options: Unpack[EmbeddingOptions],
) -> Array:
    """`rankloss.embedding_metric` of JAX arrays, whose gradient is 0.

    Example:
        >>> import jax.numpy as jnp
        >>> import rankloss.jax as rl
        >>> embeddings = jnp.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.6, 0.6]])
        >>> print(rl.embedding_metric(rl.RecallAtK(1), embeddings, jnp.array([7, 7, 3, 3])))
        0.75
    """
    check_metric(metric)
    batch = check_embedding_batch(JaxFramework(), "embedding_metric", embeddings, labels, options)
    _warn_of_embeddings(batch, 1)
    plan, *arrays = _embedding_arguments(metric, batch, 1)
    return cast(Array, run_embeddings(plan, (False, False), *jax.lax.stop_gradient(arrays)).value)


def score_metric(metric: Metric, scores: Array, relevant: Array, **options: Unpack[ScoreOptions]) -> Array:
    """`rankloss.score_metric` of JAX arrays, whose gradient is 0."""
    check_metric(metric)
    batch = check_score_batch(JaxFramework(), "score_metric", scores, relevant, options)
    _warn_of_scores(batch)
    plan, *arrays = _score_arguments(metric, batch)
    return cast(Array, run_scores(plan, (False, False), *jax.lax.stop_gradient(arrays)).value)


def _embedding_arguments(
    what: RankingObjective | Metric, batch: EmbeddingBatch, num_blocks: int
) -> tuple[Plan, Variables, Constants]:
    plan = Plan(what, batch.reduction, batch.normalize, batch.include_query, batch.block_size, num_blocks)
    constants = Constants(batch.labels, batch.gallery_labels, batch.relevant, weights=batch.weights)
    return plan, Variables(batch.embeddings, batch.gallery), constants


def _score_arguments(what: RankingObjective | Metric, batch: ScoreBatch) -> tuple[Plan, Variables, Constants]:
    constants = Constants(relevant=batch.relevant, valid=batch.valid, weights=batch.weights)
    return Plan(what, batch.reduction), Variables(batch.scores), constants


# -- the warning about a batch without positives, which must be given outside what is compiled


def _warn_of_embeddings(batch: EmbeddingBatch, num_blocks: int) -> None:
    known = _known(batch, ("labels", "gallery_labels", "relevant"))
    if known is None:
        return
    rows: dict[str, Any] = {
        name: np.zeros((*array.shape[:-1], 1), np.float32)
        for name, array in (("embeddings", batch.embeddings), ("gallery", batch.gallery))
        if array is not None
    }
    warn_of_embeddings(Framework(array_api_compat.numpy), replace(batch, **(rows | known)), num_blocks)


def _warn_of_scores(batch: ScoreBatch) -> None:
    known = _known(batch, ("relevant", "valid"))
    if known is not None:
        warn_of_scores(Framework(array_api_compat.numpy), replace(batch, **known))


def _known(batch: EmbeddingBatch | ScoreBatch, names: tuple[str, ...]) -> dict[str, Any] | None:
    """Those arrays of a batch as NumPy's, or None if the values of one are not known yet."""
    framework = JaxFramework()
    arrays = {name: getattr(batch, name) for name in names if getattr(batch, name) is not None}
    if any(framework.known(array) is None for array in arrays.values()):
        return None
    return {name: np.asarray(array) for name, array in arrays.items()}
