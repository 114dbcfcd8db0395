"""Half precision and autocast in `rankloss.torch`: losses and sums in float32, gradients where they belong."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import rankloss.torch as rl

OBJECTIVES = (rl.SmoothAP(temperature=0.01), rl.SmoothAP(temperature=0.3), rl.FastAP(), rl.SupCon())
EACH_OBJECTIVE = pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
EACH_HALF = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
LABELS = torch.arange(24) % 5


def embeddings(dtype: torch.dtype) -> Tensor:
    return torch.randn(24, 8, generator=torch.Generator().manual_seed(0)).to(dtype)


def linear() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(8, 6)


@EACH_OBJECTIVE
@EACH_HALF
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_embeddings_of_half_precision(objective: Any, dtype: torch.dtype, reduction: str) -> None:
    half = embeddings(dtype).requires_grad_()
    double = half.detach().double().requires_grad_()
    loss = rl.embedding_loss(objective, half, LABELS, reduction=reduction)
    expected = rl.embedding_loss(objective, double, LABELS, reduction=reduction)
    loss.sum().backward()
    expected.sum().backward()
    assert loss.dtype == torch.float32
    assert half.grad.dtype == dtype
    assert_close(loss.double(), expected, rtol=1e-4, atol=1e-5)
    digits = torch.finfo(dtype).eps
    assert_close(half.grad.double(), double.grad, rtol=digits, atol=digits * double.grad.abs().max().item())


@EACH_OBJECTIVE
@EACH_HALF
def test_galleries_views_and_scores_of_half_precision(objective: Any, dtype: torch.dtype) -> None:
    queries, gallery = embeddings(dtype)[:10].requires_grad_(), embeddings(dtype)[10:].requires_grad_()
    loss = rl.embedding_loss(objective, queries, LABELS[:10], gallery=gallery, gallery_labels=LABELS[10:])
    views, scores = embeddings(dtype).reshape(8, 3, 8).requires_grad_(), embeddings(dtype).requires_grad_()
    loss_of_views = rl.embedding_loss(objective, views, weights=torch.rand(8, 3))
    loss_of_scores = rl.score_loss(objective, scores, torch.eye(24, 8, dtype=torch.bool))
    (loss + loss_of_views + loss_of_scores).backward()
    assert {loss.dtype, loss_of_views.dtype, loss_of_scores.dtype} == {torch.float32}
    assert {tensor.grad.dtype for tensor in (queries, gallery, views, scores)} == {dtype}
    assert all(torch.isfinite(tensor.grad).all() for tensor in (queries, gallery, views, scores))


@EACH_OBJECTIVE
@EACH_HALF
def test_autocast_of_a_model(objective: Any, dtype: torch.dtype) -> None:
    model = linear()
    with torch.autocast("cpu", dtype=dtype):
        outputs = model(embeddings(torch.float32))
        loss = rl.embedding_loss(objective, outputs, LABELS)
    assert outputs.dtype == dtype
    assert loss.dtype == torch.float32
    loss.backward()
    for parameter in model.parameters():
        assert parameter.grad.dtype == torch.float32
        assert torch.isfinite(parameter.grad).all()
    assert_close(loss.double(), rl.embedding_loss(objective, outputs.double(), LABELS), rtol=1e-4, atol=1e-5)


@EACH_OBJECTIVE
@EACH_HALF
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_autocast_does_not_reach_into_the_loss(objective: Any, dtype: torch.dtype, reduction: str) -> None:
    """Scores of bfloat16 would be worth nothing at a temperature of 0.01."""
    plain = embeddings(torch.float32).requires_grad_()
    rl.embedding_loss(objective, plain, LABELS, reduction=reduction).sum().backward()
    inside = embeddings(torch.float32).requires_grad_()
    with torch.autocast("cpu", dtype=dtype):
        loss = rl.embedding_loss(objective, inside, LABELS, reduction=reduction)
        loss.sum().backward()
    assert loss.dtype == torch.float32
    assert_close(loss, rl.embedding_loss(objective, plain, LABELS, reduction=reduction), rtol=1e-6, atol=1e-6)
    assert_close(inside.grad, plain.grad, rtol=1e-5, atol=1e-6)


def test_double_precision_stays_double_in_autocast() -> None:
    double = embeddings(torch.float64).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = rl.embedding_loss(rl.SmoothAP(), double, LABELS)
    loss.backward()
    assert loss.dtype == double.grad.dtype == torch.float64


def test_grad_scaler() -> None:
    """Scaled gradients come back unscaled, a step is taken, and the loss falls."""
    model, loss_fn = linear(), rl.RankingLoss(rl.SmoothAP(temperature=0.1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.float16):
            loss = loss_fn(model(embeddings(torch.float32)), LABELS)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.item())
    assert scaler.get_scale() == 2.0**12
    assert losses[-1] < 0.9 * losses[0]


def test_grad_scaler_skips_a_step_whose_gradient_is_not_finite() -> None:
    model = linear()
    before = model.weight.detach().clone()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    inputs = embeddings(torch.float32)
    inputs[3, 2] = torch.inf
    loss = rl.embedding_loss(rl.SmoothAP(), model(inputs), LABELS)
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    assert torch.isnan(loss)
    assert torch.equal(model.weight, before)
    assert scaler.get_scale() == 1.0
