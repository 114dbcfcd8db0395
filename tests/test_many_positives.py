"""Ranks of many positives, which float32 reads off sums over a grid of the score axis: as exact as float32 is."""

from typing import Any

import numpy as np
import pytest
from faces import Face, selected_faces
from numpy.testing import assert_allclose, assert_array_equal

import rankloss
from rankloss import SmoothAP, _ranks, _score_grid
from rankloss._framework import framework_of
from rankloss._score_grid import ScoreGrid, VectorScoreGrid
from rankloss._xla import XlaFramework

EAGER = [face for face in selected_faces() if face.name in ("rankloss.torch", "rankloss.tensorflow")]
COMPILED = [face for face in selected_faces() if face.name in ("rankloss.jax", "tf.function", "XLA")]
ITEMS = 2000
"""Enough for the grid to pay from a hundred positives on, with every framework."""


@pytest.fixture(
    scope="module",
    params=[*EAGER, *(pytest.param(face, marks=pytest.mark.long) for face in COMPILED)],
    ids=[face.name for face in EAGER + COMPILED],
)
def face(request: pytest.FixtureRequest) -> Face:
    """The ways to call the library that may use a grid."""
    return request.param


@pytest.fixture
def grids(monkeypatch: pytest.MonkeyPatch) -> list[ScoreGrid]:
    """The grids that are used, or built into programs, from here on."""
    used, sampled = list[ScoreGrid](), _ranks.sampled_loss_and_gradient

    def noted(framework: Any, of_ranks: Any, grid: ScoreGrid, *arguments: Any) -> Any:
        used.append(grid)
        return sampled(framework, of_ranks, grid, *arguments)

    monkeypatch.setattr(_ranks, "sampled_loss_and_gradient", noted)
    return used


def scores_and_mask(positives: int, centre: float = 0.3, width: float = 0.2) -> tuple[Any, Any]:
    """Three queries with positives of a normal distribution, and one without any."""
    rng = np.random.default_rng(positives)
    relevant = np.argsort(rng.uniform(size=(4, ITEMS)), axis=1) < positives
    relevant[3] = False
    high = np.clip(centre + width * rng.normal(size=relevant.shape), -1, 1)
    return np.where(relevant, high, rng.uniform(-1, 1, size=relevant.shape)).astype(np.float32), relevant


def in_float64(value: Any) -> Any:
    return value.astype(np.float64) if getattr(value, "dtype", None) == np.float32 else value


def check(face: Face, temperature: float, function: str, *arguments: Any, **options: Any) -> None:
    """Loss and gradient are within 1e-5 of the loss and of the gradient's largest entry.

    Unless differences of the scores are wider, in temperatures, than float32 can tell.
    """
    objective = SmoothAP(temperature)
    loss, gradient = face.value_and_gradient(function, objective, *arguments, **options)
    expected, slopes = getattr(rankloss, f"{function}_and_gradient")(
        objective, *map(in_float64, arguments), **{name: in_float64(value) for name, value in options.items()}
    )
    assert loss.dtype == np.float32
    assert_allclose(loss, expected, rtol=1e-5, atol=1e-7)
    pairs = zip(gradient, slopes, strict=True) if isinstance(slopes, tuple) else [(gradient, slopes)]
    for found, wanted in pairs:
        tolerance = max(1e-5, 2.0**-24 / temperature)
        assert_allclose(found, wanted, rtol=0, atol=tolerance * np.abs(wanted).max() + 1e-9)


@pytest.mark.parametrize("temperature", [0.001, 0.01, 0.1, 1.0])
@pytest.mark.parametrize(
    ("positives", "centre", "width"),
    [(100, 0.6, 0.15), (409, 0.2, 0.3), (409, 0.0, 0.01), (1000, 0.9, 0.001)],
)
def test_scores_of_every_temperature(
    face: Face, temperature: float, positives: int, centre: float, width: float
) -> None:
    check(face, temperature, "score_loss", *scores_and_mask(positives, centre, width))


@pytest.mark.parametrize("compiled", COMPILED, ids=lambda face: face.name)
def test_compiled(compiled: Face, grids: list[ScoreGrid]) -> None:
    check(compiled, 0.02, "score_loss", *scores_and_mask(409))
    assert grids


@pytest.mark.parametrize("include_query", [False, True])
def test_labels(face: Face, grids: list[ScoreGrid], include_query: bool) -> None:
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(np.arange(4), [180, 150, 69, 1]))
    embeddings = (rng.normal(size=(400, 8)) + 0.7 * rng.normal(size=(4, 8))[labels]).astype(np.float32)
    check(face, 0.05, "embedding_loss", embeddings, labels, include_query=include_query)
    assert grids


def test_a_gallery(face: Face) -> None:
    rng = np.random.default_rng(1)
    queries, gallery = (rng.normal(size=(n, 8)).astype(np.float32) for n in (9, ITEMS))
    labels, gallery_labels = rng.integers(0, 6, size=9), rng.integers(0, 5, size=ITEMS)
    check(face, 0.05, "embedding_loss", queries, labels, gallery=gallery, gallery_labels=gallery_labels)
    check(face, 0.05, "embedding_loss", queries, gallery=gallery, relevant=rng.uniform(size=(9, ITEMS)) < 0.2)


def test_views(face: Face, grids: list[ScoreGrid]) -> None:
    views = np.random.default_rng(2).normal(size=(2, 200, 8)).astype(np.float32)
    check(face, 0.05, "embedding_loss", views)
    assert grids


def test_ties_and_extremes(face: Face) -> None:
    """Few values, between nodes of the grid and on them; items far above and below the positives; no negatives."""
    scores, relevant = scores_and_mask(409, 0.0, 0.1)
    tied = np.round(scores * 8).astype(np.float32) / 8
    check(face, 0.125, "score_loss", tied, relevant)
    check(face, 0.01, "score_loss", np.where(relevant, scores, 50 * scores).astype(np.float32), relevant)
    check(face, 0.1, "score_loss", scores, np.ones_like(relevant))
    check(face, 0.1, "score_loss", scores + np.float32(64), relevant)


def test_invalid_items_have_no_influence(face: Face) -> None:
    scores, relevant = scores_and_mask(409)
    valid = np.random.default_rng(3).uniform(size=scores.shape) < 0.7
    hidden = np.where(valid, scores, np.float32(np.nan))
    objective = SmoothAP(0.05)
    loss, gradient = face.value_and_gradient("score_loss", objective, hidden, relevant, valid=valid)
    expected, slopes = rankloss.score_loss_and_gradient(
        objective, scores.astype(np.float64), relevant, valid=valid
    )
    assert_allclose(loss, expected, rtol=1e-5)
    assert_allclose(gradient, slopes, rtol=0, atol=1e-5 * np.abs(slopes).max())
    assert_array_equal(gradient[~valid], 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("positive", [False, True])
def test_a_bad_score_is_in_the_loss_of_its_query_alone(face: Face, bad: float, positive: bool) -> None:
    scores, relevant = scores_and_mask(409)
    objective = SmoothAP(0.01)
    expected = face.value("score_loss", objective, scores, relevant, reduction="none")
    scores[1, np.flatnonzero(relevant[1] == positive)[5]] = scores[3, 0] = bad
    losses = face.value("score_loss", objective, scores, relevant, reduction="none")
    assert np.isnan(losses[1])
    assert_allclose(losses[[0, 2, 3]], expected[[0, 2, 3]], rtol=1e-5)
    _, gradient = face.value_and_gradient("score_loss", objective, scores, relevant)
    assert np.isnan(gradient[1]).any()


def test_what_is_exact_uses_no_grid(face: Face, grids: list[ScoreGrid]) -> None:
    scores, relevant = scores_and_mask(409)
    exact = face.value_and_gradient("score_loss", SmoothAP(0.02, exact=True), scores[:3], relevant[:3])
    face.value_and_gradient("score_loss", SmoothAP(0.02), scores[:3].astype(np.float64), relevant[:3])
    assert not grids
    found = face.value_and_gradient("score_loss", SmoothAP(0.02), scores[:3], relevant[:3])
    assert grids
    for one, other in zip(exact, found, strict=True):
        assert_allclose(other, one, rtol=0, atol=1e-5 * np.abs(one).max())


def test_few_positives_use_no_grid(face: Face, grids: list[ScoreGrid]) -> None:
    views = np.random.default_rng(4).normal(size=(50, 8, 4)).astype(np.float32)
    face.value_and_gradient("embedding_loss", SmoothAP(0.02), views)
    if not face.traced and face.framework != "jax":  # where the number of positives is known
        scores, relevant = scores_and_mask(10)
        face.value_and_gradient("score_loss", SmoothAP(0.02), scores, relevant)
    assert not grids


@pytest.mark.parametrize("form", [ScoreGrid, VectorScoreGrid])
def test_a_nan_is_in_the_sums_of_its_row_alone(form: type[ScoreGrid]) -> None:
    grid = form(framework_of(np.zeros(1), ""), ScoreGrid.blocks_for(90), np.zeros(1))
    items = np.linspace(-40, 40, 15).reshape(3, 5)
    items[1, 2] = np.nan
    near = grid.near(grid.add(grid.tables(3), grid.places(items), np.ones((3, 5))))
    sums = grid.at(grid.counts(near), grid.places(np.linspace(-45, 45, 30).reshape(1, -1).repeat(3, axis=0)))
    assert np.isnan(sums[1]).all()
    assert np.isfinite(sums[[0, 2]]).all()


@pytest.mark.parametrize("form", [ScoreGrid, VectorScoreGrid])
@pytest.mark.parametrize("framework", ["numpy", "array_api_strict"])
def test_sums_over_the_grid(framework: str, form: type[ScoreGrid], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of σ and σ' over items, which may tie, at places that fill what the grid is for."""
    monkeypatch.setattr(_score_grid, "SCATTERED", 40)  # of two queries, 20 items at a time
    xp, rng = pytest.importorskip(framework), np.random.default_rng(5)
    grid = form(framework_of(xp.zeros(1), ""), ScoreGrid.blocks_for(90), xp.zeros(1))
    assert grid.most_spread >= 90
    items, weights = rng.normal(0, 40, size=(2, 50)), rng.uniform(-1, 1, size=(2, 50))
    items[:, :10] = [[7.3], [-44.1]]
    places = rng.uniform(-0.5, 0.5, size=(2, 20)) * grid.most_spread

    def placed(values: Any) -> Any:
        return grid.places(xp.asarray(np.clip(values, -1e3, 1e3)))

    tables = grid.add(grid.tables(2), placed(items), xp.asarray(weights.copy()))
    near, at = grid.near(tables), placed(places)
    differences = items[:, None, :] - places[:, :, None]
    sigmoid = 1 / (1 + np.exp(-differences))
    for function, kernel, error in (
        (grid.counts(near), sigmoid, 4e-7),
        (grid.slopes(near), sigmoid * (1 - sigmoid), 9e-7),
    ):
        expected = np.sum(kernel * weights[:, None, :], axis=2)
        bound = np.sum(np.minimum(error, 4e-6 * kernel + 1e-10) * np.abs(weights)[:, None, :], axis=2)
        assert np.all(np.abs(np.asarray(grid.at(function, at)) - expected) <= bound)


@pytest.mark.parametrize("shape", [(1, 4, 8), (4, 1, 8), (3, 3, 1)])
def test_weights_over_neighbours(shape: tuple[int, int, int]) -> None:
    """Of few rows and few neighbours, by products and, for XLA, term by term."""
    rng = np.random.default_rng(6)
    weights, array = rng.normal(size=shape), rng.normal(size=(shape[1], 30))
    count = 30 - (shape[2] - 1)
    expected = np.zeros((shape[0], count))
    for output, row, neighbour in np.ndindex(shape):
        expected[output] += weights[output, row, neighbour] * array[row, neighbour : neighbour + count]
    plain = framework_of(array, "")
    for framework in (plain, XlaFramework(plain.xp)):
        assert_allclose(framework.convolved(array, weights), expected, rtol=0, atol=1e-13)
