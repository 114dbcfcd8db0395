"""The pretraining methods: what the loss of a batch of views is.

A method is a layer that is called with the embeddings of every kind of crop, float32 `[pictures, views, d]` each,
and the step; it returns the loss. S2R2 and SimCLR rank the views by rankloss.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import keras
from keras import layers, ops

import rankloss.keras as rl
from keras_s2r2.encoders import Layers
from keras_s2r2.options import KerasOptions
from pretraining.objectives import objective
from pretraining.swav import SwAV, unit_rows

Tensor = Any  # of the backend that Keras runs on


def build_method(options: KerasOptions, seeds: Iterator[int]) -> layers.Layer:
    """The method that the options ask for."""
    return SwAVLayer(options, seeds) if options.method == "swav" else Ranking(options)


class Ranking(layers.Layer):
    """Each view is a query, and the other views of its picture are what it should find among all others."""

    def __init__(self, options: KerasOptions) -> None:
        super().__init__(dtype="float32", name="ranking")
        self.objective = objective(options)
        self.include_query = options.method == "s2r2" and options.include_query
        self.built = True

    def call(self, embeddings: Sequence[Tensor], step: Tensor) -> Tensor:
        views = ops.concatenate(embeddings, axis=1)
        return rl.embedding_loss(self.objective, views, include_query=self.include_query)


class SwAVLayer(layers.Layer):
    """SwAV with what it keeps: the prototypes, held on the unit sphere by a constraint, and the queues."""

    def __init__(self, options: KerasOptions, seeds: Iterator[int]) -> None:
        super().__init__(dtype="float32", name="swav")
        self.swav = SwAV.of(options)
        first = Layers("float32", seeds).uniform_bias(options.head_dim)  # as PyTorch's linear layers start
        self.prototypes = self.add_weight(
            (options.prototypes, options.head_dim),
            initializer=lambda shape, dtype: unit_rows(ops, first(shape, dtype)),
            constraint=keras.constraints.UnitNorm(axis=1),
            name="prototypes",
        )
        self.queues = None
        if options.queue_size:
            shape = (2, options.queue_size, options.head_dim)
            self.queues = self.add_weight(shape, initializer="zeros", trainable=False, name="queues")
        self.built = True

    def call(self, embeddings: Sequence[Tensor], step: Tensor) -> Tensor:
        prototypes = ops.convert_to_tensor(self.prototypes)
        queues = None if self.queues is None else ops.convert_to_tensor(self.queues)
        loss, queues = self.swav(ops, ops.stop_gradient, embeddings, prototypes, queues, step)
        if self.queues is not None:
            self.queues.assign(queues)
        return loss
