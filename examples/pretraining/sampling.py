"""Which pictures are in which batch, and each step's seed: functions of the run's seed and the step alone.

So nothing of the order or the random draws has to be saved for a run to go on as if never interrupted.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray


def step_seed(seed: int, step: int) -> int:
    """A seed for the draws of one step, below 2**63, unrelated to those of other steps and other runs."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def batches(
    pictures: int, batch: int, seed: int, first_step: int, last_step: int
) -> Iterator[NDArray[np.int64]]:
    """The pictures' numbers in the batch of each step from `first_step` to `last_step`, counted from 1.

    Every epoch is a new random order; what is left of it when no whole batch remains is left out.
    """
    per_epoch = pictures // batch
    order, order_of = np.zeros(0, np.int64), -1
    for index in range(first_step - 1, last_step):
        epoch, place = divmod(index, per_epoch)
        if epoch != order_of:
            order, order_of = np.random.default_rng([seed, epoch, 0]).permutation(pictures), epoch
        yield order[place * batch : (place + 1) * batch]
