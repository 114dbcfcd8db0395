"""The functions and checks of the backend that Keras runs on, and what its own losses use but it does not export."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import keras

# What Keras has no public name for: the mask of a prediction, which is no attribute in JAX; whether a model is only
# being built; and the division of a mean by the number of tf.distribute's replicas.
from keras.src.backend import get_keras_mask
from keras.src.backend.common.symbolic_scope import in_symbolic_scope
from keras.src.losses.loss import scale_loss_for_distribution

from rankloss._arguments import check_embedding_batch

FRAMEWORKS = {"torch": "TorchFramework", "jax": "JaxFramework", "tensorflow": "TensorFlowFramework"}

if keras.backend.backend() not in FRAMEWORKS:
    raise ImportError(
        f"rankloss.keras runs on Keras' backends {', '.join(FRAMEWORKS)}, found {keras.backend.backend()!r}: set the "
        "environment variable KERAS_BACKEND to one of them before Keras is imported"
    )

_functions = import_module(f"rankloss.{keras.backend.backend()}")
embedding_loss: Callable[..., Any] = _functions.embedding_loss
embedding_metric: Callable[..., Any] = _functions.embedding_metric
score_loss: Callable[..., Any] = _functions.score_loss
score_metric: Callable[..., Any] = _functions.score_metric

_framework = import_module(f"rankloss.{keras.backend.backend()}._framework")


def checked_weights(embeddings: Any, labels: Any, weights: Any, num_blocks: int = 1) -> Any:
    """The weights; TypeError or ValueError as from `embedding_loss` of these arguments if they are not right."""
    framework = getattr(_framework, FRAMEWORKS[keras.backend.backend()])()
    in_coats = keras.backend.backend() == "tensorflow"  # which its framework has tensors in
    wrapped = import_module("rankloss.tensorflow._array").wrapped if in_coats else lambda _, tensor: tensor
    batch = check_embedding_batch(
        framework,
        "embedding_loss",
        wrapped("embeddings", embeddings),
        wrapped("labels", labels),
        {"weights": wrapped("weights", weights)},
        num_blocks,
    )
    return batch.weights.tensor if in_coats and batch.weights is not None else batch.weights


__all__ = [
    "checked_weights",
    "embedding_loss",
    "embedding_metric",
    "get_keras_mask",
    "in_symbolic_scope",
    "scale_loss_for_distribution",
    "score_loss",
    "score_metric",
]
