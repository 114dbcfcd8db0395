"""Batches of pictures on the device: straight from memory, or decoded by worker processes."""

import signal
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pretraining.datasets import DataError, DecodedImages, Images


class _Pictures(Dataset[NDArray[np.uint8]]):
    """Decoded pictures as a PyTorch data set."""

    def __init__(self, images: DecodedImages) -> None:
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        return self._images[index]


def feed(
    images: Images, batches: Iterator[NDArray[np.int64]], workers: int, device: torch.device
) -> Iterator[Tensor]:
    """The uint8 pictures `[b, height, width, channels]` of each batch."""
    if not isinstance(images, DecodedImages):
        for numbers in batches:
            yield torch.from_numpy(images[numbers]).to(device, non_blocking=True)
        return
    loader = DataLoader(
        _Pictures(images),
        batch_sampler=_Lists(batches),
        num_workers=workers,
        pin_memory=device.type == "cuda",
        worker_init_fn=_leave_interrupts_to_the_trainer,
        generator=torch.Generator(),  # else it would draw from the generator of the views
    )
    try:
        for pictures in loader:
            yield pictures.to(device, non_blocking=True)
    except DataError as error:  # of a worker, whose traceback PyTorch puts into the message
        raise DataError(str(error).strip().splitlines()[-1].split("DataError: ")[-1]) from error


class _Lists:
    """The batches as the lists that DataLoader takes, one after the other."""

    def __init__(self, batches: Iterator[NDArray[np.int64]]) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator[list[int]]:
        return (numbers.tolist() for numbers in self._batches)


def _leave_interrupts_to_the_trainer(worker: int) -> None:
    """Ctrl-C reaches the workers too; the trainer still needs them until it has written its checkpoint."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
