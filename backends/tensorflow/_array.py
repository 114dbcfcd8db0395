"""Tensors with the operators, dtypes and shapes that array-API code expects of an array.

A `tf.Tensor` knows no `.T`, refuses NumPy's way of joining types, and has None for a length that is known only
when its graph runs. An `Array` is a tensor in a coat that has the first two, and a `Length` for the last.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

BOOL = np.dtype("bool")
INDEX = np.dtype("int64")
"""The integers that index tensors; lengths have this type."""


class Length:
    """A length that is known only when the graph runs.

    Arithmetic gives lengths again. Asked to compare while the graph is made, it says what is known then: it is
    neither equal nor unequal to anything, and not known to be 0. So nothing is refused that may fit.
    """

    def __init__(self, tensor: tf.Tensor) -> None:
        self.tensor = tensor

    def __str__(self) -> str:
        return "None"

    def __bool__(self) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = object.__hash__

    def __gt__(self, other: object) -> bool:
        return False

    def __lt__(self, other: Any) -> bool:
        return False

    def __add__(self, other: Any) -> Any:
        return self._joined(tf.add, other)

    def __sub__(self, other: Any) -> Any:
        return self._joined(tf.subtract, other)

    def __mul__(self, other: Any) -> Any:
        return self._joined(tf.multiply, other)

    def __floordiv__(self, other: Any) -> Any:
        return self._joined(tf.math.floordiv, other)

    def __mod__(self, other: Any) -> Any:
        return self._joined(tf.math.floormod, other)

    def __radd__(self, other: Any) -> Any:
        return self._joined(tf.add, other, swapped=True)

    def __rsub__(self, other: Any) -> Any:
        return self._joined(tf.subtract, other, swapped=True)

    def __rmul__(self, other: Any) -> Any:
        return self._joined(tf.multiply, other, swapped=True)

    def __truediv__(self, other: Any) -> Array:
        return joined(tf.truediv, Array(self.tensor), other)

    def _joined(self, operation: Callable[..., tf.Tensor], other: Any, swapped: bool = False) -> Any:
        if not isinstance(other, int | Length):
            return NotImplemented
        pair = (self.tensor, as_length(other))
        return Length(operation(*reversed(pair) if swapped else pair))


def as_length(value: Any) -> tf.Tensor:
    """The scalar tensor of a length or another whole number."""
    return value.tensor if isinstance(value, Length | Array) else tf.constant(value, INDEX)


class Array:
    """A tensor as array-API code sees it; `tensor` is what it wraps."""

    def __init__(self, tensor: tf.Tensor) -> None:
        self.tensor = tensor

    @property
    def dtype(self) -> Any:
        return np.dtype(self.tensor.dtype.as_numpy_dtype)

    @property
    def shape(self) -> tuple[Any, ...]:
        """Numbers, and a `Length` where one is not known yet."""
        lengths = self.tensor.shape.as_list()
        if None not in lengths:
            return tuple(lengths)
        running = tf.shape(self.tensor, out_type=INDEX)
        return tuple(Length(running[axis]) if known is None else known for axis, known in enumerate(lengths))

    @property
    def T(self) -> Array:
        return Array(tf.transpose(self.tensor))

    def __getitem__(self, key: Any) -> Array:
        keys = key if isinstance(key, tuple) else (key,)
        return Array(self.tensor[tuple(_plain_key(part) for part in keys)])

    # -- values, of eager tensors

    def __bool__(self) -> bool:
        return bool(self.tensor)

    def __int__(self) -> int:
        return int(self.tensor)

    def __float__(self) -> float:
        return float(self.tensor)

    # -- operators

    def __add__(self, other: Any) -> Array:
        return joined(tf.add, self, other)

    def __radd__(self, other: Any) -> Array:
        return joined(tf.add, other, self)

    def __sub__(self, other: Any) -> Array:
        return joined(tf.subtract, self, other)

    def __rsub__(self, other: Any) -> Array:
        return joined(tf.subtract, other, self)

    def __mul__(self, other: Any) -> Array:
        return joined(tf.multiply, self, other)

    def __rmul__(self, other: Any) -> Array:
        return joined(tf.multiply, other, self)

    def __truediv__(self, other: Any) -> Array:
        return joined(tf.truediv, self, other)

    def __rtruediv__(self, other: Any) -> Array:
        return joined(tf.truediv, other, self)

    def __mod__(self, other: Any) -> Array:
        return joined(tf.math.floormod, self, other)

    def __matmul__(self, other: Array) -> Array:
        return Array(tf.linalg.matmul(self.tensor, other.tensor))

    def __neg__(self) -> Array:
        return Array(tf.negative(self.tensor))

    def __and__(self, other: Array) -> Array:
        return Array(tf.logical_and(self.tensor, other.tensor))

    def __invert__(self) -> Array:
        return Array(tf.logical_not(self.tensor))

    def __eq__(self, other: object) -> Array:  # type: ignore[override]
        return joined(tf.equal, self, other)

    def __ne__(self, other: object) -> Array:  # type: ignore[override]
        return joined(tf.not_equal, self, other)

    def __lt__(self, other: Any) -> Array:
        return joined(tf.less, self, other)

    def __le__(self, other: Any) -> Array:
        return joined(tf.less_equal, self, other)

    def __gt__(self, other: Any) -> Array:
        return joined(tf.greater, self, other)

    def __ge__(self, other: Any) -> Array:
        return joined(tf.greater_equal, self, other)

    __hash__ = None  # type: ignore[assignment]


def joined(operation: Callable[..., tf.Tensor], *operands: Any) -> Array:
    """An operation of arrays and numbers in one dtype, which is the arrays'."""
    return Array(operation(*tensors(*operands)))


def tensors(*operands: Any) -> list[tf.Tensor]:
    """Arrays, lengths and numbers as tensors of one dtype; a number goes there straight, not through float32."""
    dtypes = [operand.dtype for operand in operands if isinstance(operand, Array)]
    dtype = np.result_type(*dtypes) if dtypes else INDEX
    return [_tensor(operand, dtype) for operand in operands]


def _tensor(operand: Any, dtype: Any) -> tf.Tensor:
    if isinstance(operand, Array | Length):
        return operand.tensor if operand.tensor.dtype == dtype else tf.cast(operand.tensor, dtype)
    return tf.constant(operand, dtype)


def wrapped(name: str, value: Any) -> Any:
    """Tensors and variables as arrays, also those in a tuple or list; anything else as it is."""
    if isinstance(value, tf.Tensor | tf.Variable):
        if value.shape.rank is None:
            raise ValueError(
                f"{name} must have a known number of axes, found a tensor of unknown rank: give it a shape, in "
                "which lengths may be None, by tf.ensure_shape"
            )
        return Array(tf.convert_to_tensor(value))
    if isinstance(value, tuple | list):
        return type(value)([wrapped(name, part) for part in value])
    return value


def _plain_key(key: Any) -> Any:
    if isinstance(key, slice):
        return slice(_plain_key(key.start), _plain_key(key.stop), _plain_key(key.step))
    if key is None:
        return None
    return as_length(key) if isinstance(key, Length | Array) else key
