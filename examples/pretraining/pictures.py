"""The pictures of an evaluation: nearest neighbours, training curves, and a map of the features.

Each ``draw_*`` function returns a matplotlib figure and ``save`` writes it, without pyplot and so without a
screen or a global state. Colours are Okabe and Ito's and Tol's, which people with any colour vision tell
apart; where colour carries a meaning a mark or a name says it again.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

RIGHT, WRONG, QUERY = "#009E73", "#D55E00", "#444444"
SERIES = ("#0072B2", "#E69F00", "#CC79A7", "#009E73", "#D55E00", "#56B4E9")
CLASSES = (
    "#332288",
    "#88CCEE",
    "#117733",
    "#DDCC77",
    "#CC6677",
    "#44AA99",
    "#882255",
    "#999933",
    "#AA4499",
    "#222222",
)
OTHERS = "#C4C4C4"
DOTS_PER_INCH = 150
TILE = 0.55  # inches a picture's side


@dataclass(frozen=True)
class Neighbours:
    """One encoder's neighbours: pictures [queries, k, height, width, channels], and which are right."""

    images: NDArray[np.uint8]
    right: NDArray[np.bool_]


@dataclass(frozen=True)
class Curves:
    """The steps of a run and what it wrote of them; NaN where a step did not measure it."""

    step: NDArray[np.float64]
    loss: NDArray[np.float64]
    average_precision: NDArray[np.float64]


def save(figure: Figure, path: Path) -> Path:
    """Write the figure as PNG and return the path."""
    FigureCanvasAgg(figure)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DOTS_PER_INCH, facecolor="white", bbox_inches="tight", pad_inches=0.12)
    return path


def draw_neighbours(
    queries: NDArray[np.uint8], names: Sequence[str], neighbours: Mapping[str, Neighbours], *, title: str
) -> Figure:
    """Draw each query at the left, then for each encoder its nearest neighbours, best first.

    Args:
        queries: pictures [queries, height, width, channels].
        names: what each query shows.
        neighbours: by encoder, side by side in this order.
    """
    counts = [block.right.shape[1] for block in neighbours.values()]
    gap, label, top = 0.45, 2.2, 1.55  # in tiles: between blocks, for the queries' names, for the titles
    width = label + 1 + sum(count + gap for count in counts)
    height = len(queries) + top
    figure = Figure(figsize=(width * TILE, height * TILE))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0), aspect="equal")
    axes.set_axis_off()
    axes.text(0, 0.3, title, fontsize=11, weight="bold", va="center")
    axes.text(label + 0.5, top - 0.3, "query", fontsize=10, ha="center", va="center")
    for row, (query, name) in enumerate(zip(queries, names, strict=True)):
        axes.text(label - 0.15, top + row + 0.5, name, fontsize=9, ha="right", va="center")
        _tile(axes, query, label, top + row, QUERY)
    left = label + 1 + gap
    for name, block in neighbours.items():
        heading = f"{name}: {block.right.sum()} of {block.right.size} right"
        axes.text(left, top - 0.3, heading, fontsize=10, va="center")
        for row, column in np.ndindex(block.right.shape):
            right = bool(block.right[row, column])
            _tile(
                axes,
                block.images[row, column],
                left + column,
                top + row,
                RIGHT if right else WRONG,
                crossed=not right,
            )
        left += block.right.shape[1] + gap
    return figure


def _tile(
    axes: Axes, image: NDArray[np.uint8], left: float, top: float, colour: str, *, crossed: bool = False
) -> None:
    margin = 0.07
    extent = (left + margin, left + 1 - margin, top + 1 - margin, top + margin)
    shown = image[..., 0] if image.shape[-1] == 1 else image
    interpolation = "nearest" if max(shown.shape[:2]) < 64 else "antialiased"
    axes.imshow(
        shown,
        cmap="gray",
        vmin=0,
        vmax=255,
        extent=extent,
        aspect="equal",
        interpolation=interpolation,
        zorder=1,
    )
    side = 1 - 2 * margin
    axes.add_patch(
        Rectangle(
            (left + margin, top + margin), side, side, fill=False, edgecolor=colour, linewidth=2.2, zorder=2
        )
    )
    if crossed:  # so that the colour alone need not say it
        x, y = left + 1 - 2.6 * margin, top + 2.6 * margin
        axes.plot(
            [x],
            [y],
            marker="X",
            markersize=6,
            color=WRONG,
            markeredgecolor="white",
            markeredgewidth=0.7,
            zorder=3,
        )


def read_curves(path: Path) -> Curves:
    """Return the columns step, loss and map of a run's curves.csv; an empty field is NaN.

    A last line cut short by a killed run is left out. Raises ValueError for a file without those columns.
    """
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = {"step", "loss", "map"} - set(reader.fieldnames or ())
        if missing:
            raise ValueError(
                f"{path} must have the columns step, loss and map, and lacks {', '.join(sorted(missing))}"
            )
        rows = [row for row in reader if None not in row.values()]
    columns = [np.array([float(row[name] or "nan") for row in rows]) for name in ("step", "loss", "map")]
    return Curves(*columns)


def draw_curves(curves: Mapping[str, Curves]) -> Figure:
    """Draw the exact mean average precision of the views for all runs in one panel, and each run's loss in
    its own.

    The losses are different quantities, and share no axis.
    """
    figure = Figure(figsize=(9.5, 4.2), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1.25, 1))
    axes = left.subplots()
    for (name, run), colour in zip(curves.items(), _colours(len(curves)), strict=True):
        measured = np.isfinite(run.average_precision)
        _curve(axes, run.step[measured], 100 * run.average_precision[measured], colour, name)
    axes.set_title("exact mAP of each step's views", fontsize=11, loc="left")
    axes.set(xlabel="step", ylabel="mAP (%)")
    axes.legend(frameon=False, fontsize=10)
    panels = np.atleast_1d(right.subplots(len(curves), 1, sharex=True))
    for panel, (name, run), colour in zip(panels, curves.items(), _colours(len(curves)), strict=True):
        _curve(panel, run.step, run.loss, colour, name)
        panel.set_title(f"loss of {name}", fontsize=11 if len(curves) == 1 else 10, loc="left")
        panel.spines[["top", "right"]].set_visible(False)
    panels[-1].set_xlabel("step")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _curve(axes: Axes, x: NDArray[np.float64], y: NDArray[np.float64], colour: str, name: str) -> None:
    axes.plot(x, y, color=colour, alpha=0.3, linewidth=0.8)
    axes.plot(x, _smooth(y), color=colour, linewidth=2, label=name)


def _smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean over a centred window of a twentieth of the curve, narrower at the ends."""
    reach = len(values) // 40
    return np.array([values[max(0, i - reach) : i + reach + 1].mean() for i in range(len(values))])


def project(features: NDArray[np.floating], *, seed: int) -> NDArray[np.float64]:
    """Return a 2-D map [n, 2] of unit-length features: PCA to at most 50 directions, then t-SNE."""
    rows = np.asarray(features, dtype=np.float32)
    rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    if len(rows) < 4:
        raise ValueError(f"features must have at least 4 rows for a map, got {len(rows)}")
    directions = min(50, *rows.shape)
    reduced = PCA(directions, random_state=seed).fit_transform(rows)
    tsne = TSNE(2, perplexity=min(30.0, (len(rows) - 1) / 3), init="pca", max_iter=750, random_state=seed)
    points: NDArray[np.float64] = tsne.fit_transform(reduced)
    return points


def colour_groups(
    labels: NDArray[np.integer], class_names: Sequence[str]
) -> tuple[NDArray[np.intp], list[str]]:
    """Return each picture's group and the groups' names: the commonest classes that there are colours for.

    A picture of several classes belongs to the rarest of those it holds (the commonest would paint most
    alike), and one that holds none has group -1.
    """
    rows = labels if labels.ndim == 2 else np.eye(len(class_names), dtype=np.int64)[labels]
    counts = rows.sum(axis=0)
    shown = [int(index) for index in np.argsort(-counts, kind="stable")[: len(CLASSES)] if counts[index] > 0]
    group = np.full(len(rows), -1, dtype=np.intp)
    for index in shown:  # commonest first, so that the rarest has the last word
        group[rows[:, index] > 0] = index
    order = sorted(shown)
    position = {index: place for place, index in enumerate(order)}
    return np.array([position.get(int(index), -1) for index in group], dtype=np.intp), [
        class_names[i] for i in order
    ]


def draw_maps(
    maps: Mapping[str, NDArray[np.float64]],
    groups: NDArray[np.intp],
    group_names: Sequence[str],
    *,
    title: str,
) -> Figure:
    """Draw the maps side by side, coloured by group, each group's name at its centre in each map."""
    columns = min(len(maps), 2)
    rows = math.ceil(len(maps) / columns)
    figure = Figure(figsize=(5.4 * columns, 5.3 * rows + 0.4), layout="constrained")
    figure.suptitle(title, fontsize=12, weight="bold", x=0.01, ha="left")
    panels = np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).ravel()
    for panel in panels[len(maps) :]:
        panel.set_axis_off()
    for panel, (name, points) in zip(panels, maps.items(), strict=False):
        panel.scatter(*points[groups < 0].T, s=6, color=OTHERS, linewidths=0)
        for index, group_name in enumerate(group_names):
            members = points[groups == index]
            if len(members) == 0:
                continue
            panel.scatter(*members.T, s=9, color=CLASSES[index], linewidths=0, alpha=0.8)
            centre = _densest(members)
            panel.annotate(
                group_name,
                centre,
                ha="center",
                va="center",
                fontsize=10,
                weight="bold",
                color=CLASSES[index],
                path_effects=[withStroke(linewidth=3, foreground="white")],
                zorder=3,
            )
        panel.set_title(name, fontsize=12, loc="left")
        panel.set(xticks=[], yticks=[])
        panel.margins(0.03)
    return figure


def _densest(points: NDArray[np.float64]) -> tuple[float, float]:
    """Return the member with most of its like around it: a class in two parts is named in one, not between
    them.
    """
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
    reach = np.quantile(distances, 0.2)
    x, y = points[(distances <= reach).sum(axis=1).argmax()]
    return float(x), float(y)


def _colours(count: int) -> list[str]:
    return [SERIES[index % len(SERIES)] for index in range(count)]
