"""Checkpoints: written so that a crash leaves the old or the new one whole, and read with suspicion."""

import zipfile
from pathlib import Path
from typing import Any

import torch

from pretraining.checkpoints import check_description, description, unreadable
from pretraining.files import write_whole
from pretraining.runs import Run

CHECKPOINT = "checkpoint.pt"


def save_checkpoint(run: Run, step: int, state: dict[str, Any]) -> None:
    """Replace the run's checkpoint by `state`, which includes `step`."""
    content = description(run, step) | {"state": state}
    write_whole(run.folder / CHECKPOINT, lambda file: torch.save(content, file))


def load_checkpoint(run: Run) -> tuple[int, dict[str, Any]] | None:
    """The run's last step and state, None if it has no checkpoint.

    Raises:
        RunError: the checkpoint is damaged, of something else, or of a run with other options or data.
    """
    path = run.folder / CHECKPOINT
    if not path.exists():
        return None
    content = _read(path)
    step = check_description(path, content, run)
    return step, content["state"]


def _read(path: Path) -> Any:
    try:
        with zipfile.ZipFile(path) as archive:  # torch.load does not check the sums
            damaged = archive.testzip()
        if damaged is not None:
            raise zipfile.BadZipFile(f"{damaged} is damaged")
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever zip reader and unpickler raise, the file is of no use
        raise unreadable(path, error) from error
