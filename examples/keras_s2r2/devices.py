"""The device that a run is on, by Keras' names for the backends' devices."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import keras

from pretraining.runs import RunError


def device(name: str) -> AbstractContextManager[Any]:
    """The device by Keras' names; `auto` leaves it to the backend.

    Raises:
        RunError: it is not there.
    """
    if name == "auto":
        return nullcontext()
    try:
        with keras.device(name):
            keras.ops.convert_to_numpy(keras.ops.zeros(1))
    except Exception as error:  # every backend has its own
        raise RunError(f"--device {name} is not there: {str(error).splitlines()[0]}") from error
    return keras.device(name)
