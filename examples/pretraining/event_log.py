"""TensorBoard's log of a run's curves.

`tensorboard.summary.Writer` would load TensorFlow wherever it is installed, which takes seconds and is none of a
PyTorch or JAX run's business; so only TensorBoard's own records are used here.
"""

import time
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.plugins.scalar.summary_v2 import scalar_pb
from tensorboard.summary.writer.record_writer import RecordWriter


class EventLog:
    """A new file of events in the folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        started = time.time()
        file = (folder / f"events.out.tfevents.{started:.6f}").open("wb")
        self._records = RecordWriter(file)
        self._write(Event(wall_time=started, file_version="brain.Event:2"))

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self._write(Event(wall_time=time.time(), step=step, summary=scalar_pb(name, value)))

    def flush(self) -> None:
        self._records.flush()

    def close(self) -> None:
        self._records.close()

    def _write(self, event: Event) -> None:
        self._records.write(event.SerializeToString())
