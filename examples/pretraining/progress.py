"""What a run shows and records of its course: a progress bar, curves.csv, and TensorBoard's log.

curves.csv is the record. TensorBoard's log is made from it, so that a resumed run, which goes back to its
last checkpoint, holds no step twice in either.
"""

import csv
import dataclasses
import io
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tqdm import tqdm

from pretraining.event_log import EventLog
from pretraining.files import write_whole

CURVES = "curves.csv"


@dataclass(frozen=True)
class Row:
    """One step of the curves; `map` is None where it was not measured."""

    step: int
    seconds: float
    loss: float
    map: float | None
    views_per_second: float
    learning_rate: float


def read_curves(run_folder: Path) -> list[Row]:
    """The rows of the run's curves.csv, none without the file; a line cut off by a crash is left out."""
    path = run_folder / CURVES
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        cells = [row for row in csv.DictReader(file) if None not in row.values() and row["learning_rate"]]
    return [
        Row(
            int(row["step"]),
            float(row["seconds"]),
            float(row["loss"]),
            float(row["map"]) if row["map"] else None,
            float(row["views_per_second"]),
            float(row["learning_rate"]),
        )
        for row in cells
    ]


def _as_csv(rows: list[Row], *, header: bool = False) -> str:
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, [field.name for field in dataclasses.fields(Row)], lineterminator="\n")
    if header:
        table.writeheader()
    table.writerows(map(dataclasses.asdict, rows))
    return text.getvalue()


class Progress:
    """Context that shows and records a run from `first_step` on, keeping only the earlier steps' records."""

    def __init__(self, run_folder: Path, first_step: int, steps: int, title: str, *, shown: bool) -> None:
        kept = [row for row in read_curves(run_folder) if row.step < first_step]
        self.seconds_before = kept[-1].seconds if kept else 0.0
        write_whole(run_folder / CURVES, lambda file: file.write(_as_csv(kept, header=True).encode()))
        self._curves = (run_folder / CURVES).open("a", newline="")
        shutil.rmtree(run_folder / "tensorboard", ignore_errors=True)
        self._tensorboard = EventLog(run_folder / "tensorboard")
        self._bar = tqdm(
            total=steps, initial=first_step - 1, desc=title, unit="step", disable=not shown, mininterval=0.5
        )
        self._map: float | None = None
        for row in kept:
            self._draw(row)
        self._tensorboard.flush()

    def record(self, row: Row) -> None:
        """Add a step to the records and to the bar."""
        self._curves.write(_as_csv([row]))
        self._curves.flush()
        self._draw(row)
        self._tensorboard.flush()
        self._map = self._map if row.map is None else row.map
        shown = {"loss": f"{row.loss:.4f}", "views/s": f"{row.views_per_second:,.0f}"}
        if self._map is not None:
            shown["mAP"] = f"{self._map:.3f}"
        self._bar.set_postfix(shown, refresh=False)
        self._bar.update()

    def sync(self) -> None:
        """Force the curves onto the disk, so that none is missing up to a checkpoint that is written next."""
        os.fsync(self._curves.fileno())

    def _draw(self, row: Row) -> None:
        for name, value in dataclasses.asdict(row).items():
            if name != "step" and value is not None:
                self._tensorboard.add_scalar(f"pretraining/{name}", value, row.step)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()
        self._curves.close()
        self._tensorboard.close()
