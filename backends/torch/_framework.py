"""PyTorch as the core sees it: array-API calls by array-api-compat, and what PyTorch does faster in place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import array_api_compat.torch as xp
import torch
from torch import Tensor

from rankloss._framework import Framework, Window


@cache
def keep_freed_memory() -> None:
    """Let the process keep the memory of a block for the next one, from now on.

    glibc gives freed memory back to the system, and faults it in again page by page, beyond a threshold that
    rises to the largest array freed so far, up to 32 MiB. Freeing one that nobody touched costs nothing, and
    makes FastAP at 4,096 rows twice as fast in a process that did nothing else before.
    """
    torch.empty((1 << 25) - (1 << 16), dtype=torch.uint8)


class TorchFramework(Framework):
    """Tensors on any device. Nothing but `most` waits for a device other than the CPU."""

    name = "torch"
    most_bin_passes = 0
    turns_an_item: int | None = 30
    turns_a_node = 30

    def __init__(self) -> None:
        super().__init__(xp)

    def scan(self, step: Callable[..., Any], carry: Any, rows: Sequence[Tensor], block_size: int) -> Any:
        # Outputs are written into arrays of the whole length: kept one by one, those of a block would lie between
        # its large temporaries and hinder the reuse of their memory.
        keep_freed_memory()
        length = rows[0].shape[0]
        whole: list[Tensor] = []
        for first in range(0, length, block_size):
            block = slice(first, min(first + block_size, length))
            carry, outputs = step(carry, tuple(array[block] for array in rows))
            whole = whole or [part.new_empty(length, *part.shape[1:]) for part in outputs]
            for array, part in zip(whole, outputs, strict=True):
                array[block] = part
        return carry, tuple(whole)

    def on_cpu(self, array: Tensor) -> bool:
        return array.device.type == "cpu"

    def is_array(self, value: object) -> bool:
        return isinstance(value, Tensor)

    def known(self, array: Tensor) -> Tensor | None:
        return array if array.device.type == "cpu" and not torch.compiler.is_compiling() else None

    def choose(self, condition: Tensor, yes: Callable[[], Any], no: Callable[[], Any]) -> Any:
        return yes() if condition.device.type == "cpu" and bool(condition) else no()

    def window(self, first: Tensor, last: Tensor, width: int, span: int | None) -> Window:
        if first.device.type == "cpu":
            return super().window(first, last, width, span)
        return Window(0, width)

    def add_at(self, array: Tensor, index: Tensor, values: Tensor) -> Tensor:
        return array.scatter_add_(1, index, values)

    def take_along(self, array: Tensor, index: Tensor) -> Tensor:
        return array.gather(1, index)

    def counts_and_sums_at(self, index: Tensor, values: Tensor, width: int) -> tuple[Tensor, Tensor]:
        if not self.on_cpu(values):
            return super().counts_and_sums_at(index, values, width)
        # As complex numbers, for which a scatter takes as long as for real ones.
        pairs = torch.complex(values.new_ones(()), values)
        sums = pairs.new_zeros(index.shape[0], width).scatter_add_(1, index, pairs)
        return sums.real, sums.imag

    def replace_from(self, array: Tensor, limit: float, value: float) -> Tensor:
        # threshold keeps what is above; neither a mask is written nor a scalar made an array.
        return torch.nn.functional.threshold(-array, -limit, -value).neg_()

    def to_index(self, array: Tensor, of_nan: int) -> Tensor:
        whole = array.nan_to_num_(nan=of_nan)
        # On CPUs only the way to 32 bits is vectorised.
        return (whole.to(torch.int32) if self.on_cpu(whole) else whole).to(torch.int64)

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
        sums = items + positives
        return torch.div(items, sums, out=sums)

    def sigmoid_of_differences(self, items: Tensor, positives: Tensor) -> Tensor:
        return (items - positives).sigmoid_()

    def sigmoid_slope(self, sigmoid: Tensor) -> Tensor:
        return sigmoid.addcmul_(sigmoid, sigmoid, value=-1)


class FrameworkOfCompiled(TorchFramework):
    """The same for blocks whose formulas are compiled, so that few arrays as large as the scores are written.

    At 1,024 rows on a Xeon Smooth-AP takes 3.44, 3.20 and 2.99 times the floor in blocks of 256, 512 and 1,024,
    FastAP 3.19, 2.80 and 2.76, SupCon 2.72, 2.39 and 2.50; on an EPYC 512 and 256 differ by 2 %.
    """

    few_elements = 1 << 19
