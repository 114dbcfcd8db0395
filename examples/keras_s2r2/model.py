"""What learns: a keras.Model whose call makes views and embeds them, and whose loss is the method's."""

from typing import Any

import keras
from keras import ops

import rankloss.keras as rl
from keras_s2r2.encoders import build_encoder, projection_head, seeds_of
from keras_s2r2.methods import build_method
from keras_s2r2.optimizers import build_optimizer
from keras_s2r2.options import KerasOptions
from keras_s2r2.views import Views

Tensor = Any  # of the backend that Keras runs on
POLICIES = {"off": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}


class Latest(keras.metrics.Metric):
    """The last value, where Keras' own metrics are means over the epoch."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name, dtype="float32")
        self.value = self.add_weight((), initializer="zeros", name="value")

    def update_state(self, value: Tensor) -> None:
        self.value.assign(ops.cast(value, "float32"))

    def result(self) -> Tensor:
        return ops.convert_to_tensor(self.value)


class Pretraining(keras.Model):
    """A model in training, compiled: `fit` takes batches of uint8 pictures with their step and its seed.

    Encoder, head and method are its layers, the views its preprocessing, made on the device within each step.
    All of it is built from the start: to build a model, `fit` takes a batch, which is lost where threads bring them.
    """

    def __init__(self, options: KerasOptions, image_size: int, channels: int) -> None:
        super().__init__(name="pretraining")
        seeds, policy = seeds_of(options), POLICIES[options.amp]
        self.views = Views(options, image_size, channels)
        self.encoder = build_encoder(options.encoder, image_size, channels, seeds, policy)
        features = self.encoder.output_shape[1]
        self.head = projection_head(features, options.head_hidden, options.head_dim, seeds, policy)
        self.method = build_method(options, seeds)
        self.step_loss = Latest("step_loss")
        shape = (options.image_count, options.view_count, options.head_dim)
        self.embeddings = self.add_weight(shape, initializer="zeros", trainable=False, name="embeddings")
        self.built = True
        self.compile(optimizer=build_optimizer(options, self.trainable_variables))

    def call(self, batch: dict[str, Tensor], training: bool = False) -> list[Tensor]:
        """Embeddings of fresh views, `[pictures, views, d]` for each kind of crop."""
        pictures = self.embeddings.shape[0]
        images = ops.reshape(
            batch["pictures"], (pictures, *batch["pictures"].shape[1:])
        )  # TensorFlow knows no length
        embedded = []
        for views in self.views(images, ops.reshape(batch["seed"], ())):
            rows = self.head(self.encoder(views, training=training), training=training)
            embedded.append(ops.reshape(ops.cast(rows, "float32"), (pictures, -1, rows.shape[1])))
        return embedded

    def compute_loss(
        self,
        x: dict[str, Tensor],
        y: None = None,
        y_pred: list[Tensor] | None = None,
        sample_weight: None = None,
        training: bool = True,
    ) -> Tensor:
        """The method's loss of the step; it and the embeddings are kept for those who watch."""
        assert y_pred is not None
        loss = self.method(y_pred, ops.reshape(x["step"], ()))
        self.step_loss.update_state(ops.stop_gradient(loss))
        self.embeddings.assign(ops.stop_gradient(ops.concatenate(y_pred, axis=1)))
        return loss

    def average_precision(self) -> float:
        """The exact mean average precision with which the last step's views find their own picture's."""
        return float(rl.embedding_metric(rl.AveragePrecision(), self.embeddings.value))

    def is_finite(self) -> bool:
        """Whether all weights and running statistics are finite numbers."""
        finite = (ops.all(ops.isfinite(v)) for v in self.variables if keras.backend.is_float_dtype(v.dtype))
        return all(map(bool, finite))
