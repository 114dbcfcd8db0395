"""The trainers by name, each imported only when it is asked for, so that a framework does without the others."""

import dataclasses
import importlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pretraining.datasets import PretrainingData
from pretraining.options import Options
from pretraining.runs import OPTIONS, Encode, RunError, TrainingResult, read_options

MODULES = {"torch": "torch_s2r2.trainer", "jax": "jax_s2r2.trainer", "keras": "keras_s2r2.trainer"}


@dataclass(frozen=True)
class Trainer:
    """What a framework's trainer can do.

    Attributes:
        train: `train(options, data=None, show_progress=True)` pretrains as the options say, or goes on with it, and
            evaluates the encoder. `data` is the data set where the caller has it already; otherwise it is loaded by
            name. It raises DataError where the data set is missing or damaged, RunError where the run can't start or
            go on, and InterruptedRun after Ctrl-C (SIGINT) or SIGTERM.
        trained: the exported encoder of a finished run in the folder, or that of an unfinished one's
            checkpoint, with a word on which. It raises RunError where there is neither.
        untrained: the encoder as the run with these options starts.
        encoder: the name of the exported encoder in the run folder.
    """

    options: type[Options]
    train: Callable[..., TrainingResult]
    trained: Callable[[Path, Any, PretrainingData], tuple[str, Encode]]
    untrained: Callable[[Any, PretrainingData], Encode]
    encoder: str

    def is_finished(self, options: Options) -> bool:
        """Whether the run with these options has its encoder."""
        return (options.folder / self.encoder).exists()


def trainer(name: str) -> Trainer:
    """The trainer of that name; its framework is imported.

    Raises:
        RunError: the framework is not installed.
    """
    try:
        found: Trainer = importlib.import_module(MODULES[name]).TRAINER
    except ModuleNotFoundError as error:
        raise RunError(
            f"the {name} trainer needs {error.name}: pip install '.[examples]' in rankloss' folder"
        ) from error
    return found


def read_run(run_folder: Path, device: str) -> tuple[Trainer, Options]:
    """The trainer that made the run in this folder, and the run's options but for the device.

    Raises:
        RunError: there is no run.
    """
    try:
        name = json.loads((run_folder / OPTIONS).read_text())["trainer"]
        found = trainer(name)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RunError(f"{run_folder} holds no run of a trainer: its {OPTIONS} can't be read") from error
    return found, dataclasses.replace(read_options(run_folder, found.options), device=device)
