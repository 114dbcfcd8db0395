"""PyTorch as `torch.compile` traces the formulas of a block: in forms that the compiler fuses into a few loops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from rankloss._framework import Window
from rankloss.torch._framework import TorchFramework


class TracedFramework(TorchFramework):
    """A block whose window and number of turns are known beforehand.

    A graph holds no branch: the first form of each choice is traced, and `conditions` says afterwards whether that
    was right.
    """

    most_bin_passes = 64
    turns_an_item = None  # a program is made for few positives

    def __init__(self, window: Window, turns: int) -> None:
        super().__init__()
        self.conditions: list[Tensor] = []
        self.counted = False
        self._window = window
        self._turns = turns

    def choose(self, condition: Tensor, yes: Callable[[], Any], no: Callable[[], Any]) -> Any:
        self.conditions.append(condition)
        return yes()

    def window(self, first: Tensor, last: Tensor, width: int, span: int | None) -> Window:
        return self._window

    def most(self, counts: Tensor) -> int:
        self.counted = True
        return self._turns

    def positives_a_turn(self, queries: int, items: int, most: Any) -> int:
        return self._turns

    def add_columns(self, array: Tensor, window: Window, values: Tensor) -> Tensor:
        # Written into a slice, the compiler would make a program of its own for a window that starts at 0.
        behind = array.shape[1] - window.start - window.width
        return array + torch.nn.functional.pad(values, (window.start, behind))

    def add_at(self, array: Tensor, index: Tensor, values: Tensor) -> Tensor:
        places = torch.arange(array.shape[1], device=array.device)
        for k in range(index.shape[1]):
            array = array + torch.where(places == index[:, k, None], values[:, k, None], 0)
        return array

    def counts_and_sums_at(self, index: Tensor, values: Tensor, width: int) -> tuple[Tensor, Tensor]:
        nothing = values.new_zeros(index.shape[0], width)
        counts = nothing.scatter_add(1, index, torch.ones_like(values))
        return counts, nothing.scatter_add(1, index, values)

    def put(self, array: Tensor, index: Tensor, value: float) -> Tensor:
        places = torch.arange(array.shape[1], device=array.device)
        return torch.where(places == index[:, None], value, array)

    def add_weighted(self, total: Tensor, weights: Tensor, array: Tensor) -> Tensor:
        # Term by term: over an axis, the compiler's loop would go along the positives first.
        for k in range(array.shape[1]):
            total = total + weights[:, k, None] * array[:, k]
        return total

    def clipped_exp(self, exponents: Tensor, limit: float) -> Tensor:
        return exponents.clamp(-limit, limit).exp()

    def kept(self, array: Tensor) -> Tensor:
        # What makes the positives would else be done again for each item, or all shares be kept in memory.
        copy: Tensor = kept(array)
        return copy

    def shares(self, items: Tensor, positives: Tensor) -> Tensor:
        return items / (items + positives)

    def sigmoid_slope(self, sigmoid: Tensor) -> Tensor:
        return sigmoid * (1 - sigmoid)


@torch.library.custom_op("rankloss::kept", mutates_args=())
def kept(array: Tensor) -> Tensor:
    """A copy, which the compiler has to have in memory: it does not look into operators."""
    return array.clone()


@kept.register_fake
def _(array: Tensor) -> Tensor:
    return torch.empty_like(array)
