"""Run one cell of a study: train by the PyTorch trainer, judge the encoder, return the line of results."""

import functools
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.optim.swa_utils import update_bn

from pretraining import measures
from pretraining.datasets import EvaluationSplits, PretrainingData, load
from pretraining.evaluation import pixel_features
from pretraining.progress import read_curves
from pretraining.report import versions
from pretraining.runs import DivergedRun, Encode
from reproduction.plan import TUNING, Cell, Judging, Study, StudyError
from torch_s2r2.devices import choose_device
from torch_s2r2.encoders import (
    ENCODER_FILE,
    build_encoder,
    encode_with,
    encoder_input,
    initialise_seeded,
    snapshot_file,
)
from torch_s2r2.options import TorchOptions
from torch_s2r2.training import train
from torch_s2r2.views import whole_pictures

HELD_OUT = (
    5  # every so manieth training picture serves validation where a data set has no validation pictures
)


@dataclass(frozen=True)
class Place:
    """Where cells are run, which decides no number.

    Attributes:
        folder: holds each cell's run folder while it is needed.
        threads: of each process, on the CPU.
    """

    folder: Path
    data_root: Path | None = None
    download: bool = False
    device: str = "auto"
    threads: int = 1

    def run_folder(self, cell: Cell) -> Path:
        """A cell's own folder."""
        return self.folder / cell.name

    def options(self, study: Study, cell: Cell) -> TorchOptions:
        """The options with which the trainer runs a cell here."""
        options = study.trainer_options(
            cell,
            run_folder=self.run_folder(cell),
            resume=True,
            data_root=self.data_root,
            download=self.download,
            device=self.device,
            no_evaluation=True,
        )
        snapshots = 0 if cell.stage == TUNING else study.snapshots
        return replace(options, snapshot_every=options.steps // snapshots if snapshots else 0)


def prepare(threads: int) -> None:
    """Make a process ready for cells."""
    torch.set_num_threads(threads)


@functools.cache
def _load(name: str, root: Path | None, image_size: int | None, download: bool) -> PretrainingData:
    return load(name, root, image_size=image_size, download=download)


def load_data(options: TorchOptions) -> PretrainingData:
    """The data set of a run, read once a process."""
    return _load(options.data, options.data_root, options.image_size, options.download)


def run_cell(study: Study, cell: Cell, place: Place) -> dict[str, Any]:
    """Train, or go on with it, and judge; the line of results.

    A run of the tuning that diverges has 0 for its figure.

    Raises:
        DataError, RunError, InterruptedRun: as the trainer.
    """
    options = place.options(study, cell)
    data = load_data(options)
    line = {
        "cell": cell.name,
        "stage": cell.stage,
        "data": cell.data,
        "arm": cell.arm,
        "seed": cell.seed,
        "settings": dict(cell.settings),
        "steps": options.steps,
    }
    baseline = study.arm(cell.arm).baseline
    if baseline is None:
        try:
            line |= _train(options, data)
        except DivergedRun as error:
            if cell.stage != TUNING:
                raise
            return line | {"diverged": str(error), "knn": 0.0, "mark": study.mark(cell)}
    judge = Judge(study.judging, data, options, final=cell.stage != TUNING)
    if baseline == "pixels":
        line |= judge.figures(pixel_features)
    elif baseline == "untrained":
        encoder = initialise_seeded(options, data.image_size, data.channels)
        line |= judge.figures(judge.clean(encoder))
    else:
        line |= judge.figures(judge.clean(trained(options, data)))
        if options.snapshot_every:
            line["curve"] = _curve(study.judging, data, options)
    used = {name: version for name, version in versions().items() if name in ("rankloss", "torch", "lightly")}
    device = {"device": torch.cuda.get_device_name()} if judge.device.type == "cuda" else {}
    return line | device | {"mark": study.mark(cell), "versions": used}


def _train(options: TorchOptions, data: PretrainingData) -> dict[str, Any]:
    """Train; what it cost. Processor time is that of all steps, even if some were taken before an interruption."""
    rows = read_curves(options.folder)
    before, started = rows[-1].step if rows else 0, time.process_time()
    result = train(options, data=data, show_progress=False)
    taken = options.steps - before
    cost = {"seconds": round(result.seconds, 2)}
    if taken:
        cost["cpu_seconds"] = round((time.process_time() - started) / taken * options.steps, 2)
    return cost | {"loss": round(result.loss, 5)}


def trained(options: TorchOptions, data: PretrainingData, file: str = ENCODER_FILE) -> nn.Module:
    """An encoder that a run has left in its folder."""
    encoder = build_encoder(options.encoder, data.image_size, data.channels)
    encoder.load_state_dict(torch.load(options.folder / file, map_location="cpu", weights_only=True))
    return encoder


def _curve(judging: Judging, data: PretrainingData, options: TorchOptions) -> list[list[float]]:
    """[step, k-NN figure on validation pictures] of every kept encoder."""
    judge = Judge(judging, data, options, final=False)
    curve = []
    for step in range(options.snapshot_every, options.steps + 1, options.snapshot_every):
        encoder = trained(options, data, snapshot_file(step))
        curve.append([step, judge.figures(judge.clean(encoder))["knn"]])
    return curve


def validation(data: PretrainingData) -> EvaluationSplits:
    """The splits to choose settings by: the data set's own, or training pictures held out; never test pictures.

    Raises:
        StudyError: the data set has no labelled pictures.
    """
    if data.validation is not None:
        return data.validation
    splits = data.splits
    if splits is None:
        raise StudyError(f"{data.name} has no test pictures to judge by")
    numbers = np.arange(len(splits.train_images))
    held = numbers % HELD_OUT == HELD_OUT - 1
    return EvaluationSplits(
        _Chosen(splits.train_images, numbers[~held]),  # type: ignore[arg-type]
        splits.train_labels[~held],
        _Chosen(splits.train_images, numbers[held]),  # type: ignore[arg-type]
        splits.train_labels[held],
        splits.class_names,
        splits.multi_label,
    )


@dataclass(frozen=True)
class _Chosen:
    """Some of the pictures of a data set, decoded when they are asked for."""

    images: Any
    numbers: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, key: Any) -> Any:
        return self.images[self.numbers[key]]


class Judge:
    """Judges encoders of one data set on the same pictures: test pictures where it is final, else validation ones."""

    def __init__(
        self, judging: Judging, data: PretrainingData, options: TorchOptions, *, final: bool
    ) -> None:
        self.judging, self.options, self.final = judging, options, final
        self.device = choose_device(options.device)
        self.size = judging.image_size or data.image_size
        if final and data.splits is None:
            raise StudyError(f"{data.name} has no test pictures to judge by")
        splits = data.splits if final else validation(data)
        assert splits is not None
        counts = (
            (judging.train_images, judging.test_images)
            if final
            else (judging.tuning_train_images, judging.tuning_test_images)
        )
        self.splits, self.classes = splits, len(splits.class_names)
        train, self.test_numbers = (
            _spread(splits.train_images, counts[0]),
            _spread(splits.test_images, counts[1]),
        )
        self.train, self.train_labels = _Chosen(splits.train_images, train), splits.train_labels[train]
        self.test = _Chosen(splits.test_images, self.test_numbers)
        self.test_labels = splits.test_labels[self.test_numbers]

    def clean(self, encoder: nn.Module) -> Encode:
        """The encoder with the statistics of whole, unaltered training pictures in its batch norms."""
        few = _Chosen(self.train, _spread(self.train, self.judging.statistics_images))
        with torch.no_grad():
            update_bn(
                (
                    encoder_input(self.options.encoder, whole_pictures(part, self.size, self.device))
                    for part in self._parts(few)
                ),
                encoder.to(self.device),
            )
        return encode_with(encoder, self.options.encoder, self.size, self.device)

    def figures(self, encode: Encode) -> dict[str, Any]:
        """What the features are worth; the linear probe and the rank only where it is final."""
        judging, classes = self.judging, self.classes
        train, test = self.features(encode, self.train), self.features(encode, self.test)
        neighbours = min(judging.neighbours, len(train))
        votes = measures.knn_scores(
            train,
            self.train_labels,
            test,
            neighbours=neighbours,
            temperature=judging.temperature,
            classes=classes,
        )
        found: dict[str, Any] = {"knn": measures.judge(votes, self.test_labels)}
        if self.final:
            found |= {"linear": self._linear(train, self.train_labels, test, self.test_labels)}
            if not self.splits.multi_label:  # the measure of scenes, too, to compare margins by
                rows = np.eye(classes, dtype=np.bool_)
                train_rows, test_rows = rows[self.train_labels], rows[self.test_labels]
                found["knn_map"] = measures.judge(votes, test_rows)
                found["linear_map"] = self._linear(train, train_rows, test, test_rows)
            found["rank"] = measures.effective_rank(test)
        return {name: round(value, 6) for name, value in found.items()}

    def features(self, encode: Encode, images: Any) -> NDArray[np.float32]:
        """The encoder's features of pictures, `[pictures, d]`."""
        return np.concatenate([encode(part) for part in self._parts(images)])

    def _linear(self, train: Any, train_labels: Any, test: Any, test_labels: Any) -> float:
        strength = measures.choose_strength(
            train, train_labels, self.judging.linear_strengths, classes=self.classes
        )
        scores = measures.linear_scores(train, train_labels, test, strength=strength, classes=self.classes)
        return measures.judge(scores, test_labels)

    def _parts(self, images: Any) -> list[NDArray[np.uint8]]:
        size = self.judging.batch
        return [
            np.asarray(images[np.arange(i, min(i + size, len(images)))]) for i in range(0, len(images), size)
        ]


def _spread(images: Any, count: int) -> NDArray[np.int64]:
    """The numbers of at most so many pictures, spread over all, since folders come sorted by class."""
    return np.linspace(0, len(images) - 1, min(count, len(images))).round().astype(np.int64)
