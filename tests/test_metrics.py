"""The exact metrics: against the oracle, scikit-learn and numbers worked out by hand."""

import math
from typing import Any

import numpy as np
import oracle
import pytest
from cases import Case, ScoreCase, embedding_cases, score_cases
from faces import Face
from hypothesis import given
from numpy.testing import assert_allclose
from sklearn.metrics import average_precision_score

from rankloss import AveragePrecision, AveragePrecisionAtR, RecallAtK, RPrecision, SmoothAP

METRICS = (AveragePrecision(), RecallAtK(k=1), RecallAtK(k=3), RPrecision(), AveragePrecisionAtR())
EACH_METRIC = pytest.mark.parametrize("metric", METRICS, ids=repr)

# One query; positives at ranks 1, 3 and 6 of eight.
SCORES = np.array([[0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2]])
RELEVANT = np.array([[True, False, True, False, False, True, False, False]])
BY_HAND = [
    (AveragePrecision(), (1 / 1 + 2 / 3 + 3 / 6) / 3),
    (RecallAtK(k=1), 1.0),
    (RPrecision(), 2 / 3),
    (AveragePrecisionAtR(), (1 / 1 + 2 / 3) / 3),
]


@pytest.mark.parametrize(("metric", "expected"), BY_HAND, ids=[repr(metric) for metric, _ in BY_HAND])
def test_by_hand(face: Face, metric: Any, expected: float) -> None:
    assert_allclose(face.value("score_metric", metric, SCORES, RELEVANT), expected, rtol=1e-14)


def test_recall_at_k_asks_for_one_positive_among_the_first_k(face: Face) -> None:
    relevant = np.array([[False, False, True, False, False, True, False, False]])
    found = [float(face.value("score_metric", RecallAtK(k=k), SCORES, relevant)) for k in (1, 2, 3, 7, 100)]
    assert found == [0, 0, 1, 1, 1]


@EACH_METRIC
@given(case=score_cases())
def test_score_metric_equals_the_oracle(face: Face, metric: Any, case: ScoreCase) -> None:
    expected = oracle.score(metric, case.scores, case.relevant, **case.options)
    found = face.value("score_metric", metric, case.scores, case.relevant, **case.options)
    assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


@EACH_METRIC
@given(case=embedding_cases(blockwise=False))
def test_embedding_metric_equals_the_oracle(face: Face, metric: Any, case: Case) -> None:
    if case.options["normalize"] and np.asarray(case.embeddings).shape[-1] == 1:
        return  # every score is then 1 or -1 up to rounding, and the ties are not the same in two libraries
    for reduction in ("mean", "none"):
        case = case.with_options(reduction=reduction)
        expected = oracle.embedding(metric, *case.arguments, **case.options)
        found = face.value("embedding_metric", metric, *case.arguments, **case.options)
        assert np.shape(found) == np.shape(expected)
        assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


@EACH_METRIC
def test_ties_count_against_the_query(face: Face, metric: Any) -> None:
    """Scores of few values, so that positives tie with each other and with negatives."""
    rng = np.random.default_rng(4)
    scores = rng.integers(0, 4, size=(30, 12)).astype(np.float64)
    relevant = rng.uniform(size=scores.shape) < 0.3
    expected = oracle.score(metric, scores, relevant, reduction="none")
    found = face.value("score_metric", metric, scores, relevant, reduction="none")
    assert_allclose(found, expected, rtol=1e-13)


@EACH_METRIC
def test_embeddings_that_tie(face: Face, metric: Any) -> None:
    """Small integers, whose products are exact, and duplicates among them."""
    rng = np.random.default_rng(5)
    embeddings = rng.integers(-2, 3, size=(24, 2)).astype(np.float64)
    labels = rng.integers(0, 5, size=24)
    expected = oracle.embedding(metric, embeddings, labels, normalize=False, reduction="none")
    for block_size in (None, 5):
        found = face.value(
            "embedding_metric",
            metric,
            embeddings,
            labels,
            normalize=False,
            reduction="none",
            block_size=block_size,
        )
        assert_allclose(found, expected, rtol=1e-13)


def test_average_precision_equals_scikit_learn(face: Face) -> None:
    rng = np.random.default_rng(6)
    scores = np.concatenate([rng.normal(size=(20, 15)), rng.integers(0, 5, size=(20, 15))])
    relevant = rng.uniform(size=scores.shape) < 0.4
    relevant[:, 3] = True
    expected = [average_precision_score(relevant[a], scores[a]) for a in range(len(scores))]
    found = face.value("score_metric", AveragePrecision(), scores, relevant, reduction="none")
    assert_allclose(found, expected, rtol=1e-12)


def test_average_precision_is_what_smooth_ap_smooths(face: Face) -> None:
    rng = np.random.default_rng(7)
    embeddings, labels = rng.normal(size=(20, 4)), rng.integers(0, 5, size=20)
    exact = face.value("embedding_metric", AveragePrecision(), embeddings, labels, reduction="none")
    loss = face.value("embedding_loss", SmoothAP(1e-9), embeddings, labels, reduction="none")
    has_positive = np.sum(labels[:, None] == labels[None, :], axis=1) > 1
    assert_allclose(exact[has_positive], 1 - loss[has_positive], atol=1e-6)


@EACH_METRIC
def test_queries_without_a_positive_do_not_count(face: Face, metric: Any) -> None:
    scores = np.concatenate([SCORES, SCORES[:, ::-1]])
    relevant = np.concatenate([RELEVANT, np.zeros_like(RELEVANT)])
    alone = face.value("score_metric", metric, SCORES, RELEVANT)
    assert_allclose(face.value("score_metric", metric, scores, relevant), alone, rtol=1e-14)
    each = face.value("score_metric", metric, scores, relevant, reduction="none")
    assert_allclose(each, [float(alone), 0], rtol=1e-14)


@EACH_METRIC
def test_metrics_of_float32_are_float32(face: Face, metric: Any) -> None:
    found = face.value("score_metric", metric, SCORES.astype(np.float32), RELEVANT)
    assert found.dtype == np.float32
    assert math.isclose(float(found), oracle.score(metric, SCORES, RELEVANT), rel_tol=1e-6)


@EACH_METRIC
def test_a_nan_gives_nan(face: Face, metric: Any) -> None:
    rng = np.random.default_rng(8)
    embeddings, labels = rng.normal(size=(8, 3)), np.array([0, 1, 2, 3, 0, 1, 2, 3])
    for bad in (np.nan, np.inf):
        embeddings[5, 1] = bad
        assert np.isnan(face.value("embedding_metric", metric, embeddings, labels))


@EACH_METRIC
def test_metrics_are_values(metric: Any) -> None:
    same = type(metric)(**vars(metric)) if vars(metric) else type(metric)()
    assert same == metric
    assert hash(same) == hash(metric)
    assert repr(metric).startswith(type(metric).__name__ + "(")
    assert all(f"{name}={value}" in repr(metric) for name, value in vars(metric).items())


@pytest.mark.parametrize("k", [0, -1, 1.0, 2.5, True, "1", None])
def test_recall_needs_a_whole_k_of_at_least_1(k: Any) -> None:
    with pytest.raises((ValueError, TypeError), match=rf"(?s)\bk\b.*{k}|{k}.*\bk\b"):
        RecallAtK(k=k)


def test_recall_takes_a_numpy_integer() -> None:
    assert RecallAtK(k=np.int64(5)) == RecallAtK(k=5)
