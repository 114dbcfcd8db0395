"""Choose what an evaluation's pictures show, and draw it: which queries, whose neighbours, how much of the
map.

Everything is drawn at random from the seed, never picked by how well an encoder does on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from pretraining import maps, measures, pictures
from pretraining.datasets import EvaluationSplits
from pretraining.progress import read_curves

CURVES_PICTURE, NEIGHBOURS_PICTURE, MAP_PICTURE = "curves.png", "neighbours.png", "map.png"
PICTURE_FILES = (NEIGHBOURS_PICTURE, CURVES_PICTURE, MAP_PICTURE)
FEWEST_ON_A_MAP = 10
NEIGHBOURS_SHOWN = 7  # of each query under each encoder


class Watch:
    """Says on a progress bar what is being done, and that it is done."""

    def __init__(self, bar: tqdm[Any]) -> None:
        self._bar = bar

    def doing(self, what: str) -> None:
        self._bar.set_description(what, refresh=True)

    def done(self) -> None:
        self._bar.update()


def draw_curves(folder: Path, run_folders: Mapping[str, Path]) -> dict[str, str]:
    """Draw the runs' curves, where there are any, and return the picture's file name by its title."""
    runs = {name: rows for name, run_folder in run_folders.items() if (rows := read_curves(run_folder))}
    if not runs:
        return {}
    return {"training curves": pictures.save(pictures.draw_curves(runs), folder / CURVES_PICTURE).name}


def draw_neighbours(
    folder: Path,
    features: Mapping[str, NDArray[np.floating]],
    splits: EvaluationSplits,
    test: NDArray[np.intp],
    labels: NDArray[Any],
    *,
    count: int,
    rng: np.random.Generator,
) -> dict[str, str]:
    """Draw the nearest test pictures of ``count`` queries under each encoder's features.

    Args:
        features: by encoder, of the pictures drawn for the test.
        test: their indices in the test split.
        labels: their labels.
    """
    shown = min(NEIGHBOURS_SHOWN, len(test) - 1)
    if shown < 1 or count < 1 or not features:
        return {}
    queries = pick_queries(labels, count, rng)
    blocks = {}
    for name, rows in features.items():
        indices = measures.nearest_to(rows, queries, shown)
        images = np.asarray(splits.test_images[test[indices.ravel()]])
        right = share_a_class(labels, queries[:, None], indices)
        blocks[name] = pictures.Neighbours(images.reshape(*indices.shape, *images.shape[1:]), right)
    names = [_classes_of(labels[query], splits.class_names) for query in queries]
    images = np.asarray(splits.test_images[test[queries]])
    title = f"The nearest of {len(test):,} test pictures, best first (queries drawn at random)"
    figure = pictures.draw_neighbours(images, names, blocks, title=title)
    return {"nearest neighbours": pictures.save(figure, folder / NEIGHBOURS_PICTURE).name}


def draw_maps(
    folder: Path,
    features: Mapping[str, NDArray[np.floating]],
    splits: EvaluationSplits,
    labels: NDArray[Any],
    *,
    count: int,
    rng: np.random.Generator,
    watch: Watch,
) -> dict[str, str]:
    """Draw t-SNE maps of the same ``count`` test pictures under each encoder's features."""
    chosen = rng.permutation(len(labels))[:count]
    points = {}
    for name, rows in features.items():
        watch.doing(f"{name}: map")
        if len(chosen) >= FEWEST_ON_A_MAP:
            points[name] = maps.project(rows[chosen], seed=int(rng.integers(2**31)))
        watch.done()
    if not points:
        return {}
    groups, names = maps.colour_groups(labels[chosen], splits.class_names)
    title = f"t-SNE of the features of {len(chosen):,} test pictures"
    figure = maps.draw_maps(points, groups, names, title=title)
    return {"map of the features": pictures.save(figure, folder / MAP_PICTURE).name}


def pick_queries(labels: NDArray[Any], count: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Return at most ``count`` pictures drawn at random, of as many classes as there are."""
    order = rng.permutation(len(labels))
    if labels.ndim == 1:
        turns: dict[int, int] = {}
        turn = np.empty(len(order))
        for place, index in enumerate(order):  # each class's first picture comes before any class's second
            turn[place] = turns[int(labels[index])] = turns.get(int(labels[index]), -1) + 1
        order = order[np.argsort(turn, kind="stable")]
    return order[:count]


def share_a_class(
    labels: NDArray[Any], first: NDArray[np.intp], second: NDArray[np.intp]
) -> NDArray[np.bool_]:
    """Return whether the pictures ``first`` and ``second`` (indices that broadcast) share a class."""
    if labels.ndim == 1:
        return np.asarray(labels[first] == labels[second])
    held = labels > 0
    return np.asarray((held[first] & held[second]).any(axis=-1))


def _classes_of(label: NDArray[Any], class_names: Sequence[str]) -> str:
    if np.ndim(label) == 0:
        return class_names[int(label)]
    held = [class_names[int(index)] for index in np.flatnonzero(label)]
    if not held:
        return "no class"
    return "\n".join(held[:3]) + (f" + {len(held) - 3}" if len(held) > 3 else "")
