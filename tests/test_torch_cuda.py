"""On a GPU, where there is one: the same numbers, no waiting, bounded memory, and the compiled form by Triton."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from test_torch_compiled_step import rows
from torch import Tensor
from torch.testing import assert_close

import rankloss.torch as rl

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")

OBJECTIVES = (rl.SmoothAP(temperature=0.1), rl.FastAP(), rl.SupCon())
EACH_OBJECTIVE = pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)


@contextmanager
def no_waiting() -> Iterator[None]:
    """An error where the CPU waits for the GPU."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Synchronization debug mode is a prototype")
            torch.cuda.set_sync_debug_mode("error")
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def loss_and_gradient(call: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    leaf = x.detach().clone().requires_grad_()
    loss = call(leaf)
    loss.backward()
    assert leaf.grad is not None
    return loss.detach().cpu().double(), leaf.grad.cpu().double()


def labels_of(x: Tensor, classes: int) -> Tensor:
    return torch.arange(len(x), device=x.device) % classes


@EACH_OBJECTIVE
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("layout", ["labels", "views", "gallery"])
def test_the_numbers_are_those_of_the_cpu(objective: Any, layout: str, compiled: bool) -> None:
    def call(x: Tensor) -> Tensor:
        options: dict[str, Any] = {"compile": compiled and x.is_cuda, "block_size": 100}
        if layout == "views":
            return rl.embedding_loss(objective, x.view(-1, 6, x.shape[1]), **options)
        if layout == "gallery":
            given = {"gallery": x[:90] * 2, "gallery_labels": labels_of(x, 40)[:90]}
            return rl.embedding_loss(objective, x, labels_of(x, 40), **given, **options)
        return rl.embedding_loss(objective, x, labels_of(x, 40), **options)

    x = rows(0, 360, 16)
    expected, expected_gradient = loss_and_gradient(call, x.double())
    with warnings.catch_warnings(record=True) as given:
        loss, gradient = loss_and_gradient(call, x.cuda())
    assert not [warning for warning in given if "the compiler failed" in str(warning.message)]
    assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    assert_close(gradient, expected_gradient, rtol=0, atol=2e-5 * float(expected_gradient.abs().max()))


@EACH_OBJECTIVE
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_views_wait_for_nothing(objective: Any, compiled: bool) -> None:
    loss_fn = rl.RankingLoss(objective, compile=compiled)
    x = rows(0, 64, 8, 32).cuda().requires_grad_()
    loss_fn(x).backward()  # compiles
    with no_waiting():
        if not (
            compiled and isinstance(objective, rl.SmoothAP)
        ):  # which asks at the end whether its form was right
            loss_fn(x).backward()


@EACH_OBJECTIVE
@pytest.mark.parametrize("count", [16_384, 65_536])
def test_memory_is_bounded(objective: Any, count: int) -> None:
    """All similarities would be 1 and 16 GiB, in several copies."""
    x = rows(0, count // 8, 8, 128).cuda().requires_grad_()
    rl.embedding_loss(objective, x[:8]).backward()
    x.grad = None
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    rl.embedding_loss(objective, x).backward()
    assert torch.cuda.max_memory_allocated() - before <= 1 << 30


@pytest.mark.parametrize("positives", [101, 1023])
def test_many_positives(positives: int) -> None:
    def call(x: Tensor) -> Tensor:
        return rl.embedding_loss(rl.SmoothAP(), x, labels_of(x, len(x) // (positives + 1)))

    x = rows(0, 2048, 64)
    expected, expected_gradient = loss_and_gradient(call, x.double())
    loss, gradient = loss_and_gradient(call, x.cuda())
    assert_close(loss, expected, rtol=1e-5, atol=0)
    assert_close(gradient, expected_gradient, rtol=0, atol=2e-5 * float(expected_gradient.abs().max()))


@EACH_OBJECTIVE
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast(objective: Any, dtype: torch.dtype) -> None:
    weight = rows(1, 32, 16).cuda().requires_grad_()
    x = rows(0, 96, 32).cuda()
    with torch.autocast("cuda", dtype=dtype):
        embeddings = x @ weight
        loss = rl.embedding_loss(objective, embeddings, labels_of(x, 12))
    assert embeddings.dtype == dtype and loss.dtype == torch.float32
    loss.backward()
    expected = rl.embedding_loss(objective, embeddings.detach().cpu().double(), labels_of(x, 12).cpu())
    assert_close(loss.cpu().double(), expected, rtol=1e-5, atol=1e-6)
    assert weight.grad is not None and bool(weight.grad.isfinite().all())


@EACH_OBJECTIVE
def test_within_a_compiled_step(objective: Any) -> None:
    def step(x: Tensor, labels: Tensor) -> Tensor:
        return rl.embedding_loss(objective, torch.nn.functional.gelu(x), labels)

    x = rows(0, 96, 16).cuda()
    expected = loss_and_gradient(lambda leaf: step(leaf, labels_of(x, 12)), x)
    compiled = torch.compile(step, fullgraph=True)
    found = loss_and_gradient(lambda leaf: compiled(leaf, labels_of(x, 12)), x)
    assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_metrics() -> None:
    x = rows(0, 200, 16)
    for metric in (rl.AveragePrecision(), rl.RecallAtK(3)):
        expected = rl.embedding_metric(metric, x.double(), labels_of(x, 20))
        found = rl.embedding_metric(metric, x.cuda(), labels_of(x.cuda(), 20))
        assert_close(found.cpu().double(), expected, rtol=1e-5, atol=1e-6)
