"""PyTorch as the core sees it: array-API calls by array-api-compat, and what PyTorch does faster in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import array_api_compat.torch as xp
import torch
from torch import Tensor

from rankloss._framework import Framework


class TorchFramework(Framework):
    """Tensors on any device. Nothing here waits for a device other than the CPU."""

    name = "torch"

    def __init__(self) -> None:
        super().__init__(xp)
        # The largest arrays of a pass are made again and again in the same shapes. Fresh from the system,
        # their memory costs more time than what is computed in it.
        self._workspace: dict[tuple[int, ...], Tensor] = {}

    def _in_workspace(self, queries: int, positives: int, items: Tensor) -> Tensor:
        shape = (queries, positives, items.shape[1])
        if shape not in self._workspace:
            self._workspace[shape] = items.new_empty(shape)
        return self._workspace[shape]

    def is_array(self, value: object) -> bool:
        return isinstance(value, Tensor)

    def known(self, array: Tensor) -> Tensor | None:
        return array if array.device.type == "cpu" and not torch.compiler.is_compiling() else None

    def choose(self, condition: Tensor, yes: Callable[[], Any], no: Callable[[], Any]) -> Any:
        return yes() if condition.device.type == "cpu" and bool(condition) else no()

    def window(self, first: Tensor, last: Tensor, width: int) -> tuple[int, int]:
        return super().window(first, last, width) if first.device.type == "cpu" else (0, width)

    def add_at(self, array: Tensor, index: Tensor, values: Tensor) -> Tensor:
        return array.scatter_add_(1, index, values)

    def take_along(self, array: Tensor, index: Tensor) -> Tensor:
        return array.gather(1, index)

    def to_index(self, array: Tensor, of_nan: int) -> Tensor:
        return array.nan_to_num(nan=of_nan).to(torch.int64)

    def put(self, array: Tensor, index: Tensor, value: float) -> Tensor:
        return array.scatter_(1, index[:, None], value)

    def add_product(self, total: Tensor, left: Tensor, right: Tensor) -> Tensor:
        return total.addmm_(left.T, right)

    def add_weighted(self, total: Tensor, weights: Tensor, array: Tensor) -> Tensor:
        total[:, None, :].baddbmm_(weights[:, None, :], array)
        return total

    def clipped_exp(self, exponents: Tensor, limit: float) -> Tensor:
        return exponents.clamp_(-limit, limit).exp_()

    def shares(self, items: Tensor, positives: Tensor) -> Tensor:
        out = self._in_workspace(*positives.shape, items)
        torch.add(items[:, None, :], positives[:, :, None], out=out)
        return torch.div(items[:, None, :], out, out=out)

    def sigmoid_of_differences(self, items: Tensor, positives: Tensor) -> Tensor:
        out = self._in_workspace(*positives.shape, items)
        return torch.sub(items[:, None, :], positives[:, :, None], out=out).sigmoid_()

    def sigmoid_slope(self, sigmoid: Tensor) -> Tensor:
        return sigmoid.addcmul_(sigmoid, sigmoid, value=-1)
