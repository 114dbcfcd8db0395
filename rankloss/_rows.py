"""Embeddings as rows in the type of the computation, normalised or not, and the way back for their gradient."""

from __future__ import annotations

from dataclasses import dataclass

from rankloss._framework import Array, Framework


def finite_or_nan(framework: Framework, array: Array) -> Array:
    """NaN in place of infinities, so that one can never pass for a good score."""
    return framework.xp.where(framework.xp.isfinite(array), array, float("nan"))


@dataclass(frozen=True)
class Rows:
    """Embeddings [n, d] as they enter the scores.

    A row is divided first by its largest entry and then by its length: in float32 the squares of a small row
    would underflow. A row of zeros stays as it is.
    """

    framework: Framework
    array: Array
    largest: Array | None = None
    length: Array | None = None

    @classmethod
    def of(cls, framework: Framework, embeddings: Array, normalize: bool) -> Rows:
        """Rows of embeddings [..., d]."""
        xp = framework.xp
        count = 1
        for length in embeddings.shape[:-1]:
            count *= length
        rows = xp.reshape(embeddings, (count, embeddings.shape[-1]))
        rows = finite_or_nan(framework, xp.astype(rows, framework.compute_dtype(rows.dtype)))
        if not normalize:
            return cls(framework, rows)
        largest = xp.max(xp.abs(rows), axis=1, keepdims=True)
        scaled = rows / xp.where(largest == 0, 1, largest)
        length = xp.sqrt(xp.sum(scaled * scaled, axis=1, keepdims=True))
        return cls(framework, scaled / xp.where(largest == 0, 1, length), largest, length)

    def backward(self, d_array: Array, shape: tuple[int, ...]) -> Array:
        """The gradient by the embeddings, of `shape`, from that by `array`."""
        xp = self.framework.xp
        if self.largest is not None:
            along = xp.sum(d_array * self.array, axis=1, keepdims=True)
            nothing = self.largest == 0
            d_array = (d_array - self.array * along) / xp.where(nothing, 1, self.length)
            d_array = xp.where(nothing, 0, d_array / xp.where(nothing, 1, self.largest))
        return xp.reshape(d_array, shape)
