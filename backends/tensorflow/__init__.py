"""rankloss for TensorFlow: the losses of `import rankloss` as differentiable functions of tensors.

They run eagerly, in a `tf.function` and compiled by XLA, and see the same numbers. A gradient is computed only
where a tape records.
"""

try:
    import tensorflow as _tensorflow
except ImportError as error:
    raise ImportError("rankloss.tensorflow needs TensorFlow: pip install 'rankloss[tensorflow]'") from error

if tuple(int(part) for part in _tensorflow.__version__.split(".")[:2]) < (2, 16):
    raise ImportError(
        f"rankloss.tensorflow needs TensorFlow 2.16 or newer, found {_tensorflow.__version__}: "
        "pip install 'rankloss[tensorflow]'"
    )

from rankloss._metrics import AveragePrecision, AveragePrecisionAtR, RecallAtK, RPrecision
from rankloss.objectives import Blockwise, FastAP, SmoothAP, SupCon
from rankloss.tensorflow._functions import embedding_loss, embedding_metric, score_loss, score_metric

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
    "embedding_metric",
    "score_loss",
    "score_metric",
]
