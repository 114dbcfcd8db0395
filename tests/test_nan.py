"""NaN and infinity: what they break, what they leave whole, and what masks hide."""

from typing import Any

import numpy as np
import pytest
from cases import OBJECTIVES
from faces import Face
from numpy.testing import assert_allclose

EACH_OBJECTIVE = pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
RNG = np.random.default_rng(0)
EMBEDDINGS = RNG.normal(size=(8, 3))
LABELS = np.array([0, 1, 2, 0, 1, 2, 0, 1])
SCORES = RNG.uniform(-1, 1, size=(4, 7))
RELEVANT = RNG.uniform(size=(4, 7)) < 0.4
RELEVANT[:, 0], RELEVANT[:, 6] = True, False


@EACH_OBJECTIVE
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf], ids=str)
def test_a_broken_row_breaks_the_loss(face: Face, objective: Any, normalize: bool, bad: float) -> None:
    embeddings = EMBEDDINGS.copy()
    embeddings[3, 1] = bad
    for reduction in ("mean", "sum"):
        loss, gradient = face.value_and_gradient(
            "embedding_loss", objective, embeddings, LABELS, normalize=normalize, reduction=reduction
        )
        assert np.isnan(loss)
        assert np.any(np.isnan(gradient[3]))
    losses = face.value(
        "embedding_loss", objective, embeddings, LABELS, normalize=normalize, reduction="none"
    )
    assert np.all(np.isnan(losses))  # every query has the row among its candidates, or is the row


@EACH_OBJECTIVE
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("bad", [np.nan, np.inf], ids=str)
@pytest.mark.parametrize("where", ["embeddings", "gallery"])
def test_a_broken_row_of_queries_or_gallery(
    face: Face, objective: Any, normalize: bool, bad: float, where: str
) -> None:
    arrays = {"embeddings": EMBEDDINGS[:3].copy(), "gallery": EMBEDDINGS[2:].copy()}
    arrays[where][1, 0] = bad
    loss, gradients = face.value_and_gradient(
        "embedding_loss",
        objective,
        arrays["embeddings"],
        LABELS[:3],
        gallery=arrays["gallery"],
        gallery_labels=LABELS[2:],
        normalize=normalize,
    )
    assert np.isnan(loss)
    assert np.any(np.isnan(gradients[where == "gallery"][1]))


@EACH_OBJECTIVE
def test_a_broken_query_without_a_positive_breaks_nothing(face: Face, objective: Any) -> None:
    rng = np.random.default_rng(4)
    queries, gallery = rng.normal(size=(5, 3)), rng.normal(size=(8, 3))
    queries[2, 1] = np.nan
    labels, gallery_labels = np.array([0, 1, 9, 2, 3]), np.arange(8) % 4
    loss, (d_queries, d_gallery) = face.value_and_gradient(
        "embedding_loss", objective, queries, labels, gallery=gallery, gallery_labels=gallery_labels
    )
    assert np.isfinite(loss)
    assert np.all(np.isfinite(d_queries[[0, 1, 3, 4]]))
    assert np.all(np.isfinite(d_gallery))


@EACH_OBJECTIVE
def test_weight_0_does_not_hide_a_nan(face: Face, objective: Any) -> None:
    scores = SCORES.copy()
    scores[1, 2] = np.nan
    for reduction in ("mean", "sum"):
        loss, gradient = face.value_and_gradient(
            "score_loss",
            objective,
            scores,
            RELEVANT,
            weights=np.array([1.0, 0.0, 1.0, 1.0]),
            reduction=reduction,
        )
        assert np.isnan(loss)
        assert np.any(np.isnan(gradient[1]))


@EACH_OBJECTIVE
@pytest.mark.parametrize("hidden", [np.nan, np.inf, -np.inf, 1e300], ids=str)
def test_valid_hides_whatever_stands_there(face: Face, objective: Any, hidden: float) -> None:
    valid = RNG.uniform(size=SCORES.shape) < 0.7
    valid[:, 0] = True
    valid[0, 5], valid[2] = False, False
    options = {"valid": valid, "weights": np.array([1.0, 0.5, 2.0, 0.0])}
    zeros, broken = np.where(valid, SCORES, 0.0), np.where(valid, SCORES, hidden)
    loss, gradient = face.value_and_gradient("score_loss", objective, zeros, RELEVANT, **options)
    found_loss, found = face.value_and_gradient("score_loss", objective, broken, RELEVANT, **options)
    assert np.isfinite(loss)
    assert_allclose(found_loss, loss, rtol=1e-14)
    assert_allclose(found, gradient, rtol=1e-12, atol=1e-15)
    assert np.all(found[~valid] == 0)


@EACH_OBJECTIVE
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf], ids=str)
@pytest.mark.parametrize("item", [0, 6], ids=["positive", "negative"])
def test_a_broken_valid_score_breaks_its_query_alone(
    face: Face, objective: Any, bad: float, item: int
) -> None:
    scores, relevant = SCORES.copy(), RELEVANT.copy()
    scores[[1, 2], item] = bad
    relevant[2] = False  # nothing to find, so nothing to break
    losses = face.value("score_loss", objective, scores, relevant, reduction="none")
    assert np.isnan(losses[1])
    assert losses[2] == 0
    assert np.all(np.isfinite(losses[[0, 3]]))
    loss, gradient = face.value_and_gradient("score_loss", objective, scores, relevant)
    assert np.isnan(loss)
    assert np.any(np.isnan(gradient[1]))


@EACH_OBJECTIVE
def test_relevant_outside_valid_counts_for_nothing(face: Face, objective: Any) -> None:
    valid = RNG.uniform(size=SCORES.shape) < 0.5
    valid[:, 0] = True
    loose = face.value_and_gradient("score_loss", objective, SCORES, RELEVANT, valid=valid)
    strict = face.value_and_gradient("score_loss", objective, SCORES, RELEVANT & valid, valid=valid)
    assert_allclose(loose[0], strict[0], rtol=1e-15)
    assert_allclose(loose[1], strict[1], rtol=1e-15)
