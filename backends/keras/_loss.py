"""A ranking loss for `compile` and `fit`."""

from __future__ import annotations

from typing import Any

import keras

from rankloss._arguments import Reduction, check_settings
from rankloss.keras._backend import embedding_loss, scale_loss_for_distribution, score_loss
from rankloss.keras._batches import Batch
from rankloss.keras._masks import evaluated
from rankloss.keras._values import from_config, to_config
from rankloss.objectives import Objective
from rankloss.objectives.blockwise import split_objective


@keras.saving.register_keras_serializable(package="rankloss")
class RankingLoss(keras.losses.Loss):  # type: ignore[misc]  # Keras has no types
    """`rankloss.embedding_loss` of an objective, as a `keras.losses.Loss`.

    The model's output `y_pred` are the embeddings, `y_true` are integer labels:

        y_pred [n, d]              labels [n] or [n, 1]; rows of one label are each other's positives
        y_pred [images, views, d]  labels [images], one for all views of an image, or [images, views]; or none,
                                   as in `fit(images)`: the views of an image are each other's positives

    Labels are never ignored, and they stay integers: Keras' own losses would make one class of 2²⁴ and 2²⁴ + 1.
    (On JAX they have 32 bits, unless it runs with 64-bit types.)

    `sample_weight` weights queries: [n] or [n, 1], or [images] or [images, views]. A row that Keras masks (as
    `Masking` does, for views that an image lacks, say) is no query, no positive and no negative, whatever stands
    in it, NaN included; a masked batch keeps its scores [n, n] in memory.

    Args:
        objective: `SmoothAP()`, `FastAP()`, `SupCon()` or `Blockwise(...)` of one.
        normalize, include_query, block_size: as in `rankloss.embedding_loss`.
        reduction: "mean" (default), "sum" or "none", as in `rankloss.embedding_loss`. "mean" is over the queries
            that have a positive, weighted: it divides by the sum of their weights. Keras' "sum_over_batch_size"
            would divide by the size of the batch, whatever the weights, so that a batch with more singletons or
            with smaller weights had a smaller loss and a smaller gradient.
        name: of the loss.
        dtype: to which the embeddings are cast, or a policy with that compute dtype. None leaves them as they
            are; scores and sums of half precision are float32, and so is the loss.

    The loss that `fit` and `evaluate` print is the mean of their batches' losses, each by its number of rows:
    Keras does not know how many queries had a positive. `RankingMetric` does. With `tf.distribute` each replica
    ranks its own part of the batch, as in `Blockwise`, and means are averaged over the replicas.

    Raises:
        TypeError: on a wrong objective; when called, on labels that are no integers.
        ValueError: on other reductions, Keras' own included; when called, on shapes that do not fit.

    Example:
        >>> import keras
        >>> import rankloss.keras as rl
        >>> loss_fn = rl.RankingLoss(rl.SmoothAP(temperature=0.05))
        >>> labels, embeddings = [7, 7, 3, 3], [[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.6, 0.6]]
        >>> print(f"{float(loss_fn(labels, embeddings)):.4f}")
        0.1462
        >>> model = keras.Sequential([keras.layers.Dense(16)])
        >>> model.compile("adam", loss_fn, metrics=[rl.RankingMetric(rl.AveragePrecision())])
    """

    def __init__(
        self,
        objective: Objective,
        *,
        normalize: bool = True,
        include_query: bool = False,
        reduction: Reduction = "mean",
        block_size: int | None = None,
        name: str = "ranking_loss",
        dtype: Any = None,
    ) -> None:
        split_objective(objective)
        _refuse_reduction_of_keras(reduction)
        check_settings(normalize, include_query, reduction, block_size)
        super().__init__(name=name, reduction="none", dtype=dtype)
        self.objective = objective
        self.reduction: Reduction = reduction
        self._settings: dict[str, Any] = {
            "normalize": normalize,
            "include_query": include_query,
            "block_size": block_size,
        }
        self._cast_to = None if dtype is None else self._dtype_policy

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """The loss of a batch; Keras' own `__call__` would cast the labels to floating point."""
        loss = self._reduced(y_true, y_pred, sample_weight, self.reduction)
        return scale_loss_for_distribution(loss) if self.reduction == "mean" else loss

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The loss of each query."""
        return self._reduced(y_true, y_pred, None, "none")

    def _reduced(self, y_true: Any, y_pred: Any, sample_weight: Any, reduction: Reduction) -> Any:
        with keras.name_scope(self.name):
            dtype = None if self._cast_to is None else self._cast_to.compute_dtype
            batch = Batch.of(y_true, y_pred, sample_weight, dtype)
            return evaluated(embedding_loss, score_loss, self.objective, batch, reduction, **self._settings)

    def get_config(self) -> dict[str, Any]:
        """The arguments, the objective as its class' name and options."""
        return {
            "objective": to_config(self.objective),
            **self._settings,
            "reduction": self.reduction,
            "name": self.name,
            "dtype": None if self._cast_to is None else self._cast_to.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> RankingLoss:
        """The loss of `get_config()`."""
        return cls(**config | {"objective": from_config(config["objective"])})


def _refuse_reduction_of_keras(reduction: Any) -> None:
    if reduction is None or reduction in ("sum_over_batch_size", "mean_with_sample_weight"):
        raise ValueError(
            f"reduction must be 'mean', 'sum' or 'none', found Keras' {reduction!r}: 'mean' is the weighted mean "
            "over the queries that have a positive"
        )
