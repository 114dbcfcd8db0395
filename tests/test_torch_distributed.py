"""Several processes: with a gather each has the gradient of the whole batch, without one that of `Blockwise`."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, distributed, multiprocessing
from torch.testing import assert_close

import rankloss.torch as rl

PROCESSES, ROWS = 2, 8
OBJECTIVE = rl.SmoothAP(temperature=0.1)

pytestmark = pytest.mark.skipif(not distributed.is_gloo_available(), reason="this PyTorch has no gloo")


def batch() -> tuple[torch.nn.Linear, Tensor, Tensor]:
    """An encoder, pictures [n, 6], and labels that go together across processes."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    encoder = torch.nn.Linear(6, 4)
    return encoder, torch.randn(PROCESSES * ROWS, 6, generator=generator), torch.arange(PROCESSES * ROWS) % 4


def train(rank: int, gather: bool, folder: Path) -> None:
    """One process' step, whose loss and gradient it saves."""
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=PROCESSES
    )
    encoder, pictures, labels = batch()
    model = torch.nn.parallel.DistributedDataParallel(encoder)
    own = slice(rank * ROWS, (rank + 1) * ROWS)
    embeddings, own_labels = model(pictures[own]), labels[own]
    if gather:
        embeddings = torch.cat(distributed.nn.functional.all_gather(embeddings))
        parts = [torch.empty_like(own_labels) for _ in range(PROCESSES)]
        distributed.all_gather(parts, own_labels)
        own_labels = torch.cat(parts)
    loss = rl.embedding_loss(OBJECTIVE, embeddings, own_labels)
    loss.backward()
    torch.save((loss.detach(), encoder.weight.grad), folder / f"{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.parametrize(
    ("gather", "objective"), [(True, OBJECTIVE), (False, rl.Blockwise(OBJECTIVE, PROCESSES))]
)
def test_processes_have_the_gradient_of_one(
    tmp_path: Path, gather: bool, objective: rl.SmoothAP | rl.Blockwise
) -> None:
    multiprocessing.spawn(train, (gather, tmp_path), nprocs=PROCESSES)
    encoder, pictures, labels = batch()
    expected = rl.embedding_loss(objective, encoder(pictures), labels)
    expected.backward()
    losses, gradients = zip(*(torch.load(tmp_path / f"{rank}.pt") for rank in range(PROCESSES)), strict=True)
    assert_close(torch.stack(losses).mean(), expected.detach())
    for gradient in gradients:
        assert_close(gradient, encoder.weight.grad)
