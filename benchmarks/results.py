"""Results as JSON: one file a kind, one line a record, saved as they come.

A file is of one machine and one set of versions; records of others are refused. Each record says by a digest
which sources of ours it measured, so that an interrupted run goes on where it stopped, and measures again what
changed since.
"""

from __future__ import annotations

import hashlib
import json
import os
from functools import cache
from pathlib import Path
from typing import Any

from machine import environment

ROOT = Path(__file__).parent.parent
SAVED = ROOT / "benchmarks" / "results"
"""What docs/benchmarks.md shows, and what new results are compared with."""
NEW = ROOT / "build" / "benchmarks"
"""Where results go if nothing else is said."""
MEASURES = {
    *("ratio", "milliseconds", "floor", "rounds", "error", "mib", "planned_mib", "code", "others"),
    *("loss_error", "gradient_error"),
}
"""The fields of a record that are found; all others say what was measured."""

QUIET = 0.1
"""How many cores others may keep busy for a time to count; see `machine.OtherWork`."""

Record = dict[str, Any]


def is_quiet(record: Record) -> bool:
    """Whether a record was measured while others hardly worked, if that matters to it."""
    return bool(record.get("others", 0.0) <= QUIET)


def identity(record: Record) -> tuple[tuple[str, Any], ...]:
    """What was measured."""
    return tuple(sorted((name, value) for name, value in record.items() if name not in MEASURES))


@cache
def code_digest() -> str:
    """Of our sources that are measured, and of what is run to measure them."""
    digest = hashlib.sha256()
    for pattern in ("rankloss/**/*.py", "backends/**/*.py", "benchmarks/in_*.py", "benchmarks/batches.py"):
        for file in sorted(ROOT.glob(pattern)):
            digest.update(file.relative_to(ROOT).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:12]


def read(file: Path) -> dict[str, Any]:
    """A file of results, or an empty one."""
    if not file.exists():
        return {"environment": {}, "commands": [], "records": []}
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


class Results:
    """A file of results to which records are added."""

    def __init__(self, file: Path, command: str) -> None:
        self.file = file
        self.content = read(file)
        found, here = self.content["environment"], environment()
        if found and found != here:
            changed = ", ".join(
                f"{name}: {found.get(name)} became {here[name]}"
                for name in here
                if found.get(name) != here[name]
            )
            raise RuntimeError(
                f"{file} has results of another machine or other versions ({changed}); remove it"
            )
        self.content["environment"] = here
        self.content["commands"] = sorted({*self.content["commands"], command})

    def has(self, **measured: Any) -> bool:
        """Whether this was measured, of the code as it is now, on a machine that did nothing else."""
        return any(
            identity(record) == identity(measured) and record["code"] == code_digest() and is_quiet(record)
            for record in self.content["records"]
        )

    def add(self, record: Record) -> None:
        """Take a record in, in place of an older one of the same, and save."""
        others = [old for old in self.content["records"] if identity(old) != identity(record)]
        self.content["records"] = [*others, record | {"code": code_digest()}]
        self.file.parent.mkdir(parents=True, exist_ok=True)
        scratch = self.file.with_suffix(".part")
        scratch.write_text(_text(self.content), encoding="utf-8")
        os.replace(scratch, self.file)


def _text(content: dict[str, Any]) -> str:
    head = json.dumps({name: value for name, value in content.items() if name != "records"}, indent=1)
    lines = ",\n".join(json.dumps(record) for record in content["records"])
    return f'{head[:-2]},\n "records": [\n{lines}\n ]\n}}\n'
