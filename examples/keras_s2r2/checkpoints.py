"""Checkpoints: Keras' weights file in a zip, whose sums show damage, beside what it is of."""

import json
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import keras

from pretraining.checkpoints import check_description, description, unreadable
from pretraining.files import write_whole
from pretraining.runs import Run, RunError

CHECKPOINT = "checkpoint.zip"
DESCRIPTION, WEIGHTS = "checkpoint.json", "model.weights.h5"


def save_checkpoint(run: Run, step: int, model: keras.Model) -> None:
    """Replace the run folder's checkpoint: weights, running statistics, queues and the optimiser's state."""

    def write(file: object) -> None:
        with zipfile.ZipFile(file, "w") as archive:  # type: ignore[call-overload]
            archive.writestr(DESCRIPTION, json.dumps(description(run, step)))
            archive.writestr(WEIGHTS, written(model.save_weights, WEIGHTS))

    write_whole(run.folder / CHECKPOINT, write)


def load_checkpoint(run: Run, model: keras.Model) -> int:
    """Take up the run folder's checkpoint; return its step, 0 if there is none.

    Raises:
        RunError: the checkpoint is damaged, of something else, or of a run with other options or data.
    """
    path = run.folder / CHECKPOINT
    if not path.exists():
        return 0
    found, weights = read_checkpoint(path)
    step = check_description(path, found, run)
    load_weights(model, weights, path)
    return step


def read_checkpoint(path: Path) -> tuple[object, bytes]:
    """What a checkpoint says of itself, and its weights.

    Raises:
        RunError: it can't be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:  # which checks the sums of what is read
            return json.loads(archive.read(DESCRIPTION)), archive.read(WEIGHTS)
    except Exception as error:  # whatever zip and JSON readers raise, the file is of no use
        raise unreadable(path, error) from error


def load_weights(model: keras.Model, weights: bytes, path: Path) -> None:
    """Put the weights of a checkpoint into the model.

    Raises:
        RunError: they are another model's.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / WEIGHTS
        file.write_bytes(weights)
        try:
            model.load_weights(file)
        except Exception as error:  # h5py and Keras raise many kinds
            raise RunError(
                f"the checkpoint in {path.parent} does not fit the model of these options"
            ) from error


def written(save: Callable[[Path], object], name: str) -> bytes:
    """The bytes of the file that `save` writes; Keras insists on a path and looks at its ending."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        save(path)
        return path.read_bytes()
