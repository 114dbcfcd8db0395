"""Pictures for the tests of the examples, and the files they come in."""

import gzip
from pathlib import Path

import numpy as np

CLASSES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")


def pictures(count: int, side: int, channels: int, seed: int = 0) -> np.ndarray:
    """Random uint8 pictures [count, side, side, channels] of large blots, so that views of one are alike."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 4, 4, channels), np.uint8)
    return coarse.repeat(-(-side // 4), axis=1).repeat(-(-side // 4), axis=2)[:, :side, :side]


def write_idx(path: Path, array: np.ndarray) -> None:
    """Write a gzipped idx file of unsigned bytes."""
    header = bytes((0, 0, 8, array.ndim)) + np.asarray(array.shape, ">u4").tobytes()
    path.write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes()))
