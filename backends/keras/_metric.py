"""Exact metrics that `fit` and `evaluate` print."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import keras
from keras import ops

from rankloss._arguments import check_settings
from rankloss._framework import Array, Framework
from rankloss._metrics import Metric, check_metric
from rankloss.keras._backend import checked_weights, embedding_metric, score_metric
from rankloss.keras._batches import Batch
from rankloss.keras._masks import evaluated
from rankloss.keras._values import from_config, to_config


@keras.saving.register_keras_serializable(package="rankloss")
class RankingMetric(keras.metrics.Metric):  # type: ignore[misc]  # Keras has no types
    """`rankloss.embedding_metric` as a `keras.metrics.Metric`: its mean over the queries of all batches.

    The call takes what `RankingLoss` takes: integer labels, or none for views; embeddings; weights; and masks.
    Each query ranks its own batch or, with a gallery, that. The mean is over the queries that have a positive,
    each with its weight, so that batches of different sizes count as they should. Keras gives `sample_weight` to
    the metrics in `weighted_metrics` only, and on JAX it forgets masks between the loss and the metrics of `fit`;
    those of `evaluate` have them.

    A gallery is an array of embeddings, which stays as it is while the model changes: of use in `evaluate`, with
    a trained model. `RankingEvaluation` embeds its gallery anew after each epoch.

    Args:
        metric: `AveragePrecision()`, `RecallAtK(k)`, `RPrecision()` or `AveragePrecisionAtR()`.
        normalize, include_query, block_size: as in `rankloss.embedding_metric`.
        gallery: floating-point [g, d] of the items to rank, instead of each batch itself; cast to its dtype.
        gallery_labels: integers [g].
        name: what Keras prints; None takes the metric's, "average_precision" or "recall_at_5".
        dtype: of the sums.

    Example:
        >>> import rankloss.keras as rl
        >>> metric = rl.RankingMetric(rl.RecallAtK(1))
        >>> metric.update_state([7, 7, 3, 3], [[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.6, 0.6]])
        >>> metric.update_state([5, 5], [[1.0, 0.0], [0.9, 0.1]])
        >>> print(metric.name, f"{float(metric.result()):.4f}")  # of 5 queries out of 6
        recall_at_1 0.8333
    """

    def __init__(
        self,
        metric: Metric,
        *,
        normalize: bool = True,
        include_query: bool = False,
        block_size: int | None = None,
        gallery: Any = None,
        gallery_labels: Any = None,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        check_metric(metric)
        check_settings(normalize, include_query, "none", block_size)
        if (gallery is None) != (gallery_labels is None):
            raise ValueError("gallery and gallery_labels need each other, found one alone")
        if gallery is not None and len(gallery) != len(gallery_labels):
            raise ValueError(
                f"gallery_labels must be one a gallery row, found {len(gallery_labels)} for {len(gallery)} rows"
            )
        super().__init__(name=name or metric_name(metric), dtype=dtype)
        self._direction = "up"  # by which callbacks that monitor it know what is better
        self.metric = metric
        self._settings: dict[str, Any] = {
            "normalize": normalize,
            "include_query": include_query,
            "block_size": block_size,
        }
        self._gallery: Any = None if gallery is None else ops.convert_to_numpy(gallery)
        self._gallery_labels: Any = None if gallery is None else ops.convert_to_numpy(gallery_labels)
        self._total = self.add_variable((), "zeros", dtype=self.dtype, name="total")
        self._weight = self.add_variable((), "zeros", dtype=self.dtype, name="weight")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add the queries of a batch."""
        batch = Batch.of(y_true, y_pred, sample_weight, None)
        rows, metric = batch.ranked(), _ZeroAsMinusOne(self.metric)
        weights = checked_weights(rows.embeddings, rows.labels, rows.weights)
        batch = replace(batch, weights=None)
        if self._gallery is None:
            values = evaluated(embedding_metric, score_metric, metric, batch, "none", **self._settings)
        else:
            values = self._against_gallery(metric, batch)
        values = ops.cast(values, self.dtype)
        if weights is None:
            weights = ops.ones_like(values)
        weights = ops.reshape(ops.cast(weights, self.dtype), ops.shape(values))
        weights = ops.where(values == 0, ops.zeros_like(weights), weights)
        self._total.assign_add(ops.sum(ops.maximum(values, 0) * weights))
        self._weight.assign_add(ops.sum(weights))

    def _against_gallery(self, metric: Metric, batch: Batch) -> Any:
        flat = batch.flat()
        values = embedding_metric(
            metric,
            flat.embeddings,
            flat.labels,
            gallery=ops.convert_to_tensor(self._gallery, dtype=flat.embeddings.dtype),
            gallery_labels=ops.convert_to_tensor(self._gallery_labels),
            reduction="none",
            **self._settings,
        )
        return ops.reshape(values, ops.shape(batch.embeddings)[:-1])

    def result(self) -> Any:
        """The mean so far; 0 where no query had a positive."""
        return ops.divide_no_nan(self._total, self._weight)

    def get_config(self) -> dict[str, Any]:
        """The arguments, the metric as its class' name and options, the gallery as numbers."""
        return {
            **super().get_config(),
            "metric": to_config(self.metric),
            **self._settings,
            "gallery": None if self._gallery is None else self._gallery.tolist(),
            "gallery_labels": None if self._gallery is None else self._gallery_labels.tolist(),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> RankingMetric:
        """The metric of `get_config()`."""
        return cls(**config | {"metric": from_config(config["metric"])})


@dataclass(frozen=True)
class _ZeroAsMinusOne:
    """A metric that is −1 instead of 0, so that 0 tells a query without a positive from one that found none."""

    metric: Metric

    def of_ranking(self, framework: Framework, ranking: Any) -> Array:
        values = self.metric.of_ranking(framework, ranking)
        return framework.xp.where(values == 0, -1.0, values)


def metric_name(metric: Metric) -> str:
    """The metric's class in snake case, with its k: "recall_at_5"."""
    *words, last = (word.lower() for word in re.findall("[A-Z][a-z]*", type(metric).__name__))
    return "_".join([*words, str(getattr(metric, last, last))])
