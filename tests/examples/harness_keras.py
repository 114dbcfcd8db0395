"""What the tests of all trainers must know of Keras', on the backend that this process has Keras run on."""

import io
import json
import zipfile
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
from harness import Disturbance

from keras_s2r2.checkpoints import CHECKPOINT, DESCRIPTION, WEIGHTS
from keras_s2r2.trainer import TRAINER
from keras_s2r2.training import AfterStep

KILL_IN_A_STEP = """
from keras_s2r2.training import AfterStep
plain = AfterStep.on_train_batch_end
def on_train_batch_end(self, batch, logs=None):
    if batch == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    plain(self, batch, logs)
AfterStep.on_train_batch_end = on_train_batch_end
"""
KILL_IN_A_WRITE = """
import zipfile
plain, written = zipfile.ZipFile.writestr, []
def writestr(self, name, content):
    if name == "model.weights.h5":
        written.append(name)
    if len(written) == 3:  # of step 6
        self.fp.write(content[: len(content) // 2])
        self.fp.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    plain(self, name, content)
zipfile.ZipFile.writestr = writestr
"""


class KerasHarness:
    name = "keras"
    trainer = TRAINER
    # Keras loads JAX and TensorFlow itself, where they are there, to look at what it saves.
    frameworks = {"keras", "jax", "tensorflow", keras.backend.backend()}  # noqa: RUF012
    settings = {  # noqa: RUF012
        "s2r2": {},
        "fast_ap-sgd": {"objective": "fast_ap", "optimizer": "sgd"},
        "sup_con-blocks-bfloat16": {"objective": "sup_con", "blocks": 2, "amp": "bfloat16"},
        "simclr-lars": {"method": "simclr", "optimizer": "lars"},
        "swav": {"method": "swav"},
        "float16": {"amp": "float16"},
    }
    kills = {"in-a-step": (KILL_IN_A_STEP, 4), "in-a-write": (KILL_IN_A_WRITE, 4)}  # noqa: RUF012
    environment = {"KERAS_BACKEND": keras.backend.backend()}  # noqa: RUF012

    def prepared(self) -> AbstractContextManager[object]:
        return nullcontext()

    def state(self, folder: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}

        def note(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset):
                found[name] = np.asarray(item)

        with zipfile.ZipFile(folder / CHECKPOINT) as archive:
            content = archive.read(WEIGHTS)
        with h5py.File(io.BytesIO(content)) as file:
            file.visititems(note)
        return found

    def step(self, folder: Path) -> int | None:
        if not (folder / CHECKPOINT).exists():
            return None
        with zipfile.ZipFile(folder / CHECKPOINT) as archive:
            return int(json.loads(archive.read(DESCRIPTION))["step"])

    def draw(self) -> None:
        keras.random.uniform((3,))

    def disturb(self, monkeypatch: pytest.MonkeyPatch, at: int, act: Disturbance) -> None:
        plain = AfterStep.on_train_batch_end

        def on_train_batch_end(self: AfterStep, batch: int, logs: Any = None) -> None:
            disturbed = self.first_step + batch == at
            plain(self, batch, {"step_loss": act(float(logs["step_loss"]))} if disturbed else logs)

        monkeypatch.setattr(AfterStep, "on_train_batch_end", on_train_batch_end)

    def spoil(self, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
        plain = AfterStep.on_train_batch_end

        def on_train_batch_end(self: AfterStep, batch: int, logs: Any = None) -> None:
            if self.first_step + batch == at:
                weight = self.model.head.weights[0]
                weight.assign(keras.ops.full(weight.shape, np.inf))
            plain(self, batch, logs)

        monkeypatch.setattr(AfterStep, "on_train_batch_end", on_train_batch_end)


HARNESS = KerasHarness()
