"""What is measured: the settings of each group, and the embeddings that every framework gets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import numpy as np

Run = Callable[[], tuple[Any, Any]]
"""Computes a loss and its gradient [n, d] once, and returns when both are there."""


@dataclass(frozen=True)
class Setting:
    """A batch, and the block size given to our losses (None: chosen by them)."""

    group: str
    rows: int
    dimensions: int = 128
    per_class: int = 8
    layout: Literal["views", "labels"] = "views"
    block_size: int | None = None

    def __str__(self) -> str:
        block = "" if self.block_size is None else f"-block{self.block_size}"
        return f"{self.group}-n{self.rows}-d{self.dimensions}-positives{self.per_class - 1}{block}"

    def in_blocks(self) -> list[Setting]:
        """The same with each of the block sizes that are compared."""
        sizes = BLOCK_SIZES if self.rows <= 16_384 else SMALL_BLOCK_SIZES
        return [replace(self, block_size=size) for size in sizes if size is None or size <= self.rows]

    def with_rows(self, rows: int) -> Setting:
        """The same with another number of rows."""
        return replace(self, rows=rows)


ROWS = (512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536)
DIMENSIONS = (64, 128, 256, 512, 1024, 2048)
PER_CLASS = (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
BLOCK_SIZES = (32, 64, 128, 256, 512, 1024, None)
SMALL_BLOCK_SIZES = (16, 32, 64, 128, 256, None)
"""Beyond 16,384 rows: 512 queries have 64 MiB of scores there, and leave every cache."""


def settings() -> Iterator[Setting]:
    """Every group: cost against rows, dimensions and positives a query; pairs; labels; and block sizes compared."""
    yield from (Setting("rows", rows) for rows in ROWS)
    yield from (Setting("pairs", rows, per_class=2) for rows in (512, 2048, 4096))
    yield Setting("labels", 4096, layout="labels")
    yield from (Setting("dimensions", 4096, dimensions=d) for d in DIMENSIONS)
    yield from (Setting("positives", 4096, per_class=count, layout="labels") for count in PER_CLASS)
    yield from (Setting("blocks", rows) for rows in ROWS)


@lru_cache(maxsize=1)
def embeddings(setting: Setting) -> Any:
    """Float32 [n, d], as a half-trained encoder gives them.

    Cosines within a class are around 3/√d, those between classes around 0, and both are spread by 1/√d, so
    that no loss is near 0 or 1 at any d.
    """
    rng = np.random.default_rng(0)
    classes = rng.normal(size=(setting.rows // setting.per_class, setting.dimensions))
    noise = rng.normal(size=(setting.rows, setting.dimensions))
    closeness = (3 / setting.dimensions**0.5) ** 0.5
    return (noise + closeness * classes[labels(setting)]).astype(np.float32)


def labels(setting: Setting) -> Any:
    """Integers [n], class by class, as some libraries need them."""
    return np.arange(setting.rows) // setting.per_class
