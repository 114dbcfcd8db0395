"""`rankloss.keras.RankingMetric` and `RankingEvaluation`: what `fit` prints is exact."""

from typing import Any

import keras
import numpy as np
import pytest
from keras_models import table_model, unchanged_model
from numpy.testing import assert_allclose

import rankloss
import rankloss.keras as rl

METRICS = (rl.AveragePrecision(), rl.RecallAtK(1), rl.RPrecision(), rl.AveragePrecisionAtR())
RNG = np.random.default_rng(0)
EMBEDDINGS = RNG.normal(size=(20, 4)).astype("float32")
LABELS = RNG.integers(0, 6, size=20)
WEIGHTS = RNG.uniform(0.5, 2, size=20).astype("float32")
GALLERY, GALLERY_LABELS = RNG.normal(size=(15, 4)).astype("float32"), RNG.integers(0, 5, size=15)
BATCHES = (slice(0, 8), slice(8, 16), slice(16, 20))


def mean_over_batches(metric: Any, weights: Any = None, **options: Any) -> Any:
    """The weighted mean over all queries that have a positive, each within its batch."""
    total = count = 0.0
    for part in BATCHES:
        values = rankloss.embedding_metric(
            metric, EMBEDDINGS[part], LABELS[part], reduction="none", **options
        )
        w = np.ones(len(values)) if weights is None else weights[part]
        others = options.get("gallery_labels", LABELS[part])
        found = np.sum(LABELS[part][:, None] == others[None, :], axis=1) > ("gallery" not in options)
        total, count = total + np.sum(values * w), count + np.sum(w * found)
    return total / count


@pytest.mark.parametrize("metric", METRICS, ids=repr)
@pytest.mark.parametrize("weighted", [False, True])
def test_batches_of_unequal_size_average_right(metric: Any, weighted: bool) -> None:
    found = rl.RankingMetric(metric)
    for part in BATCHES:
        found.update_state(LABELS[part], EMBEDDINGS[part], WEIGHTS[part] if weighted else None)
    assert_allclose(found.result(), mean_over_batches(metric, WEIGHTS if weighted else None), rtol=1e-6)


@pytest.mark.parametrize("metric", METRICS, ids=repr)
def test_against_a_gallery(metric: Any) -> None:
    """Some labels of which occur nowhere, as some of the queries do."""
    found = rl.RankingMetric(metric, gallery=GALLERY, gallery_labels=GALLERY_LABELS)
    for part in BATCHES:
        found.update_state(LABELS[part], EMBEDDINGS[part])
    wanted = rankloss.embedding_metric(
        metric, EMBEDDINGS, LABELS, gallery=GALLERY, gallery_labels=GALLERY_LABELS
    )
    assert_allclose(found.result(), wanted, rtol=1e-6)


def test_evaluate_and_fit_print_it() -> None:
    """The last batch is smaller; `weighted_metrics` get the weights, `metrics` don't, as in all of Keras."""
    model = keras.Sequential([keras.layers.Identity()])
    model.compile(
        "sgd",
        rl.RankingLoss(rl.SmoothAP(0.1)),
        metrics=[rl.RankingMetric(rl.AveragePrecision()), rl.RankingMetric(rl.RecallAtK(2), name="top2")],
        weighted_metrics=[rl.RankingMetric(rl.RPrecision())],
    )
    found = model.evaluate(
        EMBEDDINGS, LABELS, sample_weight=WEIGHTS, batch_size=8, verbose=0, return_dict=True
    )
    assert_allclose(found["average_precision"], mean_over_batches(rl.AveragePrecision()), rtol=1e-5)
    assert_allclose(found["top2"], mean_over_batches(rl.RecallAtK(2)), rtol=1e-5)
    assert_allclose(found["r_precision"], mean_over_batches(rl.RPrecision(), WEIGHTS), rtol=1e-5)


def test_metrics_of_views_in_fit() -> None:
    views = EMBEDDINGS.reshape(5, 4, 4)
    model = table_model(views.shape)
    model.compile("sgd", rl.RankingLoss(rl.SmoothAP(0.1)), metrics=[rl.RankingMetric(rl.AveragePrecision())])
    history = model.fit(views, batch_size=5, shuffle=False, verbose=0, epochs=1).history
    wanted = rankloss.embedding_metric(rankloss.AveragePrecision(), views)
    assert_allclose(history["average_precision"][0], wanted, rtol=1e-5)


def test_neighbouring_large_labels_stay_apart() -> None:
    labels = np.array([2**24, 2**24 + 1] * 10)
    for options in ({}, {"gallery": GALLERY, "gallery_labels": np.array([2**24, 2**24 + 1, 2**24 + 2] * 5)}):
        found = rl.RankingMetric(rl.AveragePrecision(), **options)
        found.update_state(labels, EMBEDDINGS)
        wanted = rankloss.embedding_metric(rankloss.AveragePrecision(), EMBEDDINGS, labels, **options)
        assert_allclose(found.result(), wanted, rtol=1e-6)


def test_its_state_is_reset() -> None:
    found = rl.RankingMetric(rl.RPrecision())
    assert float(found.result()) == 0
    found.update_state(LABELS, EMBEDDINGS)
    once = float(found.result())
    found.update_state(LABELS[:8], EMBEDDINGS[:8])
    assert float(found.result()) != once
    found.reset_state()
    assert float(found.result()) == 0
    found.update_state(LABELS, EMBEDDINGS)
    assert float(found.result()) == once


def test_a_query_that_found_nothing_counts() -> None:
    """A recall of 0 is not the lack of a positive."""
    embeddings = np.array([[1, 0], [0.9, 0.1], [0.8, 0.2], [0, 1]], "float32")
    found = rl.RankingMetric(rl.RecallAtK(1))
    found.update_state([0, 1, 0, 2], embeddings)
    assert float(found.result()) == 0
    assert float(found.variables[1].numpy()) == 2


def test_a_nan_shows() -> None:
    embeddings = EMBEDDINGS.copy()
    embeddings[3, 1] = np.nan
    found = rl.RankingMetric(rl.AveragePrecision())
    found.update_state(LABELS, embeddings)
    assert np.isnan(float(found.result()))


@pytest.mark.parametrize(
    ("metric", "name"),
    [
        (rl.AveragePrecision(), "average_precision"),
        (rl.RecallAtK(5), "recall_at_5"),
        (rl.RPrecision(), "r_precision"),
        (rl.AveragePrecisionAtR(), "average_precision_at_r"),
    ],
)
def test_names(metric: Any, name: str) -> None:
    assert rl.RankingMetric(metric).name == name
    assert rl.RankingMetric(metric, name="mine").name == "mine"


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(TypeError, match="metric must be a metric such as AveragePrecision"):
        rl.RankingMetric(rl.SmoothAP())
    with pytest.raises(ValueError, match="gallery and gallery_labels need each other"):
        rl.RankingMetric(rl.RPrecision(), gallery=GALLERY)
    with pytest.raises(TypeError, match="normalize must be True or False"):
        rl.RankingMetric(rl.RPrecision(), normalize=1)
    with pytest.raises(ValueError, match=r"gallery must have shape \[any, 4\]"):
        rl.RankingMetric(rl.RPrecision(), gallery=GALLERY[:, :3], gallery_labels=GALLERY_LABELS).update_state(
            LABELS, EMBEDDINGS
        )
    with pytest.raises(TypeError, match="labels must be integer"):
        rl.RankingMetric(rl.RPrecision()).update_state(LABELS.astype("float32"), EMBEDDINGS)
    metric = rl.RankingMetric(rl.RPrecision())
    for weights in (-np.ones(len(LABELS)), np.full(len(LABELS), np.nan)):
        with pytest.raises(ValueError, match="weights must be finite and not negative"):
            metric.update_state(LABELS, EMBEDDINGS, weights)
    with pytest.raises(ValueError, match=r"weights must have shape .*found shape \[\]"):
        metric.update_state(LABELS, EMBEDDINGS, 2.0)
    with pytest.raises(TypeError, match="weights must be floating-point or integer, found dtype"):
        metric.update_state(LABELS, EMBEDDINGS, LABELS > 0)
    with pytest.raises(ValueError, match="gallery_labels must be one a gallery row, found 3 for"):
        rl.RankingMetric(rl.RPrecision(), gallery=GALLERY, gallery_labels=GALLERY_LABELS[:3])
    with pytest.raises(TypeError, match="metrics must be a list"):
        rl.RankingEvaluation(rl.RecallAtK(1), EMBEDDINGS, LABELS)
    with pytest.raises(TypeError, match="y must be integer labels, found dtype float32"):
        rl.RankingEvaluation([], EMBEDDINGS, LABELS.astype("float32"))
    with pytest.raises(ValueError, match=r"y must have shape .*found shape \[3\]"):
        rl.RankingEvaluation([], EMBEDDINGS, LABELS[:3])
    with pytest.raises(TypeError, match="metric must be a metric"):
        rl.RankingEvaluation([rl.SupCon()], EMBEDDINGS, LABELS)
    with pytest.raises(ValueError, match="gallery_x and gallery_y need each other"):
        rl.RankingEvaluation([], EMBEDDINGS, LABELS, gallery_x=GALLERY)


def test_callbacks_know_that_more_is_better() -> None:
    model = unchanged_model()
    model.compile(
        keras.optimizers.SGD(0.0),
        rl.RankingLoss(rl.SupCon()),
        metrics=[rl.RankingMetric(rl.AveragePrecision())],
    )
    stopping = keras.callbacks.EarlyStopping("val_average_precision", patience=0, baseline=2.0)
    data = (EMBEDDINGS, LABELS)
    history = model.fit(*data, validation_data=data, epochs=5, verbose=0, callbacks=[stopping])
    assert len(history.epoch) < 5


# -- RankingEvaluation


class Watching(keras.callbacks.Callback):
    """Embeds the validation set itself, and keeps what it finds and what was logged."""

    def __init__(self) -> None:
        super().__init__()
        self.embedded, self.logs = [], []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.embedded.append(np.asarray(self.model.predict(EMBEDDINGS, verbose=0)))
        self.logs.append(dict(logs))


@pytest.mark.parametrize("with_gallery", [False, True])
def test_the_whole_validation_set_is_judged_after_each_epoch(with_gallery: bool, capfd: Any) -> None:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.layers.Dense(6)])
    model.compile(keras.optimizers.Adam(0.1), rl.RankingLoss(rl.SmoothAP(0.1)))
    watching = Watching()
    gallery = {"gallery_x": EMBEDDINGS[:9], "gallery_y": LABELS[:9]} if with_gallery else {}
    evaluation = rl.RankingEvaluation(METRICS[:2], EMBEDDINGS, LABELS, batch_size=7, **gallery)
    history = model.fit(
        EMBEDDINGS, LABELS, batch_size=10, epochs=2, verbose=2, callbacks=[evaluation, watching]
    )
    assert len(watching.logs) == 2
    assert not np.allclose(*watching.embedded)
    for embedded, logs in zip(watching.embedded, watching.logs, strict=True):
        options = {"gallery": embedded[:9], "gallery_labels": LABELS[:9]} if with_gallery else {}
        for metric, name in zip(METRICS[:2], ("val_average_precision", "val_recall_at_1"), strict=True):
            wanted = rankloss.embedding_metric(metric, embedded, LABELS, **options)
            assert_allclose(logs[name], wanted, rtol=1e-6)
            assert_allclose(history.history[name][-1], watching.logs[-1][name])
    assert "val_average_precision: 0." in capfd.readouterr().out


def test_other_callbacks_may_monitor_it_and_part_of_the_model_may_embed() -> None:
    encoder = keras.Sequential([keras.layers.Dense(6)])
    model = keras.Sequential([encoder, keras.layers.Dense(2)])
    model.compile("sgd", rl.RankingLoss(rl.SmoothAP(0.1)))
    evaluation = rl.RankingEvaluation([rl.RecallAtK(1)], EMBEDDINGS, LABELS, encoder=encoder)
    stopping = keras.callbacks.EarlyStopping("val_recall_at_1", mode="max", patience=0, baseline=2.0)
    history = model.fit(EMBEDDINGS, LABELS, epochs=5, verbose=0, callbacks=[evaluation, stopping])
    assert len(history.history["val_recall_at_1"]) < 5
    embedded = np.asarray(encoder.predict(EMBEDDINGS, verbose=0))
    wanted = rankloss.embedding_metric(rankloss.RecallAtK(1), embedded, LABELS)
    assert_allclose(history.history["val_recall_at_1"][0], wanted)
