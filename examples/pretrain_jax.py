"""Pretrain an image encoder without labels in JAX: S2R2, SimCLR or SwAV; then evaluate it.

Examples:
    python examples/pretrain_jax.py --data fashion-mnist
    python examples/pretrain_jax.py --data stl10 --data-root data --encoder resnet18 --amp bfloat16
"""

import sys

from jax_s2r2.trainer import TRAINER
from pretraining.command_line import run


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    return run(TRAINER, "Pretrain an image encoder without labels in JAX.", arguments)


if __name__ == "__main__":
    sys.exit(main())
