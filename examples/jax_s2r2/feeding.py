"""Batches of pictures on the devices: straight from memory, or decoded by threads."""

from collections.abc import Iterator

import jax
import numpy as np
from jax import Array
from jax.sharding import Sharding
from numpy.typing import NDArray

from pretraining.datasets import DecodedImages, Images


class _Chosen:
    """Some pictures in some order, as Grain reads them."""

    def __init__(self, images: DecodedImages, numbers: NDArray[np.int64]) -> None:
        self._images, self._numbers = images, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, place: int) -> NDArray[np.uint8]:
        return self._images[self._numbers[place]]


def feed(
    images: Images, batches: Iterator[NDArray[np.int64]], workers: int, sharding: Sharding
) -> Iterator[Array]:
    """The uint8 pictures `[b, height, width, channels]` of each batch."""
    if not isinstance(images, DecodedImages):
        for numbers in batches:
            yield jax.device_put(images[numbers], sharding)
        return
    import grain  # where pictures are decoded only

    # Threads will do, since Pillow lets go of Python's lock while it decodes. A process that has started JAX's
    # threads must not fork, and new ones would import everything again.
    order = np.stack(list(batches))
    reading = grain.ReadOptions(
        num_threads=workers, prefetch_buffer_size=2 * order.shape[1] if workers else 0
    )
    chosen = grain.MapDataset.source(_Chosen(images, order.ravel()))
    for pictures in chosen.to_iter_dataset(reading).batch(order.shape[1]):
        yield jax.device_put(pictures, sharding)
