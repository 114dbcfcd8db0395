"""Rows that Keras masks: no queries, no positives, no negatives, whatever stands in them."""

from typing import Any

import keras
import numpy as np
import pytest
from keras_models import fitted_gradient, table_model
from numpy.testing import assert_allclose

import rankloss
import rankloss.keras as rl

RNG = np.random.default_rng(0)
EMBEDDINGS = RNG.normal(size=(12, 4)).astype("float32")
LABELS = np.array([0, 1, 0, 1, 2, 2, 2, 0, 3, 1, 4, 0])
WEIGHTS = RNG.uniform(0.5, 2, size=12).astype("float32")
KEPT = np.array([True, True, False, True, True, False, True, True, True, True, False, True])
VIEWS = RNG.normal(size=(5, 4, 3)).astype("float32")
KEPT_VIEWS = RNG.uniform(size=(5, 4)) < 0.7
OBJECTIVES = (rl.SmoothAP(temperature=0.1), rl.FastAP(num_bins=7), rl.SupCon())


def masked(embeddings: Any, kept: Any) -> Any:
    """The tensor with the mask that a layer would give it, and 0 in the rows that it masks."""
    return keras.layers.Masking()(np.where(kept[..., None], embeddings, 0).astype(embeddings.dtype))


def step(objective: Any, embeddings: Any, kept: Any, labels: Any, weights: Any = None, **options: Any) -> Any:
    """Loss and gradient by a step of `fit` with NaN in the masked rows."""
    inputs = np.where(kept[..., None], embeddings, np.nan).astype("float32")
    fit = {} if weights is None else {"sample_weight": np.where(kept, weights, 7)}
    return fitted_gradient(rl.RankingLoss(objective, **options), inputs, labels, masked=True, **fit)


@pytest.mark.parametrize(
    "options", [{}, {"include_query": True, "reduction": "sum"}, {"normalize": False}], ids=str
)
@pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
def test_the_loss_is_that_of_the_other_rows(objective: Any, options: dict[str, Any]) -> None:
    embeddings = EMBEDDINGS * 0.4 if options.get("normalize") is False else EMBEDDINGS
    loss, gradient = step(objective, embeddings, KEPT, LABELS, WEIGHTS, **options)
    wanted = rankloss.embedding_loss_and_gradient(
        objective, embeddings[KEPT].astype("float64"), LABELS[KEPT], weights=WEIGHTS[KEPT], **options
    )
    assert_allclose(loss, wanted[0], rtol=1e-5)
    assert_allclose(gradient[KEPT], wanted[1], rtol=0, atol=1e-5 * max(1, np.abs(wanted[1]).max()))
    assert np.all(gradient[~KEPT] == 0)


@pytest.mark.parametrize("labelled", [False, True], ids=["views", "labelled views"])
def test_views_that_an_image_lacks(labelled: bool) -> None:
    labels = np.array([0, 1, 1, 2, 0]) if labelled else np.arange(5)
    loss, gradient = step(OBJECTIVES[0], VIEWS, KEPT_VIEWS, labels if labelled else None)
    flat = np.repeat(labels, 4)[KEPT_VIEWS.ravel()]
    wanted = rankloss.embedding_loss_and_gradient(OBJECTIVES[0], VIEWS[KEPT_VIEWS].astype("float64"), flat)
    assert_allclose(loss, wanted[0], rtol=1e-5)
    assert_allclose(gradient[KEPT_VIEWS], wanted[1], rtol=0, atol=1e-5)
    assert np.all(gradient[~KEPT_VIEWS] == 0)


def test_blocks_of_a_masked_batch() -> None:
    found = rl.RankingLoss(rl.Blockwise(OBJECTIVES[0], 3), reduction="sum")(LABELS, masked(EMBEDDINGS, KEPT))
    blocks = [np.arange(start, start + 4)[KEPT[start : start + 4]] for start in (0, 4, 8)]
    wanted = 0.0
    for rows in blocks:
        if len(set(LABELS[rows])) < len(rows):
            wanted += rankloss.embedding_loss(OBJECTIVES[0], EMBEDDINGS[rows], LABELS[rows], reduction="sum")
    assert_allclose(found, wanted, rtol=1e-5)
    with pytest.raises(ValueError, match="num_blocks must divide the batch, found 5 blocks for 12 rows"):
        rl.RankingLoss(rl.Blockwise(OBJECTIVES[0], 5))(LABELS, masked(EMBEDDINGS, KEPT))


def test_losses_of_masked_rows_are_0() -> None:
    losses = rl.RankingLoss(OBJECTIVES[2], reduction="none")(None, masked(VIEWS, KEPT_VIEWS))
    losses = keras.ops.convert_to_numpy(losses)
    assert losses.shape == (5, 4)
    assert np.all((losses > 0) == (KEPT_VIEWS & (KEPT_VIEWS.sum(axis=1, keepdims=True) > 1)))


def test_a_mask_that_hides_nothing_changes_nothing() -> None:
    for objective in OBJECTIVES:
        loss = rl.RankingLoss(objective)
        plain = loss(LABELS, EMBEDDINGS)
        assert_allclose(loss(LABELS, masked(EMBEDDINGS, np.ones(12, bool))), plain, rtol=1e-5)


def test_a_mask_that_hides_all() -> None:
    with pytest.warns(UserWarning, match="no query of the batch has a positive"):
        loss = rl.RankingLoss(OBJECTIVES[0])(LABELS, masked(EMBEDDINGS, np.zeros(12, bool)))
    assert float(loss) == 0


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_small_and_large_rows_are_normalised_as_elsewhere(scale: float) -> None:
    embeddings = EMBEDDINGS.copy()
    embeddings[[1, 4]] *= np.float32(scale)
    found = rl.RankingLoss(OBJECTIVES[0])(LABELS, masked(embeddings, KEPT))
    assert_allclose(found, rankloss.embedding_loss(OBJECTIVES[0], EMBEDDINGS[KEPT], LABELS[KEPT]), rtol=1e-5)


def test_half_precision() -> None:
    halves = keras.ops.cast(EMBEDDINGS, "bfloat16")
    rounded = keras.ops.convert_to_numpy(keras.ops.cast(halves, "float32"))
    embeddings = keras.layers.Masking(dtype="bfloat16")(np.where(KEPT[:, None], rounded, 0))
    loss = rl.RankingLoss(OBJECTIVES[0])(LABELS, embeddings)
    assert keras.backend.standardize_dtype(loss.dtype) == "float32"
    assert_allclose(loss, rankloss.embedding_loss(OBJECTIVES[0], rounded[KEPT], LABELS[KEPT]), rtol=1e-5)


def test_a_nan_that_is_not_masked_comes_through() -> None:
    embeddings = EMBEDDINGS.copy()
    embeddings[0, 0] = np.nan
    assert np.isnan(float(rl.RankingLoss(OBJECTIVES[0])(LABELS, masked(embeddings, KEPT))))


def test_a_mask_of_other_axes_is_refused() -> None:
    words = keras.layers.Masking()(VIEWS)
    with pytest.raises(ValueError, match=r"mask of y_pred must have shape \[5\].*found shape \[5, 4\]"):

        class Flat(keras.layers.Layer):
            supports_masking = True

            def call(self, inputs: Any) -> Any:
                return inputs[:, 0]

        rl.RankingLoss(OBJECTIVES[0])(np.arange(5), Flat()(words))


def test_a_masked_batch_is_refused_what_others_are() -> None:
    loss, embeddings = rl.RankingLoss(OBJECTIVES[0]), masked(EMBEDDINGS, KEPT)
    for labels in (LABELS.astype("float32"), LABELS > 1):
        with pytest.raises(TypeError, match="labels must be integer, found dtype"):
            loss(labels, embeddings)
    with pytest.raises(ValueError, match="labels are needed"):
        loss(None, embeddings)
    with pytest.raises(ValueError, match=r"labels must have shape \[12\].*found shape \[7\]"):
        loss(LABELS[:7], embeddings)
    with pytest.raises(ValueError, match=r"weights must have shape \[12\].*found shape \[7\]"):
        loss(LABELS, embeddings, WEIGHTS[:7])
    with pytest.raises(ValueError, match="weights must be finite and not negative"):
        loss(LABELS, embeddings, -WEIGHTS)
    with pytest.raises(ValueError, match="found 2 blocks for 5 images"):
        rl.RankingLoss(rl.Blockwise(rl.SmoothAP(), 2))(None, masked(VIEWS, KEPT_VIEWS))
    loss(LABELS, embeddings, np.where(KEPT, WEIGHTS, np.nan))  # of a masked row, which counts for nothing


@pytest.mark.parametrize("metric", [rl.AveragePrecision(), rl.RecallAtK(2)], ids=repr)
def test_metrics(metric: Any) -> None:
    """Of a batch, and against a gallery, where a masked row is no query."""
    found = rl.RankingMetric(metric)
    found.update_state(LABELS, masked(EMBEDDINGS, KEPT), WEIGHTS)
    wanted = rankloss.embedding_metric(metric, EMBEDDINGS[KEPT], LABELS[KEPT], weights=WEIGHTS[KEPT])
    assert_allclose(found.result(), wanted, rtol=1e-6)
    gallery = {"gallery": RNG.normal(size=(9, 4)).astype("float32"), "gallery_labels": np.arange(9) % 4}
    found = rl.RankingMetric(metric, **gallery)
    found.update_state(LABELS, masked(EMBEDDINGS, KEPT))
    wanted = rankloss.embedding_metric(metric, EMBEDDINGS[KEPT], LABELS[KEPT], **gallery)
    assert_allclose(found.result(), wanted, rtol=1e-6)


def test_metrics_in_evaluate() -> None:
    model = table_model(EMBEDDINGS.shape, masked=True)
    model.compile("sgd", rl.RankingLoss(OBJECTIVES[0]), metrics=[rl.RankingMetric(rl.AveragePrecision())])
    inputs = np.where(KEPT[:, None], EMBEDDINGS, np.nan).astype("float32")
    found = model.evaluate(inputs, LABELS, batch_size=12, verbose=0)
    wanted = [
        rankloss.embedding_loss(OBJECTIVES[0], EMBEDDINGS[KEPT], LABELS[KEPT]),
        rankloss.embedding_metric(rankloss.AveragePrecision(), EMBEDDINGS[KEPT], LABELS[KEPT]),
    ]
    assert_allclose(found, wanted, rtol=1e-5)
