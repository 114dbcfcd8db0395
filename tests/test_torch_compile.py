"""`torch.compile(step, fullgraph=True)` of functions that contain the loss: one graph, compiled once."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch._functorch import config as functorch_config
from torch._inductor import config as inductor_config
from torch.testing import assert_close

import rankloss.torch as rl

OBJECTIVES = (rl.SmoothAP(temperature=0.1), rl.FastAP(), rl.SupCon())
EACH_OBJECTIVE = pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    """Nothing compiled before counts, in this process or on disk: a cache knows nothing of an operator's code."""
    torch.compiler.reset()
    with functorch_config.patch(enable_autograd_cache=False), inductor_config.patch(fx_graph_cache=False):
        yield
    torch.compiler.reset()


def rows(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def labels(seed: int, count: int = 12) -> Tensor:
    """Labels whose classes are of other sizes for each seed, with a class of two at least."""
    drawn = torch.randint(0, 2 + seed, (count,), generator=torch.Generator().manual_seed(seed))
    drawn[1] = drawn[0]
    return drawn


@EACH_OBJECTIVE
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_one_graph_whatever_the_labels(objective: Any, reduction: str) -> None:
    counter = CompileCounterWithBackend("aot_eager")

    def step(weight: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        return 2 * rl.embedding_loss(objective, inputs @ weight, targets, reduction=reduction).sum()

    compiled = torch.compile(step, fullgraph=True, backend=counter)
    for seed in range(5):
        inputs, targets = rows(seed, 12, 5), labels(seed)
        eager_weight, weight = (rows(9, 5, 4).requires_grad_() for _ in range(2))
        expected, found = step(eager_weight, inputs, targets), compiled(weight, inputs, targets)
        expected.backward()
        found.backward()
        assert_close(found, expected, rtol=1e-6, atol=1e-6)
        assert_close(weight.grad, eager_weight.grad, rtol=1e-5, atol=1e-6)
    assert counter.frame_count == 1


@EACH_OBJECTIVE
def test_one_graph_for_galleries_views_masks_and_scores(objective: Any) -> None:
    counter = CompileCounterWithBackend("aot_eager")

    def step(x: Tensor, gallery: Tensor, targets: Tensor, mask: Tensor, weights: Tensor) -> Tensor:
        by_labels = rl.embedding_loss(objective, x, targets, gallery=gallery, gallery_labels=targets)
        by_mask = rl.embedding_loss(objective, x, gallery=gallery, relevant=mask, weights=weights)
        by_views = rl.embedding_loss(objective, x.reshape(4, 3, 5), include_query=True)
        by_tuple = rl.embedding_loss(rl.Blockwise(objective, 2), (x, gallery), normalize=False)
        of_scores = rl.score_loss(objective, x @ gallery.T, mask, valid=~mask.T)
        return by_labels + by_mask + by_views + by_tuple + of_scores

    compiled = torch.compile(step, fullgraph=True, backend=counter)
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        mask = torch.rand(12, 12, generator=generator) < 0.4
        mask[0] = True
        others = (labels(seed), mask, torch.rand(12, generator=generator))
        pairs = [[(rows(s, 12, 5) * 0.5).requires_grad_() for s in (seed, seed + 20)] for _ in range(2)]
        expected, found = step(*pairs[0], *others), compiled(*pairs[1], *others)
        expected.backward()
        found.backward()
        assert_close(found, expected, rtol=1e-6, atol=1e-6)
        for eager, traced in zip(*pairs, strict=True):
            assert_close(traced.grad, eager.grad, rtol=1e-5, atol=1e-6)
    assert counter.frame_count == 1


def test_an_objective_made_within_the_step() -> None:
    """The shortest spelling, which makes a new object at each step."""
    counter = CompileCounterWithBackend("aot_eager")

    def step(x: Tensor, targets: Tensor) -> Tensor:
        return rl.embedding_loss(rl.SmoothAP(temperature=0.2), x, targets)

    compiled = torch.compile(step, fullgraph=True, backend=counter)
    for seed in range(3):
        assert_close(compiled(rows(seed, 12, 5), labels(seed)), step(rows(seed, 12, 5), labels(seed)))
    assert counter.frame_count == 1


def test_an_equal_objective_does_not_compile_again() -> None:
    counter = CompileCounterWithBackend("aot_eager")

    def step(objective: rl.SmoothAP, x: Tensor) -> Tensor:
        return rl.embedding_loss(objective, x.reshape(4, 3, 5))

    compiled = torch.compile(step, fullgraph=True, backend=counter)
    for _ in range(3):
        compiled(rl.SmoothAP(temperature=0.2), rows(0, 12, 5))
    assert counter.frame_count == 1
    found = compiled(rl.SmoothAP(temperature=0.4), rows(0, 12, 5))
    assert_close(found, step(rl.SmoothAP(temperature=0.4), rows(0, 12, 5)))
    assert counter.frame_count <= 3  # the compiler first tries whether the number can be a variable


def test_a_gallery_that_wants_no_gradient() -> None:
    def step(x: Tensor, bank: Tensor, targets: Tensor) -> Tensor:
        return rl.embedding_loss(rl.SmoothAP(), x, targets, gallery=bank, gallery_labels=targets)

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    eager, traced = (rows(0, 12, 5).requires_grad_() for _ in range(2))
    bank = rows(1, 12, 5)
    step(eager, bank, labels(1)).backward()
    compiled(traced, bank, labels(1)).backward()
    assert_close(traced.grad, eager.grad, rtol=1e-5, atol=1e-6)
    assert bank.grad is None


def test_a_module_in_autocast() -> None:
    torch.manual_seed(0)
    model, loss_fn = nn.Linear(5, 4), rl.RankingLoss(rl.SmoothAP(temperature=0.1))

    @torch.compile(fullgraph=True, backend="aot_eager")
    def step(inputs: Tensor, targets: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return loss_fn(model(inputs), targets)

    loss = step(rows(0, 12, 5), labels(1))
    loss.backward()
    assert loss.dtype == torch.float32
    assert model.weight.grad.dtype == torch.float32


def test_batches_of_changing_size() -> None:
    """The last batch of an epoch is smaller; dynamic shapes may compile once more, not each time."""
    counter = CompileCounterWithBackend("aot_eager")

    def step(inputs: Tensor, targets: Tensor) -> Tensor:
        return rl.embedding_loss(rl.SmoothAP(temperature=0.1), inputs, targets)

    compiled = torch.compile(step, fullgraph=True, backend=counter)
    for count in (12, 9, 14, 7, 21, 16):
        found = compiled(rows(count, count, 5), labels(2, count))
        assert_close(found, step(rows(count, count, 5), labels(2, count)), rtol=1e-6, atol=1e-6)
    assert counter.frame_count <= 3  # the compiler first tries whether the number can be a variable


def test_bad_input_is_refused_while_tracing() -> None:
    compiled = torch.compile(
        lambda x, y: rl.embedding_loss(rl.SmoothAP(), x, y), fullgraph=True, backend="eager"
    )
    with pytest.raises(Exception, match="labels must have shape"):
        compiled(rows(0, 12, 5), labels(0, 11))


@EACH_OBJECTIVE
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_inductor(objective: Any, dtype: torch.dtype, reduction: str) -> None:
    """The default compiler, which trusts what the operators say of their outputs' dtypes and shapes."""

    def step(weight: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        losses = rl.embedding_loss(objective, (inputs @ weight).to(dtype), targets, reduction=reduction)
        return 2 * losses.sum()

    eager, traced = (rows(9, 5, 4).requires_grad_() for _ in range(2))
    expected = step(eager, rows(0, 12, 5), labels(3))
    found = torch.compile(step, fullgraph=True)(traced, rows(0, 12, 5), labels(3))
    expected.backward()
    found.backward()
    assert found.dtype == traced.grad.dtype == torch.float32
    assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert_close(traced.grad, eager.grad, rtol=1e-5, atol=1e-6)
