"""A run in any framework: its folder and options, what it trains on, and what it gives in the end."""

import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pretraining.datasets import DecodedImages, Images, PretrainingData, load
from pretraining.files import is_empty, write_whole
from pretraining.options import AnyOptions, Options
from pretraining.progress import CURVES, read_curves
from pretraining.sampling import batches

OPTIONS = "options.json"
TITLES = {"s2r2": "S2R2", "simclr": "SimCLR", "swav": "SwAV", "supervised": "supervised"}

Encode = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


class RunError(RuntimeError):
    """The run can't start or go on; the message is one sentence for the user."""


class DivergedRun(RunError):
    """The loss or the weights became infinite or NaN."""


class InterruptedRun(RunError):
    """A signal stopped the run after a checkpoint."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.exit_status = 128 + number


@dataclass(frozen=True)
class TrainingResult:
    """A finished run: where it is, its last step's figures, its encoder, and what the evaluation found."""

    run_folder: Path
    step: int
    loss: float
    map: float | None
    seconds: float
    encode: Encode
    results: dict[str, Any] | None


@dataclass(frozen=True)
class Run:
    """A run that may start, or go on, in its folder.

    `data_mark` tells the data set from others.
    """

    options: Options
    data: PretrainingData
    images: Images
    data_mark: str

    @property
    def folder(self) -> Path:
        return self.options.folder

    @property
    def labels(self) -> NDArray[Any] | None:
        """Those of the pictures, where they are known."""
        return None if self.data.labels is None else self.data.labels[: len(self.images)]

    def batches(self, first_step: int) -> Iterator[NDArray[np.int64]]:
        """The pictures' numbers in each batch from `first_step` to the last."""
        options = self.options
        return batches(len(self.images), options.image_count, options.seed, first_step, options.steps)

    def conclude(self, encode: Encode, untrained: Callable[[], Encode]) -> TrainingResult:
        """What the finished run gives; judges its encoder beside the untrained one, unless told not to.

        Raises:
            RunError: the record of its steps is gone.
        """
        rows = read_curves(self.folder)
        if not rows:
            raise RunError(f"{self.folder / CURVES} of the finished run is missing or empty")
        last, measured = rows[-1], [row.map for row in rows if row.map is not None]
        results = None if self.options.no_evaluation else self._evaluate(encode, untrained)
        return TrainingResult(
            self.folder,
            last.step,
            last.loss,
            measured[-1] if measured else None,
            last.seconds,
            encode,
            results,
        )

    def _evaluate(self, encode: Encode, untrained: Callable[[], Encode]) -> dict[str, Any] | None:
        """Judge the encoder; a resumed run that has its results keeps them."""
        from pretraining.evaluation import EvaluationOptions, evaluate_run

        written = self.folder / "results.json"
        if written.is_file():
            found: dict[str, Any] = json.loads(written.read_text())
            return found
        if self.data.splits is None:
            print(f"{self.data.name} has no test pictures, so there is no evaluation")
            return None
        options = self.options
        return evaluate_run(
            self.folder,
            encode,
            self.data.splits,
            name=TITLES[options.method],
            baselines={"untrained": untrained()},
            seed=options.seed,
            data_name=self.data.name,
            settings=json.loads(options.to_json()),
            options=EvaluationOptions(
                train_images=options.evaluation_images, test_images=options.evaluation_images
            ),
        )


def open_run(options: Options, data: PretrainingData | None = None) -> Run:
    """Load the data, unless given, and make the run folder, or check that the one there is this run's.

    Raises:
        DataError: the data set is missing or damaged.
        RunError: the options don't fit the data, or the folder is of something else.
    """
    data = data or load(
        options.data, options.data_root, image_size=options.image_size, download=options.download
    )
    images = _limited(data.images, options.limit_images)
    _check_amounts(options, len(images))
    _open_folder(options)
    return Run(options, data, images, _data_mark(data))


def _limited(images: Images, count: int | None) -> Images:
    if count is None:
        return images
    return images.first(count) if isinstance(images, DecodedImages) else images[:count]


def _check_amounts(options: Options, pictures: int) -> None:
    if options.image_count > pictures:
        raise RunError(
            f"a batch takes {options.image_count} pictures and the data set has {pictures}: give a smaller "
            "--views-per-step or --batch-images"
        )
    if options.blocks > 1 and options.method == "s2r2" and options.image_count % options.blocks:
        raise RunError(f"--blocks {options.blocks} does not divide a batch of {options.image_count} pictures")


def _open_folder(options: Options) -> None:
    folder = options.folder
    there = folder.is_dir() and not is_empty(folder)
    if folder.exists() and not folder.is_dir():
        raise RunError(f"--run-folder {folder} is a file")
    if there and not options.resume:
        raise RunError(f"{folder} is not empty: give --resume to go on with its run, or another --run-folder")
    if there and not (folder / OPTIONS).is_file():
        raise RunError(f"{folder} holds no run to resume: it has no {OPTIONS}")
    if there and (others := options.differences(read_options(folder, type(options)))):
        raise RunError(
            f"the run in {folder} has other options: {', '.join(others)}; give these, or another folder"
        )
    folder.mkdir(parents=True, exist_ok=True)
    if not there:
        write_whole(folder / OPTIONS, lambda file: file.write(options.to_json().encode()))


def read_options(run_folder: Path, cls: type[AnyOptions]) -> AnyOptions:
    """The options that the run in this folder was started with.

    Raises:
        RunError: there is no run of that trainer.
    """
    try:
        return cls.from_json((run_folder / OPTIONS).read_text())
    except (OSError, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise RunError(f"{run_folder} holds no run of this trainer: its {OPTIONS}: {reason}") from error


def _data_mark(data: PretrainingData) -> str:
    """Tells data sets apart well enough to catch a resumed run with other pictures."""
    sample = np.ascontiguousarray(data.images[:4])
    return f"{data.name}, {len(data.images)} pictures, mark {zlib.crc32(sample.tobytes()):08x}"


def title(options: Options) -> str:
    """What a run is called beside others: its method and its views of a picture."""
    views = options.view_count
    crops = f"2 + {views - 2} crops" if options.method == "swav" and views > 2 else f"{views} views"
    return f"{TITLES[options.method]}, {crops}"


def titles(runs: Mapping[Path, Options]) -> dict[Path, str]:
    """Each run's title, with its trainer where there are several, and its folder where another has the same."""
    several = len({options.trainer for options in runs.values()}) > 1
    short = {
        folder: f"{title(options)}, {options.trainer}" if several else title(options)
        for folder, options in runs.items()
    }
    shared = {name for name in short.values() if list(short.values()).count(name) > 1}
    return {folder: f"{name} ({folder.name})" if name in shared else name for folder, name in short.items()}
