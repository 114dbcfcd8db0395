"""The objectives as values (made, compared, printed, refused), and losses that can be worked out by hand."""

import copy
import dataclasses
import math
import pickle
from typing import Any

import numpy as np
import pytest
from faces import Face
from numpy.testing import assert_allclose

import rankloss
from rankloss import Blockwise, FastAP, SmoothAP, SupCon

ALL = (SmoothAP(temperature=0.02), FastAP(num_bins=7), SupCon(temperature=0.3), Blockwise(SmoothAP(0.02), 4))


@pytest.mark.parametrize("objective", ALL, ids=repr)
def test_an_objective_is_a_value(objective: Any) -> None:
    same = copy.deepcopy(objective)
    assert same == objective
    assert hash(same) == hash(objective)
    assert len({same, objective, *ALL}) == len(ALL)
    assert pickle.loads(pickle.dumps(objective)) == objective
    field = dataclasses.fields(objective)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(objective, field, 1)


def test_defaults() -> None:
    assert SmoothAP() == SmoothAP(temperature=0.01)
    assert FastAP() == FastAP(num_bins=10)
    assert SupCon() == SupCon(temperature=0.1)
    assert SmoothAP(0.1) != SupCon(0.1)


def test_repr_reads_as_the_call_that_makes_it() -> None:
    assert repr(ALL[0]) == "SmoothAP(temperature=0.02, exact=False)"
    assert repr(ALL[1]) == "FastAP(num_bins=7)"
    assert repr(ALL[2]) == "SupCon(temperature=0.3)"
    assert eval(repr(ALL[3]), vars(rankloss)) == ALL[3]


@pytest.mark.parametrize("make", [SmoothAP, SupCon])
@pytest.mark.parametrize(
    "temperature",
    [0, 0.0, 1e-31, 1e31, -0.1, math.nan, math.inf, True, "0.1", None, np.array([0.1, 0.2])],
    ids=repr,
)
def test_a_temperature_is_a_number_from_1e_30_to_1e30(make: Any, temperature: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="temperature") as error:
        make(temperature=temperature)
    assert str(temperature) in str(error.value) or type(temperature).__name__ in str(error.value)


@pytest.mark.parametrize("temperature", [1, 0.5, np.float64(0.5), np.float32(0.5)], ids=repr)
def test_temperatures_of_any_real_type(face: Face, temperature: Any) -> None:
    scores, relevant = np.array([[0.1, 0.4, 0.3]]), np.array([[True, False, False]])
    expected = face.value("score_loss", SmoothAP(float(temperature)), scores, relevant)
    found = face.value("score_loss", SmoothAP(temperature), scores, relevant)
    assert found.dtype == np.float64
    assert_allclose(found, expected, rtol=1e-15)


@pytest.mark.parametrize("num_bins", [0, -3, True, 2.5, 10.0, "10", None], ids=repr)
def test_a_number_of_bins_is_a_whole_number_of_at_least_1(num_bins: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="num_bins") as error:
        FastAP(num_bins=num_bins)
    assert str(num_bins) in str(error.value) or type(num_bins).__name__ in str(error.value)


def test_a_number_of_bins_may_be_a_numpy_integer() -> None:
    assert FastAP(num_bins=np.int32(7)) == FastAP(num_bins=7)


@pytest.mark.parametrize("num_blocks", [0, -1, True, 2.0, "2", None], ids=repr)
def test_a_number_of_blocks_is_a_whole_number_of_at_least_1(num_blocks: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="num_blocks") as error:
        Blockwise(SmoothAP(), num_blocks=num_blocks)
    assert str(num_blocks) in str(error.value) or type(num_blocks).__name__ in str(error.value)


@pytest.mark.parametrize("inner", [0.1, "SmoothAP", SmoothAP, None], ids=repr)
def test_blockwise_needs_an_objective(inner: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="objective"):
        Blockwise(inner, num_blocks=2)


@pytest.mark.parametrize("objective", ["smooth_ap", 0.1, None, SmoothAP, np.ones(3)], ids=str)
def test_a_loss_needs_an_objective(face: Face, objective: Any) -> None:
    with pytest.raises(TypeError, match="objective"):
        face.value("embedding_loss", objective, np.ones((4, 2)), np.array([0, 0, 1, 1]))
    with pytest.raises(TypeError, match="objective"):
        face.value("score_loss", objective, np.ones((1, 2)), np.array([[True, False]]))


def test_a_loss_is_no_metric_and_a_metric_no_loss(face: Face) -> None:
    arguments = (np.ones((4, 2)), np.array([0, 0, 1, 1]))
    with pytest.raises(TypeError, match=r"RPrecision|objective"):
        face.value("embedding_loss", rankloss.RPrecision(), *arguments)
    with pytest.raises(TypeError, match=r"SmoothAP|metric"):
        face.value("embedding_metric", SmoothAP(), *arguments)


def test_smooth_ap_by_hand(face: Face) -> None:
    """Scores 0 and τ·ln 3: σ is then 3/4 or 1/4, and ranks come in quarters."""
    scores = np.array([[0.1 * math.log(3), 0.0, 0.0]])
    relevant = np.array([[False, True, True]])
    # Each positive: rank 1 + 3/4 + 1/2 among all, 1 + 1/2 among the positives.
    loss = face.value("score_loss", SmoothAP(temperature=0.1), scores, relevant)
    assert_allclose(loss, 1 - 1.5 / 2.25, rtol=1e-14)


def test_fast_ap_by_hand(face: Face) -> None:
    """Two bins, nodes 0, 2, 4. A positive at distance 1, a negative at 1, a positive at 3."""
    scores = np.array([[0.5, 0.5, -0.5]])
    relevant = np.array([[True, False, True]])
    # h = 1, 3/2, 1/2 with running sums 1, 5/2, 3; of the positives 1/2, 1, 1/2 and 1/2, 3/2, 2.
    expected = 1 - (0.5 * 0.5 / 1 + 1 * 1.5 / 2.5 + 0.5 * 2 / 3) / 2
    assert_allclose(face.value("score_loss", FastAP(num_bins=2), scores, relevant), expected, rtol=1e-14)


def test_sup_con_by_hand(face: Face) -> None:
    """Logits ln 1, ln 2, ln 5; the first two are positives."""
    scores = 0.5 * np.log(np.array([[1.0, 2.0, 5.0]]))
    relevant = np.array([[True, True, False]])
    expected = -(math.log(1 / 8) + math.log(2 / 8)) / 2
    assert_allclose(face.value("score_loss", SupCon(0.5), scores, relevant), expected, rtol=1e-14)


@pytest.mark.parametrize("items", [2, 3, 50])
def test_ties_count_one_half_each(face: Face, items: int) -> None:
    """One positive among equals has rank 1 + (items - 1) / 2, in whatever order they stand."""
    relevant = np.eye(items, dtype=bool)[[0, items // 2, items - 1]]
    loss, gradient = face.value_and_gradient("score_loss", SmoothAP(), np.full((3, items), 0.25), relevant)
    assert_allclose(loss, 1 - 2 / (items + 1), rtol=1e-14)
    assert_allclose(np.sort(gradient, axis=1)[:, 1:], np.sort(gradient, axis=1)[0, 1], rtol=1e-13)


def test_a_python_float_does_not_pass_through_float32(face: Face) -> None:
    """0.1 in float32 differs from 0.1 in the ninth digit."""
    scores, relevant = np.array([[0.0, 0.1]]), np.array([[True, False]])
    rank = 1 + 1 / (1 + math.exp(-0.1 / 0.1))
    assert_allclose(face.value("score_loss", SmoothAP(0.1), scores, relevant), 1 - 1 / rank, rtol=1e-15)
    expected = math.log(math.exp(0) + math.exp(0.1 / 0.3))
    assert_allclose(face.value("score_loss", SupCon(0.3), scores, relevant), expected, rtol=1e-15)
