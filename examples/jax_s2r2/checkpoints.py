"""Checkpoints in Orbax's form: a crash leaves the old or the new one whole, and they are read with suspicion.

A step's checkpoint is a folder `checkpoints/STEP`, which Orbax writes under another name and then moves into place.
"""

import shutil
import zlib
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax import nnx

from jax_s2r2.encoders import UNFINISHED
from pretraining.checkpoints import check_description, description, unreadable
from pretraining.runs import Run

CHECKPOINTS = "checkpoints"

State = dict[str, nnx.State]


class Checkpoints:
    """Context of the checkpoints of a run, of which the last is kept."""

    def __init__(self, run: Run) -> None:
        self._run, self._folder = run, run.folder / CHECKPOINTS
        # Left by a run that was killed. Orbax would do it in the background, where it may meet the next write.
        for unfinished in self._folder.glob(f"*{UNFINISHED}"):
            shutil.rmtree(unfinished)
        self._manager = open_checkpoints(run.folder, create=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._manager.close()

    def save(self, step: int, state: State) -> None:
        """Write the state, which includes `step`, then remove the earlier checkpoint."""
        about = description(self._run, step) | {"sum": _sum(state)}
        parts = {name: ocp.args.StandardSave(part) for name, part in state.items()}
        self._manager.save(step, args=ocp.args.Composite(**parts, description=ocp.args.JsonSave(about)))

    def load(self, like: State) -> tuple[int, State] | None:
        """The last step and its state, None if there is no checkpoint.

        Args:
            like: a state of this form, on the devices where the loaded one shall be.

        Raises:
            RunError: the checkpoint is damaged, of something else, or of a run with other options or data.
        """
        last = self._manager.latest_step()
        if last is None:
            return None
        path = self._folder / str(last)
        about = self._restore(path, last, description=ocp.args.JsonRestore())["description"]
        step = check_description(path, about, self._run)
        parts = {name: ocp.args.StandardRestore(part) for name, part in like.items()}
        state = self._restore(path, last, **parts)
        if _sum(state) != about.get("sum"):  # Orbax has sums of its indices only
            raise unreadable(path, ValueError("its numbers are damaged"))
        return step, state

    def _restore(self, path: Path, step: int, **parts: Any) -> dict[str, Any]:
        try:
            return dict(self._manager.restore(step, args=ocp.args.Composite(**parts)))
        except Exception as error:  # whatever Orbax and TensorStore raise, the checkpoint is of no use
            raise unreadable(path, error) from error


def open_checkpoints(run_folder: Path, *, create: bool = False) -> ocp.CheckpointManager:
    """The Orbax manager of a run's checkpoints, which keeps the last and saves before it goes on."""
    options = ocp.CheckpointManagerOptions(max_to_keep=1, enable_async_checkpointing=False, create=create)
    return ocp.CheckpointManager((run_folder / CHECKPOINTS).absolute(), options=options)


def _sum(state: State) -> int:
    total = 0
    for value in jax.tree.leaves(state):
        total = zlib.crc32(np.asarray(value).tobytes(), total)
    return total
