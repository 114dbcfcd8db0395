"""Evaluate pretrained encoders: k-NN, linear probe, retrieval and pictures, one run or several side by side.

The runs may be of different frameworks.

Examples:
    python examples/evaluate.py runs/s2r2-fashion-mnist
    python examples/evaluate.py runs/s2r2-stl10 runs/simclr-stl10 --output runs/stl10-compared
"""

import argparse
import json
import sys
from pathlib import Path

from pretraining import report
from pretraining.datasets import DataError, PretrainingData, load
from pretraining.evaluation import Candidate, EvaluationOptions, evaluate_encoders
from pretraining.options import Options
from pretraining.runs import RunError, titles
from pretraining.trainers import Trainer, read_run


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    given = _parser().parse_args(arguments)
    try:
        runs = {folder: read_run(folder, given.device) for folder in given.run_folders}
        data = _common_data(runs, given.data_root, given.download)
        options = EvaluationOptions(
            train_images=given.train_images,
            test_images=given.test_images,
            neighbours=given.neighbours,
            retrieval_images=given.retrieval_images,
            map_images=given.map_images,
            queries=given.queries,
            seed=given.seed,
        )
        output = given.output or _output_folder(given.run_folders)
        assert data.splits is not None
        results = evaluate_encoders(
            output, _candidates(runs, data), data.splits, data_name=data.name, options=options
        )
    except (DataError, RunError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(report.summary(results, output))
    return 0


def _parser() -> argparse.ArgumentParser:
    defaults = EvaluationOptions()
    parser = argparse.ArgumentParser(description="Evaluate the encoders of pretraining runs.")
    parser.add_argument("run_folders", nargs="+", type=Path, metavar="RUN_FOLDER", help="a run's folder")
    parser.add_argument(
        "--output",
        type=Path,
        help="where the results go (default: the run folder; of several, runs/compared)",
    )
    for name, meaning in {
        "train_images": "at most so many training pictures",
        "test_images": "at most so many test pictures",
        "neighbours": "k of the k-NN",
        "retrieval_images": "at most so many of the test pictures are queries of the retrieval",
        "map_images": "test pictures on the map, 0 for none (2,000 take 10 s)",
        "queries": "queries whose neighbours are shown",
        "seed": "of the choice of pictures and of the map",
    }.items():
        default = getattr(defaults, name)
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, type=int, default=default, help=f"{meaning} (default: {default})")
    parser.add_argument(
        "--data-root", type=Path, help="the folder that holds the data set (default: the run's)"
    )
    parser.add_argument("--download", action="store_true", help="download the data set if it is missing")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda ... (default: auto)")
    return parser


Runs = dict[Path, tuple[Trainer, Options]]


def _common_data(runs: Runs, root: Path | None, download: bool) -> PretrainingData:
    """The data set that all runs are of, with its test pictures."""
    kinds = {(options.data, options.image_size) for _, options in runs.values()}
    if len(kinds) > 1:
        names = ", ".join(f"{folder} is of {options.data}" for folder, (_, options) in runs.items())
        raise RunError(f"runs side by side must be of one data set and --image-size: {names}")
    _, first = next(iter(runs.values()))
    data = load(first.data, root or first.data_root, image_size=first.image_size, download=download)
    if data.splits is None:
        raise RunError(f"{data.name} has no test pictures to evaluate with: its folder needs a test/ or val/")
    return data


def _candidates(runs: Runs, data: PretrainingData) -> dict[str, Candidate]:
    """The runs' encoders by title, then an untrained one of each kind."""
    names = titles({folder: options for folder, (_, options) in runs.items()})
    candidates: dict[str, Candidate] = {}
    for folder, (trainer, options) in runs.items():
        word, encode = trainer.trained(folder, options, data)
        settings = json.loads(options.to_json())
        candidates[names[folder] + word] = Candidate(encode, True, run_folder=folder, settings=settings)
    encoders = {options.encoder for _, options in runs.values()}
    trainers = {options.trainer for _, options in runs.values()}
    for trainer, options in runs.values():
        encoder = f" {options.encoder}" if len(encoders) > 1 else ""
        name = f"untrained{encoder}, {options.trainer}" if len(trainers) > 1 else f"untrained{encoder}"
        if name not in candidates:
            candidates[name] = Candidate(trainer.untrained(options, data))
    return candidates


def _output_folder(run_folders: list[Path]) -> Path:
    return run_folders[0] if len(run_folders) == 1 else Path("runs") / "compared"


if __name__ == "__main__":
    sys.exit(main())
