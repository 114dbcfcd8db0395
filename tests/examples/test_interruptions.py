"""The trainers stopped, killed, gone wrong, and resumed: to the last bit as if nothing had happened."""

import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from harness import Harness, harnesses
from runs import MakeOptions, command_line, differing, run, stop_by

from pretraining.command_line import run as run_command_line
from pretraining.datasets import PretrainingData, load
from pretraining.progress import read_curves
from pretraining.runs import InterruptedRun, RunError

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize(
    ("harness", "changes"),
    [pytest.param(h, c, id=f"{h.name}-{name}") for h in harnesses() for name, c in h.settings.items()],
    indirect=["harness"],
)
def test_stopped_and_resumed_is_uninterrupted(
    harness: Harness,
    changes: dict[str, Any],
    small_options: MakeOptions,
    small_data: PretrainingData,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = run(harness, small_options(**changes), small_data)
    parts = small_options(**changes, run_folder=tmp_path / "parts")
    with monkeypatch.context() as patch:
        harness.disturb(patch, 3, stop_by(signal.SIGINT))
        with pytest.raises(
            InterruptedRun, match="stopped at step 3 of 6 with a checkpoint; --resume goes on"
        ):
            run(harness, parts, small_data)
    assert [row.step for row in read_curves(parts.folder)] == [1, 2, 3]
    harness.draw()  # what the program did in between must not matter
    resumed = run(harness, small_options(**changes, run_folder=parts.folder, resume=True), small_data)
    assert differing(whole, resumed) == []
    rows, others = read_curves(tmp_path / "run"), read_curves(parts.folder)
    assert [(r.step, r.loss, r.map, r.learning_rate) for r in rows] == [
        (r.step, r.loss, r.map, r.learning_rate) for r in others
    ]
    assert [row.step for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [row.step for row in rows if row.map is not None] == [1, 3, 6]
    assert others[-1].seconds > others[2].seconds


def test_sigterm_stops_as_ctrl_c_does(
    harness: Harness, small_options: MakeOptions, small_data: PretrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = signal.getsignal(signal.SIGTERM)
    harness.disturb(monkeypatch, 5, stop_by(signal.SIGTERM))
    with pytest.raises(InterruptedRun) as caught:
        run(harness, small_options(), small_data)
    assert caught.value.exit_status == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is handler
    assert harness.step(small_options().folder) == 5


KILLED = """
import os, signal, sys
sys.path.insert(0, {examples!r})
import pretrain_{name}
{ambush}
sys.exit(pretrain_{name}.main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("harness", "ambush", "last"),
    [pytest.param(h, *kill, id=f"{h.name}-{name}") for h in harnesses() for name, kill in h.kills.items()],
    indirect=["harness"],
)
def test_kill_loses_no_more_than_since_the_last_checkpoint(
    harness: Harness, ambush: str, last: int, fashion_mnist: Path, small_options: MakeOptions, tmp_path: Path
) -> None:
    options = small_options(steps=8, data_root=fashion_mnist, run_folder=tmp_path / "killed", resume=True)
    code = KILLED.format(examples=str(EXAMPLES), name=harness.name, ambush=ambush)
    line = ["--run-folder", options.folder, "--data-root", fashion_mnist, *command_line(options)]
    program = [sys.executable, "-c", code, *map(str, line)]
    environment = os.environ | harness.environment
    killed = subprocess.run(
        program, capture_output=True, text=True, timeout=120, check=False, env=environment
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert harness.step(options.folder) == last
    data = load("fashion-mnist", fashion_mnist)
    resumed = run(harness, options, data)
    assert differing(run(harness, small_options(steps=8), data), resumed) == []
    assert [row.step for row in read_curves(options.folder)] == list(range(1, 9))
    assert tensorboard_steps(options.folder) == list(range(1, 9))


def tensorboard_steps(folder: Path) -> list[int]:
    """The steps of the loss in TensorBoard's files, with nothing purged."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder / "tensorboard"), purge_orphaned_data=False)
    accumulator.Reload()
    return [event.step for event in accumulator.Tensors("pretraining/loss")]


def test_ctrl_c_at_the_terminal(
    harness: Harness, fashion_mnist: Path, small_options: MakeOptions, tmp_path: Path
) -> None:
    options = small_options(steps=100_000, checkpoint_every=90_000)
    line = ["--run-folder", tmp_path / "run", "--data-root", fashion_mnist, *command_line(options)]
    program = [sys.executable, EXAMPLES / f"pretrain_{harness.name}.py", *line]
    environment = os.environ | harness.environment
    with subprocess.Popen(
        [*map(str, program)], stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        deadline = time.monotonic() + 120
        while len(read_curves(tmp_path / "run")) < 3 and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, messages = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT
    assert "Traceback" not in messages
    stopped = re.search(r"stopped at step (\d+) of 100000 with a checkpoint; --resume goes on", messages)
    assert stopped is not None
    assert harness.step(tmp_path / "run") == int(stopped[1])
    assert read_curves(tmp_path / "run")[-1].step == int(stopped[1])


def test_nan_loss_stops_the_run_and_keeps_the_checkpoint(
    harness: Harness, small_options: MakeOptions, small_data: PretrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.disturb(monkeypatch, 5, lambda loss: loss * math.nan)
    with pytest.raises(RunError, match="the loss became nan at step 5; the checkpoint of step 4 is kept"):
        run(harness, small_options(), small_data)
    assert harness.step(small_options().folder) == 4
    assert [row.step for row in read_curves(small_options().folder)] == [1, 2, 3, 4]


def test_weights_that_are_not_finite_are_not_saved(
    harness: Harness,
    small_options: MakeOptions,
    small_data: PretrainingData,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    harness.spoil(monkeypatch, 4)
    with pytest.raises(
        RunError, match="weights became infinite or NaN by step 4; the checkpoint of step 2 is"
    ):
        run(harness, small_options(), small_data)
    assert harness.step(small_options().folder) == 2


def test_learning_rate_that_is_far_too_high(
    harness: Harness, small_options: MakeOptions, small_data: PretrainingData
) -> None:
    options = small_options(optimizer="sgd", learning_rate=1e38, warmup_steps=0)
    with pytest.raises(
        RunError, match=r"became .*; there was no checkpoint yet: try a lower --learning-rate"
    ):
        run(harness, options, small_data)
    assert harness.step(options.folder) is None


def test_decoded_pictures_resume_too(
    harness: Harness,
    small_options: MakeOptions,
    folder_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    changes: dict[str, Any] = {
        "data": "folder", "data_root": folder_data, "image_size": 16, "batch_images": 4, "views": 2, "steps": 4,
        "workers": 2,
    }  # fmt: skip
    harness.trainer.train(small_options(**changes), show_progress=False)
    parts = small_options(**changes, run_folder=tmp_path / "parts")
    with monkeypatch.context() as patch:
        harness.disturb(patch, 1, stop_by(signal.SIGINT))
        with pytest.raises(InterruptedRun):
            harness.trainer.train(parts, show_progress=False)
    harness.trainer.train(
        small_options(**changes | {"workers": 0}, run_folder=parts.folder, resume=True), show_progress=False
    )
    assert differing(harness.state(small_options().folder), harness.state(parts.folder)) == []


def test_finished_run_resumed_is_left_as_it_is(
    harness: Harness, small_options: MakeOptions, small_data: PretrainingData
) -> None:
    first = run(harness, small_options(), small_data)
    curves = (small_options().folder / "curves.csv").read_bytes()
    assert differing(first, run(harness, small_options(resume=True), small_data)) == []
    assert (small_options().folder / "curves.csv").read_bytes() == curves


def test_picture_that_can_not_be_read_is_one_sentence(
    harness: Harness, folder_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (folder_data / "train" / "apple").iterdir():
        path.write_bytes(b"no picture")
    line = [
        "--data",
        "folder",
        "--data-root",
        folder_data,
        "--run-folder",
        tmp_path / "run",
        "--batch-images",
        "4",
    ]
    assert (
        run_command_line(harness.trainer, "", [*map(str, line), "--image-size", "32", "--workers", "1"]) == 1
    )
    message = capsys.readouterr().err.splitlines()[-1]
    assert re.match(r"error: picture \d of the data set can't be read \(cannot identify", message)
