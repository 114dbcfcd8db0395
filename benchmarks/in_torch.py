"""PyTorch: our losses, eager and compiled, the floor, pytorch-metric-learning and lightly."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from batches import Run, Setting, embeddings, labels
from machine import DEVICE
from torch import Tensor

import rankloss.torch as rl

FLOOR_BLOCK = 128 if DEVICE == "cpu" else 4096


def on_device(array: Any) -> Tensor:
    """A copy of a NumPy array where it is computed."""
    return torch.tensor(array, device=DEVICE)


def finished() -> None:
    """Wait for what runs on a GPU."""
    if DEVICE != "cpu":
        torch.cuda.synchronize()


def floor(setting: Setting) -> Run:
    """Scores, and the two products that make a gradient out of an array of their size, block by block."""
    x = torch.nn.functional.normalize(on_device(embeddings(setting)))

    def run() -> tuple[Tensor, Tensor]:
        d_gallery, d_queries = torch.zeros_like(x), torch.empty_like(x)
        for first in range(0, len(x), FLOOR_BLOCK):
            queries = x[first : first + FLOOR_BLOCK]
            scores = queries @ x.T
            torch.mm(scores, x, out=d_queries[first : first + FLOOR_BLOCK])
            d_gallery.addmm_(scores.T, queries)
        finished()
        return d_queries, d_gallery

    return run


def differentiated(loss_fn: Any, x: Tensor, *arguments: Tensor) -> Run:
    """Forward and backward pass of a loss, as a training step makes them."""
    x.requires_grad_()

    def run() -> tuple[Tensor, Tensor]:
        x.grad = None
        loss = loss_fn(x, *arguments)
        loss.backward()
        finished()
        assert x.grad is not None
        return loss.detach(), x.grad

    return run


def ours(objective: Any, setting: Setting, compile: bool = False) -> Run:
    """One of our losses."""
    loss_fn = rl.RankingLoss(objective, block_size=setting.block_size, compile=compile)
    x = on_device(embeddings(setting))
    if setting.layout == "labels":
        return differentiated(loss_fn, x, on_device(labels(setting)))
    return differentiated(loss_fn, x.view(-1, setting.per_class, setting.dimensions))


def reference(objective: Any, setting: Setting, include_query: bool) -> tuple[Any, Any]:
    """Loss and gradient in float64, of labels, for all others to be compared with."""
    loss_fn = rl.RankingLoss(objective, include_query=include_query)
    x = torch.from_numpy(embeddings(setting)).double()
    loss, gradient = differentiated(loss_fn, x, torch.from_numpy(labels(setting)))()
    return loss.numpy(), gradient.numpy()


def metric_learning(name: str, options: dict[str, Any], setting: Setting) -> Run:
    """A loss of pytorch-metric-learning."""
    from pytorch_metric_learning import losses

    x = on_device(embeddings(setting))
    return differentiated(getattr(losses, name)(**options), x, on_device(labels(setting)))


def nt_xent(setting: Setting) -> Run:
    """lightly's loss of two views."""
    from lightly.loss import NTXentLoss

    loss_fn = NTXentLoss(temperature=0.1)
    x = on_device(embeddings(setting))
    return differentiated(lambda x: loss_fn(x[::2], x[1::2]), x)


FLOORS = {"PyTorch": floor, "PyTorch compiled": floor}
OURS = {"PyTorch": ours, "PyTorch compiled": partial(ours, compile=True)}
PEERS = {
    ("pytorch-metric-learning", "SmoothAPLoss"): partial(
        metric_learning, "SmoothAPLoss", {"temperature": 0.01}
    ),
    ("pytorch-metric-learning", "FastAPLoss"): partial(metric_learning, "FastAPLoss", {"num_bins": 10}),
    ("pytorch-metric-learning", "SupConLoss"): partial(metric_learning, "SupConLoss", {"temperature": 0.1}),
    ("lightly", "NTXentLoss"): nt_xent,
}
