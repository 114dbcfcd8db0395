"""rankloss for JAX: the losses of `import rankloss` as pure, differentiable functions of `jax.Array`s.

They run under `jit`, `grad`, `vmap` and `lax.scan`; labels and masks may be traced. A gradient is computed only
where one is wanted, together with the loss, and may be differentiated again.
"""

try:
    import jax as _jax
except ImportError as error:
    raise ImportError("rankloss.jax needs JAX: pip install 'rankloss[jax]'") from error

if _jax.__version_info__ < (0, 6):
    raise ImportError(
        f"rankloss.jax needs JAX 0.6 or newer, found {_jax.__version__}: pip install -U 'rankloss[jax]'"
    )

from rankloss._metrics import AveragePrecision, AveragePrecisionAtR, RecallAtK, RPrecision
from rankloss.jax._functions import embedding_loss, embedding_metric, score_loss, score_metric
from rankloss.objectives import Blockwise, FastAP, SmoothAP, SupCon

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
