"""Pretrain an image encoder without labels in PyTorch: S2R2, SimCLR or SwAV; then evaluate it.

Examples:
    python examples/pretrain_torch.py --data fashion-mnist
    python examples/pretrain_torch.py --data stl10 --data-root data --encoder resnet18 --amp bfloat16
"""

import sys

from pretraining.command_line import run
from torch_s2r2.trainer import TRAINER


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    return run(TRAINER, "Pretrain an image encoder without labels in PyTorch.", arguments)


if __name__ == "__main__":
    sys.exit(main())
