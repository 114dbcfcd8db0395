"""The losses as PyTorch operators: `torch.compile` passes through them, and autograd uses the gradient they made.

A forward pass computes the gradients that backward will need together with the loss; backward only scales them.
With the reduction "none" the incoming gradient weighs each query, so backward runs the pass again with it.
"""

from __future__ import annotations

from ast import literal_eval
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from rankloss._arguments import EmbeddingBatch, Reduction, ScoreBatch
from rankloss._passes import Evaluate, Result, embedding_pass, score_pass
from rankloss.objectives import Blockwise, Objective
from rankloss.objectives._objective import block_factor
from rankloss.objectives.blockwise import split_objective
from rankloss.torch._compiled import CompiledEvaluation
from rankloss.torch._framework import FrameworkOfCompiled, TorchFramework


@dataclass(frozen=True)
class Plan:
    """All of a loss that is no tensor."""

    objective: Objective
    reduction: Reduction
    normalize: bool = True
    include_query: bool = False
    block_size: int | None = None
    compile: bool = False


COMPILED_FACTOR = 4
"""The least `block_factor` where blocks are compiled, and fewer arrays of their size are written.

At 16,384 rows FastAP takes 1.53, 1.46, 1.22 and 1.34 times the floor in blocks of 64, 128, 256 and 512.
"""

_PLANS: dict[str, Plan] = {}
_NAMES: dict[tuple[Any, ...], str] = {}
"""Where each plan is in `_PLANS`, by its objective's class and options and all else."""

_NAMING = Lock()

_SUMMED = ", summed"
"""What the name of a plan with the reduction "none" has behind it where backward sums."""


def plan_key(objective: Objective, *settings: Any) -> str:
    """The name by which operators find a plan: they take tensors, numbers and strings alone.

    While `torch.compile` traces, an objective may not exist but as its class and options, of which the name is
    made outside the trace.
    """
    inner, num_blocks = split_objective(objective)
    blocks = num_blocks if isinstance(objective, Blockwise) else None
    # Spelled out, lest the compiler takes a number that changes for a variable of the graph.
    options = tuple([(name, f"{getattr(inner, name)!r}") for name in _option_names(type(inner))])
    key: str = _registered(type(inner), options, blocks, *settings)
    return key


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _option_names(kind: Any) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind) if field.init)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _registered(kind: Any, options: Any, blocks: int | None, *settings: Any) -> str:
    same = (kind, options, blocks, settings)
    with _NAMING:
        if same not in _NAMES:
            objective = kind(**{name: _literal(kind, name, text) for name, text in options})
            plan = Plan(objective if blocks is None else Blockwise(objective, blocks), *settings)
            # What differs may have the same repr: a class that is defined again, as in a notebook, or options that
            # the repr leaves out.
            name = repr(plan) if repr(plan) not in _PLANS else f"{plan!r}, number {len(_NAMES)}"
            _PLANS[name] = plan
            _PLANS[name + _SUMMED] = replace(plan, reduction="sum")
            _NAMES[same] = name
        return _NAMES[same]


def _plan(name: str) -> Plan:
    if name not in _PLANS:
        raise RuntimeError(
            "a saved program with a ranking loss runs where a loss with the same objective and options was called "
            f"before: call one, or save the encoder alone. Not called was {name}"
        )
    return _PLANS[name]


def _literal(kind: Any, name: str, text: str) -> Any:
    try:
        return literal_eval(text)
    except (ValueError, SyntaxError):
        raise TypeError(
            "options of an objective must be Python's own finite numbers, strings, tuples and the like, "
            f"found {name}={text} of {kind.__name__}"
        ) from None


def _evaluated(plan: Plan, run: Callable[[TorchFramework, Evaluate, int], Result]) -> Result:
    """What a pass gives by the formulas of a plan's objective, compiled or not, and their `block_factor`."""
    objective, _ = split_objective(plan.objective)
    factor = block_factor(objective)
    if plan.compile and (compiled := CompiledEvaluation(objective)).possible:
        result = run(FrameworkOfCompiled(), compiled, max(COMPILED_FACTOR, factor))
        if compiled.holds():
            return result
    return run(TorchFramework(), objective.loss_and_gradient, factor)


def _outputs(result: Result, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    value, *gradients = result
    filled = [value.new_empty(0) if gradient is None else gradient for gradient in gradients]
    return value, filled[0], filled[1]


def _fake_outputs(
    reduction: Reduction, query_shape: Any, queries: Tensor, gallery: Tensor | None, wanted: tuple[bool, bool]
) -> tuple[Tensor, Tensor, Tensor]:
    dtype = TorchFramework().compute_dtype(queries.dtype)
    gradients = [
        queries.new_empty(like.shape if like is not None and want else (0,), dtype=dtype)
        for like, want in zip((queries, gallery), wanted, strict=True)
    ]
    return (
        queries.new_empty(query_shape if reduction == "none" else (), dtype=dtype),
        gradients[0],
        gradients[1],
    )


# -- embeddings


@torch.library.custom_op("rankloss::embedding_loss", mutates_args=())
def embedding_operator(
    plan: str,
    embeddings: Tensor,
    labels: Tensor | None,
    gallery: Tensor | None,
    gallery_labels: Tensor | None,
    relevant: Tensor | None,
    weights: Tensor | None,
    for_embeddings: bool,
    for_gallery: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss and gradients by embeddings and gallery, empty where not wanted."""
    known = _plan(plan)
    _, num_blocks = split_objective(known.objective)
    wanted = (for_embeddings, for_gallery)
    batch = EmbeddingBatch(
        embeddings,
        labels,
        gallery,
        gallery_labels,
        relevant,
        weights,
        known.normalize,
        known.include_query,
        known.reduction,
        known.block_size,
    )
    with torch.no_grad(), torch.autocast(embeddings.device.type, enabled=False):
        result = _evaluated(
            known,
            lambda framework, evaluate, factor: embedding_pass(
                framework, evaluate, batch, num_blocks, wanted, factor
            ),
        )
        return _outputs(result, embeddings)


@embedding_operator.register_fake
def _(plan: str, embeddings: Tensor, labels: Tensor | None, gallery: Tensor | None, *rest: Any) -> Any:
    shape = embeddings.shape[:-1]
    return _fake_outputs(_plan(plan).reduction, shape, embeddings, gallery, (rest[-2], rest[-1]))


def _save_embeddings(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.plan = inputs[0]
    ctx.save_for_backward(*inputs[1:7], *output[1:])


def _embedding_backward(ctx: Any, incoming: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    embeddings, labels, gallery, gallery_labels, relevant, weights, d_embeddings, d_gallery = (
        ctx.saved_tensors
    )
    needed = (ctx.needs_input_grad[1], ctx.needs_input_grad[3])
    if _plan(ctx.plan).reduction == "none":
        weights, incoming = (
            incoming if weights is None else incoming * weights,
            torch.ones_like(incoming[:1].sum()),
        )
        arrays = (embeddings.detach(), labels, gallery if gallery is None else gallery.detach())
        _, d_embeddings, d_gallery = embedding_operator(
            ctx.plan + _SUMMED, *arrays, gallery_labels, relevant, weights, *needed
        )
    d_query = scale_operator(incoming, d_embeddings, embeddings) if needed[0] else None
    d_items = scale_operator(incoming, d_gallery, gallery) if needed[1] else None
    return None, d_query, None, d_items, None, None, None, None, None


embedding_operator.register_autograd(_embedding_backward, setup_context=_save_embeddings)


# -- scores


@torch.library.custom_op("rankloss::score_loss", mutates_args=())
def score_operator(
    plan: str,
    scores: Tensor,
    relevant: Tensor,
    valid: Tensor | None,
    weights: Tensor | None,
    for_scores: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss and gradient by the scores, empty where not wanted, and nothing."""
    known = _plan(plan)
    batch = ScoreBatch(scores, relevant, valid, weights, known.reduction)
    with torch.no_grad(), torch.autocast(scores.device.type, enabled=False):
        result = _evaluated(
            known,
            lambda framework, evaluate, factor: score_pass(framework, evaluate, batch, for_scores, factor),
        )
        return _outputs(result, scores)


@score_operator.register_fake
def _(plan: str, scores: Tensor, *rest: Any) -> Any:
    return _fake_outputs(_plan(plan).reduction, scores.shape[:1], scores, None, (rest[-1], False))


def _save_scores(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.plan = inputs[0]
    ctx.save_for_backward(*inputs[1:5], output[1])


def _score_backward(ctx: Any, incoming: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    scores, relevant, valid, weights, d_scores = ctx.saved_tensors
    if _plan(ctx.plan).reduction == "none":
        weights, incoming = (
            incoming if weights is None else incoming * weights,
            torch.ones_like(incoming[:1].sum()),
        )
        _, d_scores, _ = score_operator(ctx.plan + _SUMMED, scores.detach(), relevant, valid, weights, True)
    return None, scale_operator(incoming, d_scores, scores), None, None, None, None


score_operator.register_autograd(_score_backward, setup_context=_save_scores)


# -- backward


@torch.library.custom_op("rankloss::scale_gradient", mutates_args=())
def scale_operator(incoming: Tensor, gradient: Tensor, variable: Tensor) -> Tensor:
    """incoming · gradient in the dtype of the variable it is the gradient by, which a second derivative needs."""
    return (incoming * gradient).to(variable.dtype)


@scale_operator.register_fake
def _(incoming: Tensor, gradient: Tensor, variable: Tensor) -> Tensor:
    return variable.new_empty(gradient.shape)


def _refuse_second_derivative(ctx: Any, incoming: Tensor) -> Any:
    raise RuntimeError(
        "rankloss.torch has first derivatives only: the gradient of a ranking loss can't be differentiated again"
    )


scale_operator.register_autograd(_refuse_second_derivative)
