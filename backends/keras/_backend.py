"""The functions of the backend that Keras runs on, and what Keras' own losses use but Keras does not export."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import keras

# Keras' own losses read the mask of a prediction by the first of these (it is no attribute in JAX), and divide a
# mean by the number of tf.distribute's replicas by the second. Keras has no public name for either.
from keras.src.backend import get_keras_mask
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
    "scale_loss_for_distribution",
    "score_loss",
    "score_metric",
]
