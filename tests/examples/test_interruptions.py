"""The PyTorch trainer stopped, killed, gone wrong, and resumed: to the last bit as if nothing had happened."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pretrain_torch
import pytest
import torch
from runs import MakeOptions, command_line, differing, disturb, final_state, run, stop_by

from pretraining.datasets import PretrainingData, load
from pretraining.progress import read_curves
from pretraining.runs import InterruptedRun, RunError
from torch_s2r2.checkpoints import CHECKPOINT
from torch_s2r2.learner import Learner
from torch_s2r2.training import train

SCRIPT = Path(pretrain_torch.__file__)
SETTINGS = [
    pytest.param({}, id="s2r2"),
    pytest.param({"objective": "fast_ap", "optimizer": "sgd"}, id="fast_ap-sgd"),
    pytest.param({"objective": "sup_con", "blocks": 2, "amp": "bfloat16"}, id="sup_con-blocks-bfloat16"),
    pytest.param({"method": "simclr", "optimizer": "lars"}, id="simclr-lars"),
    pytest.param({"method": "swav", "channels_last": True}, id="swav-channels-last"),
    pytest.param({"amp": "float16"}, id="float16"),
]


@pytest.mark.parametrize("changes", SETTINGS)
def test_stopped_and_resumed_is_uninterrupted(
    small_options: MakeOptions,
    small_data: PretrainingData,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
) -> None:
    whole = run(small_options(**changes), small_data)
    parts = small_options(**changes, run_folder=tmp_path / "parts")
    with monkeypatch.context() as patch:
        disturb(patch, 3, stop_by(signal.SIGINT))
        with pytest.raises(
            InterruptedRun, match="stopped at step 3 of 6 with a checkpoint; --resume goes on"
        ):
            run(parts, small_data)
    assert [row.step for row in read_curves(parts.folder)] == [1, 2, 3]
    torch.manual_seed(99)  # what the program did in between must not matter
    resumed = run(small_options(**changes, run_folder=parts.folder, resume=True), small_data)
    assert differing(whole, resumed) == []
    rows, others = read_curves(small_options().folder), read_curves(parts.folder)
    assert [(r.step, r.loss, r.map, r.learning_rate) for r in rows] == [
        (r.step, r.loss, r.map, r.learning_rate) for r in others
    ]
    assert [row.step for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [row.step for row in rows if row.map is not None] == [1, 3, 6]
    assert others[-1].seconds > others[2].seconds


def test_sigterm_stops_as_ctrl_c_does(
    small_options: MakeOptions, small_data: PretrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    handler = signal.getsignal(signal.SIGTERM)
    disturb(monkeypatch, 5, stop_by(signal.SIGTERM))
    with pytest.raises(InterruptedRun) as caught:
        run(small_options(), small_data)
    assert caught.value.exit_status == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is handler
    assert torch.load(small_options().folder / CHECKPOINT, weights_only=True)["step"] == 5


KILLED = """
import os, signal, sys, torch
sys.path.insert(0, sys.argv.pop(1))
import pretrain_torch
from torch_s2r2 import learner
{ambush}
sys.exit(pretrain_torch.main(sys.argv[1:]))
"""
AMBUSH_IN_A_STEP = """
plain = learner.Learner.step
def step(self, pictures, number):
    if number == 6:
        os.kill(os.getpid(), signal.SIGKILL)
    return plain(self, pictures, number)
learner.Learner.step = step
"""
AMBUSH_IN_A_WRITE = """
plain = torch.save
def save(content, file):
    if content.get("step") == 6:
        file.write(b"PK half a checkpoint")
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    plain(content, file)
torch.save = save
"""


@pytest.mark.parametrize("ambush", [AMBUSH_IN_A_STEP, AMBUSH_IN_A_WRITE], ids=["in-a-step", "in-a-write"])
def test_kill_loses_no_more_than_since_the_last_checkpoint(
    fashion_mnist: Path, small_options: MakeOptions, tmp_path: Path, ambush: str
) -> None:
    options = small_options(steps=8, data_root=fashion_mnist, run_folder=tmp_path / "killed", resume=True)
    line = ["--run-folder", options.folder, "--data-root", fashion_mnist, *command_line(options)]
    program = [sys.executable, "-c", KILLED.format(ambush=ambush), SCRIPT.parent, *line]
    killed = subprocess.run([*map(str, program)], capture_output=True, text=True, timeout=120, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert torch.load(options.folder / CHECKPOINT, weights_only=True)["step"] == 4
    data = load("fashion-mnist", fashion_mnist)
    resumed = run(options, data)
    assert differing(run(small_options(steps=8), data), resumed) == []
    assert [row.step for row in read_curves(options.folder)] == list(range(1, 9))
    assert tensorboard_steps(options.folder) == list(range(1, 9))


def tensorboard_steps(folder: Path) -> list[int]:
    """The steps of the loss in TensorBoard's files, with nothing purged."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder / "tensorboard"), purge_orphaned_data=False)
    accumulator.Reload()
    return [event.step for event in accumulator.Tensors("pretraining/loss")]


def test_ctrl_c_at_the_terminal(fashion_mnist: Path, small_options: MakeOptions, tmp_path: Path) -> None:
    options = small_options(steps=100_000, checkpoint_every=90_000)
    line = ["--run-folder", tmp_path / "run", "--data-root", fashion_mnist, *command_line(options)]
    with subprocess.Popen(
        [*map(str, [sys.executable, SCRIPT, *line])], stderr=subprocess.PIPE, text=True
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
    assert torch.load(tmp_path / "run" / CHECKPOINT, weights_only=True)["step"] == int(stopped[1])
    assert read_curves(tmp_path / "run")[-1].step == int(stopped[1])


def test_nan_loss_stops_the_run_and_keeps_the_checkpoint(
    small_options: MakeOptions, small_data: PretrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    disturb(monkeypatch, 5, lambda loss: loss * torch.nan)
    with pytest.raises(RunError, match="the loss became nan at step 5; the checkpoint of step 4 is kept"):
        run(small_options(), small_data)
    assert torch.load(small_options().folder / CHECKPOINT, weights_only=True)["step"] == 4
    assert [row.step for row in read_curves(small_options().folder)] == [1, 2, 3, 4]


def test_weights_that_are_not_finite_are_not_saved(
    small_options: MakeOptions, small_data: PretrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Learner.step

    def step(self: Learner, pictures: torch.Tensor, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        found = plain(self, pictures, number)
        if number == 4:
            next(self.head.parameters()).data[0, 0] = torch.inf
        return found

    monkeypatch.setattr(Learner, "step", step)
    with pytest.raises(
        RunError, match="weights became infinite or NaN by step 4; the checkpoint of step 2 is"
    ):
        run(small_options(), small_data)
    assert torch.load(small_options().folder / CHECKPOINT, weights_only=True)["step"] == 2


def test_learning_rate_that_is_far_too_high(small_options: MakeOptions, small_data: PretrainingData) -> None:
    options = small_options(optimizer="sgd", learning_rate=1e38, warmup_steps=0)
    with pytest.raises(
        RunError, match=r"became .*; there was no checkpoint yet: try a lower --learning-rate"
    ):
        run(options, small_data)
    assert not (options.folder / CHECKPOINT).exists()


def test_decoded_pictures_resume_too(
    small_options: MakeOptions, folder_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes: dict[str, Any] = {
        "data": "folder", "data_root": folder_data, "image_size": 16, "batch_images": 4, "views": 2, "steps": 4,
        "workers": 2,
    }  # fmt: skip
    train(small_options(**changes), show_progress=False)
    parts = small_options(**changes, run_folder=tmp_path / "parts")
    with monkeypatch.context() as patch:
        disturb(patch, 1, stop_by(signal.SIGINT))
        with pytest.raises(InterruptedRun):
            train(parts, show_progress=False)
    train(
        small_options(**changes | {"workers": 0}, run_folder=parts.folder, resume=True), show_progress=False
    )
    assert differing(final_state(small_options().folder), final_state(parts.folder)) == []


def test_finished_run_resumed_is_left_as_it_is(
    small_options: MakeOptions, small_data: PretrainingData
) -> None:
    first = run(small_options(), small_data)
    curves = (small_options().folder / "curves.csv").read_bytes()
    assert differing(first, run(small_options(resume=True), small_data)) == []
    assert (small_options().folder / "curves.csv").read_bytes() == curves


def test_picture_that_can_not_be_read_is_one_sentence(
    folder_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
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
    assert pretrain_torch.main([*map(str, line), "--image-size", "32", "--workers", "1"]) == 1
    message = capsys.readouterr().err.splitlines()[-1]
    assert re.match(r"error: picture \d of the data set can't be read \(cannot identify", message)
