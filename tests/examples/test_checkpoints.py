"""Checkpoints: whole or not there, and refused in a sentence where they are not this run's."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest
import torch
from harness import Harness
from harness_torch import HARNESS
from runs import a_text, cut_short, one_bit_off

from pretraining.datasets import PretrainingData
from pretraining.files import write_whole
from pretraining.runs import Run, RunError
from torch_s2r2.checkpoints import CHECKPOINT, load_checkpoint, save_checkpoint
from torch_s2r2.options import TorchOptions

MakeRun = Callable[..., Run]
STATE = {"encoder": {"weight": torch.arange(5000.0)}, "optimizer": {"step": 3}}


@pytest.fixture
def harness() -> Harness:
    """PyTorch's alone."""
    return HARNESS


@pytest.fixture
def make_run(
    tmp_path: Path, small_options: Callable[..., TorchOptions], small_data: PretrainingData
) -> MakeRun:
    """Makes a run in `tmp_path`."""

    def make(data_mark: str = "data", **changes: Any) -> Run:
        options = small_options(**{"run_folder": tmp_path} | changes)
        return Run(options, small_data, small_data.images, data_mark)

    return make


@pytest.fixture
def saved(tmp_path: Path, make_run: MakeRun) -> Path:
    save_checkpoint(make_run(), 4, STATE)
    return tmp_path


def test_comes_back_as_it_was(saved: Path, make_run: MakeRun) -> None:
    found = load_checkpoint(make_run())
    assert found is not None
    step, state = found
    assert step == 4
    assert torch.equal(state["encoder"]["weight"], STATE["encoder"]["weight"])
    assert [path.name for path in saved.iterdir()] == [CHECKPOINT]


def test_none_where_there_is_none(make_run: MakeRun) -> None:
    assert load_checkpoint(make_run()) is None


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def a_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps({"format": "other"}))


def code_to_run(path: Path) -> None:
    class Harmful:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(path.parent / "harm"),)

    torch.save(Harmful(), path)


@pytest.mark.parametrize("damage", [cut_short, emptied, one_bit_off, a_text, a_pickle, code_to_run])
def test_unreadable(saved: Path, make_run: MakeRun, damage: Callable[[Path], None]) -> None:
    damage(saved / CHECKPOINT)
    with pytest.raises(RunError, match=r"can't be read as a checkpoint \(.*\): remove it to start") as caught:
        load_checkpoint(make_run())
    assert "\n" not in str(caught.value)
    assert not (saved / "harm").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"weight": torch.ones(2)}, "is not a checkpoint of this trainer"),
        (torch.ones(2), "is not a checkpoint of this trainer"),
        ({"format": "rankloss pretraining, torch, 1", "step": 1}, "is a checkpoint of another version"),
    ],
)
def test_foreign(tmp_path: Path, make_run: MakeRun, content: object, message: str) -> None:
    torch.save(content, tmp_path / CHECKPOINT)
    with pytest.raises(RunError, match=message):
        load_checkpoint(make_run())


def test_other_options_are_named(
    saved: Path, make_run: MakeRun, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with pytest.raises(
        RunError, match=r"other options: --seed 0 \(here 1\), --views 4 \(here 2\); give these"
    ):
        load_checkpoint(make_run(seed=1, views=2))
    moved = saved.rename(tmp_path_factory.mktemp("other") / "place")
    assert load_checkpoint(make_run(checkpoint_every=9, run_folder=moved)) is not None


def test_other_data(saved: Path, make_run: MakeRun) -> None:
    with pytest.raises(RunError, match=r"other data \(data, here pictures\)"):
        load_checkpoint(make_run("pictures"))


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(file: IO[bytes]) -> None:
        file.write(b"ne")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_whole(path, fail)
    assert path.read_bytes() == b"old"
