"""rankloss for Keras 3: losses and metrics for `compile`, `fit` and `evaluate`, on PyTorch, JAX and TensorFlow.

It has no numbers of its own: everything is computed by `rankloss.torch`, `rankloss.jax` or
`rankloss.tensorflow`, whichever framework Keras runs on, and the functions here are theirs.
"""

try:
    import keras as _keras
except ImportError as error:
    if error.name == "keras":
        raise ImportError("rankloss.keras needs Keras: pip install 'rankloss[keras]'") from error
    raise ImportError(
        f"Keras can't be imported without {(error.name or '').split('.')[0]}: install it, or set KERAS_BACKEND to "
        "torch, jax or tensorflow, whichever is there"
    ) from error

if tuple(int(part) for part in _keras.__version__.split(".")[:2]) < (3, 8):
    raise ImportError(
        f"rankloss.keras needs Keras 3.8 or newer, found {_keras.__version__}: pip install -U 'rankloss[keras]'"
    )

from rankloss._metrics import AveragePrecision, AveragePrecisionAtR, RecallAtK, RPrecision
from rankloss.keras._backend import embedding_loss, embedding_metric, score_loss, score_metric
from rankloss.keras._evaluation import RankingEvaluation
from rankloss.keras._loss import RankingLoss
from rankloss.keras._metric import RankingMetric
from rankloss.objectives import Blockwise, FastAP, SmoothAP, SupCon

__all__ = [
    "AveragePrecision",
    "AveragePrecisionAtR",
    "Blockwise",
    "FastAP",
    "RPrecision",
    "RankingEvaluation",
    "RankingLoss",
    "RankingMetric",
    "RecallAtK",
    "SmoothAP",
    "SupCon",
    "embedding_loss",
    "embedding_metric",
    "score_loss",
    "score_metric",
]
