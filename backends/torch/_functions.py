"""`embedding_loss`, `score_loss` and the exact metrics of tensors."""

from __future__ import annotations

from functools import partial
from typing import Unpack

import torch
from torch import Tensor

from rankloss._arguments import (
    EmbeddingOptions,
    ScoreOptions,
    check_embedding_batch,
    check_flag,
    check_score_batch,
)
from rankloss._functions import check_score_objective
from rankloss._metrics import Metric, check_metric, evaluate_metric
from rankloss._passes import embedding_pass, score_pass
from rankloss.objectives import Objective
from rankloss.objectives.blockwise import split_objective
from rankloss.torch._framework import TorchFramework
from rankloss.torch._operators import embedding_operator, plan_key, score_operator


def embedding_loss(
    objective: Objective,
    embeddings: Tensor | tuple[Tensor, ...],
    labels: Tensor | None = None,
    *,
    compile: bool = False,
    **options: Unpack[EmbeddingOptions],
) -> Tensor:
    """`rankloss.embedding_loss` of tensors, differentiable by the embeddings and the gallery.

    Definition, arguments, errors and options are those of `rankloss.embedding_loss`. Under `torch.autocast`
    and with embeddings of half precision, scores and sums are float32, the loss is float32, and the gradient
    has the embeddings' dtype. With `torch.no_grad()`, or where nothing requires grad, no gradient is
    computed. There is no second derivative: asking for one is a RuntimeError.

    With `compile=True` the formulas of a block of queries are compiled by `torch.compile` at the first call, which
    takes some ten seconds, and are used for every block of this and later calls, whatever their lengths. Value and
    gradient are the same up to rounding. Where no compiler works (on the CPU it needs g++ or another), there is one
    UserWarning, and nothing is compiled. Smooth-AP is computed as without it where a query has over 64 positives, or
    positives that lie over 124 temperatures apart.

    Example:
        >>> import torch
        >>> import rankloss.torch as rl
        >>> embeddings = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.6, 0.6]], requires_grad=True)
        >>> loss = rl.embedding_loss(rl.SmoothAP(), embeddings, torch.tensor([7, 7, 3, 3]))
        >>> loss.backward()
        >>> print(f"{loss.item():.4f}", tuple(embeddings.grad.shape))
        0.1500 (4, 2)
    """
    _, num_blocks = split_objective(objective)
    check_flag("compile", compile)
    batch = check_embedding_batch(TorchFramework(), "embedding_loss", embeddings, labels, options, num_blocks)
    loss: Tensor = embedding_operator(
        plan_key(objective, batch.reduction, batch.normalize, batch.include_query, batch.block_size, compile),
        batch.embeddings,
        batch.labels,
        batch.gallery,
        batch.gallery_labels,
        batch.relevant,
        batch.weights,
        _wants_gradient(batch.embeddings, batch.reduction),
        _wants_gradient(batch.gallery, batch.reduction),
    )[0]
    return loss


def score_loss(
    objective: Objective,
    scores: Tensor,
    relevant: Tensor,
    *,
    compile: bool = False,
    **options: Unpack[ScoreOptions],
) -> Tensor:
    """`rankloss.score_loss` of tensors, differentiable by the scores; `compile` as in `embedding_loss`.

    Example:
        >>> import torch
        >>> import rankloss.torch as rl
        >>> scores = torch.tensor([[0.5, 0.5]], requires_grad=True)
        >>> rl.score_loss(rl.SmoothAP(1.0), scores, torch.tensor([[True, False]])).backward()
        >>> scores.grad
        tensor([[-0.1111,  0.1111]])
    """
    check_score_objective(objective)
    check_flag("compile", compile)
    batch = check_score_batch(TorchFramework(), "score_loss", scores, relevant, options)
    wanted = _wants_gradient(batch.scores, batch.reduction)
    key = plan_key(objective, batch.reduction, True, False, None, compile)
    loss: Tensor = score_operator(key, batch.scores, batch.relevant, batch.valid, batch.weights, wanted)[0]
    return loss


@torch.no_grad()
def embedding_metric(
    metric: Metric,
    embeddings: Tensor | tuple[Tensor, ...],
    labels: Tensor | None = None,
    **options: Unpack[EmbeddingOptions],
) -> Tensor:
    """`rankloss.embedding_metric` of tensors, which records no gradient.

    Example:
        >>> import torch
        >>> import rankloss.torch as rl
        >>> embeddings = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.6, 0.6]])
        >>> rl.embedding_metric(rl.RecallAtK(1), embeddings, torch.tensor([7, 7, 3, 3]))
        tensor(0.7500)
    """
    check_metric(metric)
    framework = TorchFramework()
    batch = check_embedding_batch(framework, "embedding_metric", embeddings, labels, options)
    value: Tensor = embedding_pass(framework, partial(evaluate_metric, metric), batch).value
    return value


@torch.no_grad()
def score_metric(metric: Metric, scores: Tensor, relevant: Tensor, **options: Unpack[ScoreOptions]) -> Tensor:
    """`rankloss.score_metric` of tensors, which records no gradient."""
    check_metric(metric)
    framework = TorchFramework()
    batch = check_score_batch(framework, "score_metric", scores, relevant, options)
    value: Tensor = score_pass(framework, partial(evaluate_metric, metric), batch).value
    return value


def _wants_gradient(tensor: Tensor | None, reduction: str) -> bool:
    """Whether to compute the gradient along with the loss; that of "none" is computed in backward."""
    return tensor is not None and tensor.requires_grad and torch.is_grad_enabled() and reduction != "none"
