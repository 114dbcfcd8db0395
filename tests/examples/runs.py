"""Runs of the trainers in the tests: doing them, comparing them to the last bit, disturbing them."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from harness import Disturbance, Harness

from pretraining.datasets import PretrainingData
from pretraining.options import Options

MakeOptions = Callable[..., Any]


def run(harness: Harness, options: Options, data: PretrainingData) -> dict[str, Any]:
    """Train; return all arrays of the final checkpoint."""
    harness.trainer.train(options, data=data, show_progress=False)
    return harness.state(options.folder)


def differing(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """The names under which two states are not the same to the last bit."""
    assert one.keys() == other.keys()
    return [name for name, array in one.items() if not np.array_equal(array, other[name])]


def of_the_encoder(state: dict[str, Any]) -> dict[str, Any]:
    found = {name: array for name, array in state.items() if name.startswith("encoder")}
    assert found
    return found


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-300])


def one_bit_off(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def a_text(path: Path) -> None:
    path.write_text("This is not a checkpoint.\n" * 9)


UNALTERED = {"crop_min": 1.0, "no_flip": True, "jitter": 0.0, "grayscale": 0.0, "blur": 0.0}
ALTERED = {
    "crop": {"crop_min": 0.2},
    "flip": {"no_flip": False},
    "jitter": {"jitter": 0.5},
    "grayscale": {"grayscale": 0.5},
    "blur": {"blur": 0.9},
}


def altered_by(only: str) -> dict[str, Any]:
    """Options with which views differ from their picture in that one way."""
    return UNALTERED | ALTERED[only]


def stop_by(number: int) -> Disturbance:
    def act(loss: Any) -> Any:
        signal.raise_signal(number)
        return loss

    return act


def command_line(options: Options) -> list[str]:
    """The options of `small_options` as the command line has them, but for the folder."""
    changed = (
        "steps", "views", "batch_images", "head_hidden", "head_dim", "warmup_steps", "checkpoint_every", "map_every",
        "device", "prototypes", "queue_size", "queue_start_step", "prototypes_frozen_steps",
    )  # fmt: skip
    pairs = [(f"--{name.replace('_', '-')}", str(getattr(options, name))) for name in changed]
    return ["--no-evaluation", *(part for pair in pairs for part in pair)]
