"""The pictures of an evaluation: nearest neighbours and training curves (`maps` has the map of the features).

Each ``draw_*`` function returns a matplotlib figure and ``save`` writes it, without pyplot and so without a
screen or a global state. Colours are Okabe and Ito's, which people with any colour vision tell
apart; where colour carries a meaning a mark or a name says it again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from pretraining.progress import Row

RIGHT, WRONG, QUERY = "#009E73", "#D55E00", "#444444"
SERIES = ("#0072B2", "#E69F00", "#CC79A7", "#009E73", "#D55E00", "#56B4E9")
CAVEAT = {"fontsize": 9, "color": "#555555", "ha": "right", "va": "bottom"}
DOTS_PER_INCH = 150
TILE = 0.55  # inches a picture's side


@dataclass(frozen=True)
class Neighbours:
    """One encoder's neighbours: pictures [queries, k, height, width, channels], and which are right."""

    images: NDArray[np.uint8]
    right: NDArray[np.bool_]


def save(figure: Figure, path: Path) -> Path:
    """Write the figure as PNG and return the path."""
    FigureCanvasAgg(figure)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DOTS_PER_INCH, facecolor="white", bbox_inches="tight", pad_inches=0.12)
    return path


def draw_neighbours(
    queries: NDArray[np.uint8], names: Sequence[str], neighbours: Mapping[str, Neighbours], *, title: str
) -> Figure:
    """Draw for each encoder its nearest neighbours of every query, best first, two encoders side by side.

    Args:
        queries: pictures [queries, height, width, channels].
        names: what each query shows.
        neighbours: by encoder, in this order.
    """
    blocks = list(neighbours.items())
    bands = [blocks[start : start + 2] for start in range(0, len(blocks), 2)]
    gap, label, head = (
        0.5,
        2.6,
        0.9,
    )  # in tiles: between blocks, for the queries' names, for the encoders' names
    width = label + 1 + max(sum(block.right.shape[1] + gap for _, block in band) for band in bands)
    height = head + len(bands) * (len(queries) + head)
    figure = Figure(figsize=(width * TILE, height * TILE))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0), aspect="equal")
    axes.set_axis_off()
    axes.text(label, head / 2, title, fontsize=12, weight="bold", va="center")
    for number, band in enumerate(bands):
        top = 2 * head + number * (len(queries) + head)
        axes.text(label + 0.5, top - 0.35, "query", fontsize=11, ha="center", va="center")
        for row, (query, name) in enumerate(zip(queries, names, strict=True)):
            axes.text(label - 0.15, top + row + 0.5, name, fontsize=11, ha="right", va="center")
            _tile(axes, query, label, top + row, QUERY)
        left = label + 1 + gap
        for name, block in band:
            _block(axes, name, block, left, top)
            left += block.right.shape[1] + gap
    return figure


def _block(axes: Axes, name: str, block: Neighbours, left: float, top: float) -> None:
    heading = f"{name}: {block.right.sum()} of {block.right.size} right"
    axes.text(left + 0.07, top - 0.35, heading, fontsize=11, va="center")
    for row, column in np.ndindex(block.right.shape):
        colour = RIGHT if block.right[row, column] else WRONG
        _tile(axes, block.images[row, column], left + column, top + row, colour)


def _tile(axes: Axes, image: NDArray[np.uint8], left: float, top: float, colour: str) -> None:
    margin = 0.07
    extent = (left + margin, left + 1 - margin, top + 1 - margin, top + margin)
    shown = image[..., 0] if image.shape[-1] == 1 else image
    interpolation = "nearest" if max(shown.shape[:2]) < 64 else "antialiased"
    axes.imshow(shown, cmap="gray", vmin=0, vmax=255, extent=extent, interpolation=interpolation, zorder=1)
    corner, side = (left + margin, top + margin), 1 - 2 * margin
    axes.add_patch(Rectangle(corner, side, side, fill=False, edgecolor=colour, linewidth=2.4, zorder=2))
    if colour == WRONG:  # marked as well, so that the colour alone need not say it
        cross = {"marker": "X", "markersize": 7, "markeredgecolor": "white", "markeredgewidth": 0.8}
        axes.plot([left + 1 - 2.6 * margin], [top + 2.6 * margin], color=WRONG, zorder=3, **cross)


def draw_curves(runs: Mapping[str, Sequence[Row]]) -> Figure:
    """Draw the exact mean average precision of the views for all runs in one panel, and each run's loss in
    its own: the losses are different quantities, and share no axis.
    """
    figure = Figure(figsize=(9.5, 4.2), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1.25, 1))
    axes = left.subplots()
    panels = right.subplots(len(runs), 1, sharex=True, squeeze=False).ravel()
    for number, (panel, (name, rows)) in enumerate(zip(panels, runs.items(), strict=True)):
        colour = SERIES[number % len(SERIES)]
        measured = [(row.step, 100 * row.map) for row in rows if row.map is not None]
        _curve(axes, measured, colour, name)
        _curve(panel, [(row.step, row.loss) for row in rows], colour, name)
        panel.set_title(f"loss of {name}", fontsize=11, loc="left")
    panels[-1].set_xlabel("step")
    axes.set_title("exact mAP of each step's views", fontsize=12, loc="left")
    if len(runs) > 1:
        axes.text(
            0.98, 0.02, "compare only runs of\nequal views a picture", transform=axes.transAxes, **CAVEAT
        )
    axes.set(xlabel="step", ylabel="mAP (%)")
    if axes.lines:
        axes.legend(frameon=False, fontsize=11)
    for each in (axes, *panels):
        each.spines[["top", "right"]].set_visible(False)
    return figure


def _curve(axes: Axes, points: Sequence[tuple[int, float]], colour: str, name: str) -> None:
    if not points:
        return
    x, y = np.array(points, dtype=np.float64).T
    axes.plot(x, y, color=colour, alpha=0.3, linewidth=0.8)
    axes.plot(x, _smooth(y), color=colour, linewidth=2, label=name)


def _smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean over a centred window of a twentieth of the curve, narrower at the ends."""
    reach = len(values) // 40
    return np.array([values[max(0, i - reach) : i + reach + 1].mean() for i in range(len(values))])
