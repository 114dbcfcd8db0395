"""Time of a loss and its gradient, PyTorch eager: `make bench`. Compare within a group, never across runs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from cases import CASES, LARGEST

THREADS = 2


@pytest.mark.parametrize("rows", [512, 2048, 4096])
@pytest.mark.parametrize("case", CASES)
def test_loss_and_gradient(benchmark: Any, case: str, rows: int) -> None:
    if rows > LARGEST.get(case, rows):
        pytest.skip(f"takes too long or too much memory beyond {LARGEST[case]} rows")
    torch.set_num_threads(THREADS)
    benchmark.group = f"{rows} rows, 8 views, d = 128, float32, {THREADS} threads"
    benchmark.name = case
    rounds = 3 if rows > 512 and case in LARGEST else 9
    benchmark.pedantic(CASES[case](rows), rounds=rounds, warmup_rounds=1)
