"""Ranking losses for any array-API array: value and gradient in closed form, computed block by block.

`import rankloss.torch` (or `.jax`, `.tensorflow`, `.keras`) has the losses as differentiable ones of that framework.
"""

from rankloss._functions import (
    embedding_loss,
    embedding_loss_and_gradient,
    embedding_metric,
    score_loss,
    score_loss_and_gradient,
    score_metric,
)
from rankloss._metrics import AveragePrecision, AveragePrecisionAtR, RecallAtK, RPrecision
from rankloss.objectives import Blockwise, FastAP, SmoothAP, SupCon

__version__ = "0.1.0.dev0"

__all__ = [
    "AveragePrecision",
    "AveragePrecisionAtR",
    "Blockwise",
    "FastAP",
    "RPrecision",
    "RecallAtK",
    "SmoothAP",
    "SupCon",
    "embedding_loss",
    "embedding_loss_and_gradient",
    "embedding_metric",
    "score_loss",
    "score_loss_and_gradient",
    "score_metric",
]
