"""The options that only the Keras trainer has."""

from dataclasses import dataclass
from typing import ClassVar

import keras

from pretraining.options import Options, option

BACKENDS = ("jax", "tensorflow", "torch")


@dataclass(frozen=True, kw_only=True)
class KerasOptions(Options):
    """The options of the Keras trainer."""

    trainer: ClassVar[str] = "keras"

    backend: str = option(
        keras.backend.backend(),
        "what Keras runs on; KERAS_BACKEND in the environment chooses it, this only checks it",
        choices=BACKENDS,
    )
