"""`Blockwise`: each query ranks within its own block of the batch, and nothing else differs."""

from typing import Any

import numpy as np
import oracle
import pytest
from cases import OBJECTIVES, stacked
from faces import Face
from numpy.testing import assert_allclose

import rankloss
from rankloss import Blockwise, SmoothAP

EACH_OBJECTIVE = pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
VIEWS = np.random.default_rng(1).normal(size=(6, 3, 4))
ROWS = np.random.default_rng(2).normal(size=(12, 4))
LABELS = np.array([0, 1, 0, 1, 0, 0, 2, 2, 0, 1, 1, 1])


@EACH_OBJECTIVE
@pytest.mark.parametrize("num_blocks", [1, 2, 3, 6])
def test_blockwise_is_the_mean_of_the_blocks_losses(face: Face, objective: Any, num_blocks: int) -> None:
    blocks = np.split(VIEWS, num_blocks)
    loss, gradient = face.value_and_gradient("embedding_loss", Blockwise(objective, num_blocks), VIEWS)
    of_blocks = [oracle.embedding(objective, block) for block in blocks]
    assert_allclose(loss, np.mean(of_blocks), rtol=1e-11, atol=1e-14)
    expected = [
        oracle.gradient(lambda moved: oracle.embedding(objective, moved), block) / num_blocks
        for block in blocks
    ]
    assert_allclose(gradient, np.concatenate(expected), rtol=1e-8, atol=1e-9)


@EACH_OBJECTIVE
@pytest.mark.parametrize("include_query", [False, True])
@pytest.mark.parametrize("num_blocks", [1, 2, 3])
def test_blocks_of_labelled_rows(face: Face, objective: Any, include_query: bool, num_blocks: int) -> None:
    """A query whose class has no other member in its block has no positive there."""
    weights = np.random.default_rng(3).uniform(0.5, 2, size=12)
    parts = [
        oracle.embedding(objective, rows, labels, weights=part, include_query=include_query, reduction="none")
        for rows, labels, part in zip(
            *(np.split(array, num_blocks) for array in (ROWS, LABELS, weights)), strict=True
        )
    ]
    options = {"weights": weights, "include_query": include_query}
    blockwise = Blockwise(objective, num_blocks)
    for block_size in (None, 1, 5):
        found = face.value(
            "embedding_loss", blockwise, ROWS, LABELS, reduction="none", block_size=block_size, **options
        )
        assert_allclose(found, np.concatenate(parts), rtol=1e-10, atol=1e-12)
    summed = face.value("embedding_loss", blockwise, ROWS, LABELS, reduction="sum", **options)
    assert_allclose(summed, np.sum(parts), rtol=1e-10)


@EACH_OBJECTIVE
def test_one_block_is_the_objective_itself(face: Face, objective: Any) -> None:
    plain = face.value_and_gradient("embedding_loss", objective, ROWS, LABELS)
    blockwise = face.value_and_gradient("embedding_loss", Blockwise(objective, 1), ROWS, LABELS)
    assert_allclose(blockwise[0], plain[0], rtol=1e-13)
    assert_allclose(blockwise[1], plain[1], rtol=1e-10, atol=1e-13)


def test_a_tuple_of_views_counts_as_stacked(face: Face) -> None:
    as_tuple = tuple(VIEWS[:, view] for view in range(3))
    plain = face.value_and_gradient("embedding_loss", Blockwise(SmoothAP(), 2), VIEWS)
    found = face.value_and_gradient("embedding_loss", Blockwise(SmoothAP(), 2), as_tuple)
    assert_allclose(found[0], plain[0], rtol=1e-13)
    assert_allclose(stacked(found[1]), plain[1], rtol=1e-11, atol=1e-13)


def test_ranking_within_blocks_flatters(face: Face) -> None:
    """Fewer items to rank against: the AP rises, so the loss falls."""
    losses = [float(face.value("embedding_loss", Blockwise(SmoothAP(), n), VIEWS)) for n in (1, 2, 3, 6)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0] / 2


def test_a_batch_that_does_not_divide_is_refused(face: Face) -> None:
    with pytest.raises(ValueError, match=r"num_blocks") as error:
        face.value("embedding_loss", Blockwise(SmoothAP(), 5), ROWS, LABELS)
    assert "5" in str(error.value)
    assert "12" in str(error.value)
    # Whole images make a block: 18 rows divide by 9, 6 images do not.
    with pytest.raises(ValueError, match=r"num_blocks") as error:
        face.value("embedding_loss", Blockwise(SmoothAP(), 9), VIEWS)
    assert "6" in str(error.value)


def test_a_gallery_has_no_blocks(face: Face) -> None:
    with pytest.raises((ValueError, TypeError), match=r"(?s)Blockwise.*gallery|gallery.*Blockwise"):
        face.value(
            "embedding_loss", Blockwise(SmoothAP(), 2), ROWS, LABELS, gallery=ROWS, gallery_labels=LABELS
        )
    with pytest.raises((ValueError, TypeError), match=r"Blockwise"):
        face.value("score_loss", Blockwise(SmoothAP(), 2), np.ones((2, 2)), np.eye(2, dtype=bool))


def test_blocks_flatter_the_average_precision_as_the_docstring_says() -> None:
    rng = np.random.default_rng(0)
    views = rng.normal(size=(128, 1, 32)) + 1.6 * rng.normal(size=(128, 8, 32))
    found = {
        count: np.mean(
            [rankloss.embedding_metric(rankloss.AveragePrecision(), v) for v in np.split(views, count)]
        )
        for count in (1, 2, 4, 8, 16, 32)
    }
    lines = [line.split() for line in (Blockwise.__doc__ or "").splitlines()]
    (blocks,) = [line[1:] for line in lines if line[:1] == ["blocks"]]
    (precisions,) = [line[4:] for line in lines if line[:4] == ["mean", "AP", "within", "them"]]
    assert {int(count): float(value) for count, value in zip(blocks, precisions, strict=True)} == {
        count: round(float(value), 2) for count, value in found.items()
    }
