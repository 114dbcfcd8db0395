"""A pretraining run from data to results: `train(options)`, for the command line and other programs."""

import json
import os
import signal
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch

from pretraining.datasets import PretrainingData, load
from pretraining.files import write_whole
from pretraining.progress import CURVES, Progress, Row, read_curves
from pretraining.sampling import batches
from torch_s2r2.checkpoints import RunError, load_checkpoint, save_checkpoint
from torch_s2r2.encoders import ENCODER_FILE, Encode, encode_with, initialise_seeded
from torch_s2r2.feeding import feed
from torch_s2r2.learner import Learner, views_average_precision
from torch_s2r2.options import TorchOptions

OPTIONS = "options.json"
TITLES = {"s2r2": "S2R2", "simclr": "SimCLR", "swav": "SwAV"}


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


def train(
    options: TorchOptions, *, data: PretrainingData | None = None, show_progress: bool = True
) -> TrainingResult:
    """Pretrain as the options say, or go on with it, and evaluate the encoder.

    Args:
        data: the data set, where the caller has it already; otherwise it is loaded by name.

    Raises:
        DataError: the data set is missing or damaged.
        RunError: the run can't start or go on. InterruptedRun after Ctrl-C (SIGINT) or SIGTERM.
    """
    device = choose_device(options.device)
    data = data or load(
        options.data, options.data_root, image_size=options.image_size, download=options.download
    )
    _check_amounts(options, data)
    folder = _open_folder(options)
    mark = _data_mark(data)
    found = load_checkpoint(folder, options, mark)
    learner = Learner(options, data.image_size, data.channels, device)
    last_step = 0
    if found is not None:
        last_step, state = found
        try:
            learner.restore(state)
        except (KeyError, RuntimeError, ValueError, TypeError) as error:
            raise RunError(f"the checkpoint in {folder} does not fit the model of these options") from error
    if last_step < options.steps:
        _learn(learner, data, folder, mark, last_step + 1, show_progress)
    write_whole(folder / ENCODER_FILE, lambda file: torch.save(learner.encoder.state_dict(), file))
    encode = encode_with(learner.encoder, options.encoder, data.image_size, device)
    rows = read_curves(folder)
    if not rows:
        raise RunError(f"{folder / CURVES} of the finished run is missing or empty")
    last, measured = rows[-1], [row.map for row in rows if row.map is not None]
    results = None if options.no_evaluation else _evaluate(options, data, encode, device)
    return TrainingResult(
        folder, last.step, last.loss, measured[-1] if measured else None, last.seconds, encode, results
    )


def _learn(
    learner: Learner, data: PretrainingData, folder: Path, mark: str, first_step: int, shown: bool
) -> None:
    """Take the steps from `first_step` to the last, recording and saving on the way."""
    options, images = learner.options, _images(learner.options, data)
    chosen = batches(len(images), options.image_count, options.seed, first_step, options.steps)
    saved = first_step - 1
    with (
        Progress(folder, first_step, options.steps, TITLES[options.method], shown=shown) as progress,
        _signals() as received,
    ):
        started = before = time.perf_counter()
        for step, pictures in enumerate(feed(images, chosen, options.workers, learner.device), first_step):
            loss, embeddings = learner.step(pictures, step)
            value = float(loss)
            if not np.isfinite(value):
                raise _not_finite(f"the loss became {value} at step {step}", saved)
            measure = step % options.map_every == 0 or step in (1, options.steps)
            precision = views_average_precision(embeddings) if measure else None
            now = time.perf_counter()
            views = embeddings.shape[0] * embeddings.shape[1]
            seconds = progress.seconds_before + now - started
            progress.record(
                Row(step, seconds, value, precision, views / (now - before), options.learning_rate_at(step))
            )
            before = now
            if received or step % options.checkpoint_every == 0 or step == options.steps:
                if not learner.is_finite():
                    raise _not_finite(f"weights became infinite or NaN by step {step}", saved)
                progress.sync()
                save_checkpoint(folder, step, options, mark, learner.state())
                saved = step
            if received:
                raise InterruptedRun(
                    f"stopped at step {step} of {options.steps} with a checkpoint; --resume goes on",
                    received[0],
                )


def _not_finite(what: str, saved: int) -> RunError:
    kept = f"the checkpoint of step {saved} is kept" if saved else "there was no checkpoint yet"
    return RunError(f"{what}; {kept}: try a lower --learning-rate or a higher --temperature in a new run")


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect Ctrl-C and SIGTERM instead of being ended by them; a second one acts as usual.

    Only the main thread can do so; in another the list stays empty.
    """
    received: list[int] = []
    former: dict[int, Any] = {}

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)
        restore()

    def restore() -> None:
        for number, handler in former.items():
            signal.signal(number, handler)
        former.clear()

    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            former[number] = signal.signal(number, note)
    except ValueError:  # not in the main thread
        former.clear()
    try:
        yield received
    finally:
        restore()


def choose_device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise RunError(f"--device {name} is not there: {str(error).splitlines()[0]}") from error
    if device.type == "cuda":  # the same numbers in every run, which costs some speed
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.benchmark = False
        torch.use_deterministic_algorithms(True, warn_only=True)
    return device


def _images(options: TorchOptions, data: PretrainingData) -> Any:
    """The pictures to pretrain on."""
    if options.limit_images is None:
        return data.images
    if isinstance(data.images, np.ndarray):
        return data.images[: options.limit_images]
    return data.images.first(options.limit_images)


def _check_amounts(options: TorchOptions, data: PretrainingData) -> None:
    pictures = len(_images(options, data))
    if options.image_count > pictures:
        raise RunError(
            f"a batch takes {options.image_count} pictures and the data set has {pictures}: give a smaller "
            "--views-per-step or --batch-images"
        )
    if options.blocks > 1 and options.method == "s2r2" and options.image_count % options.blocks:
        raise RunError(f"--blocks {options.blocks} does not divide a batch of {options.image_count} pictures")


def _open_folder(options: TorchOptions) -> Path:
    """Make the run folder, or check that the one there is this run's, and note the options in it."""
    folder = options.folder
    there = folder.is_dir() and any(folder.iterdir())
    if folder.exists() and not folder.is_dir():
        raise RunError(f"--run-folder {folder} is a file")
    if there and not options.resume:
        raise RunError(f"{folder} is not empty: give --resume to go on with its run, or another --run-folder")
    if there and not (folder / OPTIONS).is_file():
        raise RunError(f"{folder} holds no run to resume: it has no {OPTIONS}")
    if there and (others := options.differences(read_options(folder))):
        raise RunError(
            f"the run in {folder} has other options: {', '.join(others)}; give these, or another folder"
        )
    folder.mkdir(parents=True, exist_ok=True)
    if not there:
        write_whole(folder / OPTIONS, lambda file: file.write(options.to_json().encode()))
    return folder


def read_options(run_folder: Path) -> TorchOptions:
    """The options that the run in this folder was started with.

    Raises:
        RunError: there is no run.
    """
    path = run_folder / OPTIONS
    try:
        return TorchOptions.from_json(path.read_text())
    except (OSError, ValueError, TypeError) as error:
        raise RunError(f"{run_folder} holds no run of this trainer: {path} can't be read") from error


def _data_mark(data: PretrainingData) -> str:
    """Tells data sets apart well enough to catch a resumed run with other pictures."""
    sample = np.ascontiguousarray(data.images[:4])
    return f"{data.name}, {len(data.images)} pictures, mark {zlib.crc32(sample.tobytes()):08x}"


def _evaluate(
    options: TorchOptions, data: PretrainingData, encode: Encode, device: torch.device
) -> dict[str, Any] | None:
    """Judge the encoder beside the untrained one; a resumed run that has its results keeps them."""
    from pretraining.evaluation import EvaluationOptions, evaluate_run

    written = options.folder / "results.json"
    if written.is_file():
        found: dict[str, Any] = json.loads(written.read_text())
        return found
    if data.splits is None:
        print(f"{data.name} has no test pictures, so there is no evaluation")
        return None
    untrained = initialise_seeded(options, data.image_size, data.channels)
    return evaluate_run(
        options.folder,
        encode,
        data.splits,
        name=TITLES[options.method],
        baselines={"untrained": encode_with(untrained, options.encoder, data.image_size, device)},
        seed=options.seed,
        data_name=data.name,
        settings=json.loads(options.to_json()),
        options=EvaluationOptions(
            train_images=options.evaluation_images, test_images=options.evaluation_images
        ),
    )
