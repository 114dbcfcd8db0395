"""`compile=True`: the formulas of a block compiled once and used for every block, and without a compiler not."""

import re
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.testing import assert_close

import rankloss.torch as rl
from rankloss.torch import _compiled, _operators

OBJECTIVES = (rl.SmoothAP(temperature=0.1), rl.FastAP(), rl.SupCon())
EACH_OBJECTIVE = pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)


@pytest.fixture(autouse=True)
def fresh_programs() -> Iterator[None]:
    """No program and no warning of another test."""
    _compiled._PROGRAMS.clear()
    _compiled._warn.cache_clear()
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> CompileCounterWithBackend:
    """Programs that are traced and run as they are, which takes a second where g++ takes ten, and are counted."""
    counter = CompileCounterWithBackend("eager")
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=counter))
    return counter


def rows(seed: int, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def labels(seed: int, count: int, classes: int = 6) -> Tensor:
    return torch.randint(0, classes, (count,), generator=torch.Generator().manual_seed(seed))


def of_targets(targets: Tensor, objective: Any, x: Tensor, **options: Any) -> Tensor:
    return rl.embedding_loss(objective, x, targets, **options)


def of_labels(objective: Any, x: Tensor, **options: Any) -> Tensor:
    return of_targets(labels(1, len(x)), objective, x, **options)


def of_views(objective: Any, x: Tensor, **options: Any) -> Tensor:
    return rl.embedding_loss(objective, x.reshape(-1, 3, x.shape[-1]), include_query=True, **options)


def of_blocks(objective: Any, x: Tensor, **options: Any) -> Tensor:
    return rl.embedding_loss(rl.Blockwise(objective, 2), x.reshape(-1, 3, x.shape[-1]), **options)


def of_gallery(objective: Any, x: Tensor, **options: Any) -> Tensor:
    given = {"gallery": x[:9] + 0.5, "gallery_labels": labels(2, 9), "weights": torch.arange(len(x))}
    return rl.embedding_loss(objective, x, labels(1, len(x)), **given, **options)


def of_mask(objective: Any, x: Tensor, **options: Any) -> Tensor:
    relevant = rows(3, len(x), 9) > 0.5
    return rl.embedding_loss(objective, x, gallery=x[:9] * 2, relevant=relevant, normalize=False, **options)


def of_scores(objective: Any, x: Tensor, **options: Any) -> Tensor:
    options.pop("block_size")
    relevant, valid = rows(3, len(x), len(x)) > 0.5, rows(4, len(x), len(x)) > -0.5
    return rl.score_loss(objective, torch.tanh(x @ x.T), relevant, valid=valid, **options)


LAYOUTS = (of_labels, of_views, of_blocks, of_gallery, of_mask, of_scores)


def both(
    call: Callable[..., Tensor], objective: Any, x: Tensor, **options: Any
) -> list[tuple[Tensor, Tensor]]:
    """Value and gradient, not compiled and compiled."""
    found = []
    for compiled in (False, True):
        leaf = x.clone().requires_grad_()
        value = call(objective, leaf, compile=compiled, **options)
        (value * torch.arange(1, value.numel() + 1).reshape(value.shape)).sum().backward()
        found.append((value.detach(), leaf.grad))
    return found


def assert_same(pair: list[tuple[Tensor, Tensor]]) -> None:
    (value, gradient), (compiled_value, compiled_gradient) = pair
    digits = 1e-5 if value.dtype == torch.float32 else 1e-13
    assert_close(compiled_value, value, rtol=digits, atol=digits)
    assert_close(compiled_gradient, gradient, rtol=0, atol=digits * float(1 + gradient.abs().max()))


CASES = [(rl.SmoothAP(temperature=0.1), layout, torch.float32) for layout in LAYOUTS]
CASES += [
    (objective, layout, torch.float32) for objective in OBJECTIVES[1:] for layout in (of_labels, of_scores)
]
CASES += [(objective, of_labels, torch.float64) for objective in OBJECTIVES[:2]]


@pytest.mark.parametrize(("objective", "layout", "dtype"), CASES)
def test_values_and_gradients_are_those_without_a_compiler(
    traced: Any, objective: Any, layout: Any, dtype: torch.dtype
) -> None:
    assert_same(both(layout, objective, rows(0, 18, 5, dtype=dtype), block_size=7))
    assert traced.frame_count


@EACH_OBJECTIVE
def test_a_loss_for_each_query(traced: Any, objective: Any) -> None:
    """Its gradient is made in backward, by another program than the losses."""
    assert_same(both(of_views, objective, rows(0, 18, 5), reduction="none", block_size=7))
    assert traced.frame_count == 2


@EACH_OBJECTIVE
def test_three_programs_for_batches_of_any_size(traced: Any, objective: Any) -> None:
    """One for small blocks and one for large ones; ten sizes, blocks that are cut short among them."""
    x = rows(0, 840, 5)
    for count in (840, 24, 402, 36, 510, 90, 12, 840, 600, 48):
        assert_same(both(of_views, objective, x[:count], block_size=256))
    assert traced.frame_count <= 3  # one more where the window is the whole gallery


@EACH_OBJECTIVE
def test_few_programs_for_labels_of_any_kind(traced: Any, objective: Any) -> None:
    """Smooth-AP has one for each power of two of positives, the others one for all."""
    for seed in range(3):
        count = 30 + 25 * seed
        both(partial(of_targets, labels(seed, count)), objective, rows(seed, count, 5))
    assert traced.frame_count <= (3 if isinstance(objective, rl.SmoothAP) else 1)


def test_each_objective_has_programs_of_its_own(traced: Any) -> None:
    """More than the compiler makes for one function before it gives up."""
    for repeat in range(2):
        for number in range(1, 11):
            assert_same(both(of_views, rl.SupCon(temperature=number / 10), rows(0, 12, 5)))
        assert traced.frame_count == 10, repeat


def test_a_spread_beyond_the_compiled_form(traced: Any) -> None:
    """Positives over 124 temperatures apart take another form, which is not compiled."""
    for dtype in (torch.float32, torch.float64):
        assert_same(both(of_labels, rl.SmoothAP(temperature=0.001), rows(0, 18, 5, dtype=dtype)))
    assert traced.frame_count


def test_a_pass_is_run_again_where_a_device_is_not_waited_for(
    traced: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rankloss.torch._framework.TorchFramework.known", lambda self, array: None)
    for temperature in (0.1, 0.001):
        assert_same(both(of_labels, rl.SmoothAP(temperature), rows(0, 18, 5), block_size=7))


@pytest.mark.filterwarnings("ignore:no query of the batch has a positive")
def test_no_positives_and_no_rows(traced: Any) -> None:
    for call in (
        lambda o, x, **k: rl.embedding_loss(o, x[:, None], **k),
        partial(of_targets, torch.arange(6)),
        partial(of_targets, torch.arange(6) // 2),  # not by the program of one view, which compares nothing
    ):
        assert_same(both(call, rl.SmoothAP(), rows(0, 6, 5)))
    assert of_targets(torch.arange(0), rl.SmoothAP(), rows(0, 0, 5), compile=True) == 0


def test_many_positives_are_left_to_the_other_form(traced: Any) -> None:
    same = torch.zeros(80, dtype=torch.int64)
    assert_same(both(partial(of_targets, same), rl.SmoothAP(), rows(0, 80, 5)))
    assert traced.frame_count == 0
    assert_same(both(partial(of_targets, same), rl.FastAP(), rows(0, 80, 5)))
    assert traced.frame_count == 1


@EACH_OBJECTIVE
def test_the_default_compiler(objective: Any) -> None:
    assert_same(both(of_labels, objective, rows(0, 40, 5), block_size=16))


def test_more_bins_than_are_passed_over() -> None:
    """The default compiler warns of complex numbers, in which they are scattered without one."""
    assert_same(both(of_labels, rl.FastAP(num_bins=100), rows(0, 40, 5)))


def test_nan_comes_out_where_it_went_in(traced: Any) -> None:
    x = rows(0, 18, 5)
    x[3, 2] = float("nan")
    for objective in OBJECTIVES:
        (value, gradient), (compiled_value, compiled_gradient) = both(of_views, objective, x)
        assert value.isnan() and compiled_value.isnan()
        assert torch.equal(gradient.isnan(), compiled_gradient.isnan())


def test_in_a_compiled_and_autocast_step(traced: Any) -> None:
    """The operator is opaque to the step's compiler, and calls its own."""
    torch.manual_seed(0)
    model, targets = nn.Linear(5, 4), labels(1, 18)
    found = []
    for compiled in (False, True):
        loss_fn = rl.RankingLoss(rl.SmoothAP(0.1), compile=compiled)

        @torch.compile(fullgraph=True, backend="aot_eager")
        def step(inputs: Tensor, loss_fn: nn.Module = loss_fn) -> Tensor:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return loss_fn(model(inputs), targets)

        model.zero_grad()
        loss = step(rows(0, 18, 5))
        loss.backward()
        found.append((loss.detach(), model.weight.grad.clone()))
    assert found[0][0].dtype == torch.float32
    assert traced.frame_count
    assert_same(found)


def test_a_compiler_that_deprecates_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Warnings are errors in these tests."""
    made = []

    def warning(graph: Any, inputs: Any) -> Any:
        warnings.warn("the compiler uses what it deprecates", DeprecationWarning, stacklevel=1)
        made.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=warning))
    assert_same(both(of_views, rl.FastAP(), rows(0, 18, 5)))
    assert len(made) == 1


@pytest.mark.parametrize("lacking", ["a C++ compiler", "a Python that torch.compile supports"])
def test_one_warning_where_no_compiler_is(lacking: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: Any, **options: Any) -> Any:
        raise RuntimeError(f"there is not {lacking}")

    compiler = partial(torch.compile, backend=broken) if "C++" in lacking else broken
    monkeypatch.setattr(torch, "compile", compiler)
    with pytest.warns(UserWarning, match=rf"without compile=True: .*{re.escape(lacking)}") as caught:
        for objective in OBJECTIVES:
            for _ in range(2):
                assert_same(both(of_views, objective, rows(0, 18, 5)))
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        of_labels(rl.SmoothAP(), rows(0, 18, 5), compile=True)


def test_blocks_are_as_usual_once_the_compiler_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: Any) -> Any:
        raise RuntimeError("no C++ compiler")

    def noted(*arguments: Any) -> Any:
        framework, factor = arguments[0], arguments[-1]
        sizes = [
            framework.rows_a_block(items, items, torch.zeros(1), factor) for items in (1024, 4096, 16_384)
        ]
        found.append(sizes)
        return embedding_pass(*arguments)

    found, embedding_pass = list[list[int]](), _operators.embedding_pass
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=broken))
    monkeypatch.setattr(_operators, "embedding_pass", noted)
    with pytest.warns(UserWarning, match="compiler failed"):
        for compile in (True, True, False):
            of_views(rl.FastAP(), rows(0, 18, 5), compile=compile)
    assert found == [[512, 256, 256], [256, 256, 64], [256, 256, 64]]


def test_a_compiler_that_gives_up_later(traced: Any) -> None:
    """With one more variant of a program than it is allowed to make."""
    with torch._dynamo.config.patch(recompile_limit=1), pytest.warns(UserWarning, match="compiler failed"):
        for views in (rows(0, 18, 5), rows(0, 3, 5)):  # of one image, the window is the whole gallery
            assert_same(both(of_views, rl.SupCon(), views, block_size=6))


def test_the_module_says_that_it_compiles() -> None:
    assert repr(rl.RankingLoss(rl.SupCon(), compile=True)).endswith("compile=True)")
    assert "compile" not in repr(rl.RankingLoss(rl.SupCon()))


@pytest.mark.parametrize(
    "call", [of_labels, of_scores, lambda o, x, **k: rl.RankingLoss(o, compile=k["compile"])]
)
def test_another_value_is_refused(call: Any) -> None:
    with pytest.raises(TypeError, match="compile must be True or False, found 'yes'"):
        call(rl.SmoothAP(), rows(0, 18, 5), compile="yes", block_size=None)
