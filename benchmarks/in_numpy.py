"""NumPy: our losses and the floor."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from batches import Run, Setting, embeddings, labels

import rankloss

FLOOR_BLOCK = 128


def floor(setting: Setting) -> Run:
    """Scores, and the two products that make a gradient out of an array of their size, block by block."""
    x = embeddings(setting)
    x = x / np.linalg.norm(x, axis=1, keepdims=True)

    def run() -> tuple[Any, Any]:
        d_gallery, d_queries = np.zeros_like(x), np.empty_like(x)
        for first in range(0, len(x), FLOOR_BLOCK):
            queries = x[first : first + FLOOR_BLOCK]
            scores = queries @ x.T
            np.matmul(scores, x, out=d_queries[first : first + FLOOR_BLOCK])
            d_gallery += scores.T @ queries
        return d_queries, d_gallery

    return run


def ours(objective: Any, setting: Setting) -> Run:
    """One of our losses."""
    x = embeddings(setting)
    views = setting.layout == "views"
    arguments = [x.reshape(-1, setting.per_class, setting.dimensions)] if views else [x, labels(setting)]
    return partial(rankloss.embedding_loss_and_gradient, objective, *arguments, block_size=setting.block_size)


FLOORS = {"NumPy": floor}
OURS = {"NumPy": ours}
PEERS: dict[tuple[str, str], Any] = {}
