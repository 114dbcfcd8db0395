"""Pretrain an image encoder without labels in Keras, on JAX, TensorFlow or PyTorch; then evaluate it.

Examples:
    python examples/pretrain_keras.py --data fashion-mnist
    KERAS_BACKEND=jax python examples/pretrain_keras.py --data stl10 --data-root data --encoder resnet18
"""

import sys

from keras_s2r2.trainer import TRAINER
from pretraining.command_line import run


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    return run(TRAINER, "Pretrain an image encoder without labels in Keras.", arguments)


if __name__ == "__main__":
    sys.exit(main())
