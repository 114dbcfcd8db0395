"""What is the Keras trainer's own: its exported encoder, its checkpoint file, and the three backends."""

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from runs import a_text, cut_short, one_bit_off

from keras_s2r2.checkpoints import CHECKPOINT, DESCRIPTION, WEIGHTS
from keras_s2r2.options import BACKENDS, KerasOptions
from keras_s2r2.trainer import TRAINER
from pretraining.command_line import run as run_command_line
from pretraining.datasets import PretrainingData, load
from pretraining.runs import OPTIONS, RunError, TrainingResult

EXAMPLES = Path(__file__).parents[2] / "examples"
HERE = keras.backend.backend()
OTHERS = sorted(set(BACKENDS) - {HERE})
MakeOptions = Callable[..., KerasOptions]


@pytest.fixture
def options(tmp_path: Path) -> MakeOptions:
    """Makes options of a run of 2 steps of 8 pictures."""

    def make(**changes: Any) -> KerasOptions:
        values: dict[str, Any] = {
            "run_folder": tmp_path / "run", "steps": 2, "views": 2, "batch_images": 8, "head_hidden": 16,
            "head_dim": 8, "warmup_steps": 0, "checkpoint_every": 1, "no_evaluation": True, "device": "cpu",
        }  # fmt: skip
        return KerasOptions(**values | changes)

    return make


def train(options: KerasOptions, data: PretrainingData | None = None) -> TrainingResult:
    return TRAINER.train(options, data=data, show_progress=False)


@pytest.mark.parametrize(
    "changes",
    [{}, {"amp": "bfloat16"}, {"amp": "float16"}, {"encoder": "resnet18", "steps": 1, "batch_images": 2}],
    ids=["float32", "bfloat16", "float16", "resnet18"],
)
def test_encoder_is_a_keras_model_of_pictures_as_they_are(
    options: MakeOptions, small_data: PretrainingData, changes: dict[str, Any]
) -> None:
    result = train(options(**changes), small_data)
    pictures = np.asarray(small_data.images[:5])
    encoder = keras.saving.load_model(result.run_folder / "encoder.keras")
    features = encoder.predict(pictures, verbose=0)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, result.encode(pictures), rtol=1e-5)
    assert {layer.dtype_policy.name for layer in encoder.layers} == {"float32"}
    before = TRAINER.untrained(options(**changes), small_data)(pictures)
    assert np.abs(features - before).max() > 1e-3


def test_unfinished_run_has_the_encoder_of_its_checkpoint(
    options: MakeOptions, small_data: PretrainingData, tmp_path: Path
) -> None:
    result = train(options(amp="bfloat16"), small_data)
    pictures = np.asarray(small_data.images[:5])
    assert TRAINER.trained(result.run_folder, options(), small_data)[0] == ""
    (result.run_folder / "encoder.keras").unlink()
    word, encode = TRAINER.trained(result.run_folder, options(amp="bfloat16"), small_data)
    assert word == ", step 2 of 2"
    np.testing.assert_allclose(encode(pictures), result.encode(pictures), rtol=1e-5)
    with pytest.raises(RunError, match="does not fit the model of these options"):
        TRAINER.trained(result.run_folder, options(encoder="resnet18"), small_data)
    with pytest.raises(RunError, match=r"has neither encoder\.keras nor checkpoint\.zip"):
        TRAINER.trained(tmp_path, options(), small_data)
    (tmp_path / "encoder.keras").write_text("no model")
    with pytest.raises(RunError, match="is not an encoder of --encoder small"):
        TRAINER.trained(tmp_path, options(), small_data)


def test_pictures_larger_than_the_encoder_sees(options: MakeOptions, folder_data: Path) -> None:
    changes = {"data": "folder", "data_root": folder_data, "batch_images": 4, "workers": 2}
    result = train(options(**changes, image_size=32))
    data = load("folder", folder_data, image_size=32)
    assert data.images.shape[1] > 32
    assert result.encode(data.images[:3]).shape == (3, 128)


@pytest.mark.parametrize("damage", [cut_short, one_bit_off, a_text])
def test_unreadable_checkpoint(
    options: MakeOptions, small_data: PretrainingData, damage: Callable[[Path], None]
) -> None:
    damage(train(options(), small_data).run_folder / CHECKPOINT)
    with pytest.raises(RunError, match=r"can't be read as a checkpoint \(.*\): remove it to start") as caught:
        train(options(resume=True), small_data)
    assert "\n" not in str(caught.value)


def rewritten(path: Path, **changes: bytes) -> None:
    """Replace members of the checkpoint by these."""
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, value in (content | changes).items():
            archive.writestr(name, value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({DESCRIPTION: b'{"format": "another"}'}, "is not a checkpoint of this trainer"),
        ({WEIGHTS: b"no weights"}, "does not fit the model of these options"),
    ],
)
def test_foreign_checkpoint(
    options: MakeOptions, small_data: PretrainingData, changes: dict[str, bytes], message: str
) -> None:
    rewritten(train(options(), small_data).run_folder / CHECKPOINT, **changes)
    with pytest.raises(RunError, match=message):
        train(options(resume=True), small_data)


def test_backend_is_checked_and_part_of_the_run(options: MakeOptions, small_data: PretrainingData) -> None:
    other = OTHERS[0]
    with pytest.raises(RunError, match=f"--backend {other}, but Keras runs on {HERE}: set KERAS_BACKEND"):
        train(options(backend=other), small_data)
    noted = train(options(), small_data).run_folder / OPTIONS
    noted.write_text(json.dumps(json.loads(noted.read_text()) | {"backend": other}))
    with pytest.raises(RunError, match=rf"has other options: --backend {other} \(here {HERE}\)"):
        train(options(resume=True), small_data)


SMOKE = """
import sys
sys.path.insert(0, {examples!r})
import pretrain_keras
status = pretrain_keras.main(sys.argv[1:])
print(status, *(name for name in ("jax", "tensorflow", "torch") if name in sys.modules))
"""


def command_line(folder: Path, data: Path) -> list[str]:
    settings = {
        "run-folder": folder, "data-root": data, "method": "swav", "views": 2, "batch-images": 4, "steps": 3,
        "head-hidden": 16, "head-dim": 8, "prototypes": 6, "queue-size": 8, "queue-start-step": 1,
        "checkpoint-every": 1,
    }  # fmt: skip
    return ["--no-evaluation", "--resume", *(f"--{name}={value}" for name, value in settings.items())]


@pytest.mark.parametrize("backend", OTHERS)
def test_other_backends_run_too_and_without_pytorch(
    backend: str, fashion_mnist: Path, tmp_path: Path
) -> None:
    environment = os.environ | {"KERAS_BACKEND": backend, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    code, line = SMOKE.format(examples=str(EXAMPLES)), command_line(tmp_path / "run", fashion_mnist)
    done = subprocess.run(
        [sys.executable, "-c", code, *line],
        capture_output=True, text=True, timeout=300, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    status, *loaded = done.stdout.splitlines()[-1].split()
    assert status == "0"
    assert backend in loaded  # beside those that Keras' fit and TensorFlow load themselves
    assert backend == "torch" or "torch" not in loaded
    # What one backend trained, the others can use, and the others' runs are not gone on with.
    data = load("fashion-mnist", fashion_mnist)
    word, encode = TRAINER.trained(tmp_path / "run", KerasOptions(backend=backend), data)
    assert word == ""
    assert encode(np.asarray(data.images[:3])).shape == (3, 128)
    assert run_command_line(TRAINER, "", line) == 1


@pytest.mark.long
@pytest.mark.parametrize("backend", OTHERS)
def test_whole_suite_of_the_trainer_on_other_backends(backend: str) -> None:
    tests = Path(__file__).parent
    files = ["test_interruptions.py", "test_keras_views.py", "test_keras_model.py", "test_keras_trainer.py"]
    line = ["-m", "pytest", "-q", "-m", "not long", "-k", "keras", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, *line, *(str(tests / file) for file in files)],
        capture_output=True, text=True, timeout=1500, check=False,
        env=os.environ | {"KERAS_BACKEND": backend, "RANKLOSS_TEST_BACKENDS": "keras,tensorflow"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-5000:]
