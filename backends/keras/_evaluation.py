"""A callback that judges the encoder by exact retrieval after each epoch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

import rankloss
from rankloss._metrics import Metric, check_metric
from rankloss.keras._metric import metric_name


class RankingEvaluation(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
    """Embed a validation set after each epoch and log exact metrics of it, all of it at once.

    `fit` with validation data and a `RankingMetric` ranks within batches, which flatters the metrics. This callback
    ranks the whole set: each item queries all others or, where one is given, the gallery. It logs
    "val_average_precision" and so on, which `fit` prints and other callbacks, after it in the list, can monitor
    with `mode="max"`.

    Args:
        metrics: such as `[AveragePrecision(), RecallAtK(1)]`.
        x: inputs of the model, as for `predict`, whose outputs are embeddings [n, d].
        y: integer labels [n] or [n, 1].
        gallery_x, gallery_y: inputs and labels of the items to rank; None ranks x itself.
        encoder: the model that embeds, where it is not the one that is trained but a part of it.
        batch_size: for `predict`.
        normalize: as in `rankloss.embedding_metric`.

    Example:
        >>> import numpy as np
        >>> import keras
        >>> import rankloss.keras as rl
        >>> x, y = np.random.default_rng(0).normal(size=(12, 4)), np.arange(12) % 3
        >>> model = keras.Sequential([keras.layers.Dense(4)])
        >>> model.compile("adam", rl.RankingLoss(rl.SmoothAP(temperature=0.1)))
        >>> history = model.fit(x, y, verbose=0, callbacks=[rl.RankingEvaluation([rl.RecallAtK(1)], x, y)])
        >>> sorted(history.history)
        ['loss', 'val_recall_at_1']
    """

    def __init__(
        self,
        metrics: Sequence[Metric],
        x: Any,
        y: Any,
        *,
        gallery_x: Any = None,
        gallery_y: Any = None,
        encoder: Any = None,
        batch_size: int | None = None,
        normalize: bool = True,
    ) -> None:
        super().__init__()
        if not isinstance(metrics, Sequence):
            raise TypeError(f"metrics must be a list such as [AveragePrecision()], found {metrics!r}")
        for metric in metrics:
            check_metric(metric)
        if (gallery_x is None) != (gallery_y is None):
            raise ValueError("gallery_x and gallery_y need each other, found one alone")
        self._metrics, self._x, self._y = tuple(metrics), x, _labels("y", y, x)
        self._gallery_x = gallery_x
        self._gallery_y = None if gallery_y is None else _labels("gallery_y", gallery_y, gallery_x)
        self._encoder, self._batch_size, self._normalize = encoder, batch_size, normalize

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Add the metrics to the logs."""
        options: dict[str, Any] = {"normalize": self._normalize}
        if self._gallery_x is not None:
            gallery = {
                "gallery": self._embedded(self._gallery_x),
                "gallery_labels": self._gallery_y,
            }
            options |= gallery
        embeddings = self._embedded(self._x)
        for metric in self._metrics:
            value = rankloss.embedding_metric(metric, embeddings, self._y, **options)
            if logs is not None:
                logs[f"val_{metric_name(metric)}"] = float(value)

    def _embedded(self, x: Any) -> Any:
        encoder = self.model if self._encoder is None else self._encoder
        embeddings = np.asarray(encoder.predict(x, batch_size=self._batch_size, verbose=0))
        wide = embeddings.dtype in (np.float32, np.float64)
        return embeddings if wide else embeddings.astype(np.float32)  # NumPy's rows of bfloat16 know no sums


def _labels(name: str, y: Any, x: Any) -> Any:
    """Labels [n] of as many inputs, where the number of these is known."""
    labels = np.asarray(y)
    if labels.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integer labels, found dtype {labels.dtype}")
    rows = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    count = x.shape[0] if getattr(x, "shape", ()) else len(rows)
    if rows.shape != (count,):
        raise ValueError(
            f"{name} must have shape [{count}], one label an input, found shape {list(labels.shape)}"
        )
    return rows
