"""What every trainer's checkpoint says of itself, so that a run goes on from its own only."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pretraining.runs import Run, RunError

VERSION = 1


def description(run: Run, step: int) -> dict[str, Any]:
    """What stands in the checkpoint of a step beside the state, as JSON has it."""
    return {
        "format": _format(run.options.trainer),
        "step": step,
        "options": run.options.to_json(),
        "data": run.data_mark,
    }


def check_description(path: Path, found: object, run: Run) -> int:
    """The step of a checkpoint with this description.

    Raises:
        RunError: it is of something else, or of a run with other options or data.
    """
    options = run.options
    if not isinstance(found, Mapping) or found.get("format") != _format(options.trainer):
        raise RunError(f"{path} is not a checkpoint of this trainer; choose another --run-folder")
    try:
        step, theirs, its_data = found["step"], type(options).from_json(found["options"]), found["data"]
    except (KeyError, ValueError, TypeError) as error:
        raise RunError(f"{path} is a checkpoint of another version of this trainer ({error})") from error
    if differences := options.differences(theirs):
        others = ", ".join(differences)
        raise RunError(f"{path} was made with other options: {others}; give these, or another --run-folder")
    if its_data != run.data_mark:
        raise RunError(f"{path} was made with other data ({its_data}, here {run.data_mark}); see --data-root")
    return int(step)


def unreadable(path: Path, error: Exception) -> RunError:
    """The sentence for a checkpoint that reading failed at, which names its file or folder."""
    reason = str(error).splitlines()[0][:100] if str(error) else type(error).__name__
    return RunError(f"{path} can't be read as a checkpoint ({reason}): remove it to start the run anew")


def _format(trainer: str) -> str:
    return f"rankloss pretraining, {trainer}, {VERSION}"
