"""The functions of the backend that Keras runs on, and what Keras' own losses use but Keras does not export."""

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

BACKENDS = ("torch", "jax", "tensorflow")

if keras.backend.backend() not in BACKENDS:
    raise ImportError(
        f"rankloss.keras runs on Keras' backends {', '.join(BACKENDS)}, found {keras.backend.backend()!r}: set the "
        "environment variable KERAS_BACKEND to one of them before Keras is imported"
    )

_functions = import_module(f"rankloss.{keras.backend.backend()}")
embedding_loss: Callable[..., Any] = _functions.embedding_loss
embedding_metric: Callable[..., Any] = _functions.embedding_metric
score_loss: Callable[..., Any] = _functions.score_loss
score_metric: Callable[..., Any] = _functions.score_metric

__all__ = [
    "embedding_loss",
    "embedding_metric",
    "get_keras_mask",
    "in_symbolic_scope",
    "scale_loss_for_distribution",
    "score_loss",
    "score_metric",
]
