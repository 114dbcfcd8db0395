"""The gradient that a pass computes in closed form, as the gradient that tapes and graphs use."""

from __future__ import annotations

from typing import Any, Protocol

import tensorflow as tf
from tensorflow.python.eager import record

from rankloss._arguments import Reduction
from rankloss._passes import Result
from rankloss.tensorflow._array import Array


class Evaluate(Protocol):
    """A pass over a batch."""

    def __call__(self, arrays: tuple[Array, ...], wanted: tuple[bool, ...], **changes: Any) -> Result:
        """The value of some arrays, and its gradients by those wanted; `changes` are made to the batch."""


def differentiable(
    evaluate: Evaluate, arrays: tuple[Array, ...], weights: Array | None, reduction: Reduction
) -> tf.Tensor:
    """The value of a pass over `arrays`, by which it can be differentiated.

    Where a tape records, the forward pass computes the gradients together with the value. It can't where
    nobody watches yet, as when a `tf.function` is traced and differentiated from outside, nor with the reduction
    "none", whose queries are weighted by the gradient that comes in: then the backward pass computes them.
    """
    weights = None if weights is None else _unwatched(weights.tensor)
    recorded = tuple(record.should_record_backprop([array.tensor]) for array in arrays)

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def loss(*tensors: tf.Tensor) -> Any:
        inputs = tuple(_unwatched(tensor) for tensor in tensors)
        now = tuple(wanted and reduction != "none" for wanted in recorded)
        value, *found = evaluate(inputs, now, weights=weights)

        def backward(incoming: tf.Tensor) -> Any:
            scale, gradients = incoming, list(found[: len(inputs)])
            # What no eager tape watches can't be asked for.
            late = tuple(
                gradient is None and (watched or not tf.executing_eagerly())
                for gradient, watched in zip(gradients, recorded, strict=True)
            )
            if any(late):
                changes: dict[str, Any] = {"weights": weights}
                if reduction == "none":
                    coming = _unwatched(incoming)
                    changes = {"weights": coming if weights is None else coming * weights, "reduction": "sum"}
                _, *more = evaluate(inputs, late, **changes)
                gradients = [b if a is None else a for a, b in zip(gradients, more, strict=False)]
            if reduction == "none":  # it is in the gradients already
                scale = tf.ones([], incoming.dtype)
            return [
                None if gradient is None else _scaled(scale, gradient.tensor, tensor)
                for gradient, tensor in zip(gradients, tensors, strict=True)
            ]

        return value.tensor, backward

    tensor: tf.Tensor = loss(*(array.tensor for array in arrays))
    return tensor


@tf.custom_gradient  # type: ignore[untyped-decorator]
def _scaled(incoming: tf.Tensor, gradient: tf.Tensor, variable: tf.Tensor) -> Any:
    """incoming · gradient in the dtype of the variable it is the gradient by, which a second derivative needs."""

    def refuse(_: tf.Tensor) -> Any:
        raise RuntimeError(
            "rankloss.tensorflow has first derivatives only: the gradient of a ranking loss can't be "
            "differentiated again"
        )

    return tf.cast(incoming * gradient, variable.dtype), refuse


def _unwatched(tensor: tf.Tensor) -> Array:
    return Array(tf.stop_gradient(tensor))
