"""What is compared: our losses, the matrix products that no pairwise loss can do without, and other libraries.

A case is made for a number of rows and returns a function that computes loss and gradient once, in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import rankloss.torch as rl

DIMENSIONS = 128
VIEWS = 8
Run = Callable[[], Any]


def batch(rows: int) -> tuple[Tensor, Tensor]:
    """Embeddings with eight views of each image, as a half-trained encoder gives them, and their labels."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(rows // VIEWS).repeat_interleave(VIEWS)
    images = torch.randn(rows // VIEWS, DIMENSIONS, generator=generator)
    embeddings = torch.randn(rows, DIMENSIONS, generator=generator) + 2 * images[labels]
    return embeddings.requires_grad_(), labels


def floor(rows: int, block: int = 128) -> Run:
    """Scores, and from gradients of their size the two products that make the gradient, block by block."""
    embeddings = torch.nn.functional.normalize(batch(rows)[0].detach())

    def run() -> tuple[Tensor, Tensor]:
        d_gallery, d_queries = torch.zeros_like(embeddings), torch.empty_like(embeddings)
        for first in range(0, rows, block):
            queries = embeddings[first : first + block]
            scores = queries @ embeddings.T
            torch.mm(scores, embeddings, out=d_queries[first : first + block])
            d_gallery.addmm_(scores.T, queries)
        return d_queries, d_gallery

    return run


def ours(objective: Any, rows: int, **options: Any) -> Run:
    """A loss of this library over the views."""
    embeddings, _ = batch(rows)
    views = embeddings.detach().view(-1, VIEWS, DIMENSIONS).requires_grad_()

    def run() -> Tensor:
        views.grad = None
        loss = rl.embedding_loss(objective, views, **options)
        loss.backward()
        return loss

    return run


def peer(name: str, rows: int) -> Run:
    """A loss of pytorch-metric-learning by its class name, with the options of our defaults."""
    from pytorch_metric_learning import losses

    options = {
        "SmoothAPLoss": {"temperature": 0.01},
        "FastAPLoss": {"num_bins": 10},
        "SupConLoss": {"temperature": 0.1},
    }
    loss_fn = getattr(losses, name)(**options[name])
    embeddings, labels = batch(rows)

    def run() -> Tensor:
        embeddings.grad = None
        loss: Tensor = loss_fn(embeddings, labels)
        loss.backward()
        return loss

    return run


CASES: dict[str, Callable[[int], Run]] = {
    "three matrix products": floor,
    "rankloss SmoothAP": lambda rows: ours(rl.SmoothAP(), rows),
    "rankloss FastAP": lambda rows: ours(rl.FastAP(), rows),
    "rankloss SupCon": lambda rows: ours(rl.SupCon(), rows),
    "pytorch-metric-learning SmoothAP": lambda rows: peer("SmoothAPLoss", rows),
    "pytorch-metric-learning FastAP": lambda rows: peer("FastAPLoss", rows),
    "pytorch-metric-learning SupCon": lambda rows: peer("SupConLoss", rows),
}

LARGEST = {
    "pytorch-metric-learning SmoothAP": 512,
    "pytorch-metric-learning FastAP": 4096,
    "pytorch-metric-learning SupCon": 4096,
}
"""Rows beyond which a case takes more than half a minute or several gigabytes."""
