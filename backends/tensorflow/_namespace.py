"""The array-API calls that the core makes, of `Array`s: TensorFlow has no such namespace of its own."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np
import tensorflow as tf

from rankloss.tensorflow._array import BOOL, INDEX, Array, as_length, joined, tensors

float32, float64 = np.dtype("float32"), np.dtype("float64")
int32, int64 = np.dtype("int32"), INDEX
finfo, iinfo = np.finfo, np.iinfo

_FLOATING = ("float16", "bfloat16", "float32", "float64")


# -- types


def isdtype(dtype: Any, kind: str | tuple[str, ...]) -> bool:
    """Whether a dtype is of a kind, or one of several."""
    if isinstance(kind, tuple):
        return builtins.any(isdtype(dtype, one) for one in kind)
    if kind == "bool":
        return bool(dtype == BOOL)
    return dtype.kind in "iu" if kind == "integral" else dtype.name in _FLOATING


def astype(array: Array, dtype: Any) -> Array:
    return array if array.dtype == dtype else Array(tf.cast(array.tensor, dtype))


# -- making arrays


def zeros(shape: tuple[Any, ...], dtype: Any) -> Array:
    return Array(tf.zeros(_lengths(shape), dtype))


def zeros_like(array: Array) -> Array:
    return Array(tf.zeros_like(array.tensor))


def ones_like(array: Array) -> Array:
    return Array(tf.ones_like(array.tensor))


def arange(count: Any) -> Array:
    return Array(tf.range(as_length(count), dtype=INDEX))


# -- form


def reshape(array: Array, shape: tuple[Any, ...]) -> Array:
    return Array(tf.reshape(array.tensor, _lengths(shape)))


def concat(arrays: Any, axis: int) -> Array:
    return Array(tf.concat(tensors(*arrays), axis))


def stack(arrays: Any, axis: int) -> Array:
    return Array(tf.stack(tensors(*arrays), axis))


def take(array: Array, index: Array, axis: int) -> Array:
    return Array(tf.gather(array.tensor, index.tensor, axis=axis))


# -- elementwise


def where(condition: Array, yes: Any, no: Any) -> Array:
    return Array(tf.where(condition.tensor, *tensors(yes, no)))


def abs(array: Array) -> Array:
    return Array(tf.abs(array.tensor))


def ceil(array: Array) -> Array:
    return Array(tf.math.ceil(array.tensor))


def clip(array: Array, least: float, most: float) -> Array:
    return minimum(joined(tf.maximum, array, least), most)


def exp(array: Array) -> Array:
    return Array(tf.exp(array.tensor))


def log(array: Array) -> Array:
    return Array(tf.math.log(array.tensor))


def sqrt(array: Array) -> Array:
    return Array(tf.sqrt(array.tensor))


def minimum(left: Any, right: Any) -> Array:
    return joined(tf.minimum, left, right)


def isfinite(array: Array) -> Array:
    return Array(tf.math.is_finite(array.tensor))


def isnan(array: Array) -> Array:
    return Array(tf.math.is_nan(array.tensor))


# -- reductions


def sum(array: Array, axis: int | None = None, keepdims: bool = False) -> Array:
    return Array(tf.reduce_sum(array.tensor, axis, keepdims))


def max(array: Array, axis: int | None = None, keepdims: bool = False) -> Array:
    return Array(tf.reduce_max(array.tensor, axis, keepdims))


def min(array: Array, axis: int | None = None, keepdims: bool = False) -> Array:
    return Array(tf.reduce_min(array.tensor, axis, keepdims))


def any(array: Array, axis: int | None = None) -> Array:
    return Array(tf.reduce_any(array.tensor, axis))


def all(array: Array) -> Array:
    return Array(tf.reduce_all(array.tensor))


def count_nonzero(array: Array, axis: int) -> Array:
    return Array(tf.math.count_nonzero(array.tensor, axis, dtype=INDEX))


def cumulative_sum(array: Array, axis: int = 0) -> Array:
    return Array(tf.cumsum(array.tensor, axis))


# -- order


def argmax(array: Array) -> Array:
    return Array(tf.argmax(array.tensor, output_type=INDEX))


def argsort(array: Array, axis: int = -1, descending: bool = False, stable: bool = True) -> Array:
    direction = "DESCENDING" if descending else "ASCENDING"
    return astype(Array(tf.argsort(array.tensor, axis, direction, stable)), INDEX)


def searchsorted(array: Array, values: Array, side: str = "left") -> Array:
    return Array(tf.searchsorted(array.tensor, values.tensor, side, out_type=INDEX))


def _lengths(shape: tuple[Any, ...]) -> Any:
    if builtins.all(isinstance(length, int) for length in shape):
        return shape
    return tf.stack([as_length(length) for length in shape])
