"""What the tests of `rankloss.keras` train: a table of embeddings, and a gradient read off a step of `fit`."""

from typing import Any

import keras
import numpy as np


@keras.saving.register_keras_serializable("rankloss_tests")
class Table(keras.layers.Layer):
    """Adds a trainable table to its inputs; masks the rows that have a NaN if `masked`."""

    def __init__(self, shape: tuple[int, ...], masked: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.shape, self.masked, self.supports_masking = tuple(shape), masked, masked
        self.table = self.add_weight(shape=self.shape, initializer="zeros", name="table")

    def call(self, inputs: Any) -> Any:
        return inputs + self.table

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        return keras.ops.all(keras.ops.equal(inputs, inputs), axis=-1) if self.masked else None

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"shape": self.shape, "masked": self.masked}


def table_model(shape: tuple[int, ...], masked: bool = False, **options: Any) -> Any:
    """A model of embeddings [n, d] or [images, views, d] that starts as the identity."""
    inputs = keras.Input(batch_shape=shape)
    return keras.Model(inputs, Table(shape, masked, **options)(inputs))


def unchanged_model() -> Any:
    """A model of inputs of any shape and number, which has weights and starts as the identity."""
    return keras.Sequential([keras.layers.Dense(4, use_bias=False, kernel_initializer="identity")])


def fitted_gradient(
    loss: Any, embeddings: Any, labels: Any, *, masked: bool = False, jit_compile: bool = False, **fit: Any
) -> tuple[float, Any]:
    """The loss that one step of `fit` prints, and the gradient by which it moved the embeddings."""
    model = table_model(embeddings.shape, masked)
    model.compile(keras.optimizers.SGD(1.0), loss, jit_compile=jit_compile)
    rows = len(embeddings)
    history = model.fit(embeddings, labels, batch_size=rows, shuffle=False, verbose=0, **fit)
    return history.history["loss"][0], -np.asarray(model.get_weights()[0])
