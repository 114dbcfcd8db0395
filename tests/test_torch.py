"""Autograd of `rankloss.torch`: gradcheck, incoming gradients, who gets a gradient and who computes one."""

import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import make_dataclass
from threading import Barrier
from typing import Any

import numpy as np
import oracle
import pytest
import torch
from cases import Case, embedding_cases, score_cases
from hypothesis import given, settings
from numpy.testing import assert_allclose
from torch import Tensor

import rankloss.torch as rl

OBJECTIVES = (rl.SmoothAP(temperature=0.1), rl.FastAP(num_bins=5), rl.SupCon(temperature=0.2))
EACH_OBJECTIVE = pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
LABELS = torch.tensor([3, 1, 3, 1, 3, 0, 0, 7])


def batch(seed: int = 0, count: int = 8, dtype: torch.dtype = torch.float64) -> Tensor:
    """Embeddings that require a gradient."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 4, generator=generator, dtype=dtype).requires_grad_()


def products(run: Any) -> int:
    """How many matrix products `run` makes, also those within an operator."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        run()
    names = {"aten::mm", "aten::addmm", "aten::addmm_", "aten::bmm", "aten::baddbmm", "aten::baddbmm_"}
    return sum(event.name in names for event in profile.events())


@EACH_OBJECTIVE
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("include_query", [True, False])
def test_gradcheck_of_labels(objective: Any, normalize: bool, reduction: str, include_query: bool) -> None:
    weights = torch.rand(8, dtype=torch.float64)

    def loss(embeddings: Tensor) -> Tensor:
        return rl.embedding_loss(
            objective,
            embeddings,
            LABELS,
            normalize=normalize,
            reduction=reduction,
            include_query=include_query,
            weights=weights,
            block_size=3,
        )

    assert torch.autograd.gradcheck(loss, (batch(),))


@EACH_OBJECTIVE
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_gradcheck_of_galleries(objective: Any, reduction: str) -> None:
    mask = torch.rand(8, 5, generator=torch.Generator().manual_seed(1)) < 0.5

    def by_labels(queries: Tensor, gallery: Tensor) -> Tensor:
        options = {"gallery": gallery, "gallery_labels": LABELS[:5], "reduction": reduction}
        return rl.embedding_loss(objective, queries, LABELS, **options)

    def by_mask(queries: Tensor, gallery: Tensor) -> Tensor:
        return rl.embedding_loss(objective, queries, gallery=gallery, relevant=mask, reduction=reduction)

    arguments = (batch(), batch(seed=1, count=5))
    assert torch.autograd.gradcheck(by_labels, arguments)
    assert torch.autograd.gradcheck(by_mask, arguments)


@pytest.mark.parametrize("objective", [*OBJECTIVES, rl.Blockwise(OBJECTIVES[0], 2)], ids=repr)
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_gradcheck_of_views(objective: Any, reduction: str) -> None:
    def stacked(embeddings: Tensor) -> Tensor:
        return rl.embedding_loss(objective, embeddings.reshape(4, 2, 4), reduction=reduction)

    def as_tuple(first: Tensor, second: Tensor) -> Tensor:
        return rl.embedding_loss(objective, (first, second), reduction=reduction)

    assert torch.autograd.gradcheck(stacked, (batch(),))
    assert torch.autograd.gradcheck(as_tuple, (batch(count=4), batch(seed=1, count=4)))


@EACH_OBJECTIVE
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_gradcheck_of_scores(objective: Any, reduction: str) -> None:
    generator = torch.Generator().manual_seed(2)
    relevant = torch.rand(8, 4, generator=generator) < 0.5
    valid = torch.rand(8, 4, generator=generator) < 0.8
    weights = torch.rand(8, generator=generator, dtype=torch.float64)

    def loss(scores: Tensor) -> Tensor:
        options = {"valid": valid, "weights": weights, "reduction": reduction}
        return rl.score_loss(objective, scores, relevant, **options)

    assert torch.autograd.gradcheck(loss, (batch(seed=3),))


@settings(max_examples=15)
@given(case=embedding_cases(least_temperature=0.05))
def test_each_querys_incoming_gradient_counts(case: Case) -> None:
    """`reduction="none"`, with incoming gradients of either sign and 0."""
    case = case.with_options(reduction="none")
    embeddings = np.stack(case.embeddings, 1) if isinstance(case.embeddings, tuple) else case.embeddings
    incoming = np.random.default_rng(0).normal(size=embeddings.shape[:-1])
    incoming.flat[0] = 0.0

    def total(moved: Any) -> Any:
        return np.sum(incoming * oracle.embedding(case.objective, moved, case.labels, **case.options))

    variable = torch.tensor(embeddings, requires_grad=True)
    labels = None if case.labels is None else torch.tensor(case.labels)
    options = {
        name: torch.tensor(option) if isinstance(option, np.ndarray) else option
        for name, option in case.options.items()
    }
    rl.embedding_loss(case.objective, variable, labels, **options).backward(torch.tensor(incoming))
    expected = oracle.gradient(total, embeddings)
    assert_allclose(variable.grad, expected, rtol=0, atol=1e-9 * max(1.0, np.abs(expected).max()))


@settings(max_examples=15)
@given(case=score_cases(least_temperature=0.05))
def test_each_querys_incoming_gradient_counts_for_scores(case: Any) -> None:
    options = case.options | {"reduction": "none"}
    incoming = np.random.default_rng(0).normal(size=len(case.scores))

    def total(moved: Any) -> Any:
        return np.sum(incoming * oracle.score(case.objective, moved, case.relevant, **options))

    variable = torch.tensor(case.scores, requires_grad=True)
    tensors = {
        name: torch.tensor(option) if isinstance(option, np.ndarray) else option
        for name, option in options.items()
    }
    losses = rl.score_loss(case.objective, variable, torch.tensor(case.relevant), **tensors)
    losses.backward(torch.tensor(incoming))
    expected = oracle.gradient(total, case.scores)
    assert_allclose(variable.grad, expected, rtol=0, atol=1e-9 * max(1.0, np.abs(expected).max()))


@EACH_OBJECTIVE
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_incoming_gradient_scales(objective: Any, reduction: str) -> None:
    once, thrice = batch(), batch()
    rl.embedding_loss(objective, once, LABELS, reduction=reduction).backward()
    (-3 * rl.embedding_loss(objective, thrice, LABELS, reduction=reduction)).backward()
    assert_allclose(thrice.grad, -3 * once.grad, rtol=1e-13)


@EACH_OBJECTIVE
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_two_forwards_before_one_backward(objective: Any, reduction: str) -> None:
    """Of different sizes, on shared and on other tensors: no call may use another's memory."""
    first, second = batch(), batch(seed=1, count=5)
    separate = []
    for embeddings, labels in ((first, LABELS), (second, LABELS[:5]), (first, LABELS.flip(0))):
        leaf = embeddings.detach().clone().requires_grad_()
        rl.embedding_loss(objective, leaf, labels, reduction=reduction).sum().backward()
        separate.append(leaf.grad)
    losses = [
        rl.embedding_loss(objective, embeddings, labels, reduction=reduction).sum()
        for embeddings, labels in ((first, LABELS), (second, LABELS[:5]), (first, LABELS.flip(0)))
    ]
    sum(losses).backward()
    assert_allclose(first.grad, separate[0] + separate[2], rtol=1e-12, atol=1e-15)
    assert_allclose(second.grad, separate[1], rtol=1e-12, atol=1e-15)


@EACH_OBJECTIVE
def test_a_retained_graph_gives_the_same_gradient_again(objective: Any) -> None:
    embeddings = batch()
    loss = rl.embedding_loss(objective, embeddings, LABELS)
    (first,) = torch.autograd.grad(loss, embeddings, retain_graph=True)
    (second,) = torch.autograd.grad(loss, embeddings)
    assert torch.equal(first, second)


@EACH_OBJECTIVE
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_no_gradient_is_computed_where_none_is_wanted(objective: Any, reduction: str) -> None:
    embeddings = batch()

    def loss(tensor: Tensor) -> Tensor:
        return rl.embedding_loss(objective, tensor, LABELS, reduction=reduction)

    detached = products(lambda: loss(embeddings.detach()))
    with torch.no_grad():
        assert not loss(embeddings).requires_grad
        assert products(lambda: loss(embeddings)) == detached
    with torch.inference_mode():
        assert_allclose(loss(embeddings.detach()), loss(embeddings.detach()))
    assert loss(embeddings).requires_grad
    assert not loss(embeddings.detach()).requires_grad
    assert products(lambda: loss(embeddings).sum().backward()) > detached
    if reduction == "none":  # each query's gradient waits for what comes in, so it is left to backward
        assert products(lambda: loss(embeddings)) == detached


@EACH_OBJECTIVE
def test_a_gallery_gets_a_gradient_only_if_it_wants_one(objective: Any) -> None:
    """A memory bank, say; and queries may be the ones that want none."""

    def loss(queries: Tensor, gallery: Tensor) -> Tensor:
        return rl.embedding_loss(objective, queries, LABELS, gallery=gallery, gallery_labels=LABELS)

    both_queries, both_gallery = batch(), batch(seed=1)
    loss(both_queries, both_gallery).backward()
    queries, gallery = batch(), batch(seed=1).detach()
    loss(queries, gallery).backward()
    assert gallery.grad is None
    assert_allclose(queries.grad, both_queries.grad, rtol=1e-13)
    queries, gallery = batch().detach(), batch(seed=1)
    loss(queries, gallery).backward()
    assert queries.grad is None
    assert_allclose(gallery.grad, both_gallery.grad, rtol=1e-13)
    of_both = products(lambda: loss(batch(), batch(seed=1)))
    assert products(lambda: loss(batch(), batch(seed=1).detach())) < of_both
    assert products(lambda: loss(batch().detach(), batch(seed=1))) < of_both


@EACH_OBJECTIVE
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_a_second_derivative_is_refused(objective: Any, reduction: str) -> None:
    embeddings = batch()
    loss = rl.embedding_loss(objective, embeddings, LABELS, reduction=reduction).sum()
    (gradient,) = torch.autograd.grad(loss, embeddings, create_graph=True)
    with pytest.raises(RuntimeError, match=r"(?i)second|first derivative|twice|again"):
        gradient.square().sum().backward()


def test_a_second_derivative_of_scores_is_refused() -> None:
    scores = batch()
    loss = rl.score_loss(OBJECTIVES[0], scores, torch.eye(8, 4, dtype=torch.bool))
    (gradient,) = torch.autograd.grad(loss, scores, create_graph=True)
    with pytest.raises(RuntimeError, match=r"(?i)second|first derivative|twice|again"):
        gradient.square().sum().backward()


@EACH_OBJECTIVE
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_tensors_that_are_not_contiguous(objective: Any, reduction: str) -> None:
    """Transposed and strided inputs, and the expanded gradient that `sum().backward()` sends."""
    plain = batch()
    rl.embedding_loss(objective, plain, LABELS, reduction=reduction).sum().backward()
    wide = torch.zeros(4, 16, dtype=torch.float64)
    wide[:, ::2] = plain.detach().T
    wide.requires_grad_()
    labels = torch.stack([LABELS, -LABELS], dim=1)[:, 0]
    loss = rl.embedding_loss(objective, wide[:, ::2].T, labels, reduction=reduction)
    loss.sum().backward()
    assert_allclose(wide.grad[:, ::2].T, plain.grad, rtol=1e-12, atol=1e-15)
    assert torch.all(wide.grad[:, 1::2] == 0)


def test_gradients_flow_through_what_is_around_the_loss() -> None:
    weight = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    inputs = batch().detach()
    assert torch.autograd.gradcheck(
        lambda w: torch.tanh(rl.embedding_loss(OBJECTIVES[0], inputs @ w, LABELS)), (weight,)
    )


def test_the_graph_keeps_no_square_of_the_batch() -> None:
    """What backward needs is one gradient of the embeddings' size, and the inputs."""
    saved: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        saved.append(tensor.numel())
        return tensor

    embeddings = batch(count=600)
    labels = torch.arange(600) // 3
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        rl.embedding_loss(OBJECTIVES[0], embeddings, labels)
    assert max(saved) <= embeddings.numel()


@EACH_OBJECTIVE
def test_what_comes_back_to_a_query_without_a_positive_does_not_matter(objective: Any) -> None:
    """As log(loss) brings NaN there, where the loss is 0."""
    found = []
    for incoming in (0.0, float("nan")):
        embeddings = batch()
        losses = rl.embedding_loss(objective, embeddings, LABELS, reduction="none")
        losses.backward(torch.where(LABELS == 7, incoming, 1.0))
        found.append(embeddings.grad)
    assert torch.equal(found[1], found[0])


def test_tensors_changed_in_place_before_backward_are_noticed_or_do_not_matter() -> None:
    """An optimizer's step between forward and backward must not change the gradient in silence."""
    expected = batch()
    rl.embedding_loss(OBJECTIVES[0], expected, LABELS, reduction="none").sum().backward()
    embeddings = batch()
    loss = rl.embedding_loss(OBJECTIVES[0], embeddings, LABELS, reduction="none").sum()
    with torch.no_grad():
        embeddings.mul_(-1.5)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def custom_objective(loss: Any, option: Any = 1.0) -> Any:
    """An instance of a new class of always the same name and repr, each of whose queries loses so much."""

    def loss_and_gradient(self: Any, framework: Any, scores: Any, relevance: Any, scale: Any) -> Any:
        return torch.full_like(scores[:, 0], loss), None if scale is None else torch.full_like(scores, loss)

    methods = {"loss_and_gradient": loss_and_gradient}
    return make_dataclass("Custom", [("option", Any)], namespace=methods, frozen=True)(option)


@pytest.mark.parametrize("compile", [False, True])
def test_a_class_that_is_defined_again_is_another(compile: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a cell of a notebook is run again; a loss that was made before keeps its class."""
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    first, second = custom_objective(2.0), custom_objective(3.0)
    for objective, expected in [(first, 2.0), (second, 3.0), (first, 2.0), (second, 3.0)]:
        scores = torch.zeros(2, 4, requires_grad=True)
        loss = rl.score_loss(objective, scores, torch.eye(2, 4) > 0, reduction="none", compile=compile)
        loss.sum().backward()
        assert_allclose(loss.detach(), [expected] * 2)
        assert_allclose(scores.grad, np.full((2, 4), expected))


def test_classes_of_one_name_in_a_compiled_step() -> None:
    losses = []
    for value in (2.0, 3.0):
        objective = custom_objective(value)
        step = torch.compile(
            lambda scores, objective=objective: rl.score_loss(objective, scores, scores > 0), backend="eager"
        )
        losses += [step(torch.eye(2, 4)).item() for _ in range(2)]
    assert losses == [2.0, 2.0, 3.0, 3.0]


def test_classes_of_one_name_in_several_threads() -> None:
    class Slow:
        """An option whose repr takes its time."""

        def __repr__(self) -> str:
            time.sleep(0.02)
            return "1"

    def loss_of(value: float) -> float:
        objective = custom_objective(value, Slow())
        start.wait()
        return float(rl.score_loss(objective, torch.zeros(2, 4), torch.eye(2, 4) > 0))

    start = Barrier(4)
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(loss_of, [0.0, 1.0, 2.0, 3.0])) == [0.0, 1.0, 2.0, 3.0]


@pytest.mark.parametrize("option", [object(), np.float64(0.5), float("inf")], ids=["object", "NumPy", "inf"])
def test_an_option_that_can_not_be_told_by_its_repr_is_refused(option: Any) -> None:
    words = f"finite numbers.*found option={re.escape(repr(option))} of Custom"
    with pytest.raises(TypeError, match=words):
        rl.score_loss(custom_objective(1.0, option), torch.zeros(1, 2), torch.eye(1, 2) > 0)


def test_a_plan_of_another_process() -> None:
    with pytest.raises(RuntimeError, match=r"was called before.*Not called was Plan\(SmoothAP"):
        torch.ops.rankloss.score_loss("Plan(SmoothAP())", torch.eye(2), torch.eye(2) > 0, None, None, False)


@pytest.mark.parametrize(
    ("settings", "kind", "words"),
    [
        ({"reduction": "avg"}, ValueError, "reduction .* found 'avg'"),
        ({"normalize": 1}, TypeError, "normalize .* found 1"),
        ({"include_query": None}, TypeError, "include_query .* found None"),
        ({"block_size": 0}, ValueError, "block_size .* found 0"),
    ],
)
def test_a_module_refuses_bad_settings_when_made(settings: Any, kind: Any, words: str) -> None:
    with pytest.raises(kind, match=words):
        rl.RankingLoss(rl.SmoothAP(), **settings)
