"""rankloss for PyTorch: the losses of `import rankloss` as differentiable functions of tensors, and a module.

Tensors may be on any device, and the loss is computed there. A gradient is computed only where one is wanted,
together with the loss, so that backward costs next to nothing.
"""

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise ImportError("rankloss.torch needs PyTorch: pip install 'rankloss[torch]'") from error

from rankloss._metrics import AveragePrecision, AveragePrecisionAtR, RecallAtK, RPrecision
from rankloss.objectives import Blockwise, FastAP, SmoothAP, SupCon
from rankloss.torch._functions import embedding_loss, embedding_metric, score_loss, score_metric
from rankloss.torch._module import RankingLoss

__all__ = [
    "AveragePrecision",
    "AveragePrecisionAtR",
    "Blockwise",
    "FastAP",
    "RPrecision",
    "RankingLoss",
    "RecallAtK",
    "SmoothAP",
    "SupCon",
    "embedding_loss",
    "embedding_metric",
    "score_loss",
    "score_metric",
]
