"""What the tests of all trainers must know of a framework; `harness_torch.py` and the others know it."""

import importlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar, Protocol

import pytest
from faces import selected_backends

from pretraining.trainers import MODULES, Trainer

Disturbance = Callable[[Any], Any]


class Harness(Protocol):
    """A trainer under test."""

    name: ClassVar[str]
    trainer: ClassVar[Trainer]
    frameworks: ClassVar[set[str]]  # that its programs load, of those in `test_frameworks.py`
    settings: ClassVar[dict[str, dict[str, Any]]]  # what is stopped and resumed, by the name of its test
    # Programs that kill their process in a run that saves every second step, and whose checkpoint is then the last.
    kills: ClassVar[dict[str, tuple[str, int]]]
    environment: ClassVar[dict[str, str]]  # of programs that run the trainer

    def prepared(self) -> AbstractContextManager[object]:
        """Context in which the trainer's tests run in this process."""

    def state(self, folder: Path) -> dict[str, Any]:
        """All arrays of the run's last checkpoint, by name."""

    def step(self, folder: Path) -> int | None:
        """The step of the run's last checkpoint, None if it has none."""

    def draw(self) -> None:
        """Use the framework's global random numbers, if it has any."""

    def disturb(self, monkeypatch: pytest.MonkeyPatch, at: int, act: Disturbance) -> None:
        """Let `act` have, and replace, the loss of one step."""

    def spoil(self, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
        """Make a weight of the head infinite after one step."""


KILL_IN_A_STEP = """
from {package}.learner import Learner
plain = Learner.step
def step(self, pictures, number):
    if number == 6:
        os.kill(os.getpid(), signal.SIGKILL)
    return plain(self, pictures, number)
Learner.step = step
"""
"""A program's beginning, for the trainers that have a learner whose steps they take."""


def after_steps(monkeypatch: pytest.MonkeyPatch, learner: Any, act: Callable[[Any, int, Any], Any]) -> None:
    """Let `act(learner, step, found)` replace what is found by each step of that class of learners."""
    plain = learner.step

    def step(self: Any, pictures: Any, number: int) -> Any:
        return act(self, number, plain(self, pictures, number))

    monkeypatch.setattr(learner, "step", step)


def disturb_loss(monkeypatch: pytest.MonkeyPatch, learner: Any, at: int, act: Disturbance) -> None:
    """`Harness.disturb` of such a trainer, whose steps give a loss and the embeddings."""
    after_steps(
        monkeypatch, learner, lambda _, step, found: (act(found[0]), found[1]) if step == at else found
    )


def harnesses() -> list[Harness]:
    """Those of the trainers whose frameworks are to be tested, which are imported."""
    return [
        importlib.import_module(f"harness_{name}").HARNESS
        for name in MODULES
        if name in selected_backends() and (Path(__file__).parent / f"harness_{name}.py").is_file()
    ]
