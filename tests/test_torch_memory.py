"""Memory: peak resident size of forward and backward passes, measured in a process of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="peak resident memory is read from /proc, as Linux has it"
)
MIB = 2**20
OBJECTIVES = ("SmoothAP(0.01)", "FastAP()", "SupCon()")

# The first, small pass brings in what is allocated once: code, thread pools, the allocator's own.
MEASURE = """
import torch
import rankloss.torch as rl

def resident(field):
    for line in open("/proc/self/status"):
        if line.startswith(field):
            return int(line.split()[1]) * 1024

def run(objective, layout, embeddings, labels):
    embeddings.grad = None
    if layout == "views":
        loss = rl.embedding_loss(objective, embeddings.view(-1, 8, 128))
    elif layout == "gallery":
        loss = rl.embedding_loss(objective, embeddings, labels, gallery=embeddings, gallery_labels=labels)
    else:
        loss = rl.embedding_loss(objective, embeddings, labels, reduction=layout)
    loss.sum().backward()
    assert torch.isfinite(embeddings.grad).all() and torch.isfinite(loss).all()

def inputs(count):
    torch.manual_seed(0)
    labels = (torch.arange(count) // 8)[torch.randperm(count)]
    return torch.randn(count, 128).requires_grad_(), labels

passes = [{passes}]
for objective, layout in passes:
    run(objective, layout, *inputs(512))
batch = inputs({count})
before = resident("VmRSS")
for objective, layout in passes:
    run(objective, layout, *batch)
print(resident("VmHWM") - before)
"""


def peak_above_the_inputs(count: int, *passes: tuple[str, str]) -> int:
    """The most that these passes, one after another, take at any time: 8 items a class, 128 dimensions."""
    listed = ", ".join(f"(rl.{objective}, {layout!r})" for objective, layout in passes)
    result = subprocess.run(
        [sys.executable, "-c", MEASURE.format(count=count, passes=listed)],
        capture_output=True,
        text=True,
        env=os.environ,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return int(result.stdout)


def test_no_square_of_the_batch_is_kept() -> None:
    """A square of 8,192 rows takes 256 MiB in float32, and one for each positive of a row seven times that."""
    passes = [*zip(OBJECTIVES, ("views", "mean", "none"), strict=True), ("SmoothAP(0.01)", "gallery")]
    assert peak_above_the_inputs(8192, *passes) < 8192 * 8192 * 4


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize(
    "layout", ["views", *(pytest.param(name, marks=pytest.mark.long) for name in ("mean", "none"))]
)
def test_16384_rows_fit_in_256_mib(objective: str, layout: str) -> None:
    assert peak_above_the_inputs(16_384, (objective, layout)) < 256 * MIB


@pytest.mark.long
def test_65536_rows_fit_in_a_gibibyte() -> None:
    assert peak_above_the_inputs(65_536, ("SmoothAP(0.01)", "views")) < 1024 * MIB
