"""float32 and float16 against float64: scores far from 0, positives far apart, small temperatures."""

from typing import Any

import numpy as np
import oracle
import pytest
from cases import OBJECTIVES
from faces import Face
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from rankloss import FastAP, SmoothAP, SupCon

EACH_OBJECTIVE = pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
TEMPERATURES = (0.001, 0.003, 0.01, 0.1, 1.0)


def unavoidable(objective: Any, scores: Any, relevant: Any, epsilon: float) -> float:
    """What the last digits of scores near 1 move the loss by, to first order, with a few such digits each."""
    total = 0.0
    for row, mask in zip(scores[:, None], relevant[:, None], strict=True):
        slopes = oracle.gradient(lambda moved, mask=mask: oracle.score(objective, moved, mask), row)
        total += float(np.sum(np.abs(slopes)))
    return 4 * epsilon * total / len(scores)


@pytest.mark.parametrize("make", [SmoothAP, SupCon])
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_float32_losses_of_every_temperature(face: Face, make: Any, temperature: float) -> None:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 6, size=30)
    embeddings = rng.normal(size=(30, 16)).astype(np.float32)
    objective = make(temperature=temperature)
    unit = oracle.normalized(embeddings.astype(np.float64))
    relevant = labels[:, None] == labels[None, :]
    expected = oracle.embedding(objective, embeddings, labels)
    bound = unavoidable(objective, unit @ unit.T, relevant, 2.0**-23)
    found = face.value("embedding_loss", objective, embeddings, labels)
    assert found.dtype == np.float32
    assert_allclose(found, expected, rtol=2e-6, atol=bound)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("make", "expected"), [(SmoothAP, [5 / 12, 8 / 21]), (SupCon, [0.4e30, 0.15e30])])
def test_the_least_temperature(face: Face, make: Any, expected: list[float], dtype: str) -> None:
    """Smooth-AP is 1 − AP there, a tie counting ½, and SupCon the distance to the best over the temperature."""
    scores = np.array([[0.9, 0.7, 0.3, 0.1], [0.2, 0.5, 0.5, 0.2]], dtype)
    relevant = np.array([[False, True, True, False], [True, True, False, False]])
    for row, loss in enumerate(expected):
        arguments = ("score_loss", make(temperature=1e-30), scores[row : row + 1], relevant[row : row + 1])
        found, gradient = face.value_and_gradient(*arguments)
        assert_allclose(found, loss, rtol=1e-6)
        assert np.isfinite(gradient).all()


@EACH_OBJECTIVE
@given(seed=st.integers(0, 2**32 - 1))
def test_float32_agrees_with_float64(face: Face, objective: Any, seed: int) -> None:
    """Loss to 1e-5, gradient to 1e-4 of its largest entry."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, size=14)
    labels[1] = labels[0]
    embeddings = rng.normal(size=(14, 8)).astype(np.float32)
    loss, gradient = face.value_and_gradient("embedding_loss", objective, embeddings, labels)
    expected_loss, expected = face.value_and_gradient(
        "embedding_loss", objective, embeddings.astype(np.float64), labels
    )
    assert loss.dtype == gradient.dtype == np.float32
    assert_allclose(loss, expected_loss, rtol=1e-5, atol=1e-5)
    assert_allclose(gradient, expected, rtol=0, atol=1e-4 * np.abs(expected).max() + 1e-6)


def on_a_grid(rng: np.random.Generator, shape: tuple[int, ...], step: float) -> Any:
    """Scores in [-1, 1] that float32 and sums with powers of two hold exactly."""
    return rng.integers(-int(1 / step), int(1 / step) + 1, size=shape) * step


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("offset", [-64.0, 8.0, 512.0])
@pytest.mark.parametrize("make", [SmoothAP, SupCon])
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_scores_far_from_0_are_as_exact_as_near_it(
    face: Face, make: Any, temperature: float, offset: float, dtype: str
) -> None:
    """Up to hundreds of thousands of temperatures away; the sums are exact, so only the library could err."""
    rng = np.random.default_rng(2)
    scores, relevant = on_a_grid(rng, (5, 12), 2.0**-12), rng.uniform(size=(5, 12)) < 0.4
    relevant[:, 0] = True
    objective, tolerance = make(temperature=temperature), 1e-5 if dtype == "float32" else 1e-12
    near = face.value_and_gradient("score_loss", objective, scores.astype(dtype), relevant)
    far = face.value_and_gradient("score_loss", objective, (scores + offset).astype(dtype), relevant)
    assert_allclose(near[0], oracle.score(objective, scores, relevant), rtol=tolerance, atol=tolerance)
    assert_allclose(far[0], near[0], rtol=tolerance, atol=tolerance)
    assert_allclose(far[1], near[1], rtol=0, atol=10 * tolerance * np.abs(near[1]).max())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("temperature", [0.001, 0.004, 0.01, 0.02])
def test_positives_further_apart_than_an_exponential_reaches(
    face: Face, temperature: float, dtype: str
) -> None:
    """A spread of up to 2 over the temperature: 100 to 2,000, where exp overflows at 88 (float32) or 709."""
    rng = np.random.default_rng(3)
    scores, relevant = on_a_grid(rng, (6, 20), 2.0**-9), rng.uniform(size=(6, 20)) < 0.5
    scores[:, :4] = [1.0, -1.0, 1.0 - 2.0**-9, 2.0**-9 - 1.0]
    relevant[:, :4] = [True, True, False, False]
    # One query's positives are close together, with negatives far on both sides of them.
    relevant[5] = False
    relevant[5, 4:7] = True
    scores[5, 4:7] = [0.0, 2.0**-9, -(2.0**-9)]
    objective = SmoothAP(temperature=temperature)
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    losses = face.value("score_loss", objective, scores.astype(dtype), relevant, reduction="none")
    expected = oracle.score(objective, scores, relevant, reduction="none")
    assert_allclose(losses, expected, rtol=tolerance, atol=tolerance)
    _, gradient = face.value_and_gradient("score_loss", objective, scores.astype(dtype), relevant)
    slopes = oracle.gradient(lambda moved: oracle.score(objective, moved, relevant), scores)
    assert_allclose(gradient, slopes, rtol=0, atol=10 * tolerance * np.abs(slopes).max())


@pytest.mark.parametrize(
    ("dtype", "spreads"), [("float32", range(100, 171, 5)), ("float64", range(1300, 1451, 10))]
)
def test_positives_just_within_and_just_beyond_what_one_centre_covers(
    face: Face, dtype: str, spreads: range
) -> None:
    """A query at a time, as one that is beyond may change how those beside it are computed."""
    temperature, tolerance = 0.5**10, 1e-5 if dtype == "float32" else 1e-12
    inside = np.array([-1.0, -0.99, -0.9, 0.0, 0.9, 0.99, 1.0])
    outside = np.array([1, -1, 6, -6, 12, -12])[:, None]  # of negatives, in temperatures from each positive
    relevant = np.array([[True] * 7 + [False] * 42])
    for spread in spreads:
        positives = (spread * temperature / 2 * inside).astype(dtype)
        negatives = positives + (outside * temperature).astype(dtype)
        scores = np.concatenate([positives, negatives.ravel()])[None]
        exact = scores.astype(np.float64)
        objective = SmoothAP(temperature=temperature)
        loss, gradient = face.value_and_gradient("score_loss", objective, scores, relevant)
        assert_allclose(loss, oracle.score(objective, exact, relevant), rtol=tolerance)
        slopes = oracle.gradient(lambda moved, o=objective: oracle.score(o, moved, relevant), exact)
        assert_allclose(gradient, slopes, rtol=0, atol=10 * tolerance * np.abs(slopes).max())


def test_many_items_far_below_every_positive_count_nothing(face: Face) -> None:
    """Sixty thousand of them: what one counts by being clipped must not add up."""
    temperature = 0.01
    positives, negatives = np.array([0.6, -0.6]), np.full(60_000, -1.0)
    scores = np.concatenate([positives, negatives])[None].astype(np.float32)
    relevant = np.arange(scores.shape[1])[None] < 2
    objective = SmoothAP(temperature=temperature)
    assert_allclose(face.value("score_loss", objective, scores, relevant), 0.0, atol=1e-6)


@pytest.mark.parametrize("nearness", [1.0, 0.05])
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_no_temperature_or_spread_overflows(face: Face, temperature: float, nearness: float) -> None:
    """NumPy's warnings of overflow and invalid values are errors here; other libraries must give finite numbers.

    Where positives are near each other, negatives are further out than an exponential reaches.
    """
    rng = np.random.default_rng(7)
    halves = np.repeat([0.0, 0.01, 0.1, 0.5, 1.0, 2.0], 2)[:, None] / 2
    scores, relevant = rng.uniform(-halves, halves, size=(12, 24)), rng.uniform(size=(12, 24)) < 0.4
    relevant[:, 0] = True
    scores = np.where(relevant, nearness * scores, scores).astype(np.float32)
    objective = SmoothAP(temperature=temperature)
    loss, gradient = face.value_and_gradient("score_loss", objective, scores, relevant)
    assert np.isfinite(gradient).all()
    exact = oracle.score(objective, scores.astype(np.float64), relevant)
    assert_allclose(loss, exact, rtol=0, atol=1e-6)


@EACH_OBJECTIVE
def test_float16(face: Face, objective: Any) -> None:
    """Scores and sums in float32, the gradient in the input's dtype."""
    if face.backend == "array_api_strict":
        pytest.skip("the array-API standard has no float16")
    rng = np.random.default_rng(4)
    embeddings, labels = rng.normal(size=(20, 8)).astype(np.float16), rng.integers(0, 5, size=20)
    loss, gradient = face.value_and_gradient("embedding_loss", objective, embeddings, labels)
    expected_loss, expected = face.value_and_gradient(
        "embedding_loss", objective, embeddings.astype(np.float64), labels
    )
    assert loss.dtype == np.float32
    assert gradient.dtype == np.float16
    assert_allclose(loss, expected_loss, rtol=1e-5, atol=1e-5)
    assert_allclose(gradient, expected, rtol=2e-3, atol=1e-4 * np.abs(expected).max() + 1e-6)


@EACH_OBJECTIVE
def test_float16_scores_and_gallery(face: Face, objective: Any) -> None:
    if face.backend == "array_api_strict":
        pytest.skip("the array-API standard has no float16")
    rng = np.random.default_rng(5)
    scores, relevant = rng.uniform(-1, 1, (4, 9)).astype(np.float16), rng.uniform(size=(4, 9)) < 0.5
    loss, gradient = face.value_and_gradient("score_loss", objective, scores, relevant)
    assert (loss.dtype, gradient.dtype) == (np.float32, np.float16)
    expected = oracle.score(objective, scores.astype(np.float64), relevant)
    assert_allclose(loss, expected, rtol=1e-5, atol=1e-5)
    queries, gallery = rng.normal(size=(4, 3)).astype(np.float16), rng.normal(size=(9, 3)).astype(np.float16)
    loss, gradients = face.value_and_gradient(
        "embedding_loss", objective, queries, gallery=gallery, relevant=relevant
    )
    assert loss.dtype == np.float32
    assert [part.dtype for part in gradients] == [np.float16, np.float16]


@pytest.mark.parametrize("num_bins", [1, 10, 50])
def test_fast_ap_in_float32(face: Face, num_bins: int) -> None:
    rng = np.random.default_rng(6)
    embeddings, labels = rng.normal(size=(30, 16)).astype(np.float32), rng.integers(0, 6, size=30)
    expected = oracle.embedding(FastAP(num_bins), embeddings, labels)
    assert_allclose(face.value("embedding_loss", FastAP(num_bins), embeddings, labels), expected, atol=1e-5)
