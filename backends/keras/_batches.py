"""What Keras hands to losses and metrics, as arguments of the backend's functions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from rankloss.keras._backend import get_keras_mask, in_symbolic_scope


@dataclass(frozen=True)
class Batch:
    """Tensors of a batch: the query axes of all are those of the embeddings, [n] or [images, views].

    Attributes:
        embeddings: [n, d] or [images, views, d].
        labels: integers, or None.
        weights: or None.
        mask: boolean, False in rows that must count for nothing; or None. These rows and their weights are 0, so
            that no NaN in them can spread, not even as 0 · NaN.
    """

    embeddings: Any
    labels: Any
    weights: Any
    mask: Any

    @classmethod
    def of(cls, y_true: Any, y_pred: Any, sample_weight: Any, dtype: str | None) -> Batch:
        """The arguments of a loss or a metric; floating-point `dtype` of the embeddings, or None for theirs."""
        if isinstance(y_pred, tuple | list) and y_pred and len(getattr(y_pred[0], "shape", ())) > 1:
            raise TypeError(
                "y_pred must be one tensor of embeddings, found a list of tensors: views go stacked, "
                "as [images, views, d]"
            )
        mask = get_keras_mask(y_pred)
        embeddings = ops.convert_to_tensor(y_pred, dtype=dtype)
        return cls(
            embeddings,
            _of_queries("labels", _built_with(y_true), embeddings),
            _of_queries("weights", sample_weight, embeddings),
            None if mask is None else ops.cast(_of_queries("mask of y_pred", mask, embeddings), "bool"),
        )._without_masked_values()

    def ranked(self) -> Batch:
        """As the functions of embeddings take it: views as they are without labels, else rows."""
        return self if self.labels is None else self.flat()

    def flat(self) -> Batch:
        """Views as rows; those of an image share a label of their own where there are no labels."""
        if len(self.embeddings.shape) != 3:
            return self
        images, views, d = ops.shape(self.embeddings)
        labels = self.labels
        if labels is None:
            labels = ops.broadcast_to(ops.arange(images, dtype="int32")[:, None], (images, views))
        rows = [
            None if part is None else ops.reshape(part, (-1,)) for part in (labels, self.weights, self.mask)
        ]
        return Batch(ops.reshape(self.embeddings, (-1, d)), *rows)

    def _without_masked_values(self) -> Batch:
        if self.mask is None:
            return self
        mask = ops.expand_dims(self.mask, -1)
        weights = ops.cast(self.mask, "float32") if self.weights is None else self.weights
        return Batch(
            ops.where(mask, self.embeddings, ops.zeros_like(self.embeddings)),
            self.labels,
            ops.where(self.mask, weights, ops.zeros_like(weights)),
            self.mask,
        )


def _built_with(labels: Any) -> Any:
    """Labels; integers where Keras builds a model for replicas on the mean of their labels, a floating-point one."""
    return ops.cast(labels, "int32") if labels is not None and in_symbolic_scope() else labels


def _of_queries(name: str, given: Any, embeddings: Any) -> Any:
    """A tensor for the queries, given one a query, in a column, or one an image for all its views."""
    if given is None:
        return None
    tensor = _whole(name, given)
    if len(embeddings.shape) not in (2, 3):  # which the functions of embeddings refuse
        return tensor
    if len(embeddings.shape) == 2:
        rows = tensor[:, 0] if len(tensor.shape) == 2 and tensor.shape[1] == 1 else tensor
        n = embeddings.shape[0]
        if len(rows.shape) != 1 or (None not in (n, rows.shape[0]) and rows.shape[0] != n):
            raise ValueError(
                f"{name} must have shape [{n}], one a row of embeddings, found shape {list(tensor.shape)}"
            )
        return rows
    images, views = embeddings.shape[:2]
    column = tensor[:, None] if len(tensor.shape) == 1 else tensor
    if (
        len(column.shape) != 2
        or (None not in (images, column.shape[0]) and column.shape[0] != images)
        or (None not in (views, column.shape[1]) and column.shape[1] not in (1, views))
    ):
        raise ValueError(
            f"{name} must have shape [{images}], one an image, or [{images}, {views}], one a view, found shape "
            f"{list(tensor.shape)}"
        )
    return ops.broadcast_to(column, ops.shape(embeddings)[:2])


def _whole(name: str, given: Any) -> Any:
    """A tensor; raise if it is none, or if the backend's integers are too narrow for what is given."""
    if not isinstance(given, np.ndarray | list | tuple):
        return ops.convert_to_tensor(given)
    array = np.asarray(given)
    if array.dtype.kind not in "biuf" and array.dtype.name != "bfloat16":
        raise TypeError(f"{name} must be numbers, found dtype {array.dtype}")
    tensor = ops.convert_to_tensor(given)
    if array.dtype.kind in "iu" and array.size:
        held = np.iinfo(keras.backend.standardize_dtype(tensor.dtype))
        for extreme in (array.min(), array.max()):
            if not held.min <= extreme <= held.max:
                raise ValueError(
                    f"{name} must fit into {held.dtype}, all that Keras has on {keras.backend.backend()}, "
                    f"found {extreme}"
                )
    return tensor
