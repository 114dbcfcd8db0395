"""Whether new results are worse than the saved ones: `make bench-check`.

python benchmarks/compare.py [--new FOLDER] [--saved FOLDER] [--tolerance 0.25]

Only ratios to the floor are compared, never seconds, and memory, each with the saved one of the same loss, way and
size, of the most similar hardware there is; ratios that were measured while other processes worked are left
out. A ratio is worse where its median is over the saved one by more than the tolerance and its lower quartile is over
the saved upper quartile, so that noise alone does not count; memory where it is over by more than the tolerance and
16 MiB. The exit status is 1 if anything is worse, 2 if there was nothing to compare.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from results import NEW, SAVED, Record, identity, is_quiet, read

TOLERANCE = 0.25
SMALL_MIB = 16
"""What two runs of the same code may differ by in resident memory, whatever they compute."""


@dataclass(frozen=True)
class Comparison:
    """A new figure and the saved one that it belongs to."""

    what: str
    unit: str
    old: float
    new: float
    worse: bool

    def __str__(self) -> str:
        verdict = "WORSE" if self.worse else "ok"
        return f"{verdict:5s} {self.what}: {self.old:.4g} became {self.new:.4g} {self.unit}"


def is_slower(old: Record, new: Record, tolerance: float) -> bool:
    """By more than the tolerance, and by more than both spreads."""
    return bool(new["ratio"][1] > old["ratio"][1] * (1 + tolerance) and new["ratio"][0] > old["ratio"][2])


def is_larger(old: Record, new: Record, tolerance: float) -> bool:
    """By more than the tolerance, and by more than what varies anyway."""
    return bool(new["mib"] > old["mib"] * (1 + tolerance) and new["mib"] > old["mib"] + SMALL_MIB)


def comparisons(saved: list[Record], new: list[Record], tolerance: float) -> Iterator[Comparison]:
    """Of every record of ours that both have."""
    known = {identity(record): record for record in saved}
    for record in new:
        old = known.get(identity(record))
        if old is None or record.get("library") != "rankloss" or not (is_quiet(old) and is_quiet(record)):
            continue
        size = f"{record.get('group', 'memory')}, {record['rows']:,d} rows"
        for name, value in (("d", record.get("dimensions")), ("block", record.get("block_size"))):
            size += "" if value is None else f", {name} = {value}"
        what = f"{record['loss']}, {record['way']}, {size}, {record['positives']} positives"
        if "ratio" in record:
            slower = is_slower(old, record, tolerance)
            yield Comparison(what, "× floor", old["ratio"][1], record["ratio"][1], slower)
        else:
            yield Comparison(what, "MiB", old["mib"], record["mib"], is_larger(old, record, tolerance))


def saved_of(folder: Path, name: str, environment: dict[str, Any]) -> dict[str, Any]:
    """The saved results of the most similar hardware, in a folder or one within it; the folder's own if in doubt."""
    found = [read(file) for file in (folder / name, *sorted(folder.glob(f"*/{name}")))]

    def likeness(content: dict[str, Any]) -> list[bool]:
        parts = ("device", "processor", "caches")
        return [content["environment"].get(part) == environment.get(part) for part in parts]

    return max(found, key=likeness)


def status(found: list[Comparison]) -> int:
    """0 if nothing is worse, 1 if something is, 2 if nothing was compared."""
    return (1 if any(comparison.worse for comparison in found) else 0) if found else 2


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--new", type=Path, default=NEW)
    parser.add_argument("--saved", type=Path, default=SAVED)
    parser.add_argument("--tolerance", type=float, default=TOLERANCE)
    options = parser.parse_args(arguments)
    found: list[Comparison] = []
    for name in ("speed.json", "memory.json"):
        new = read(options.new / name)
        old = saved_of(options.saved, name, new["environment"])
        if old["records"] and new["records"] and old["environment"] != new["environment"]:
            print(
                f"{name}: another machine or other versions than the saved ones; ratios may differ for that"
            )
        found += comparisons(old["records"], new["records"], options.tolerance)
    for comparison in sorted(found, key=lambda comparison: comparison.worse):
        print(comparison)
    worse = sum(comparison.worse for comparison in found)
    print(f"{len(found)} compared, {worse} worse by more than {options.tolerance:.0%}")
    return status(found)


if __name__ == "__main__":
    sys.exit(main())
