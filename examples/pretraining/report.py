"""What an evaluation leaves behind in words and numbers: results.json, results.md and the table of the
terminal.

``Results`` is all of it as one value: ``write_results`` puts it into a folder, ``read_results`` brings it
back and refuses what it did not write, ``table`` and ``notes`` say it to a reader.
"""

from __future__ import annotations

import json
import math
import platform
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from pretraining.files import write_text

SCHEMA = 1
RESULTS_FILE = "results.json"
TABLE_FILE = "results.md"
PACKAGES = (
    "rankloss",
    "numpy",
    "scikit-learn",
    "torch",
    "torchvision",
    "lightly",
    "jax",
    "flax",
    "keras",
    "tensorflow",
)
MODULES = {"scikit-learn": "sklearn"}


class ResultsError(ValueError):
    """A results file that can't be used, said in one sentence."""


@dataclass(frozen=True)
class EncoderFigures:
    """What one encoder's features are worth; ``knn``, ``linear`` and ``retrieval`` are fractions of 1."""

    name: str
    trained: bool
    dimensions: int
    knn: float
    linear: float
    linear_strength: float
    retrieval: float
    effective_rank: float
    seconds: float
    settings: dict[str, Any] = field(default_factory=dict)  # the run's own options, where there was a run


@dataclass(frozen=True)
class DataFacts:
    """What was evaluated on."""

    name: str
    train_images: int
    test_images: int
    classes: list[str]
    multi_label: bool


@dataclass(frozen=True)
class Results:
    """One evaluation: the encoders' figures, and all that is needed to make them again."""

    data: DataFacts
    seed: int
    settings: dict[str, Any]
    encoders: list[EncoderFigures]
    pictures: dict[str, str] = field(default_factory=dict)  # file names in the folder of results.json
    versions: dict[str, str] = field(default_factory=lambda: versions())
    schema: int = SCHEMA


def versions() -> dict[str, str]:
    """Return the versions of Python and of those packages that this process has loaded."""
    loaded = [name for name in PACKAGES if MODULES.get(name, name) in sys.modules]
    return {"python": platform.python_version()} | {name: _version(name) for name in loaded}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # installed under another name, such as tensorflow-cpu
        return str(getattr(sys.modules[MODULES.get(package, package)], "__version__", "unknown"))


def write_results(folder: Path, results: Results) -> None:
    """Write results.json and results.md into ``folder``; a reader never sees half a file."""
    text = json.dumps(asdict(results), indent=2, ensure_ascii=False, allow_nan=False)
    write_text(folder / RESULTS_FILE, text + "\n")
    pictures = "".join(f"\n![{name}]({file})\n" for name, file in results.pictures.items())
    write_text(folder / TABLE_FILE, f"{table(results)}\n\n{notes(results)}\n{pictures}")


def read_results(folder: Path) -> Results:
    """Return the results in ``folder``; raise ResultsError where they are missing or foreign."""
    path = folder / RESULTS_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["schema"] != SCHEMA:
            raise ResultsError(f"{path} has schema {content['schema']!r}, and this program reads {SCHEMA}.")
        content["data"] = DataFacts(**content["data"])
        content["encoders"] = [EncoderFigures(**row) for row in content["encoders"]]
        return Results(**content)
    except OSError as error:
        raise ResultsError(f"{path} can't be read: {error.strerror}.") from error
    except ResultsError:
        raise
    except (ValueError, TypeError, KeyError) as error:
        raise ResultsError(f"{path} is not a results file that this program wrote: {error}.") from error


def table(results: Results) -> str:
    """Return the figures in per cent as a Markdown table that also reads well in a terminal."""
    judged = "mAP" if results.data.multi_label else "accuracy"
    head = ["encoder", f"k-NN {judged}", f"linear probe {judged}", "retrieval mAP", "effective rank"]
    rows = [
        [
            row.name,
            *(f"{100 * value:.1f} %" for value in (row.knn, row.linear, row.retrieval)),
            f"{row.effective_rank:.1f} of {row.dimensions}",
        ]
        for row in results.encoders
    ]
    return markdown_table(head, rows)


def summary(results: Results, folder: Path) -> str:
    """Return what a terminal shows at the end: the table, the notes, and where the pictures are."""
    said = [textwrap.fill(paragraph, 110) for paragraph in notes(results).split("\n\n")]
    files = results.pictures | {"table": TABLE_FILE, "figures": RESULTS_FILE}
    width = max(map(len, files))
    where = "\n".join(f"{name.ljust(width)}  {folder / file}" for name, file in files.items())
    return "\n\n".join([table(results), *said, where])


def notes(results: Results) -> str:
    """Return what a reader must know to judge the table: data, measures, seed, and how sure a figure is."""
    data, settings = results.data, results.settings
    lines = [
        f"{data.name}: {data.train_images:,} training and {data.test_images:,} test pictures, "
        f"{len(data.classes)} classes. "
        f"k-NN: {settings['neighbours']} nearest training pictures, which vote exp(cosine / "
        f"{settings['temperature']}). "
        "Linear probe: logistic regression on standardised features, its strength chosen on held-out "
        "training pictures. "
        + _retrieval_note(min(settings["retrieval_images"], data.test_images), data.multi_label)
        + " Effective rank: the number of directions the test features use.",
        f"{_seeds(results)}: {_uncertainty(results)}",
    ]
    return "\n\n".join(lines)


def _seeds(results: Results) -> str:
    """Return which seeds the runs had, or the evaluation where no run was judged."""
    seeds = sorted({row.settings["seed"] for row in results.encoders if "seed" in row.settings})
    if len(seeds) > 1:
        return f"One seed a run ({', '.join(map(str, seeds))})"
    return f"One seed ({seeds[0] if seeds else results.seed})"


def _retrieval_note(queries: int, multi_label: bool) -> str:
    if multi_label:
        return (
            f"Retrieval: each of {queries:,} test pictures ranks the training pictures, right are those that "
            "share a class with it (a common class makes most of them right, so compare it only down the column)."
        )
    return f"Retrieval: each of {queries:,} test pictures ranks the others, right are those of its class."


def _uncertainty(results: Results) -> str:
    if results.data.multi_label:
        return "other seeds give other figures: small differences settle nothing."
    widest = max(
        1.96 * math.sqrt(row.knn * (1 - row.knn) / results.data.test_images) for row in results.encoders
    )
    return (
        "other seeds give other figures, and the choice of test pictures alone moves an accuracy by "
        f"± {100 * widest:.1f} points (95 % interval): differences of that size settle nothing."
    )


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table that also reads well in a terminal; all columns but the first lean to the right."""
    widths = [max(len(line[column]) for line in [head, *rows]) for column in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        first = cells[0].ljust(widths[0])
        return (
            "| "
            + " | ".join([first, *(c.rjust(w) for c, w in zip(cells[1:], widths[1:], strict=True))])
            + " |"
        )

    rule = "| " + " | ".join(["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]) + " |"
    return "\n".join([line(head), rule, *(line(row) for row in rows)])
