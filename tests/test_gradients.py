"""Gradients of every face, objective, layout and option, against complex steps and central differences."""

import itertools
from typing import Any

import numpy as np
import oracle
import pytest
from cases import OBJECTIVES, Case, ScoreCase, embedding_cases, random_weights, score_cases, stacked
from faces import Face
from hypothesis import given
from numpy.testing import assert_allclose

from rankloss import FastAP, SmoothAP, SupCon


def assert_gradient(found: Any, expected: Any, tolerance: float = 1e-9) -> None:
    """Equal up to `tolerance` of the largest entry, or of 1: small ones are differences of larger terms."""
    assert found.shape == expected.shape
    assert_allclose(found, expected, rtol=0, atol=tolerance * max(1.0, np.abs(expected).max(initial=0.0)))


def as_array(embeddings: Any) -> Any:
    return np.stack(embeddings, axis=1) if isinstance(embeddings, tuple) else embeddings


def check(face: Face, case: Case) -> None:
    """The loss and the gradients, for the embeddings and the gallery, are the oracle's."""
    loss, found = face.value_and_gradient("embedding_loss", case.objective, *case.arguments, **case.options)
    expected_loss = oracle.embedding(case.objective, *case.arguments, **case.options)
    assert_allclose(loss, expected_loss, rtol=1e-10, atol=1e-10)

    def loss_of_embeddings(embeddings: Any) -> Any:
        return oracle.embedding(case.objective, embeddings, case.labels, **case.options)

    gradient = oracle.gradient(loss_of_embeddings, as_array(case.embeddings))
    if "gallery" not in case.options:
        assert_gradient(stacked(found), gradient)
        return

    def loss_of_gallery(gallery: Any) -> Any:
        options = case.options | {"gallery": gallery}
        return oracle.embedding(case.objective, case.embeddings, case.labels, **options)

    assert_gradient(found[0], gradient)
    assert_gradient(found[1], oracle.gradient(loss_of_gallery, case.options["gallery"]))


@given(case=embedding_cases())
def test_embedding_gradients_equal_the_complex_step(face: Face, case: Case) -> None:
    check(face, case)


@given(case=score_cases())
def test_score_gradients_equal_the_complex_step(face: Face, case: ScoreCase) -> None:
    def loss_of_scores(scores: Any) -> Any:
        return oracle.score(case.objective, scores, case.relevant, **case.options)

    found = face.value_and_gradient("score_loss", case.objective, case.scores, case.relevant, **case.options)
    assert_allclose(found[0], loss_of_scores(case.scores), rtol=1e-10, atol=1e-10)
    assert_gradient(found[1], oracle.gradient(loss_of_scores, case.scores))


def batches(rng: np.random.Generator) -> dict[str, tuple[Any, Any, dict[str, Any]]]:
    """A small batch of each layout: embeddings, labels, and the options that the layout needs."""
    rows, gallery = rng.normal(size=(6, 3)), rng.normal(size=(5, 3))
    views, labels = rng.normal(size=(2, 3, 3)), np.array([2, 0, 2, 2, 5, 0])
    relevant = np.array([[True, False, True, False, False]] * 3 + [[False, True, True, True, False]] * 3)
    return {
        "labels": (rows, labels, {}),
        "views": (views, None, {}),
        "tuple of views": (tuple(views[:, view] for view in range(3)), None, {}),
        "gallery": (rows, labels, {"gallery": gallery, "gallery_labels": np.array([0, 2, 7, 2, 0])}),
        "relevant": (rows, None, {"gallery": gallery, "relevant": relevant}),
    }


@pytest.mark.parametrize("layout", ["labels", "views", "tuple of views", "gallery", "relevant"])
@pytest.mark.parametrize("objective", [SmoothAP(0.1), FastAP(7), SupCon(0.1)], ids=repr)
def test_every_combination_of_options(face: Face, objective: Any, layout: str) -> None:
    """Value and gradients of the full product, so that no combination is left to chance."""
    rng = np.random.default_rng(12)
    embeddings, labels, needed = batches(rng)[layout]
    weights = random_weights(rng, as_array(embeddings).shape[:-1])
    inclusions = [False] if "gallery" in needed else [False, True]
    product = itertools.product([True, False], inclusions, [None, weights], ["mean", "sum"], [None, 2])
    for normalize, include_query, weight, reduction, block_size in product:
        options = needed | {"normalize": normalize, "weights": weight, "reduction": reduction}
        case = Case(objective, embeddings, labels, options | {"include_query": include_query})
        check(face, case.with_options(block_size=block_size))


@pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
@pytest.mark.parametrize("options", [{}, {"include_query": True}, {"normalize": False, "reduction": "sum"}])
def test_gradients_equal_central_differences_of_the_value(
    face: Face, objective: Any, options: dict[str, Any]
) -> None:
    """The value and the gradient of one face agree with each other, oracle or no oracle."""
    rng = np.random.default_rng(3)
    embeddings = rng.normal(size=(9, 5)) * 0.4
    labels = np.array([4, 4, 0, 1, 4, 0, 1, 4, 9])
    _, gradient = face.value_and_gradient("embedding_loss", objective, embeddings, labels, **options)

    def value(moved: Any) -> Any:
        return face.value("embedding_loss", objective, moved, labels, **options)

    for _ in range(4):
        direction = rng.normal(size=embeddings.shape)
        expected = oracle.central_difference(value, embeddings, direction, step=1e-5)
        assert_allclose(np.sum(gradient * direction), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
def test_gradients_of_a_larger_batch_at_any_block_size(face: Face, objective: Any) -> None:
    """Several blocks, classes wider than a chunk of positives; along one direction, for the time it takes."""
    rng = np.random.default_rng(6)
    labels = rng.permutation(np.repeat(np.arange(5), [40, 1, 2, 17, 9]))
    embeddings = rng.normal(size=(len(labels), 8))
    weights = rng.uniform(0.5, 2.0, size=len(labels))
    direction = rng.normal(size=embeddings.shape)
    step = 1e-100
    moved = oracle.embedding(objective, embeddings + step * 1j * direction, labels, weights=weights)
    for block_size in (None, 1, 7, 64):
        _, gradient = face.value_and_gradient(
            "embedding_loss", objective, embeddings, labels, weights=weights, block_size=block_size
        )
        assert_allclose(np.sum(gradient * direction), moved.imag / step, rtol=1e-9, atol=1e-11)


def test_fast_ap_has_no_gradient_beyond_its_range(face: Face) -> None:
    """Distances outside [0, 4] count as the nearer end, and moving them further changes nothing."""
    scores = np.array([[1.5, 0.3, -1.7, 0.2, -0.6]])
    relevant = np.array([[True, False, True, True, False]])
    loss, gradient = face.value_and_gradient("score_loss", FastAP(num_bins=7), scores, relevant)
    inside = face.value("score_loss", FastAP(num_bins=7), np.clip(scores, -1, 1), relevant)
    assert_allclose(loss, inside, rtol=1e-14)
    assert np.all(gradient[0, [0, 2]] == 0)
    expected = oracle.gradient(lambda moved: oracle.score(FastAP(num_bins=7), moved, relevant), scores)
    assert np.count_nonzero(expected) == 2
    assert_gradient(gradient, expected)


def test_fast_ap_at_a_node_takes_the_derivative_of_the_side_towards_zero(face: Face) -> None:
    """Distances 2 - 2 s on the nodes of two bins: 0, 2 and 4; the ends have no derivative."""
    scores = np.array([[1.0, 0.0, -1.0, 0.3, -0.2]])
    relevant = np.array([[True, True, False, False, True]])
    _, gradient = face.value_and_gradient("score_loss", FastAP(num_bins=2), scores, relevant)
    below = scores + np.array([[0.0, 1e-9, 0.0, 0.0, 0.0]])
    expected = oracle.gradient(lambda moved: oracle.score(FastAP(num_bins=2), moved, relevant), below)
    assert gradient[0, 0] == 0
    assert gradient[0, 2] == 0
    assert_allclose(gradient[0, [1, 3, 4]], expected[0, [1, 3, 4]], rtol=1e-6)


def test_a_zero_row_gets_no_gradient_when_normalised(face: Face) -> None:
    rng = np.random.default_rng(8)
    embeddings = rng.normal(size=(6, 3))
    embeddings[2] = 0
    labels = np.array([0, 1, 0, 1, 0, 1])
    for objective in OBJECTIVES:
        loss, gradient = face.value_and_gradient("embedding_loss", objective, embeddings, labels)
        assert_allclose(loss, oracle.embedding(objective, embeddings, labels), rtol=1e-12)
        assert np.all(gradient[2] == 0)
        expected = oracle.gradient(lambda moved, o=objective: oracle.embedding(o, moved, labels), embeddings)
        assert_gradient(gradient, expected)


def test_a_zero_row_is_a_row_like_any_other_when_not_normalised(face: Face) -> None:
    rng = np.random.default_rng(8)
    embeddings = rng.normal(size=(6, 3))
    embeddings[2] = 0
    labels = np.array([0, 1, 0, 1, 0, 1])
    objective = SmoothAP(temperature=0.3)
    _, gradient = face.value_and_gradient("embedding_loss", objective, embeddings, labels, normalize=False)
    expected = oracle.gradient(
        lambda moved: oracle.embedding(objective, moved, labels, normalize=False), embeddings
    )
    assert np.any(gradient[2] != 0)
    assert_gradient(gradient, expected)
