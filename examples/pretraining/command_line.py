"""The command line that every trainer has: options in, an exit status out, errors as one sentence."""

import signal
import sys

from pretraining.datasets import DataError
from pretraining.options import parse
from pretraining.runs import InterruptedRun, RunError
from pretraining.trainers import Trainer


def run(trainer: Trainer, description: str, arguments: list[str] | None = None) -> int:
    """Pretrain as the arguments say; return the exit status."""
    options = parse(trainer.options, description, arguments)
    try:
        result = trainer.train(options)
    except InterruptedRun as stop:
        print(stop, file=sys.stderr)
        return stop.exit_status
    except (DataError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; --resume goes on from the last checkpoint", file=sys.stderr)
        return 128 + signal.SIGINT
    shown = "" if result.map is None else f", mAP of the views {result.map:.3f}"
    done = f"{result.step} steps in {result.seconds:.0f} s"
    print(f"{done}: loss {result.loss:.4f}{shown}; see {result.run_folder}")
    return 0
