"""Every face against the oracle, in value: objectives, layouts, options, and labels of every integer type."""

from typing import Any

import numpy as np
import oracle
import pytest
from cases import OBJECTIVES, Case, ScoreCase, embedding_cases, score_cases
from faces import Face
from hypothesis import given
from numpy.testing import assert_allclose

from rankloss import SmoothAP

INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")


def embedding_loss(face: Face, case: Case) -> Any:
    return face.value("embedding_loss", case.objective, *case.arguments, **case.options)


@given(case=embedding_cases())
def test_embedding_loss(face: Face, case: Case) -> None:
    expected = oracle.embedding(case.objective, *case.arguments, **case.options)
    # A score's last digit over the temperature is what no arrangement of the formula can keep.
    assert_allclose(embedding_loss(face, case), expected, rtol=1e-10, atol=1e-10)


@given(case=embedding_cases(least_temperature=0.05))
def test_embedding_loss_of_each_query(face: Face, case: Case) -> None:
    case = case.with_options(reduction="none")
    expected = oracle.embedding(case.objective, *case.arguments, **case.options)
    found = embedding_loss(face, case)
    assert found.shape == expected.shape
    assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@given(case=score_cases())
def test_score_loss(face: Face, case: ScoreCase) -> None:
    expected = oracle.score(case.objective, case.scores, case.relevant, **case.options)
    found = face.value("score_loss", case.objective, case.scores, case.relevant, **case.options)
    assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


@given(case=score_cases(least_temperature=0.05))
def test_score_loss_of_each_query(face: Face, case: ScoreCase) -> None:
    options = case.options | {"reduction": "none"}
    expected = oracle.score(case.objective, case.scores, case.relevant, **options)
    found = face.value("score_loss", case.objective, case.scores, case.relevant, **options)
    assert found.shape == expected.shape
    assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_a_larger_batch(face: Face, objective: Any, reduction: str) -> None:
    """Large enough for several blocks, classes wider than a chunk of positives, and singletons."""
    rng = np.random.default_rng(5)
    labels = rng.permutation(np.repeat(np.arange(9), [40, 1, 2, 17, 1, 9, 5, 3, 12]))
    embeddings = rng.normal(size=(len(labels), 16))
    expected = oracle.embedding(objective, embeddings, labels, reduction=reduction)
    for block_size in (None, 7, 64):
        found = face.value(
            "embedding_loss", objective, embeddings, labels, reduction=reduction, block_size=block_size
        )
        assert_allclose(found, expected, rtol=1e-11, atol=1e-12)


BATCH = np.random.default_rng(1).normal(size=(6, 4))
QUERIES = np.random.default_rng(2).normal(size=(3, 4))


@pytest.mark.parametrize("dtype", INTEGERS)
def test_labels_of_any_width(face: Face, dtype: str) -> None:
    high = np.iinfo(dtype).max
    labels = np.array([high, high - 1, 0, high, high - 1, high], dtype=dtype)
    expected = oracle.embedding(SmoothAP(), BATCH, np.array([1, 2, 3, 1, 2, 1]))
    assert_allclose(face.value("embedding_loss", SmoothAP(), BATCH, labels), expected, rtol=1e-12)


@pytest.mark.parametrize("dtype", [name for name in INTEGERS if name.startswith("int")])
def test_negative_labels(face: Face, dtype: str) -> None:
    low = np.iinfo(dtype).min
    labels = np.array([low, low + 1, -1, low, low + 1, low], dtype=dtype)
    expected = oracle.embedding(SmoothAP(), BATCH, np.array([1, 2, 3, 1, 2, 1]))
    assert_allclose(face.value("embedding_loss", SmoothAP(), BATCH, labels), expected, rtol=1e-12)


@pytest.mark.parametrize("least", [2**24, 2**53, 2**62])
def test_neighbouring_large_labels_stay_apart(face: Face, least: int) -> None:
    """A detour through float32 or float64 would make one class of the two."""
    labels = np.array([least, least + 1, least, least + 1, least, 7], dtype=np.int64)
    expected = oracle.embedding(SmoothAP(), BATCH, np.array([1, 2, 1, 2, 1, 3]))
    assert_allclose(face.value("embedding_loss", SmoothAP(), BATCH, labels), expected, rtol=1e-12)


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("gallery_dtype", INTEGERS)
def test_label_types_of_queries_and_gallery_may_differ(face: Face, dtype: str, gallery_dtype: str) -> None:
    labels = np.array([5, 100, 0], dtype=dtype)
    gallery_labels = np.array([0, 5, 100, 5, 101, 100], dtype=gallery_dtype)
    expected = oracle.embedding(SmoothAP(), QUERIES, labels, gallery=BATCH, gallery_labels=gallery_labels)
    found = face.value(
        "embedding_loss", SmoothAP(), QUERIES, labels, gallery=BATCH, gallery_labels=gallery_labels
    )
    assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("labels", "gallery_labels"),
    [
        (np.array([-1, 3, 7]), np.array([2**64 - 1, 3, 3, 7, 2**64 - 1, 8], dtype=np.uint64)),
        (np.array([2**64 - 1, 3, 7], dtype=np.uint64), np.array([-1, 3, 3, 7, -1, 8])),
        (np.array([2**63, 2**63 - 1, 7], dtype=np.uint64), np.array([-(2**63), 2**63 - 1, 3, 7, -1, 8])),
        (np.array([2**53 + 1, 3, 7], dtype=np.uint64), np.array([2**53, 2**53 + 1, 3, 7, 2**53 + 2, 8])),
        (np.array([-1, 3, 7], dtype=np.int8), np.array([255, 3, 3, 7, 255, 8], dtype=np.uint8)),
        (np.array([2**24 + 1, 3, 7], dtype=np.int32), np.array([2**24, 2**24 + 1, 3, 7, 2**24 + 2, 8])),
    ],
    ids=["-1 and 2^64-1", "2^64-1 and -1", "2^63 and -2^63", "2^53+1", "-1 and 255", "2^24+1"],
)
def test_labels_compare_as_numbers_and_not_as_bits(face: Face, labels: Any, gallery_labels: Any) -> None:
    expected = oracle.embedding(
        SmoothAP(), QUERIES, labels, gallery=BATCH, gallery_labels=gallery_labels, reduction="none"
    )
    found = face.value(
        "embedding_loss",
        SmoothAP(),
        QUERIES,
        labels,
        gallery=BATCH,
        gallery_labels=gallery_labels,
        reduction="none",
    )
    assert_allclose(found, expected, rtol=1e-12)
