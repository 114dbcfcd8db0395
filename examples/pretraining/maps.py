"""The 2-D map of features: t-SNE, points coloured by class, and each class named where it is densest.

The colours are Tol's muted palette, which people with any colour vision tell apart, and the names say it
again.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from pretraining.measures import unit_rows

CLASSES = (
    "#332288", "#88CCEE", "#117733", "#DDCC77", "#CC6677",
    "#44AA99", "#882255", "#999933", "#AA4499", "#222222",
)  # fmt: skip
OTHERS = "#C4C4C4"
PANEL = 5.4  # inches a map's side
LARGEST_LIGHTNESS = 0.38  # of a name's colour, so that it reads on white


def project(features: NDArray[np.floating], *, seed: int) -> NDArray[np.float64]:
    """Return a 2-D map [n, 2] of the unit-length features: PCA to at most 50 directions, then t-SNE."""
    rows = unit_rows(features)
    if len(rows) < 4:
        raise ValueError(f"features must have at least 4 rows for a map, got {len(rows)}")
    reduced = PCA(min(50, *rows.shape), random_state=seed).fit_transform(rows)
    tsne = TSNE(2, perplexity=min(30.0, (len(rows) - 1) / 3), init="pca", max_iter=600, random_state=seed)
    points: NDArray[np.float64] = tsne.fit_transform(reduced)
    return points


def colour_groups(labels: NDArray[Any], class_names: Sequence[str]) -> tuple[NDArray[np.intp], list[str]]:
    """Return each picture's group and the groups' names: the commonest classes that there are colours for.

    A picture of several classes belongs to the rarest of those it holds (the commonest would paint most
    alike), and one that holds none has group -1.
    """
    rows = labels if labels.ndim == 2 else np.eye(len(class_names), dtype=np.int64)[labels]
    counts = rows.sum(axis=0)
    shown = [int(index) for index in np.argsort(-counts, kind="stable")[: len(CLASSES)] if counts[index] > 0]
    places = {index: place for place, index in enumerate(sorted(shown))}
    group = np.full(len(rows), -1, dtype=np.intp)
    for index in shown:  # commonest first, so that the rarest has the last word
        group[rows[:, index] > 0] = places[index]
    return group, [class_names[index] for index in sorted(shown)]


def draw_maps(
    maps: Mapping[str, NDArray[np.float64]],
    groups: NDArray[np.intp],
    group_names: Sequence[str],
    *,
    title: str,
) -> Figure:
    """Draw the maps side by side, coloured by group, each group named in each map."""
    columns = min(len(maps), 2)
    rows = math.ceil(len(maps) / columns)
    figure = Figure(figsize=(PANEL * columns, PANEL * rows + 0.4), layout="constrained")
    figure.suptitle(title, fontsize=13, weight="bold", x=0.01, ha="left")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel, (name, points) in zip(panels, maps.items(), strict=False):
        _map(panel, points, groups, group_names)
        panel.set_title(name, fontsize=13, loc="left")
    for panel in panels[len(maps) :]:
        panel.set_axis_off()
    return figure


def _map(
    axes: Axes, points: NDArray[np.float64], groups: NDArray[np.intp], group_names: Sequence[str]
) -> None:
    low, high = points.min(axis=0), points.max(axis=0)
    places = (points - low) / np.maximum(high - low, np.finfo(np.float64).tiny)
    others = places[groups < 0]
    axes.scatter(others[:, 0], others[:, 1], s=6, color=OTHERS, linewidths=0)
    present = [index for index in range(len(group_names)) if (groups == index).any()]
    for index in present:
        members = places[groups == index]
        axes.scatter(members[:, 0], members[:, 1], s=10, color=CLASSES[index], linewidths=0, alpha=0.8)
    centres = np.array([_densest(places[groups == index]) for index in present]).reshape(-1, 2)
    widths = [0.01 + 0.022 * len(group_names[index]) for index in present]
    for index, (x, y) in zip(present, _apart(centres, widths, height=0.042), strict=True):
        axes.text(
            x,
            y,
            group_names[index],
            ha="center",
            va="center",
            fontsize=11,
            weight="bold",
            color=_darkened(CLASSES[index]),
            path_effects=[withStroke(linewidth=3, foreground="white")],
            zorder=3,
        )
    axes.set(xticks=[], yticks=[], xlim=(-0.04, 1.04), ylim=(-0.04, 1.04))


def _densest(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the member with most of its like around it: a class in two parts is named in one of them."""
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)
    reach = np.quantile(distances, 0.2)
    return points[(distances <= reach).sum(axis=1).argmax()]


def _apart(centres: NDArray[np.float64], widths: Sequence[float], *, height: float) -> NDArray[np.float64]:
    """Return the names' centres, moved up and down until none covers another, and inwards from the sides."""
    half = np.asarray(widths) / 2
    places = centres.copy()
    places[:, 0] = np.clip(places[:, 0], half, np.maximum(half, 1 - half))
    for _ in range(100):
        moved = False
        for first in range(len(places)):
            for second in range(first):
                beside = abs(places[first, 0] - places[second, 0]) >= half[first] + half[second]
                overlap = height - abs(places[first, 1] - places[second, 1])
                if beside or overlap <= 1e-9:
                    continue
                upper, lower = (first, second) if places[first, 1] >= places[second, 1] else (second, first)
                places[upper, 1] += overlap / 2
                places[lower, 1] -= overlap / 2
                moved = True
        if not moved:
            break
    return places


def _darkened(colour: str) -> tuple[float, float, float]:
    hue, lightness, saturation = colorsys.rgb_to_hls(*to_rgb(colour))
    return colorsys.hls_to_rgb(hue, min(lightness, LARGEST_LIGHTNESS), saturation)
