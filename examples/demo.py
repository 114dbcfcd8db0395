"""The demo: S2R2 beside SimCLR, SwAV, an untrained encoder and raw pixels on Fashion-MNIST, in a few minutes.

Each method sees the same number of views a step, starts from the same weights and takes the same number of
steps. Run again after an interruption it goes on where it stopped; `--fresh` starts over.
"""

import argparse
import json
import shutil
import signal
import sys
import time
from pathlib import Path

from pretraining import report
from pretraining.datasets import DataError, PretrainingData, load
from pretraining.evaluation import Candidate, EvaluationOptions, evaluate_encoders
from pretraining.exhibits import PICTURE_FILES
from pretraining.options import Options
from pretraining.runs import OPTIONS, InterruptedRun, RunError, title
from pretraining.trainers import MODULES, Trainer, trainer

# Views of a picture. SwAV with small crops among 8 views had 1 to 3 points less k-NN accuracy than with two full
# views, on held-out training pictures.
METHODS = {"s2r2": 8, "simclr": 2, "swav": 2}
DATA_TITLE = "Fashion-MNIST"


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    given = _parser().parse_args(arguments)
    started = time.perf_counter()
    try:
        teacher = trainer(given.framework)
        folder = given.folder or Path("runs") / (
            "demo" if given.framework == "torch" else f"demo-{given.framework}"
        )
        if given.fresh:
            _clear(folder)
        runs = [_run_options(given, teacher, folder, method) for method in METHODS]
        evaluation = EvaluationOptions(
            train_images=given.evaluation_images, test_images=given.evaluation_images, seed=given.seed
        )
        results = _finished(folder, runs, evaluation)
        if results is not None:
            print(f"The demo in {folder} was finished earlier; --fresh starts over.\n")
        else:
            results = _demo(teacher, folder, runs, evaluation, given.data_root)
            print(f"Done in {_minutes(time.perf_counter() - started)}.\n")
    except InterruptedRun as stop:
        print("Stopped with a checkpoint. The same command goes on.", file=sys.stderr)
        return stop.exit_status
    except KeyboardInterrupt:
        print("Stopped. The same command goes on.", file=sys.stderr)
        return 128 + signal.SIGINT
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except (RunError, ValueError) as error:
        print(f"error: {error} (--fresh starts the demo over)", file=sys.stderr)
        return 1
    print(report.summary(results, folder))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="S2R2 beside SimCLR, SwAV, an untrained encoder and raw pixels on Fashion-MNIST."
    )
    parser.add_argument(
        "--fresh", action="store_true", help="throw away an earlier demo's runs and start over"
    )
    parser.add_argument(
        "--framework", choices=tuple(MODULES), default="torch", help="whose trainer (default: torch)"
    )
    parser.add_argument("--folder", type=Path, help="default: runs/demo, or runs/demo-FRAMEWORK if not torch")
    parser.add_argument("--data-root", type=Path, help="the folder that holds Fashion-MNIST's files")
    parser.add_argument("--steps", type=int, default=200, help="training steps of each method (default: 200)")
    parser.add_argument("--views-per-step", type=int, default=512, help="views in a batch (default: 512)")
    parser.add_argument(
        "--evaluation-images", type=int, default=10_000, help="training and test pictures (default: 10000)"
    )
    parser.add_argument("--seed", type=int, default=0, help="default: 0")
    return parser


def _run_options(given: argparse.Namespace, trainer: Trainer, folder: Path, method: str) -> Options:
    return trainer.options(
        run_folder=folder / method,
        resume=True,
        method=method,
        views=METHODS[method],
        steps=given.steps,
        views_per_step=given.views_per_step,
        seed=given.seed,
        checkpoint_every=min(25, given.steps),
        no_evaluation=True,
    )


def _demo(
    trainer: Trainer, folder: Path, runs: list[Options], evaluation: EvaluationOptions, data_root: Path | None
) -> report.Results:
    """Train what is not trained yet, judge everything."""
    data = load("fashion-mnist", data_root, download=True)
    assert data.splits is not None
    _say(
        f"{DATA_TITLE}: {len(data.images):,} pictures, whose labels are used only to judge. Every method\n"
        "starts from the same weights, sees as many views in a step and takes as many steps.\n"
    )
    stages = len(runs) + 1
    for number, options in enumerate(runs, 1):
        earlier = ", trained earlier" if trainer.is_finished(options) else ""
        _say(f"[{number}/{stages}] {title(options)} of {options.image_count} pictures a step{earlier}")
        trainer.train(options, data=data)
    _say(f"[{stages}/{stages}] evaluation: k-NN, linear probe, retrieval, pictures")
    candidates = _candidates(trainer, runs, data)
    return evaluate_encoders(folder, candidates, data.splits, data_name=DATA_TITLE, options=evaluation)


def _candidates(trainer: Trainer, runs: list[Options], data: PretrainingData) -> dict[str, Candidate]:
    judged = {}
    for options in runs:
        _, encode = trainer.trained(options.folder, options, data)
        settings = json.loads(options.to_json())
        judged[title(options)] = Candidate(encode, True, run_folder=options.folder, settings=settings)
    return judged | {"untrained": Candidate(trainer.untrained(runs[0], data))}


def _finished(folder: Path, runs: list[Options], evaluation: EvaluationOptions) -> report.Results | None:
    """Return the results of an earlier demo if they are of just these runs, evaluated like this."""
    if not (folder / report.RESULTS_FILE).is_file():
        return None
    results = report.read_results(folder)
    judged = [row.settings for row in results.encoders if row.trained]
    try:
        earlier = [type(runs[0]).from_json(json.dumps(settings)) for settings in judged]
    except (ValueError, TypeError):
        return None
    same = len(earlier) == len(runs) and not any(
        options.differences(theirs) for options, theirs in zip(runs, earlier, strict=True)
    )
    return results if same and results.settings == evaluation.as_settings() else None


def _clear(folder: Path) -> None:
    """Remove what a demo writes, and nothing else that may be in the folder."""
    for method in METHODS:
        if (folder / method / OPTIONS).is_file():
            shutil.rmtree(folder / method)
    for name in (report.RESULTS_FILE, report.TABLE_FILE, *PICTURE_FILES):
        (folder / name).unlink(missing_ok=True)


def _say(text: str) -> None:
    print(text, flush=True)  # a pipe must not hold it back until after the progress bar


def _minutes(seconds: float) -> str:
    return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"


if __name__ == "__main__":
    sys.exit(main())
