"""Checkpoints: written so that a crash leaves the old or the new one whole, and read with suspicion."""

import zipfile
from pathlib import Path
from typing import Any

import torch

from pretraining.files import write_whole
from torch_s2r2.options import TorchOptions

CHECKPOINT = "checkpoint.pt"
FORMAT = "rankloss pretraining, PyTorch, 1"


class RunError(RuntimeError):
    """The run can't start or go on; the message is one sentence for the user."""


def save_checkpoint(
    run_folder: Path, step: int, options: TorchOptions, data_mark: str, state: dict[str, Any]
) -> None:
    """Replace the run folder's checkpoint.

    Args:
        step: the last step that `state` includes.
        data_mark: tells the data set from others.
    """
    content = {
        "format": FORMAT,
        "step": step,
        "options": options.to_json(),
        "data": data_mark,
        "state": state,
    }
    write_whole(run_folder / CHECKPOINT, lambda file: torch.save(content, file))


def load_checkpoint(
    run_folder: Path, options: TorchOptions, data_mark: str
) -> tuple[int, dict[str, Any]] | None:
    """The run folder's last step and state, None if it has no checkpoint.

    Raises:
        RunError: the checkpoint is damaged, of something else, or of a run with other options or data.
    """
    path = run_folder / CHECKPOINT
    if not path.exists():
        return None
    content = _read(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise RunError(f"{path} is not a checkpoint of this trainer; choose another --run-folder")
    try:
        step, state, theirs = content["step"], content["state"], TorchOptions.from_json(content["options"])
        its_data = content["data"]
    except (KeyError, ValueError, TypeError) as error:
        raise RunError(f"{path} is a checkpoint of another version of this trainer ({error})") from error
    if differences := options.differences(theirs):
        others = ", ".join(differences)
        raise RunError(f"{path} was made with other options: {others}; give these, or another --run-folder")
    if its_data != data_mark:
        raise RunError(f"{path} was made with other data ({its_data}, here {data_mark}); see --data-root")
    return step, state


def _read(path: Path) -> Any:
    try:
        with zipfile.ZipFile(path) as archive:  # torch.load does not check the sums
            damaged = archive.testzip()
        if damaged is not None:
            raise zipfile.BadZipFile(f"{damaged} is damaged")
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever zip reader and unpickler raise, the file is of no use
        reason = str(error).splitlines()[0][:100] if str(error) else type(error).__name__
        raise RunError(
            f"{path} can't be read as a checkpoint ({reason}): remove it to start the run anew"
        ) from error
