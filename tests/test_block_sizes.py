"""How many queries make a block when the user does not say."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from faces import Face

import rankloss
from rankloss._framework import framework_of


@pytest.mark.parametrize(
    ("queries", "items", "rows"),
    [
        (64, 64, 64),
        (512, 512, 512),  # two would be slower, by their calls
        (1024, 1024, 256),  # which stay in the caches
        (4096, 4096, 256),
        (16_384, 16_384, 64),  # as the budget says
        (1 << 20, 1 << 20, 16),  # fewer make slow matrix products
        (100_000, 16, 16_384),  # a small gallery: a block of 256 would hardly be work
        (7, 0, 7),
    ],
)
def test_rows_a_block(queries: int, items: int, rows: int) -> None:
    assert framework_of(np.zeros(1), "zeros").rows_a_block(queries, items, np.zeros(1)) == rows


@pytest.mark.parametrize(
    ("items", "rows"),
    [(512, 512), (4096, 256), (16_384, 256), (32_768, 128), (65_536, 64)],
)
def test_rows_of_an_objective_with_four_times_the_budget(items: int, rows: int) -> None:
    assert framework_of(np.zeros(1), "zeros").rows_a_block(items, items, np.zeros(1), factor=4) == rows


@dataclass(frozen=True)
class RowsOfABlock:
    """As a query's loss, how many queries its block has."""

    block_factor: int = 1

    def loss_and_gradient(self, framework: Any, scores: Any, relevance: Any, scale: Any) -> tuple[Any, Any]:
        xp, ones = framework.xp, scores * 0 + 1
        losses = xp.sum(ones) / xp.sum(ones, axis=1)
        return losses, None if scale is None else ones * 0


def test_the_objective_decides(face: Face) -> None:
    rng = np.random.default_rng(0)
    # As many that not the least length of a block decides.
    items = 4096 if face.framework == "tensorflow" and face.name != "XLA" else 16_384
    gallery = rng.normal(size=(items, 2)).astype(np.float32)
    labels = np.arange(items) % 300

    def rows(block_factor: int) -> float:
        given = {"gallery": gallery, "gallery_labels": labels, "reduction": "none"}
        losses = face.value(
            "embedding_loss", RowsOfABlock(block_factor), gallery[:600], labels[:600], **given
        )
        return float(np.max(losses))

    assert rows(1) < rows(4) <= 256


@pytest.mark.parametrize("block_factor", [0, 1.5])
def test_a_factor_that_is_no_count_is_refused(block_factor: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=f"block_factor must be .*, found {block_factor}"):
        rankloss.embedding_loss(RowsOfABlock(block_factor), np.eye(4), np.array([0, 0, 1, 1]))
