"""The edges: empty and one-row batches, nothing to find, zero, tiny and huge rows, ties."""

import warnings
from typing import Any

import numpy as np
import oracle
import pytest
from cases import OBJECTIVES
from faces import Face
from numpy.testing import assert_allclose

from rankloss import FastAP, SmoothAP, SupCon

EACH_OBJECTIVE = pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
RNG = np.random.default_rng(0)
EMBEDDINGS = RNG.normal(size=(8, 3))
LABELS = np.array([0, 1, 2, 0, 1, 2, 0, 1])
SCORES = RNG.uniform(-1, 1, size=(4, 7))
RELEVANT = RNG.uniform(size=(4, 7)) < 0.4
RELEVANT[:, 0], RELEVANT[:, 6] = True, False


@pytest.mark.parametrize(
    ("shape", "labels"),
    [((0, 3), np.zeros(0, int)), ((0, 2, 3), None), ((3, 0, 3), None), ((0, 0, 3), None)],
    ids=["no rows", "no images", "no views", "neither"],
)
@EACH_OBJECTIVE
def test_an_empty_batch_has_no_loss(face: Face, objective: Any, shape: Any, labels: Any) -> None:
    arguments = (np.zeros(shape),) if labels is None else (np.zeros(shape), labels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        loss, gradient = face.value_and_gradient("embedding_loss", objective, *arguments)
        losses = face.value("embedding_loss", objective, *arguments, reduction="none")
    assert loss == 0
    assert loss.dtype == np.float64
    assert gradient.shape == shape
    assert losses.shape == shape[:-1]


@EACH_OBJECTIVE
def test_an_empty_gallery_has_no_loss(face: Face, objective: Any) -> None:
    options = {"gallery": np.zeros((0, 3)), "gallery_labels": np.zeros(0, int)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        loss, (d_queries, d_gallery) = face.value_and_gradient(
            "embedding_loss", objective, EMBEDDINGS, LABELS, **options
        )
    assert loss == 0
    assert_allclose(d_queries, np.zeros((8, 3)), atol=0)
    assert d_gallery.shape == (0, 3)


@EACH_OBJECTIVE
@pytest.mark.parametrize("shape", [(0, 5), (3, 0), (0, 0)], ids=str)
def test_empty_scores_have_no_loss(face: Face, objective: Any, shape: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        arguments = (np.zeros(shape), np.zeros(shape, bool))
        loss, gradient = face.value_and_gradient("score_loss", objective, *arguments)
        assert face.value("score_loss", objective, *arguments, reduction="none").shape == shape[:1]
    assert loss == 0
    assert gradient.shape == shape


@pytest.mark.parametrize(
    "arguments",
    [(EMBEDDINGS[:1], LABELS[:1]), (EMBEDDINGS, np.arange(8)), (EMBEDDINGS[:, None, :],)],
    ids=["one row", "singletons", "one view an image"],
)
@EACH_OBJECTIVE
def test_a_batch_without_a_positive_has_no_loss_and_one_warning(
    face: Face, objective: Any, arguments: Any
) -> None:
    for reduction in ("mean", "sum"):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            loss, gradient = face.value_and_gradient(
                "embedding_loss", objective, *arguments, reduction=reduction
            )
        assert loss == 0
        assert gradient.shape == arguments[0].shape
        assert np.all(gradient == 0)
        check_warnings(face, caught, views=len(arguments) == 1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        losses = face.value("embedding_loss", objective, *arguments, reduction="none")
    check_warnings(face, caught, views=len(arguments) == 1)
    assert losses.shape == arguments[0].shape[:-1]
    assert np.all(losses == 0)


def check_warnings(face: Face, caught: list[warnings.WarningMessage], views: bool = False) -> None:
    """One warning; none where labels are traced, but what follows from the number of views may be known."""
    if not face.traced or (views and caught):
        assert [warning.category for warning in caught] == [UserWarning]
        assert "positive" in str(caught[0].message)
    else:
        assert not caught


@EACH_OBJECTIVE
def test_one_warning_for_a_gallery_that_has_none_of_the_labels(face: Face, objective: Any) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loss, gradients = face.value_and_gradient(
            "embedding_loss", objective, EMBEDDINGS, LABELS, gallery=EMBEDDINGS, gallery_labels=LABELS + 50
        )
    check_warnings(face, caught)
    assert loss == 0
    assert np.all(gradients[0] == 0)
    assert np.all(gradients[1] == 0)


@EACH_OBJECTIVE
def test_with_include_query_a_singleton_is_its_own_positive(face: Face, objective: Any) -> None:
    labels = np.arange(8)
    expected = oracle.embedding(objective, EMBEDDINGS, labels, include_query=True, reduction="none")
    found = face.value("embedding_loss", objective, EMBEDDINGS, labels, include_query=True, reduction="none")
    assert_allclose(found, expected, rtol=1e-11, atol=1e-13)
    one = face.value("embedding_loss", objective, EMBEDDINGS[:1], labels[:1], include_query=True)
    assert_allclose(one, 0, atol=1e-14)


@EACH_OBJECTIVE
def test_one_class(face: Face, objective: Any) -> None:
    """Nothing can outrank a positive: no loss for AP, but one for SupCon."""
    labels = np.zeros(8, int)
    loss, gradient = face.value_and_gradient("embedding_loss", objective, EMBEDDINGS, labels)
    assert_allclose(loss, oracle.embedding(objective, EMBEDDINGS, labels), rtol=1e-12, atol=1e-14)
    if isinstance(objective, SmoothAP):
        assert_allclose(loss, 0, atol=1e-14)
        assert_allclose(gradient, 0, atol=1e-12)


@EACH_OBJECTIVE
def test_weights_that_are_all_0(face: Face, objective: Any) -> None:
    loss, gradient = face.value_and_gradient(
        "embedding_loss", objective, EMBEDDINGS, LABELS, weights=np.zeros(8)
    )
    assert loss == 0
    assert np.all(gradient == 0)


@EACH_OBJECTIVE
def test_gallery_labels_that_no_query_has_are_negatives(face: Face, objective: Any) -> None:
    labels = np.array([0, 5, 0, 9])  # nothing in the gallery is a 9
    gallery_labels = np.array([5, 77, 0, -4, 0, 0, 77, 12])
    options = {"gallery": EMBEDDINGS, "gallery_labels": gallery_labels, "reduction": "none"}
    expected = oracle.embedding(objective, EMBEDDINGS[:4], labels, **options)
    found = face.value("embedding_loss", objective, EMBEDDINGS[:4], labels, **options)
    assert_allclose(found, expected, rtol=1e-11, atol=1e-13)
    assert found[3] == 0


@EACH_OBJECTIVE
def test_a_gallery_that_equals_the_batch_excludes_nothing(face: Face, objective: Any) -> None:
    """Each query finds itself in the gallery: what include_query means for the batch."""
    as_gallery = face.value(
        "embedding_loss", objective, EMBEDDINGS, LABELS, gallery=EMBEDDINGS, gallery_labels=LABELS
    )
    included = face.value("embedding_loss", objective, EMBEDDINGS, LABELS, include_query=True)
    assert_allclose(as_gallery, included, rtol=1e-12)


@EACH_OBJECTIVE
def test_duplicates(face: Face, objective: Any) -> None:
    """Rows that come twice, within a class and across classes: their scores tie, and ties count one half."""
    embeddings = EMBEDDINGS[[0, 0, 1, 1, 2, 0, 3, 3]]
    expected = oracle.embedding(objective, embeddings, LABELS)
    loss, gradient = face.value_and_gradient("embedding_loss", objective, embeddings, LABELS)
    assert_allclose(loss, expected, rtol=1e-10)
    assert np.all(np.isfinite(gradient))


@EACH_OBJECTIVE
@pytest.mark.parametrize("against", ["the batch", "a gallery"])
def test_what_a_second_implementer_would_get_wrong_at_once(face: Face, objective: Any, against: str) -> None:
    """Duplicates within and across classes, a zero row, a weight of 0, a singleton, labels that occur nowhere."""
    embeddings = EMBEDDINGS[[0, 0, 1, 1, 2, 0, 3, 4, 5]]
    embeddings[6] = 0
    labels = np.array([0, 0, 0, 1, 1, 1, 2, 2, 9])
    options: dict[str, Any] = {"weights": np.array([1, 0.5, 2, 0, 1, 1, 0.7, 1, 3])}
    if against == "a gallery":
        rows = np.array([5, 77, 0, -4, 0, 2, 1, 12])
        options |= {"gallery": embeddings[[0, 8, 2, 6, 4, 5, 0, 7]], "gallery_labels": rows}
    loss, gradient = face.value_and_gradient("embedding_loss", objective, embeddings, labels, **options)
    assert_allclose(loss, oracle.embedding(objective, embeddings, labels, **options), rtol=1e-11)
    if isinstance(objective, FastAP):
        return  # duplicates lie on its first node, give or take a rounding
    found = gradient[0] if against == "a gallery" else gradient
    expected = oracle.gradient(lambda x: oracle.embedding(objective, x, labels, **options), embeddings)
    assert_allclose(found, expected, rtol=0, atol=1e-9 * max(1.0, np.abs(expected).max()))
    assert np.all(found[6] == 0)


@EACH_OBJECTIVE
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_all_rows_equal_and_all_rows_zero(face: Face, objective: Any, dtype: str) -> None:
    tolerance = 1e-5 if dtype == "float32" else 1e-10
    for embeddings in (np.ones((8, 3), dtype), np.zeros((8, 3), dtype)):
        expected = oracle.embedding(objective, embeddings, LABELS)
        loss, gradient = face.value_and_gradient("embedding_loss", objective, embeddings, LABELS)
        assert_allclose(loss, expected, rtol=tolerance)
        assert_allclose(gradient, 0, atol=tolerance * 100)


@EACH_OBJECTIVE
@pytest.mark.parametrize(
    ("dtype", "scale"), [("float32", 1e-30), ("float32", 1e30), ("float64", 1e-300), ("float64", 1e300)]
)
def test_rows_are_normalised_however_small_or_large(
    face: Face, objective: Any, dtype: str, scale: float
) -> None:
    """Their squares under- or overflow. The gradient grows as the rows shrink."""
    embeddings = EMBEDDINGS.astype(dtype)
    embeddings[[1, 4]] *= np.asarray(scale, dtype)
    tolerance = 1e-5 if dtype == "float32" else 1e-11
    loss, gradient = face.value_and_gradient("embedding_loss", objective, embeddings, LABELS)
    plain_loss, plain = face.value_and_gradient("embedding_loss", objective, EMBEDDINGS.astype(dtype), LABELS)
    assert_allclose(loss, plain_loss, rtol=tolerance)
    unscaled = gradient.copy()
    unscaled[[1, 4]] *= np.asarray(scale, dtype)
    assert_allclose(unscaled, plain, rtol=0, atol=10 * tolerance * np.abs(plain).max())


def test_the_smallest_of_all_rows_is_not_zero(face: Face) -> None:
    """Subnormal numbers, which no reciprocal fits."""
    if face.framework in ("jax", "tensorflow"):
        pytest.skip("their kernels take subnormal numbers for zero")
    embeddings = np.array([[1e-45, 0], [1, 0], [0, 1e-45], [0.1, 1]], dtype=np.float32)
    labels = np.array([0, 0, 1, 1])
    expected = oracle.embedding(SmoothAP(), embeddings, labels)
    assert_allclose(face.value("embedding_loss", SmoothAP(), embeddings, labels), expected, atol=1e-6)


@EACH_OBJECTIVE
def test_the_dtype_and_shape_of_a_loss_follow_the_embeddings(face: Face, objective: Any) -> None:
    for dtype in ("float32", "float64"):
        for weights in (None, np.ones(8, "float32"), np.ones(8, "float64"), np.ones(8, "int64")):
            arguments = (EMBEDDINGS.astype(dtype), LABELS)
            loss, gradient = face.value_and_gradient("embedding_loss", objective, *arguments, weights=weights)
            losses = face.value("embedding_loss", objective, *arguments, weights=weights, reduction="none")
            assert (loss.shape, losses.shape, gradient.shape) == ((), (8,), (8, 3))
            assert loss.dtype == losses.dtype == gradient.dtype == dtype


def test_inputs_are_left_as_they_are(face: Face) -> None:
    """Read-only in spirit: nothing is normalised, masked or sorted in place."""
    for objective in (SmoothAP(), FastAP(), SupCon()):
        arrays = [
            face.array(array)
            for array in (EMBEDDINGS, LABELS, np.full(8, 0.5), SCORES, RELEVANT, np.ones_like(RELEVANT))
        ]
        embeddings, labels, weights, scores, relevant, valid = arrays
        face.value_and_gradient("embedding_loss", objective, embeddings, labels, weights=weights)
        face.value_and_gradient("score_loss", objective, scores, relevant, valid=valid)
        for array, before in zip(
            arrays, (EMBEDDINGS, LABELS, np.full(8, 0.5), SCORES, RELEVANT, True), strict=True
        ):
            assert np.all(face.numpy(array) == before)


@EACH_OBJECTIVE
@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1e6, 1e30])
def test_only_the_proportions_of_weights_count_in_a_mean(face: Face, objective: Any, scale: float) -> None:
    weights = np.linspace(0.5, 2, 8, dtype=np.float32)
    arguments = ("embedding_loss", objective, EMBEDDINGS.astype(np.float32), LABELS)
    loss, gradient = face.value_and_gradient(*arguments, weights=weights)
    scaled_loss, scaled = face.value_and_gradient(*arguments, weights=weights * np.float32(scale))
    assert_allclose(scaled_loss, loss, rtol=1e-6)
    assert_allclose(scaled, gradient, rtol=0, atol=1e-6 * np.abs(gradient).max())


@EACH_OBJECTIVE
@pytest.mark.parametrize("largest", [1e-37, 3e38, 1e-300, 1e300])
@pytest.mark.parametrize("function", ["embedding_loss", "score_loss"])
def test_weights_at_the_ends_of_the_range(face: Face, objective: Any, function: str, largest: float) -> None:
    """Losses of float32, with weights whose sum overflows in it, or which are of a wider type."""
    weights = np.array([1.0, 1, 1, 0.5, 0.25, 1, 1, 0])
    if function == "embedding_loss":
        arguments: tuple[Any, ...] = (function, objective, EMBEDDINGS.astype(np.float32), LABELS)
    else:
        arguments = (function, objective, SCORES.astype(np.float32), RELEVANT)
        weights = weights[: len(SCORES)]
    loss, gradient = face.value_and_gradient(*arguments, weights=weights)
    large = weights * largest if largest in (1e-300, 1e300) else (weights * largest).astype(np.float32)
    scaled_loss, scaled = face.value_and_gradient(*arguments, weights=large)
    assert_allclose(scaled_loss, loss, rtol=1e-6)
    assert_allclose(scaled, gradient, rtol=0, atol=1e-6 * np.abs(gradient).max())
