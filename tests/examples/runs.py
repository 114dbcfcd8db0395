"""Runs of the trainer in the tests: doing them, comparing them to the last bit, disturbing them."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pretraining.datasets import PretrainingData
from torch_s2r2.checkpoints import CHECKPOINT
from torch_s2r2.learner import Learner
from torch_s2r2.options import TorchOptions
from torch_s2r2.training import train

MakeOptions = Callable[..., TorchOptions]


def run(options: TorchOptions, data: PretrainingData) -> dict[str, Any]:
    """Train; return the final checkpoint's state."""
    train(options, data=data, show_progress=False)
    return final_state(options.folder)


def final_state(folder: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(folder / CHECKPOINT, weights_only=True)["state"]
    return state


def differing(one: Any, other: Any, where: str = "") -> list[str]:
    """The places at which two states are not the same to the last bit."""
    if isinstance(one, dict):
        keys = [where] if one.keys() != other.keys() else []
        return keys + [d for k in one if k in other for d in differing(one[k], other[k], f"{where}.{k}")]
    if isinstance(one, (list, tuple)):
        return [
            d
            for i, (a, b) in enumerate(zip(one, other, strict=True))
            for d in differing(a, b, f"{where}.{i}")
        ]
    same = torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other
    return [] if same else [where]


def disturb(monkeypatch: pytest.MonkeyPatch, at: int, act: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Let `act` have the loss of one step."""
    plain = Learner.step

    def step(self: Any, pictures: torch.Tensor, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        loss, embeddings = plain(self, pictures, number)
        return (act(loss) if number == at else loss), embeddings

    monkeypatch.setattr(Learner, "step", step)


def stop_by(number: int) -> Callable[[torch.Tensor], torch.Tensor]:
    def act(loss: torch.Tensor) -> torch.Tensor:
        signal.raise_signal(number)
        return loss

    return act


def command_line(options: TorchOptions) -> list[str]:
    """The options of `small_options` as the command line has them, but for the paths."""
    changed = (
        "steps", "views", "batch_images", "head_hidden", "head_dim", "warmup_steps", "checkpoint_every", "map_every",
        "device", "prototypes", "queue_size", "queue_start_step", "prototypes_frozen_steps",
    )  # fmt: skip
    pairs = [(f"--{name.replace('_', '-')}", str(getattr(options, name))) for name in changed]
    return ["--no-evaluation", *(part for pair in pairs for part in pair)]
