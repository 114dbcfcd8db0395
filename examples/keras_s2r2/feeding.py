"""Batches of pictures for `fit`, one a step, each with the step's number and its seed."""

from typing import Any

import keras
import numpy as np

from pretraining.datasets import DecodedImages
from pretraining.runs import Run
from pretraining.sampling import step_seed

SEEDS = 2**30  # TensorFlow and PyTorch add to a seed, and keep it in 31 bits


class Batches(keras.utils.PyDataset):
    """The batches of a run from `first_step` on. Threads decode pictures that are not in memory."""

    def __init__(self, run: Run, first_step: int) -> None:
        decodes = isinstance(run.images, DecodedImages)
        super().__init__(workers=max(1, run.options.workers) if decodes else 1)
        self._run, self._first_step = run, first_step
        self._numbers = list(run.batches(first_step))
        self.error: Exception | None = None

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int) -> tuple[dict[str, Any]]:
        step = self._first_step + index
        try:
            pictures = np.asarray(self._run.images[self._numbers[index]])
        except Exception as error:  # TensorFlow would keep its words only
            self.error = error
            raise
        seed = step_seed(self._run.options.seed, step) % SEEDS
        numbers = {"seed": np.array([seed], np.int32), "step": np.array([step], np.int32)}
        return ({"pictures": pictures, **numbers},)
