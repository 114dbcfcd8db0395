"""Judge encoders: their figures beside an untrained encoder and raw pixels, and the pictures that show them.

An encoder is here a function from uint8 pictures ``[b, height, width, channels]`` to features ``[b, d]``,
whatever framework it runs in. ``evaluate_run`` judges a finished run in its own folder; ``evaluate_encoders``
puts several encoders beside each other in one table and one set of pictures.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from pretraining import exhibits, measures, report
from pretraining.datasets import EvaluationSplits, Images
from pretraining.exhibits import Watch
from pretraining.report import DataFacts, EncoderFigures, Results

Encode = Callable[[NDArray[np.uint8]], NDArray[np.floating]]

PIXELS = "raw pixels"
PIXEL_SIDE = 32  # larger pictures are averaged down to it, else a probe of their pixels takes hours


@dataclass(frozen=True)
class EvaluationOptions:
    """How much is evaluated, and how; the defaults take a minute or two on two cores."""

    train_images: int = 10_000
    test_images: int = 10_000
    batch: int = 500
    neighbours: int = 20
    temperature: float = 0.07
    retrieval_images: int = 4_000
    linear_strengths: tuple[float, ...] = (0.01, 0.1, 1.0)
    map_images: int = 1_500
    queries: int = 6
    seed: int = 0

    def __post_init__(self) -> None:
        least = {
            "train_images": 1,
            "test_images": 1,
            "batch": 1,
            "neighbours": 1,
            "retrieval_images": 1,
            "map_images": 0,
            "queries": 0,
            "seed": 0,
        }
        for name, lower in least.items():
            if getattr(self, name) < lower:
                raise ValueError(f"{name} must be at least {lower}, got {getattr(self, name)}")

    def as_settings(self) -> dict[str, Any]:
        """Return the options as results.json holds them."""
        return asdict(self) | {"linear_strengths": list(self.linear_strengths)}


@dataclass(frozen=True)
class Candidate:
    """An encoder to judge."""

    encode: Encode
    trained: bool = False
    pictured: bool = True  # whether the pictures show it beside the others
    run_folder: Path | None = None  # whose curves.csv is drawn
    settings: Mapping[str, Any] = field(default_factory=dict)


def evaluate_run(
    run_folder: Path,
    encode: Encode,
    splits: EvaluationSplits,
    *,
    name: str,
    baselines: Mapping[str, Encode],
    seed: int,
    data_name: str = "",
    settings: Mapping[str, Any] | None = None,
    options: EvaluationOptions | None = None,
) -> dict[str, Any]:
    """Judge a run's encoder beside the baselines and raw pixels; write results and pictures into its folder.

    Args:
        run_folder: where curves.csv is, and where results.json, results.md and the pictures go.
        name: what the encoder is called in the table.
        baselines: other encoders by name, an untrained one first, which the pictures show too.
        seed: of the run, and of all that is drawn at random here.

    Returns:
        the content of results.json.
    """
    others = {
        title: Candidate(other, pictured=index == 0) for index, (title, other) in enumerate(baselines.items())
    }
    candidates = {
        name: Candidate(encode, trained=True, run_folder=run_folder, settings=settings or {})
    } | others
    options = replace(options or EvaluationOptions(), seed=seed)
    return asdict(evaluate_encoders(run_folder, candidates, splits, data_name=data_name, options=options))


def evaluate_encoders(
    folder: Path,
    candidates: Mapping[str, Candidate],
    splits: EvaluationSplits,
    *,
    data_name: str = "",
    options: EvaluationOptions | None = None,
) -> Results:
    """Judge the candidates and raw pixels on the same pictures; write results and pictures to ``folder``."""
    options = options or EvaluationOptions()
    candidates = dict(candidates) | {PIXELS: Candidate(pixel_features, pictured=False)}
    rng = np.random.default_rng(options.seed)
    train, train_labels = _sample(splits.train_images, splits.train_labels, options.train_images, rng)
    test, test_labels = _sample(splits.test_images, splits.test_labels, options.test_images, rng)
    shown = [title for title, candidate in candidates.items() if candidate.pictured]
    encoded = len(_batches(train, options.batch)) + len(_batches(test, options.batch))
    steps = encoded + _STEPS_A_JUDGEMENT * len(candidates) + len(shown) + 1
    with tqdm(total=steps, desc="evaluation", unit="step", leave=False) as bar:
        watch = Watch(bar)
        encoders = {title: candidate.encode for title, candidate in candidates.items()}
        train_features = _encode_all(
            encoders, splits.train_images, train, options.batch, watch, "training pictures"
        )
        test_features = _encode_all(encoders, splits.test_images, test, options.batch, watch, "test pictures")
        figures = []
        for title, candidate in candidates.items():
            features = train_features[title], train_labels, test_features[title], test_labels
            judged = _judge(title, *features, classes=len(splits.class_names), options=options, watch=watch)
            figures.append(
                EncoderFigures(title, candidate.trained, settings=_plain(candidate.settings), **judged)
            )
        shown_features = {title: test_features[title] for title in shown}
        runs = {title: c.run_folder for title, c in candidates.items() if c.run_folder is not None}
        watch.doing("pictures")
        drawn = exhibits.draw_curves(folder, runs) | exhibits.draw_neighbours(
            folder, shown_features, splits, test, test_labels, count=options.queries, rng=rng
        )
        watch.done()
        drawn |= exhibits.draw_maps(
            folder, shown_features, splits, test_labels, count=options.map_images, rng=rng, watch=watch
        )
    facts = DataFacts(data_name, len(train), len(test), list(splits.class_names), splits.multi_label)
    results = Results(facts, options.seed, options.as_settings(), figures, drawn)
    report.write_results(folder, results)
    return results


def pixel_features(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the pictures' pixels from 0 to 1 as rows, averaged to 32 by 32 areas where there are more."""
    rows, columns = (_averaging(side) for side in images.shape[1:3])
    small = np.einsum("rh,bhwc,sw->brsc", rows, images.astype(np.float32) / 255, columns, optimize=True)
    return small.reshape(len(images), -1).astype(np.float32)


def _averaging(side: int) -> NDArray[np.float32]:
    """Return the matrix [areas, side] that averages ``side`` pixels over equal, maybe fractional, lengths."""
    areas = min(side, PIXEL_SIDE)
    edges = np.linspace(0, side, areas + 1)
    pixels = np.arange(side)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return (np.maximum(overlap, 0) * areas / side).astype(np.float32)


def _sample(
    images: Images, labels: NDArray[Any], count: int, rng: np.random.Generator
) -> tuple[NDArray[np.intp], NDArray[Any]]:
    """Return at most ``count`` indices drawn without repetition, in order as files are read, and their labels."""
    indices = np.sort(rng.permutation(len(images))[:count])
    return indices, np.asarray(labels)[indices]


def _batches(indices: NDArray[np.intp], size: int) -> list[NDArray[np.intp]]:
    return [indices[start : start + size] for start in range(0, len(indices), size)]


def _encode_all(
    encoders: Mapping[str, Encode],
    images: Images,
    indices: NDArray[np.intp],
    batch: int,
    watch: Watch,
    what: str,
) -> dict[str, NDArray[np.float32]]:
    """Return each encoder's features; a batch is decoded once for all of them."""
    parts: dict[str, list[NDArray[np.float32]]] = {name: [] for name in encoders}
    watch.doing(f"features of the {what}")
    for chosen in _batches(indices, batch):
        pictures_of_batch = np.asarray(images[chosen])
        for name, encode in encoders.items():
            features = np.asarray(encode(pictures_of_batch), dtype=np.float32)
            if features.ndim != 2 or len(features) != len(chosen):
                raise ValueError(
                    f"{name} must give features [{len(chosen)}, d], got the shape {features.shape}"
                )
            if not np.isfinite(features).all():
                raise ValueError(f"{name} must give finite features, got NaN or infinity")
            parts[name].append(features)
        watch.done()
    return {name: np.concatenate(of_name) for name, of_name in parts.items()}


_STEPS_A_JUDGEMENT = 3


def _judge(
    name: str,
    train: NDArray[np.float32],
    train_labels: NDArray[Any],
    test: NDArray[np.float32],
    test_labels: NDArray[Any],
    *,
    classes: int,
    options: EvaluationOptions,
    watch: Watch,
) -> dict[str, Any]:
    """Return the figures of one encoder's features."""
    started = time.perf_counter()
    watch.doing(f"{name}: nearest neighbours")
    neighbours = min(options.neighbours, len(train))
    votes = measures.knn_scores(
        train, train_labels, test, neighbours=neighbours, temperature=options.temperature, classes=classes
    )
    watch.done()
    watch.doing(f"{name}: linear probe")
    strength = measures.choose_strength(train, train_labels, options.linear_strengths, classes=classes)
    linear = measures.linear_scores(train, train_labels, test, strength=strength, classes=classes)
    watch.done()
    watch.doing(f"{name}: retrieval")
    # spread over the test pictures, since folders come sorted by class
    some = np.linspace(0, len(test) - 1, min(options.retrieval_images, len(test))).round().astype(np.intp)
    retrieval = measures.retrieval_map(test[some], test_labels[some], train, train_labels)
    watch.done()
    return {
        "dimensions": test.shape[1],
        "knn": measures.judge(votes, test_labels),
        "linear": measures.judge(linear, test_labels),
        "linear_strength": strength,
        "retrieval": retrieval,
        "effective_rank": measures.effective_rank(test),
        "seconds": round(time.perf_counter() - started, 2),
    }


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings as JSON holds them."""
    return {key: str(value) if isinstance(value, Path) else value for key, value in settings.items()}
