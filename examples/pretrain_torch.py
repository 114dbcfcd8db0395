"""Pretrain an image encoder without labels in PyTorch: S2R2, SimCLR or SwAV; then evaluate it.

Examples:
    python examples/pretrain_torch.py --data fashion-mnist
    python examples/pretrain_torch.py --data stl10 --data-root data --encoder resnet18 --amp bfloat16
"""

import signal
import sys

from pretraining.datasets import DataError
from pretraining.options import parse
from torch_s2r2.checkpoints import RunError
from torch_s2r2.options import TorchOptions
from torch_s2r2.training import InterruptedRun, train


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    options = parse(TorchOptions, "Pretrain an image encoder without labels.", arguments)
    try:
        result = train(options)
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


if __name__ == "__main__":
    sys.exit(main())
