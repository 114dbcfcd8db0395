"""`compile=True`: the formulas of a block of queries, compiled by `torch.compile` and used for every block.

The pass over blocks stays as it is, with its matrix products. What is compiled is an objective's value and gradient
of a block of scores: once for an objective, a layout and a dtype, with lengths known at run time.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import fields, replace
from functools import cache
from types import FunctionType
from typing import Any

import torch
from torch import Tensor
from torch._dynamo import exc
from torch.fx.experimental import _config as shape_config

from rankloss._framework import Framework, Window
from rankloss._relevance import MaskRelevance, Relevance, SliceRelevance
from rankloss.objectives import RankingObjective
from rankloss.torch._traced import TracedFramework

MOST_TURNS = 64
"""Up to how many positives of a query are written out in a program."""

REFUSALS = (exc.TorchDynamoException, getattr(exc, "FailOnRecompileLimitHit", exc.TorchDynamoException))
"""What the compiler raises where it can't compile or (by a newer name) has made too many programs of one function."""

Program = Callable[..., "tuple[Tensor, Tensor | None, Tensor | None]"]


class CompiledEvaluation:
    """Value and gradient of the blocks of one pass.

    Where a block is not of the form that was compiled, it is computed again as without a compiler: at once where
    that is known without waiting for a device; else `holds` says at the end that the pass must be run again.
    """

    def __init__(self, objective: RankingObjective) -> None:
        self._objective = objective
        self._programs = _programs_of(objective)
        self._failed = False
        self._unknown: list[Tensor] = []

    @property
    def possible(self) -> bool:
        """Whether the compiler has not refused the objective before."""
        return not self._programs.broken

    def __call__(
        self, framework: Framework, scores: Tensor, relevance: Relevance, scale: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """What `objective.loss_and_gradient` gives, up to rounding."""
        outputs = None if self._failed else self._programs.run(scores, relevance, scale)
        if outputs is not None:
            losses, d_scores, holds = outputs
            known = None if holds is None else framework.known(holds)
            if known is None and holds is not None:
                self._unknown.append(holds)
            if known is None or bool(known):
                return losses, d_scores
            self._failed = True  # as the pass' other blocks are likely to do
        return self._objective.loss_and_gradient(framework, scores, relevance, scale)

    def holds(self) -> bool:
        """Whether all blocks were of the form that was compiled; may wait for a device."""
        return not self._unknown or bool(torch.stack(self._unknown).all())


class _Programs:
    """The compiled forms of an objective."""

    def __init__(self, objective: RankingObjective) -> None:
        self._objective = objective
        self._counted = _counts_positives(objective)
        self._programs: dict[tuple[Any, ...], Program] = {}
        self.broken = False

    def run(
        self, scores: Tensor, relevance: Any, scale: Tensor | None
    ) -> tuple[Tensor, Tensor | None, Tensor | None] | None:
        """Losses, their gradient and whether they are right (None: always); None where there is no program."""
        turns = _turns(relevance) if self._counted else 0
        if self.broken or turns > MOST_TURNS or not relevance.window.width:
            return None
        arrays = {f.name: getattr(relevance, f.name) for f in fields(relevance)}
        arrays = {name: value for name, value in arrays.items() if isinstance(value, Tensor)}
        large = scores.numel() >= 1 << 17  # a program made for small blocks runs on one thread
        views = getattr(relevance, "views", None)
        form = (type(relevance), tuple(arrays), relevance.always, views, turns, scale is None)
        key = (*form, scores.dtype, scores.device.type, large)
        window = relevance.window
        inputs = (
            scores,
            None if scale is None else _moved(scale),
            window.start + 2,  # never 0 or 1, for which the compiler would make other programs
            window.width,
            *map(_moved, arrays.values()),
        )
        try:
            program = self._programs.get(key)
            if program is None:
                without_arrays = replace(relevance, **dict.fromkeys(arrays), framework=None)
                program = _program(self._objective, without_arrays, tuple(arrays), turns)
            with warnings.catch_warnings(), shape_config.patch(use_duck_shape=False):  # type: ignore[attr-defined]
                # Any call may compile. Lengths that are equal now may differ later. What the compiler deprecates of
                # itself is not for users, and must not fail it where warnings are errors: 2.11 does on CUDA.
                warnings.simplefilter("ignore", DeprecationWarning)
                outputs = program(*inputs)
        except REFUSALS as error:
            self.broken = True
            _warn(" ".join(str(error).split("\n")[:2]))
            return None
        self._programs[key] = program
        return outputs


_PROGRAMS: dict[tuple[Any, ...], _Programs] = {}


def _programs_of(objective: RankingObjective) -> _Programs:
    """Those made before for an objective of this class and options."""
    options = (repr(getattr(objective, field.name)) for field in fields(objective))
    same = (type(objective), *options)
    if same not in _PROGRAMS:
        _PROGRAMS[same] = _Programs(objective)
    return _PROGRAMS[same]


@cache
def _warn(reason: str) -> None:
    warnings.warn(
        f"the compiler failed, so that losses are computed as without compile=True: {reason}",
        UserWarning,
        stacklevel=2,
    )


def _program(objective: RankingObjective, form: Any, names: tuple[str, ...], turns: int) -> Program:
    """The compiled value and gradient of blocks with a relevance of this form, which lacks its arrays."""

    @torch.compiler.allow_in_graph  # type: ignore[untyped-decorator]
    def traced(
        scores: Tensor, scale: Tensor | None, start: int, width: int, *arrays: Tensor
    ) -> tuple[Tensor, ...]:
        framework = TracedFramework(Window(start - 2, width), turns)
        relevance = replace(form, framework=framework, **dict(zip(names, arrays, strict=True)))
        outputs = objective.loss_and_gradient(framework, scores.clone(), relevance, scale)
        given = [output for output in outputs if output is not None]
        holds = [torch.stack(framework.conditions).all()] if framework.conditions else []
        return (*given, *holds)

    def call(*inputs: Any) -> Any:
        return traced(*inputs)

    # Each program has a code object of its own, by which the compiler counts programs and gives up.
    own = FunctionType(call.__code__.replace(), call.__globals__, "call", None, call.__closure__)
    try:
        compiled = torch.compile(own, fullgraph=True, dynamic=True)
    except RuntimeError as error:  # on a Python that it does not support
        raise exc.TorchDynamoException(str(error)) from error

    def program(
        scores: Tensor, scale: Tensor | None, *inputs: Any
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        losses, *rest = compiled(scores, scale, *inputs)
        d_scores = None if scale is None else rest.pop(0)
        return losses, d_scores, rest[0] if rest else None

    return program


def _counts_positives(objective: RankingObjective) -> bool:
    """Whether a program depends on how many positives a query has: tried with one."""
    framework = TracedFramework(Window(0, 2), 1)
    relevance = MaskRelevance(framework, torch.tensor([[True, False]]), None, torch.ones(1))
    objective.loss_and_gradient(framework, torch.zeros(1, 2), relevance, None)
    return framework.counted


def _turns(relevance: Relevance) -> int:
    """How many positives a program handles: rounded up, where blocks differ in it, so that few programs do."""
    count = max(1, int(relevance.turns))
    known = isinstance(relevance, SliceRelevance) and relevance.views is not None
    return count if known else 1 << (count - 1).bit_length()


def _moved(array: Tensor) -> Tensor:
    """A row of numbers in memory of its own: where a slice starts is one more number to make programs for."""
    return array.clone() if array.ndim == 1 else array
