"""TensorFlow as the core sees it: loops and branches that a graph can hold, and scatter-adds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from rankloss._framework import Framework, Window
from rankloss._xla import XlaFramework
from rankloss.tensorflow import _namespace as xp
from rankloss.tensorflow._array import INDEX, Array, Length, as_length

try:  # no public names; without them XLA compiles what every graph has
    from tensorflow.compiler.tf2xla.python import xla
    from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext
except ImportError:  # pragma: no cover
    xla = None

UNROLLED = 8
"""Up to how many turns of a loop are written out in a graph: compilers fuse these better than a loop."""


class TensorFlowFramework(Framework):
    """Tensors that have values (eager), or will have them when their graph runs (`tf.function`, XLA).

    In a graph, loops are `tf.while_loop` and branches `tf.cond`, and lengths may be known at run time only.
    """

    name = "tensorflow"

    # Measured with d = 128, 8 views on two cores: at 4,096 rows, with the core's numbers, Smooth-AP takes 1.3 times
    # as long in functions.
    block_elements = 1 << 18
    least_rows = 128
    ranking_elements = 1 << 20

    # No limit but the elements: a batch of one block needs no loop, and at 512 rows SupCon in functions then takes
    # 0.6 times as long.
    most_rows = block_elements

    turns_an_item = 40
    turns_a_node = 60

    def __init__(self) -> None:
        super().__init__(xp)
        self.exact_windows = tf.executing_eagerly()
        self.most_bin_passes = 0 if self.exact_windows else type(self).most_bin_passes

    def is_array(self, value: object) -> bool:
        return isinstance(value, Array)

    def known(self, array: Array) -> Array | None:
        return array if _has_value(array) and "CPU" in array.tensor.device else None

    # -- loops

    def scan(self, step: Callable[..., Any], carry: Any, rows: Sequence[Array], block_size: Any) -> Any:
        if tf.executing_eagerly():
            return super().scan(step, carry, rows, block_size)
        length = rows[0].shape[0]
        if isinstance(length, int) and isinstance(block_size, int) and length <= block_size:
            return step(carry, tuple(rows))
        size = _least(block_size, length)
        if not isinstance(size, int):
            size = Length(tf.maximum(size.tensor, 1))
        number = (length + (size - 1)) // size
        blocks = [_blocks(array, number, size) for array in rows]
        return _scan_blocks(step, carry, blocks, number, length)

    def loop(self, count: Any, turn: Callable[[Any, Any], Any], carry: Any) -> Any:
        if tf.executing_eagerly() or (isinstance(count, int) and count <= UNROLLED):
            return super().loop(count, turn, carry)
        start, rebuilt = _flattened(carry)

        def body(index: tf.Tensor, *state: tf.Tensor) -> Any:
            after, _ = _flattened(turn(Array(index), rebuilt(state)))
            return index + 1, *_like(after, state)

        turns, first = tf.cast(as_length(count), self.index_dtype), tf.constant(0, self.index_dtype)
        _, *state = tf.while_loop(lambda index, *_: index < turns, body, (first, *start))
        return rebuilt(state)

    def most(self, counts: Array) -> Array | int:
        return super().most(counts) if _has_value(counts) else xp.max(counts)

    def choose(self, condition: Array, yes: Callable[[], Any], no: Callable[[], Any]) -> Any:
        if _has_value(condition):
            return super().choose(condition, yes, no)
        forms = []

        def branch(value: Callable[[], Any]) -> Callable[[], Any]:
            def flat() -> list[tf.Tensor]:
                tensors, rebuilt = _flattened(value())
                forms.append(rebuilt)
                return tensors

            return flat

        tensors = tf.cond(condition.tensor, branch(yes), branch(no))
        return forms[0](tensors if isinstance(tensors, list | tuple) else [tensors])

    # -- what the standard lacks

    def add_at(self, array: Array, index: Array, values: Array) -> Array:
        rows, width = array.shape
        flat = index + (self.arange(rows, array) * width)[:, None]
        sums = tf.math.unsorted_segment_sum(
            tf.reshape(values.tensor, [-1]), tf.reshape(flat.tensor, [-1]), as_length(rows * width)
        )
        return array + Array(tf.reshape(sums, tf.shape(array.tensor)))

    def take_along(self, array: Array, index: Array) -> Array:
        return Array(tf.gather(array.tensor, index.tensor, axis=1, batch_dims=1))

    def put(self, array: Array, index: Array, value: float) -> Array:
        places = self.arange(array.shape[1], array)
        return xp.where(places[None, :] == index[:, None], value, array)

    def least_to_the_right(self, array: Array, step: int = 1) -> Array:
        if tf.executing_eagerly():
            least: Array = super().least_to_the_right(array, step)
            return least
        width = as_length(array.shape[1])
        places = tf.range(width)

        def body(step: tf.Tensor, array: tf.Tensor, _: tf.Tensor) -> Any:
            beyond = tf.gather(array, tf.minimum(places + step, width - 1), axis=1)
            nearer = tf.ensure_shape(tf.minimum(array, beyond), array.shape)
            return 2 * step, nearer, tf.reduce_any(nearer != array)

        _, found, _ = tf.while_loop(
            lambda step, _, more: tf.logical_and(step < width, more),
            body,
            (as_length(step), array.tensor, tf.constant(True)),
        )
        return Array(found)

    def window(self, first: Array, last: Array, width: Any, span: Any) -> Window:
        if self.exact_windows and self.known(first) is None:  # to read it would wait for the device
            return Window(0, width)
        known = isinstance(span, int) and isinstance(width, int)
        return super().window(first, last, width, span if known else None)

    def columns(self, array: Array, window: Window) -> Array:
        if self._is_whole(window, array):
            return array
        places = self.arange(window.width, array) + window.start
        return Array(tf.gather(array.tensor, places.tensor, axis=-1))

    def add_columns(self, array: Array, window: Window, values: Array) -> Array:
        if self._is_whole(window, array):
            return array + values
        # A column of zeros at either end is what the others get.
        values = Array(tf.pad(values.tensor, [[0, 0], [1, 1]]))
        places = self.arange(array.shape[1], array) - window.start + 1
        places = xp.clip(places, 0, window.width + 1)
        return array + Array(tf.gather(values.tensor, places.tensor, axis=-1))

    @staticmethod
    def _is_whole(window: Window, array: Array) -> bool:
        return not isinstance(window.width, int) or bool(window.width == array.shape[-1])

    # -- what TensorFlow does in ways of its own

    def add_product(self, total: Array, left: Array, right: Array) -> Array:
        return total + Array(tf.linalg.matmul(left.tensor, right.tensor, transpose_a=True))

    def rows_a_block(self, queries: Any, items: Any, array: Array, factor: int = 1) -> Any:
        if isinstance(queries, int) and isinstance(items, int):
            return super().rows_a_block(queries, items, array, factor)
        items = tf.maximum(as_length(items), 1)
        size = as_length(self.accelerator_elements) // items
        if self.on_cpu(array):
            most = tf.maximum(as_length(self.few_elements) // items, self.most_rows)
            size = tf.minimum(as_length(factor * self.block_elements) // items, most)
        size = tf.maximum(size, self.least_rows)
        return Length(tf.maximum(tf.minimum(size, as_length(queries)), 1))

    def positives_a_turn(self, queries: Any, items: Any, most: Any) -> Any:
        if isinstance(queries, int) and isinstance(items, int):
            return super().positives_a_turn(queries, items, most)
        triples = tf.maximum(as_length(queries) * as_length(items), 1)
        count = tf.minimum(as_length(self.ranking_elements) // triples, as_length(items))
        return Length(tf.maximum(tf.minimum(count, most) if isinstance(most, int) else count, 1))

    # -- types

    def arange(self, count: Any, like: Array) -> Array:
        return xp.astype(xp.arange(count), self.index_dtype)

    def zeros(self, shape: tuple[Any, ...], like: Array) -> Array:
        return xp.zeros(shape, like.dtype)

    def constant(self, values: Any, like: Array) -> Array:
        return Array(tf.constant(values, like.dtype))


class XlaTensorFlowFramework(XlaFramework, TensorFlowFramework):
    """Tensors of a graph that XLA will compile, with operations of XLA's own.

    A `tf.function` that was traced inside a compiled one may be called again from outside. TensorFlow 2.21 then runs
    these operations on a CPU; so that this depends on neither, each is a function that XLA must compile, which
    becomes part of what it is called in where XLA compiles that.
    """

    def on_cpu(self, array: Array) -> bool:
        # A graph does not say where it will run.
        return not any(map(tf.config.list_logical_devices, ("GPU", "TPU")))

    def columns(self, array: Array, window: Window) -> Array:
        if self._is_whole(window, array):
            return array
        return Array(_columns(array.tensor, _start(window), window.width))

    def add_columns(self, array: Array, window: Window, values: Array) -> Array:
        if self._is_whole(window, array):
            return array + values
        return Array(_with_columns_added(array.tensor, _start(window), values.tensor))

    def add_vectors_at(self, array: Array, index: Array, values: Array) -> Array:
        flat, places = self._flat(array, index)
        added = tf.tensor_scatter_nd_add(flat.tensor, places.tensor[..., None], values.tensor)
        return xp.reshape(Array(added), array.shape)

    def take_along(self, array: Array, index: Array) -> Array:
        flat, places = self._flat(array, index)
        return Array(tf.gather(flat.tensor, places.tensor))

    def _flat(self, array: Array, index: Array) -> tuple[Array, Array]:
        """An array with its rows in one, and where the entries [q, index[q, k]] are there."""
        rows, width, *rest = array.shape
        dtype = self.index_dtype if self.countable(array) else INDEX
        row = xp.astype(self.arange(rows, array), dtype)[:, None]
        return xp.reshape(array, (rows * width, *rest)), xp.astype(index, dtype) + row * width

    @property
    def index_dtype(self) -> Any:
        return xp.int32  # at 4,096 rows with 255 or more positives 5 % faster than int64

    @property
    def label_dtype(self) -> Any:
        return xp.int64

    def folded_sums(self, terms: Sequence[Array]) -> Sequence[Array]:
        return [Array(each) for each in _folded_sums([term.tensor for term in terms])]


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    compiled: Callable[..., Any] = tf.function(function, autograph=False, jit_compile=True)
    return compiled


def _start(window: Window) -> tf.Tensor:
    return tf.cast(as_length(window.start), INDEX)


@_compiled
def _columns(array: tf.Tensor, start: tf.Tensor, width: int) -> tf.Tensor:
    *others, _ = tf.unstack(tf.shape(array, out_type=INDEX))
    first = tf.stack([*(tf.zeros_like(length) for length in others), start])
    return xla.dynamic_slice(array, first, tf.stack([*others, tf.constant(width, INDEX)]))


@_compiled
def _with_columns_added(array: tf.Tensor, start: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    found = _columns(array, start, values.shape[1]) + values
    return xla.dynamic_update_slice(array, found, tf.stack([tf.zeros_like(start), start]))


@_compiled
def _folded_sums(terms: list[tf.Tensor]) -> list[tf.Tensor]:
    scalar = tf.TensorSpec([], terms[0].dtype)
    add = _added.get_concrete_function(*[scalar] * (2 * len(terms)))
    zeros = [tf.zeros([], scalar.dtype)] * len(terms)
    return list(xla.variadic_reduce(terms, zeros, [1], add))


@tf.function(autograph=False)  # type: ignore[untyped-decorator]
def _added(*pairs: tf.Tensor) -> list[tf.Tensor]:
    half = len(pairs) // 2
    return [left + right for left, right in zip(pairs[:half], pairs[half:], strict=True)]


def framework_here() -> TensorFlowFramework:
    """The framework of what is computed now: eagerly, in a graph, or in one that XLA will compile."""
    if xla is None or tf.executing_eagerly():
        return TensorFlowFramework()
    compiled = GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())
    return XlaTensorFlowFramework() if compiled else TensorFlowFramework()


def _has_value(array: Array) -> bool:
    return isinstance(array.tensor, tf.__internal__.EagerTensor)


def _least(left: Any, right: Any) -> Any:
    if isinstance(left, int) and isinstance(right, int):
        return min(left, right)
    return Length(tf.minimum(as_length(left), as_length(right)))


def _blocks(array: Array, number: Any, size: Any) -> tf.Tensor:
    """[number, size, ...] of an array's rows, zeros behind the last: no positives, no weight."""
    shape = array.shape
    missing = number * size - shape[0]
    paddings = [[0, missing]] + [[0, 0]] * (len(shape) - 1)
    padded = tf.pad(
        array.tensor,
        tf.stack([tf.stack([as_length(end) for end in pair]) for pair in paddings]),
    )
    return xp.reshape(Array(padded), (number, size, *shape[1:])).tensor


def _scan_blocks(
    step: Callable[..., Any], carry: Any, blocks: Sequence[tf.Tensor], number: Any, length: Any
) -> Any:
    start, carry_of = _flattened(carry)
    forms: list[Callable[..., Any]] = []

    # A function, so that the kinds of the outputs are known before the loop is made.
    def flat_step(state: Sequence[tf.Tensor], rows: Sequence[tf.Tensor]) -> Any:
        after, outputs = step(carry_of(state), tuple(Array(array) for array in rows))
        pieces, outputs_of = _flattened(outputs)
        forms.append(outputs_of)
        return _like(_flattened(after)[0], state), pieces

    of_block = tf.function(flat_step, autograph=False).get_concrete_function(
        [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in start],
        [tf.TensorSpec(block.shape[1:], block.dtype) for block in blocks],
    )
    kept = [
        tf.TensorArray(piece.dtype, tf.cast(as_length(number), tf.int32), element_shape=piece.shape)
        for piece in of_block.structured_outputs[1]
    ]

    def body(index: tf.Tensor, state: list[tf.Tensor], kept: list[tf.TensorArray]) -> Any:
        after, pieces = of_block(state, [block[index] for block in blocks])
        written = [
            array.write(tf.cast(index, tf.int32), piece) for array, piece in zip(kept, pieces, strict=True)
        ]
        return index + 1, _like(after, state), written

    _, state, kept = tf.while_loop(
        lambda index, *_: index < as_length(number), body, (as_length(0), start, kept)
    )
    outputs = [_rows(array.stack(), length) for array in kept]
    return carry_of(state), forms[0](outputs)


def _rows(blocks: tf.Tensor, length: Any) -> tf.Tensor:
    """The first `length` rows of blocks [number, size, ...]."""
    number, size, *rest = Array(blocks).shape
    return xp.reshape(Array(blocks), (number * size, *rest))[:length].tensor


def _flattened(value: Any) -> tuple[list[tf.Tensor], Callable[[Sequence[tf.Tensor]], Any]]:
    """The tensors of arrays in a structure, which may have None in it, and how to get the structure back."""
    leaves = tf.nest.flatten(value)

    def rebuilt(tensors: Sequence[tf.Tensor]) -> Any:
        rest = iter(tensors)
        return tf.nest.pack_sequence_as(
            value, [leaf if leaf is None else Array(next(rest)) for leaf in leaves]
        )

    return [leaf.tensor for leaf in leaves if leaf is not None], rebuilt


def _like(tensors: Sequence[tf.Tensor], before: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """The state of a loop after a turn, which has the shapes of the one before."""
    return [tf.ensure_shape(tensor, old.shape) for tensor, old in zip(tensors, before, strict=True)]
