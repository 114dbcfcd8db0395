"""The pictures of docs/benchmarks.md: cost, memory and accuracy as curves, into docs/images/benchmarks/."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.ticker import LogFormatter
from report import OBJECTIVES, TARGET_MIB, objective_of, ordered
from results import ROOT, Record, read

FOLDER = ROOT / "docs" / "images" / "benchmarks"
COLOURS = {
    "PyTorch": "tab:red",
    "PyTorch compiled": "tab:orange",
    "JAX": "tab:blue",
    "TensorFlow XLA": "tab:green",
    "TensorFlow function": "tab:olive",
    "NumPy": "tab:gray",
}
"""Of ways; peers have the colour of their framework, dashed."""
MARKERS = {"pytorch-metric-learning": "s", "lightly": "^", "optax": "D", "rankloss": "o"}


def curves(axes: Any, records: Iterable[Record], across: str, figure: str) -> None:
    """A curve for each loss and way; quartiles as a band where there are some."""
    lines: dict[tuple[str, str, str], list[Record]] = {}
    for record in records:
        lines.setdefault((record["library"], record["loss"], record["way"]), []).append(record)
    for (library, loss, way), found in lines.items():
        found.sort(key=lambda record: record[across])
        places = [record[across] for record in found]
        values = [record[figure] if figure == "mib" else record[figure][1] for record in found]
        own = library == "rankloss"
        axes.plot(
            places,
            values,
            color=COLOURS[way],
            linestyle="-" if own else "--",
            marker=MARKERS[library],
            markersize=4,
            label=way if own else f"{library} {loss}",
        )
        if figure != "mib":
            low, high = ([record[figure][end] for record in found] for end in (0, 2))
            axes.fill_between(places, low, high, color=COLOURS[way], alpha=0.15, linewidth=0)
    axes.set_xscale("log", base=2)
    places = sorted({record[across] for found in lines.values() for record in found})
    axes.set_xticks(places, [f"{place:,}" for place in places], rotation=30 if len(places) > 5 else 0)
    axes.set_xlabel(across.replace("_", " "))


def panels(records: list[Record], across: str, figure: str, label: str, name: str) -> None:
    """A panel for each objective, with the peers that equal it."""
    found = [objective for objective in OBJECTIVES if any(objective_of(r) == objective for r in records)]
    if not found:
        return
    drawing, all_axes = plt.subplots(1, len(found), figsize=(1 + 4 * len(found), 5.5), squeeze=False)
    for axes, objective in zip(all_axes[0], found, strict=True):
        curves(axes, [r for r in records if objective_of(r) == objective], across, figure)
        axes.set_yscale("log")
        for ticks in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
            ticks(LogFormatter(labelOnlyBase=False, minor_thresholds=(2, 0.5)))
        axes.set_title(objective)
        axes.grid(alpha=0.3, which="both")
        axes.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.22))  # below, where no curve is
    if figure == "mib":
        for axes in all_axes[0]:
            axes.plot(*zip(*TARGET_MIB.items(), strict=True), "k_", markersize=14)
    all_axes[0][0].set_ylabel(label)
    save(drawing, name)


def accuracy(records: list[Record]) -> None:
    """Errors over the temperature, a curve for each spread of the scores; a panel for each number of positives."""
    counts = sorted({record["positives"] for record in records})
    if not counts:
        return
    drawing, all_axes = plt.subplots(
        1, len(counts), figsize=(1 + 4 * len(counts), 4), sharey=True, squeeze=False
    )
    spreads = sorted({record["spread"] for record in records})
    for axes, count in zip(all_axes[0], counts, strict=True):
        for number, spread in enumerate(spreads):
            found = [r for r in records if (r["positives"], r["spread"]) == (count, spread)]
            places = [record["temperature"] for record in found]
            colour = plt.get_cmap("viridis")(number / len(spreads))
            axes.plot(places, [r["gradient_error"] for r in found], color=colour, label=f"spread {spread}")
            axes.plot(places, [r["loss_error"] for r in found], color=colour, linestyle=":")
        axes.set(xscale="log", yscale="log", xlabel="temperature", title=f"{count} positives of 4,096 items")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    all_axes[0][0].set_ylabel("error in float32: gradient (—), loss (…)")
    save(drawing, "accuracy")


def save(drawing: Any, name: str) -> None:
    drawing.tight_layout()
    FOLDER.mkdir(parents=True, exist_ok=True)
    drawing.savefig(FOLDER / f"{name}.png", dpi=100, metadata={"Software": None})
    plt.close(drawing)


def draw(folder: Path) -> None:
    """Every picture for which there are results."""
    speed, used = (ordered(read(folder / f"{name}.json")["records"]) for name in ("speed", "memory"))
    for group, across in (("rows", "rows"), ("dimensions", "dimensions"), ("positives", "positives")):
        panels([r for r in speed if r["group"] == group], across, "ratio", "time, × floor", group)
    sized = [r for r in speed if r["group"] == "blocks" and r["block_size"] and r["rows"] == 4096]
    panels(sized, "block_size", "ratio", "time at 4,096 rows, × floor", "blocks")
    panels(used, "rows", "mib", "MiB above the inputs", "memory")
    accuracy(read(folder / "accuracy.json")["records"])
