"""The idx .gz files of MNIST and Fashion-MNIST, read with NumPy."""

import gzip
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def read_idx_pair(folder: Path, part: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images `[pictures, height, width, 1]` and labels `[pictures]` of a part, "train" or "t10k".

    Raises:
        OSError, EOFError, ValueError: a file is missing, cut short, or not what its header says.
    """
    images = _read(folder / f"{part}-images-idx3-ubyte.gz", dimensions=3)
    labels = _read(folder / f"{part}-labels-idx1-ubyte.gz", dimensions=1)
    if len(images) != len(labels):
        raise ValueError(f"{part} has {len(images)} images and {len(labels)} labels")
    return images[..., None], labels.astype(np.int64)


def _read(path: Path, dimensions: int) -> NDArray[np.uint8]:
    with gzip.open(path) as file:
        content = file.read()
    header = 4 * (1 + dimensions)
    # Two zero bytes, the type (8: unsigned byte), the number of dimensions, then each as a big-endian uint32.
    if len(content) < header or content[:4] != bytes((0, 0, 8, dimensions)):
        raise ValueError(f"{path.name} is not an idx file of {dimensions} dimensions")
    shape = tuple(int(n) for n in np.frombuffer(content, ">u4", dimensions, offset=4))
    if len(content) != header + np.prod(shape, dtype=np.int64):
        raise ValueError(f"{path.name} says {shape} and holds {len(content) - header} bytes")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)
