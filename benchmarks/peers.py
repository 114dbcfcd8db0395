"""Losses of other libraries: which of ours each equals, and how far it goes. Imports no framework."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rankloss import FastAP, SmoothAP, SupCon


@dataclass(frozen=True)
class Peer:
    """A loss as it is configured here.

    `equals` is the objective of ours that it computes, with `include_query` or without; this is checked before
    it is timed, at no more than `checked_rows`. Beyond `most_rows` it is not run, because of `limit`.
    """

    library: str
    loss: str
    framework: str
    equals: Any
    most_rows: int
    limit: str
    include_query: bool = False
    checked_rows: int = 2048
    groups: tuple[str, ...] = ("rows",)
    remark: str = ""


PEERS = (
    Peer(
        "pytorch-metric-learning",
        "SmoothAPLoss",
        "PyTorch",
        SmoothAP(0.01),
        most_rows=512,
        limit="holds several arrays of n³ numbers: 20.8 GiB at 1,024 rows, and eight times that at twice as many",
        include_query=True,
        checked_rows=64,
        remark="The query counts as its own positive, as with our `include_query=True`. It is right only where "
        "there are as many classes as items a class (checked at 8 × 8), as it takes the one number for the other: "
        "of our 256 rows in classes of 8 it makes 0.685, where the definition gives 0.336.",
    ),
    Peer(
        "pytorch-metric-learning",
        "FastAPLoss",
        "PyTorch",
        FastAP(10),
        most_rows=8192,
        limit="holds arrays of 11 n² numbers: 3 GiB at 4,096 rows, sixteen times that at four times as many",
    ),
    Peer(
        "pytorch-metric-learning",
        "SupConLoss",
        "PyTorch",
        SupCon(0.1),
        most_rows=16_384,
        limit="holds a dozen arrays of n² numbers: 0.8 GiB at 4,096 rows, sixteen times that at four times as many",
        groups=("rows", "pairs"),
    ),
    Peer(
        "lightly",
        "NTXentLoss",
        "PyTorch",
        SupCon(0.1),
        most_rows=16_384,
        limit="holds several arrays of n² numbers",
        groups=("pairs",),
        remark="Two views an image, hence only among pairs.",
    ),
    Peer(
        "optax",
        "ntxent",
        "JAX",
        SupCon(0.1),
        most_rows=2048,
        limit="makes its cosines from arrays of [n, n, d]: 17 GiB at 4,096 rows and d = 128",
        groups=("pairs",),
        remark="With more than two items a class it leaves the other positives out of the denominator, so that it "
        "is SupCon for pairs only.",
    ),
    Peer(
        "optax",
        "ranking_softmax_loss",
        "JAX",
        SupCon(0.1),
        most_rows=32_768,
        limit="holds several arrays of n² numbers",
        groups=("rows", "pairs"),
        remark="Of scores: given x xᵀ/τ, and relevance over the number of positives, it is SupCon.",
    ),
)
