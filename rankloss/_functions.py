"""The functions of `import rankloss`: any array-API array in, values and gradients in the same kind out."""

from __future__ import annotations

from functools import partial
from typing import Any, Unpack

from rankloss._arguments import (
    EmbeddingOptions,
    ScoreOptions,
    check_embedding_batch,
    check_score_batch,
)
from rankloss._framework import Array, Framework, framework_of
from rankloss._metrics import Metric, check_metric, evaluate_metric
from rankloss._passes import embedding_pass, score_pass
from rankloss.objectives import Objective, RankingObjective
from rankloss.objectives._objective import block_factor, check_objective
from rankloss.objectives.blockwise import Blockwise, split_objective


def embedding_loss(
    objective: Objective, embeddings: Array, labels: Array | None = None, **options: Unpack[EmbeddingOptions]
) -> Array:
    """A ranking loss of embeddings: each is a query and ranks the others, or a gallery.

    It equals `score_loss(objective, x @ x.T, ...)` of the normalised embeddings x, without allocating the
    scores or anything else that grows with the square of the batch: blocks of queries are scored, used and
    dropped.

    Args:
        objective: `SmoothAP()`, `FastAP()`, `SupCon()` or `Blockwise(...)` of one.
        embeddings: floating-point, [n, d] with labels; or [images, views, d], or a tuple of [images, d]
            arrays, one a view, without: then the views of an image are each other's positives.
        labels: integers [n]. Items with the label of a query are its positives.
        gallery: floating-point [g, d] of the embeddings' dtype: the items to rank, instead of the batch
            itself. Nothing is left out of it, even where it equals the batch.
        gallery_labels: integers [g].
        relevant: boolean [n, g] instead of labels, of a gallery: which of its items are positives of which query.
        normalize: L2-normalise embeddings and gallery, so that scores are cosines (True). A row of zeros
            stays zero and gets no gradient.
        include_query: count the query itself as one of its candidates and positives (False). Only without a
            gallery.
        weights: real, at least 0, one a query, in the shape of the losses. They get no gradient.
        reduction: "mean" (default), the mean over the queries that have a positive, weighted; "sum" of the
            weighted losses; or "none": weighted losses [n], or [images, views], 0 for queries without a
            positive.
        block_size: how many queries are scored at a time; None chooses. The value does not depend on it.

    Returns:
        The loss, a scalar or for "none" one a query, in the embeddings' dtype, float32 for narrower ones. It
        is 0 where no query has a positive, with a UserWarning, and NaN where NaN or infinity went in.

    Raises:
        TypeError: on arrays of a wrong library or dtype, and unknown options.
        ValueError: on shapes, values and combinations of arguments that do not fit.

    Example:
        >>> import numpy as np
        >>> import rankloss
        >>> embeddings = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.6, 0.6]])
        >>> labels = np.array([7, 7, 3, 3])
        >>> print(f"{rankloss.embedding_loss(rankloss.SmoothAP(), embeddings, labels):.4f}")
        0.1500
        >>> views = np.stack([embeddings[::2], embeddings[1::2]], axis=1)  # [2 images, 2 views, 2]
        >>> print(f"{rankloss.embedding_loss(rankloss.SmoothAP(), views):.4f}")
        0.1500
    """
    loss, _ = _embedding("embedding_loss", objective, embeddings, labels, options, gradient=False)
    return loss


def embedding_loss_and_gradient(
    objective: Objective, embeddings: Array, labels: Array | None = None, **options: Unpack[EmbeddingOptions]
) -> tuple[Array, Any]:
    """`embedding_loss` and its gradient, in one pass.

    Arguments are those of `embedding_loss`; the reduction is "mean" or "sum".

    Returns:
        (loss, gradient) with the gradient in the embeddings' shape (a tuple of views counts as stacked) and
        dtype; with a gallery (loss, (d_embeddings, d_gallery)).

    Example:
        >>> import numpy as np
        >>> import rankloss
        >>> embeddings = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.6, 0.6]])
        >>> labels = np.array([7, 7, 3, 3])
        >>> loss, gradient = rankloss.embedding_loss_and_gradient(rankloss.SupCon(), embeddings, labels)
        >>> gradient.shape
        (4, 2)
    """
    _refuse_none("embedding_loss_and_gradient", options)
    return _embedding("embedding_loss_and_gradient", objective, embeddings, labels, options, gradient=True)


def score_loss(
    objective: Objective, scores: Array, relevant: Array, **options: Unpack[ScoreOptions]
) -> Array:
    """A ranking loss of scores that a model gave to the items of queries.

    Args:
        objective: `SmoothAP()`, `FastAP()` or `SupCon()`.
        scores: floating-point [queries, items], higher is better. FastAP takes them as cosines.
        relevant: boolean [queries, items], which items are positives.
        valid: boolean [queries, items], which items are candidates (all). What it excludes has no influence,
            whatever stands there, NaN included.
        weights: real, at least 0, [queries]. They get no gradient.
        reduction: as in `embedding_loss`.

    Returns:
        The loss, as in `embedding_loss`. A NaN or infinite score that is valid gives NaN.

    Raises:
        TypeError: on arrays of a wrong library or dtype, and unknown options.
        ValueError: on shapes, values and combinations of arguments that do not fit.

    Example:
        >>> import numpy as np
        >>> import rankloss
        >>> scores = np.array([[0.9, 0.8, 0.1], [0.2, 0.7, np.nan]])
        >>> relevant = np.array([[True, False, True], [False, True, False]])
        >>> loss = rankloss.score_loss(rankloss.SmoothAP(), scores, relevant, valid=~np.isnan(scores))
        >>> print(f"{loss:.4f}")
        0.0833
    """
    loss, _ = _score("score_loss", objective, scores, relevant, options, gradient=False)
    return loss


def score_loss_and_gradient(
    objective: Objective, scores: Array, relevant: Array, **options: Unpack[ScoreOptions]
) -> tuple[Array, Array]:
    """`score_loss` and its gradient by the scores, [queries, items] in their dtype.

    Arguments are those of `score_loss`; the reduction is "mean" or "sum".

    Example:
        >>> import numpy as np
        >>> import rankloss
        >>> scores, relevant = np.array([[0.5, 0.5]]), np.array([[True, False]])
        >>> loss, gradient = rankloss.score_loss_and_gradient(rankloss.SmoothAP(1.0), scores, relevant)
        >>> print(f"{loss:.4f} {gradient[0, 0]:.4f} {gradient[0, 1]:.4f}")
        0.3333 -0.1111 0.1111
    """
    _refuse_none("score_loss_and_gradient", options)
    return _score("score_loss_and_gradient", objective, scores, relevant, options, gradient=True)


def embedding_metric(
    metric: Metric, embeddings: Array, labels: Array | None = None, **options: Unpack[EmbeddingOptions]
) -> Array:
    """An exact metric of embeddings, in blocks, with the arguments of `embedding_loss`.

    Args:
        metric: `AveragePrecision()`, `RecallAtK(k)`, `RPrecision()` or `AveragePrecisionAtR()`.
        embeddings: and everything after it, as in `embedding_loss`.

    Returns:
        With the reduction "mean" the mean over the queries that have a positive: for `AveragePrecision()` the
        mean average precision, mAP.

    Example:
        >>> import numpy as np
        >>> import rankloss
        >>> embeddings = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.6, 0.6]])
        >>> labels = np.array([7, 7, 3, 3])
        >>> print(f"{rankloss.embedding_metric(rankloss.AveragePrecision(), embeddings, labels):.4f}")
        0.8333
    """
    check_metric(metric)
    framework = framework_of_embeddings(embeddings)
    batch = check_embedding_batch(framework, "embedding_metric", embeddings, labels, options)
    return embedding_pass(framework, partial(evaluate_metric, metric), batch).value


def score_metric(metric: Metric, scores: Array, relevant: Array, **options: Unpack[ScoreOptions]) -> Array:
    """An exact metric of scores [queries, items], with the arguments of `score_loss`.

    Example:
        >>> import numpy as np
        >>> import rankloss
        >>> scores, relevant = np.array([[0.9, 0.8, 0.1]]), np.array([[False, True, True]])
        >>> print(f"{rankloss.score_metric(rankloss.AveragePrecision(), scores, relevant):.4f}")
        0.5833
    """
    check_metric(metric)
    framework = framework_of(scores, "scores")
    batch = check_score_batch(framework, "score_metric", scores, relevant, options)
    return score_pass(framework, partial(evaluate_metric, metric), batch).value


def framework_of_embeddings(embeddings: Any) -> Framework:
    """The framework of embeddings or of a tuple of views; TypeError if they are not arrays."""
    views = isinstance(embeddings, tuple | list) and len(embeddings) > 0
    return framework_of(embeddings[0] if views else embeddings, "embeddings")


def _embedding(
    function: str,
    objective: Objective,
    embeddings: Any,
    labels: Any,
    options: EmbeddingOptions,
    gradient: bool,
) -> tuple[Array, Any]:
    framework = framework_of_embeddings(embeddings)
    inner, num_blocks = split_objective(objective)
    batch = check_embedding_batch(framework, function, embeddings, labels, options, num_blocks)
    _refuse_autograd(embeddings=batch.embeddings, gallery=batch.gallery)
    wanted = (gradient, gradient and batch.gallery is not None)
    result = embedding_pass(
        framework, inner.loss_and_gradient, batch, num_blocks, wanted, block_factor(inner)
    )
    if not gradient:
        return result.value, None
    d_queries = framework.xp.astype(result.d_queries, batch.embeddings.dtype)
    if batch.gallery is None:
        return result.value, d_queries
    return result.value, (d_queries, framework.xp.astype(result.d_gallery, batch.gallery.dtype))


def _score(
    function: str, objective: Objective, scores: Any, relevant: Any, options: ScoreOptions, gradient: bool
) -> tuple[Array, Any]:
    framework = framework_of(scores, "scores")
    ranking = check_score_objective(objective)
    batch = check_score_batch(framework, function, scores, relevant, options)
    _refuse_autograd(scores=batch.scores)
    result = score_pass(framework, ranking.loss_and_gradient, batch, gradient, block_factor(ranking))
    return result.value, framework.xp.astype(result.d_queries, batch.scores.dtype) if gradient else None


def check_score_objective(objective: Objective) -> RankingObjective:
    """The objective; TypeError unless it can be applied to scores."""
    if isinstance(objective, Blockwise):
        raise TypeError(
            f"objective must not be blockwise for scores, which are no batch to cut, found {objective!r}"
        )
    check_objective(objective, "objective")
    return objective


def _refuse_none(function: str, options: EmbeddingOptions | ScoreOptions) -> None:
    if options.get("reduction") == "none":
        raise ValueError(
            f"{function}() takes reduction 'mean' or 'sum', found 'none', whose gradient is no array"
        )


def _refuse_autograd(**arrays: Any) -> None:
    """These functions know no autodiff: a tensor that records would silently get a loss without a gradient."""
    for name, array in arrays.items():
        if getattr(array, "requires_grad", False):
            raise TypeError(
                f"{name} requires grad, which needs a differentiable loss: import rankloss.torch instead of "
                "rankloss, or pass a detached tensor"
            )
