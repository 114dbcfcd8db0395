"""How many queries make a block when the user does not say."""

import numpy as np
import pytest

from rankloss._framework import framework_of


@pytest.mark.parametrize(
    ("queries", "items", "rows"),
    [
        (64, 64, 64),
        (512, 512, 256),  # in two, which stay in the caches
        (4096, 4096, 256),
        (16_384, 16_384, 64),  # as the budget says
        (1 << 20, 1 << 20, 32),  # fewer make slow matrix products
        (100_000, 16, 8192),  # a small gallery: a block of 256 would hardly be work
        (7, 0, 7),
    ],
)
def test_rows_a_block(queries: int, items: int, rows: int) -> None:
    assert framework_of(np.zeros(1), "zeros").rows_a_block(queries, items, np.zeros(1)) == rows
