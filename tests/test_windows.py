"""Forms that depend on where positives lie, or on how many bins there are, give the same."""

from typing import Any

import numpy as np
import pytest

import rankloss
from rankloss._bins import Bins, PassedBins, ScatteredBins
from rankloss._framework import framework_of

OBJECTIVES = [rankloss.SmoothAP(temperature=0.1), rankloss.FastAP(), rankloss.SupCon()]


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda objective: type(objective).__name__)
def test_classes_may_be_smaller_and_larger_than_a_block(face: Any, objective: Any) -> None:
    # With blocks of 4, the first ones have their positives within 8 columns, the last ones have not.
    labels = np.repeat(np.arange(7), [2, 2, 1, 3, 2, 2, 20])
    rng = np.random.default_rng(0)
    order = rng.permutation(len(labels))
    embeddings = rng.normal(size=(len(labels), 3))
    whole = face.value_and_gradient("embedding_loss", objective, embeddings, labels[order], block_size=32)
    blocks = face.value_and_gradient("embedding_loss", objective, embeddings, labels[order], block_size=4)
    np.testing.assert_allclose(blocks[0], whole[0], rtol=1e-12)
    np.testing.assert_allclose(blocks[1], whole[1], rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("block_size", [3, 4, 6, 8])
def test_blocks_may_cut_through_the_views_of_an_image(face: Any, block_size: int) -> None:
    views = np.random.default_rng(0).normal(size=(9, 4, 3))
    objective = OBJECTIVES[0]
    whole = face.value_and_gradient("embedding_loss", objective, views, block_size=36)
    blocks = face.value_and_gradient("embedding_loss", objective, views, block_size=block_size)
    np.testing.assert_allclose(blocks[0], whole[0], rtol=1e-12)
    np.testing.assert_allclose(blocks[1], whole[1], rtol=1e-10, atol=1e-14)


def both_forms(y: np.ndarray, count: int) -> tuple[Bins, Bins]:
    framework = framework_of(y, "y")
    return PassedBins(framework, y, count), ScatteredBins.of(framework, y, count)


def test_the_sums_of_bins_are_those_of_the_definition() -> None:
    y = np.array([[0.0, 0.25, 1.0, 1.75, 3.0, 4.0, 4.0]])  # the last two do not count
    sums = [1 + 0.75, 1 + 1 + 1 + 0.25, 4, 5]
    for bins in both_forms(y, 3):
        np.testing.assert_allclose(bins.running_sums(), [sums])


def test_heights_go_to_the_items_between_their_nodes() -> None:
    y = np.array([[0.0, 0.25, 1.0, 1.75, 3.0, 4.0]])
    for bins in both_forms(y, 3):
        np.testing.assert_array_equal(bins.spread(np.array([[5.0, 6.0, 7.0]])), [[0, 5, 5, 6, 0, 0]])


def test_a_nan_is_in_the_sums() -> None:
    for bins in both_forms(np.array([[np.nan, 0.5]]), 2):
        assert np.isnan(bins.running_sums()).any()


def test_an_item_at_nan_has_no_height() -> None:
    bins, _ = both_forms(np.array([[np.nan, 0.5]]), 2)
    assert np.isnan(bins.spread(np.array([[5.0, 6.0]]))[0, 0])
