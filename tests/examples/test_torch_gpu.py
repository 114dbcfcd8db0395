"""The PyTorch trainer on a GPU, where there is one: every method runs, repeats itself, and goes on."""

from pathlib import Path
from typing import Any

import pytest
import torch
from harness_torch import HARNESS
from runs import stop_by

from pretraining.datasets import PretrainingData
from pretraining.runs import InterruptedRun
from torch_s2r2.encoders import ENCODER_FILE
from torch_s2r2.options import TorchOptions
from torch_s2r2.training import train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


def options(folder: Path, **changes: Any) -> TorchOptions:
    values: dict[str, Any] = {
        "run_folder": folder, "steps": 6, "views": 4, "batch_images": 8, "head_hidden": 16, "head_dim": 8,
        "warmup_steps": 2, "checkpoint_every": 2, "map_every": 3, "prototypes": 6, "queue_size": 16,
        "queue_start_step": 3, "prototypes_frozen_steps": 2, "device": "cuda", "no_evaluation": True,
    }  # fmt: skip
    return TorchOptions(**(values | changes))


def encoder(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(folder / ENCODER_FILE, weights_only=True)
    assert all(not tensor.is_cuda for tensor in found.values()), "it must load where there is no GPU"
    return found


@pytest.mark.parametrize("setting", HARNESS.settings.values(), ids=HARNESS.settings)
def test_a_run_repeats_itself_and_goes_on(
    setting: dict[str, Any], small_data: PretrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "other"):
        result = train(options(tmp_path / name, **setting), data=small_data, show_progress=False)
        assert result.step == 6
    with monkeypatch.context() as patch, pytest.raises(InterruptedRun):
        HARNESS.disturb(patch, 3, stop_by(15))
        train(options(tmp_path / "stopped", **setting), data=small_data, show_progress=False)
    train(options(tmp_path / "stopped", resume=True, **setting), data=small_data, show_progress=False)
    one = encoder(tmp_path / "one")
    for name in ("other", "stopped"):
        other = encoder(tmp_path / name)
        assert one.keys() == other.keys()
        assert all(torch.equal(tensor, other[key]) for key, tensor in one.items()), name


def test_the_evaluation_judges_it(small_data: PretrainingData, tmp_path: Path) -> None:
    result = train(options(tmp_path / "run", no_evaluation=False), data=small_data, show_progress=False)
    assert result.results is not None
