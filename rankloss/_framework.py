"""What the core asks of an array library, and how any array-API namespace answers.

The formulas of this package are array-API calls. The few things that the standard lacks, or that frameworks
do in ways of their own (loops, scatter-adds, writing in place), are methods here. A backend subclasses
`Framework` and overrides what its framework does otherwise or, where it was measured, faster.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import array_api_compat
import numpy as np
import numpy.typing as npt

Array = Any
"""An array of the framework in use; the standard defines no type that all of them share."""


class Window(NamedTuple):
    """The columns start … start + width − 1; their start may be known at run time only."""

    start: Array | int
    width: int


class Framework:
    """An array library, through its array-API namespace `xp`."""

    block_elements = 1 << 20
    """How many similarities a block of queries may hold; a block has this many over the gallery's length."""

    least_rows = 16
    """How many queries a block has at least, however long the gallery: fewer make slow matrix products.

    With a gallery of 65,536, PyTorch's FastAP takes 3.3, 2.3, 3.6 and 3.5 times the floor in blocks of 8 to 64.
    """

    most_rows = 256
    """How many queries a block has at most, unless it would hold fewer than `few_elements` similarities.

    More no longer make faster matrix products, and leave the caches: at 1,024 rows and d = 128 PyTorch's FastAP takes
    1.2 times as long in one block as in two or four. At 512 rows two blocks are slower than one, by their calls.
    """

    few_elements = 1 << 18
    """Up to this many similarities a block's calls take longer than what they compute."""

    accelerator_elements = 1 << 24
    """How many similarities a block may hold on a GPU or the like, where each block costs its kernels' launches.

    On an H100 with 16,384 rows, PyTorch's SupCon takes 90, 49, 21, 18, 16 and 16 ms in blocks of 128 to 4,096.
    """

    ranking_elements = 1 << 21
    """How many (query, positive, item) triples are compared at a time."""

    turns_an_item: int | None = None
    turns_a_node = 0
    """What ranks by a grid cost: as much as comparing an item, and a node of the grid, with so many positives.

    None: they are never used.
    """

    sampled_a_turn = 512
    """How many positives are read off the grid at a time where their number is not known."""

    scatters_vectors = False
    """Whether `add_vectors_at` takes hardly longer than `add_at`."""

    most_bin_passes = 64
    """Up to how many bins are summed by a pass over the items each; with more, the items are scattered."""

    recomputes = False
    """Whether σ is better computed again for each of its uses than kept for all of them."""

    exact_windows = True
    """Whether `window` reads where ranges lie; else its width must be known beforehand."""

    def __init__(self, xp: Any) -> None:
        self.xp = xp

    # -- what an array is

    @property
    def name(self) -> str:
        """What users call the library, for messages."""
        return str(self.xp.__name__).removeprefix("array_api_compat.")

    def is_array(self, value: object) -> bool:
        """Whether `value` is an array of this library."""
        return array_api_compat.is_array_api_obj(value) and array_api_compat.array_namespace(value) is self.xp

    # -- loops

    def scan(
        self,
        step: Callable[[Any, tuple[Array, ...]], tuple[Any, tuple[Array, ...]]],
        carry: Any,
        rows: Sequence[Array],
        block_size: int,
    ) -> tuple[Any, tuple[Array, ...]]:
        """Apply `carry, outputs = step(carry, block)` to blocks of at most `block_size` rows.

        `rows` are arrays of one length; a block is a slice of each. Returns the last carry and the outputs,
        concatenated along their rows.
        """
        length = rows[0].shape[0]
        pieces = []
        for first in range(0, length, block_size):
            last = min(first + block_size, length)
            carry, outputs = step(carry, tuple(array[first:last, ...] for array in rows))
            pieces.append(outputs)
        return carry, tuple(self.xp.concat(parts, axis=0) for parts in zip(*pieces, strict=True))

    def loop(self, count: Array | int, turn: Callable[[Any, Any], Any], carry: Any) -> Any:
        """`for index in range(count): carry = turn(index, carry)`, where the count may be an array."""
        for index in range(int(count)):
            carry = turn(index, carry)
        return carry

    def most(self, counts: Array) -> Array | int:
        """The largest of some counts: a number, or an array where a loop can run so many times."""
        return int(self.xp.max(counts)) if counts.shape[0] else 0

    def choose(self, condition: Array, yes: Callable[[], Any], no: Callable[[], Any]) -> Any:
        """`yes() if condition else no()`; both give the same up to rounding, so a framework may always take `no`."""
        return yes() if bool(condition) else no()

    # -- what the standard lacks

    def add_at(self, array: Array, index: Array, values: Array) -> Array:
        """`array[row, index[row, k]] += values[row, k]` for every row and k, repeated indices included.

        May overwrite `array`.
        """
        xp = self.xp
        width, count = array.shape[1], index.shape[1]
        if width < count:  # a histogram: few places, many values
            sums = [xp.sum(xp.where(index == place, values, 0), axis=1) for place in range(width)]
            return array + xp.stack(sums, axis=1)
        places = self.arange(width, array)[None, :]
        for k in range(count):
            array = array + xp.where(places == index[:, k : k + 1], values[:, k : k + 1], 0)
        return array

    def add_vectors_at(self, array: Array, index: Array, values: Array) -> Array:
        """`array[row, index[row, k], :] += values[row, k, :]` for every row and k, repeated indices included.

        XLA's frameworks take numbers in place of vectors, too.
        """
        parts = [self.add_at(array[..., m], index, values[..., m]) for m in range(array.shape[2])]
        return self.xp.stack(parts, axis=-1)

    def counts_and_sums_at(self, index: Array, values: Array, width: int) -> tuple[Array, Array]:
        """How many index[row, k] are each of 0 … width − 1, and the sums of their values[row, k]; [rows, width]."""
        nothing = self.zeros((index.shape[0], width), values)
        counts = self.add_at(nothing, index, self.xp.ones_like(values))
        return counts, self.add_at(self.xp.zeros_like(nothing), index, values)

    def take_along(self, array: Array, index: Array) -> Array:
        """`array[row, index[row, k]]` for every row and k."""
        return self.xp.take_along_axis(array, index, axis=1)

    def put(self, array: Array, index: Array, value: float) -> Array:
        """`array[row, index[row]] = value` for every row whose index is not negative. May overwrite `array`."""
        places = self.xp.arange(array.shape[1], dtype=index.dtype, device=array_api_compat.device(index))
        return self.xp.where(places[None, :] == index[:, None], value, array)

    def take_rows(self, array: Array, order: Array) -> Array:
        """`array[order]` along the first axis."""
        return self.xp.take(array, order, axis=0)

    def least_to_the_right(self, array: Array, step: int = 1) -> Array:
        """min(array[row, place:]) for every row and place, where array is that of the next `step` places.

        By doubling strides: those longer than the longest run of ties change nothing, so that one or two steps
        are the rule.
        """
        if step >= array.shape[1]:
            return array
        xp = self.xp
        nearer = xp.minimum(array, xp.concat([array[:, step:], array[:, -step:]], axis=1))
        return self.choose(
            xp.all(nearer == array), lambda: nearer, lambda: self.least_to_the_right(nearer, 2 * step)
        )

    def window(self, first: Array, last: Array, width: int, span: int | None) -> Window:
        """A window of `width` columns that holds every range [first[row], last[row]) which is not empty.

        Those ranges are known to lie within `span` columns, if that is a number.
        """
        xp = self.xp
        if self.exact_windows:
            start = int(xp.min(first)) if first.shape[0] else 0
            return Window(start, int(xp.max(last)) - start if first.shape[0] else 0)
        if span is None or span >= width:
            return Window(0, width)
        return Window(xp.minimum(xp.min(xp.where(last > first, first, width)), width - span), span)

    def columns(self, array: Array, window: Window) -> Array:
        """`array[..., start : start + width]`."""
        return array[..., window.start : window.start + window.width]

    def add_columns(self, array: Array, window: Window, values: Array) -> Array:
        """`array[:, start : start + width] += values`. May overwrite `array`."""
        if values.shape[1] == array.shape[1]:
            array += values
        else:
            array[:, window.start : window.start + window.width] += values
        return array

    # -- what frameworks do faster in ways of their own

    def add_product(self, total: Array, left: Array, right: Array) -> Array:
        """`total + left.T @ right`. May overwrite `total`."""
        total += left.T @ right
        return total

    def add_weighted(self, total: Array, weights: Array, array: Array) -> Array:
        """`total[q, g] + Σ_p weights[q, p] array[q, p, g]`. May overwrite `total`."""
        total += (weights[:, None, :] @ array)[:, 0, :]
        return total

    def sums(self, terms: Callable[[Array], Sequence[Array]], array: Array) -> list[Array]:
        """Sums [q] over the entries of each of terms(array[q, g]), functions entry by entry.

        They are given the array as [q, k, g/k], or parts of it.
        """
        return [self.xp.sum(term, axis=(1, 2)) for term in terms(array[:, None, :])]

    def convolved(self, array: Array, weights: npt.NDArray[np.float64]) -> Array:
        """Σ_{i,r} weights[o, i, r] array[i, n + r], [o, n], of few rows i and o and few r."""
        xp = self.xp
        outputs, inputs, taps = weights.shape
        count = array.shape[1] - (taps - 1)
        if inputs < outputs:
            shifted = xp.concat([array[:, r : r + count] for r in range(taps)], axis=0)
            by_shift = np.ascontiguousarray(weights.swapaxes(1, 2).reshape(outputs, -1))
            return self.constant(by_shift, array) @ shifted
        by_output = np.ascontiguousarray(weights.transpose(2, 0, 1).reshape(-1, inputs))
        parts = self.constant(by_output, array) @ array
        total = parts[:outputs, :count]
        for r in range(1, taps):
            total = total + parts[r * outputs : (r + 1) * outputs, r : r + count]
        return total

    def clipped_exp(self, exponents: Array, limit: float) -> Array:
        """exp of exponents clipped to ±limit. May overwrite `exponents`."""
        return self.xp.exp(self.xp.clip(exponents, -limit, limit))

    def kept(self, array: Array) -> Array:
        """The array, not made anew for each entry of a larger one that it is broadcast to."""
        return array

    def shares(self, items: Array, positives: Array) -> Array:
        """items / (items + positives): σ of the differences of the logarithms, of arrays that broadcast."""
        return items / (items + positives)

    def sigmoid_of_differences(self, items: Array, positives: Array) -> Array:
        """σ(items − positives), of arrays that broadcast."""
        xp = self.xp
        differences = items - positives
        small = xp.exp(-xp.abs(differences))
        large = 1 / (1 + small)
        return xp.where(differences >= 0, large, small * large)

    def sigmoid_slope(self, sigmoid: Array) -> Array:
        """σ' = σ (1 − σ) from σ. May overwrite `sigmoid`."""
        sigmoid *= 1 - sigmoid
        return sigmoid

    def replace_from(self, array: Array, limit: float, value: float) -> Array:
        """`value` in place of numbers of `limit` and more."""
        return self.xp.where(array >= limit, value, array)

    def to_index(self, array: Array, of_nan: int) -> Array:
        """Whole numbers as integers that index arrays, `of_nan` for NaN. May overwrite `array`."""
        return self.xp.astype(self.xp.where(array == array, array, of_nan), self.index_dtype)

    # -- blocks

    def rows_a_block(self, queries: int, items: int, array: Array, factor: int = 1) -> int:
        """How many queries make a block when the user does not say; `array` lies where it will be computed.

        A block on a CPU may hold `factor` times as many scores as usual.
        """
        if self.on_cpu(array):
            size = factor * self.block_elements // max(1, items)
            size = min(size, max(self.most_rows, self.few_elements // max(1, items)))
        else:
            size = self.accelerator_elements // max(1, items)
        return max(1, min(queries, max(self.least_rows, size)))

    def on_cpu(self, array: Array) -> bool:
        """Whether the CPU computes with this array."""
        return True

    def positives_a_turn(self, queries: int, items: int, most: Array | int) -> int:
        """How many positives of each query are compared with the items at a time; none has more than `most`."""
        count = max(1, min(self.ranking_elements // max(1, queries * items), items))
        return max(1, min(count, most)) if isinstance(most, int) else count

    def chunks(self, count: Array | int, size: int) -> Array | int:
        """How many chunks of some size hold so many."""
        if isinstance(count, int):
            return (count + (size - 1)) // size
        return self.xp.astype(self.xp.ceil(count / size), self.index_dtype)

    # -- labels

    @property
    def index_dtype(self) -> Any:
        """The integers that index arrays."""
        return self.xp.int64

    @property
    def label_dtype(self) -> Any:
        """The integers that stand for labels."""
        return self.index_dtype

    def wraps(self, labels: Array) -> bool:
        """Whether labels of this dtype may be too large for `label_dtype` and then become negative in it."""
        return bool(self.xp.iinfo(labels.dtype).max > self.xp.iinfo(self.label_dtype).max)

    def label_keys(self, *labels: Array) -> tuple[Array, ...]:
        """Labels as `label_dtype`; two different ones of one dtype stay different."""
        return tuple(self.xp.astype(array, self.label_dtype) for array in labels)

    # -- types

    def compute_dtype(self, dtype: Any) -> Any:
        """The type in which scores and sums of embeddings of `dtype` are computed: float32 at least."""
        return dtype if dtype == self.xp.float64 else self.xp.float32

    def arange(self, count: int, like: Array) -> Array:
        """0 … count − 1 in the type that indexes arrays, on the device of `like`."""
        return self.xp.arange(count, dtype=self.index_dtype, device=array_api_compat.device(like))

    def zeros(self, shape: tuple[int, ...], like: Array) -> Array:
        """Zeros of the dtype and on the device of `like`."""
        return self.xp.zeros(shape, dtype=like.dtype, device=array_api_compat.device(like))

    def constant(self, values: Any, like: Array) -> Array:
        """NumPy's `values` in the dtype and on the device of `like`."""
        return self.xp.asarray(values, dtype=like.dtype, device=array_api_compat.device(like))

    def known(self, array: Array) -> Array | None:
        """The array where its values can be read now without waiting for a device, else None."""
        return array


def framework_of(array: object, name: str) -> Framework:
    """The plain array-API framework of an array; TypeError that names the argument if it is none."""
    if not array_api_compat.is_array_api_obj(array):
        kind = type(array)
        raise TypeError(
            f"{name} must be an array (NumPy's or another array API's), found {kind.__qualname__}"
        )
    return Framework(array_api_compat.array_namespace(array))
