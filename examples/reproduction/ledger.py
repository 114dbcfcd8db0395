"""The results of a study: one JSON line a finished cell, forced onto the disk before the next one starts."""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reproduction.plan import Cell, Study, StudyError

Line = dict[str, Any]


class Ledger:
    """The lines in a file, by the names of their cells.

    Raises:
        StudyError: a line can't be read, or is there twice.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: dict[str, Line] = {}
        content = path.read_bytes() if path.exists() else b""
        self.whole = content.rfind(b"\n") + 1  # a line without an end was cut off by a crash
        for number, text in enumerate(content[: self.whole].splitlines(), 1):
            try:
                line = json.loads(text)
                name = line["cell"]
            except (ValueError, TypeError, KeyError) as error:
                raise StudyError(f"{path}, line {number}, is no line of results: {error!r}") from error
            if name in self.lines:
                raise StudyError(f"{path}, line {number}: {name} is there twice")
            self.lines[name] = line

    def check(self, study: Study, cells: list[Cell]) -> None:
        """Raise StudyError if a cell's line was made with other options or judging than the study says."""
        for cell in cells:
            line = self.lines.get(cell.name)
            if line is not None and line["mark"] != study.mark(cell):
                raise StudyError(
                    f"{self.path}: {cell.name} was run with other options than {study.name} has now; give another "
                    "--results, or take the line out to run it again"
                )

    def __contains__(self, cell: Cell) -> bool:
        return cell.name in self.lines

    def of_stage(self, stage: str) -> list[Line]:
        """The lines of one stage, in the order in which they came."""
        return [line for line in self.lines.values() if line["stage"] == stage]

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the file alone, so that two studies don't write into one.

        Raises:
            StudyError: another process holds it.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as self._file:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise StudyError(f"another study is writing into {self.path}") from error
            self._file.truncate(self.whole)
            yield

    def add(self, line: Mapping[str, Any]) -> None:
        """Write the line of a cell, within `writing`."""
        self._file.write(json.dumps(line, ensure_ascii=False, allow_nan=False).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self.lines[line["cell"]] = dict(line)
