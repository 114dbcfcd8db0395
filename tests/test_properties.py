"""What must hold of any batch: changes that change nothing, bounds and limits."""

import math
from typing import Any

import numpy as np
import oracle
import pytest
from cases import OBJECTIVES, Case, ScoreCase, embedding_cases, random_labels, score_cases, stacked
from faces import CoreFace, Face
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from sklearn.metrics import average_precision_score

from rankloss import FastAP, SmoothAP, SupCon

SEEDS = st.integers(0, 2**32 - 1)
EACH_OBJECTIVE = pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)


def batch(seed: int, count: int = 12, dimensions: int = 5) -> tuple[np.random.Generator, Any, Any]:
    rng = np.random.default_rng(seed)
    return rng, rng.normal(size=(count, dimensions)), random_labels(rng, count)


def loss_and_gradient(face: Face, objective: Any, *arguments: Any, **options: Any) -> Any:
    return face.value_and_gradient("embedding_loss", objective, *arguments, **options)


@EACH_OBJECTIVE
@given(seed=SEEDS)
def test_permuting_the_batch_permutes_the_gradient(face: Face, objective: Any, seed: int) -> None:
    rng, embeddings, labels = batch(seed)
    order = rng.permutation(len(labels))
    loss, gradient = loss_and_gradient(face, objective, embeddings, labels)
    permuted_loss, permuted = loss_and_gradient(face, objective, embeddings[order], labels[order])
    assert_allclose(permuted_loss, loss, rtol=1e-11, atol=1e-13)
    assert_allclose(permuted, gradient[order], rtol=1e-9, atol=1e-11)


@EACH_OBJECTIVE
@given(seed=SEEDS)
def test_permuting_the_gallery_permutes_its_gradient(face: Face, objective: Any, seed: int) -> None:
    rng, embeddings, labels = batch(seed)
    queries, query_labels = rng.normal(size=(4, 5)), np.append(rng.choice(labels, 3), labels[0])
    order = rng.permutation(len(labels))
    loss, (d_queries, d_gallery) = loss_and_gradient(
        face, objective, queries, query_labels, gallery=embeddings, gallery_labels=labels
    )
    permuted_loss, (d_permuted_queries, d_permuted) = loss_and_gradient(
        face, objective, queries, query_labels, gallery=embeddings[order], gallery_labels=labels[order]
    )
    assert_allclose(permuted_loss, loss, rtol=1e-11, atol=1e-13)
    assert_allclose(d_permuted_queries, d_queries, rtol=1e-9, atol=1e-11)
    assert_allclose(d_permuted, d_gallery[order], rtol=1e-9, atol=1e-11)


@EACH_OBJECTIVE
@given(seed=SEEDS)
def test_renaming_the_labels_changes_nothing(face: Face, objective: Any, seed: int) -> None:
    rng, embeddings, labels = batch(seed)
    _, numbers = np.unique(labels, return_inverse=True)
    names = rng.choice(2**60, size=len(labels), replace=False) - 2**59
    loss, gradient = loss_and_gradient(face, objective, embeddings, labels)
    renamed_loss, renamed = loss_and_gradient(face, objective, embeddings, names[numbers])
    assert_allclose(renamed_loss, loss, rtol=1e-11, atol=1e-13)
    assert_allclose(renamed, gradient, rtol=1e-9, atol=1e-11)


@given(case=embedding_cases(), block_size=st.integers(1, 13))
def test_the_block_size_changes_nothing(face: Face, case: Case, block_size: int) -> None:
    default, other = case.with_options(block_size=None), case.with_options(block_size=block_size)
    loss, gradient = loss_and_gradient(face, case.objective, *case.arguments, **default.options)
    found_loss, found = loss_and_gradient(face, case.objective, *case.arguments, **other.options)
    assert_allclose(found_loss, loss, rtol=1e-11, atol=1e-11)
    if "gallery" in case.options:
        pairs = zip(found, gradient, strict=True)
    else:
        pairs = zip([stacked(found)], [stacked(gradient)], strict=True)
    for part, expected in pairs:
        assert_allclose(part, expected, rtol=1e-9, atol=1e-10 * max(1.0, np.abs(expected).max(initial=0.0)))


@EACH_OBJECTIVE
@given(seed=SEEDS)
def test_splitting_the_batch_into_queries_and_gallery_changes_nothing(
    face: Face, objective: Any, seed: int
) -> None:
    """A mask of relevant pairs can say what labels say, for any part of the queries."""
    rng, embeddings, labels = batch(seed)
    relevant = labels[:, None] == labels[None, :]
    whole = loss_and_gradient(
        face, objective, embeddings, labels, gallery=embeddings, gallery_labels=labels, reduction="sum"
    )
    total, d_queries, d_gallery = 0.0, np.zeros_like(embeddings), np.zeros_like(embeddings)
    cut = int(rng.integers(1, len(labels)))
    for part in (slice(None, cut), slice(cut, None)):
        by_mask = {"gallery": embeddings, "relevant": relevant[part], "reduction": "sum"}
        loss, gradients = loss_and_gradient(face, objective, embeddings[part], **by_mask)
        total += float(loss)
        d_queries[part] += gradients[0]
        d_gallery += gradients[1]
    assert_allclose(total, whole[0], rtol=1e-11, atol=1e-12)
    assert_allclose(d_queries, whole[1][0], rtol=1e-9, atol=1e-10)
    assert_allclose(d_gallery, whole[1][1], rtol=1e-9, atol=1e-10)


@EACH_OBJECTIVE
@given(seed=SEEDS)
def test_a_batch_is_the_gallery_that_its_queries_share(face: Face, objective: Any, seed: int) -> None:
    """Each query against the others as its gallery: the same losses, and the two gradients add up."""
    _, embeddings, labels = batch(seed, count=7)
    total, gradient = 0.0, np.zeros_like(embeddings)
    for a in range(len(labels)):
        others = np.delete(np.arange(len(labels)), a)
        if labels[a] not in labels[others]:
            continue
        loss, (d_query, d_others) = loss_and_gradient(
            face,
            objective,
            embeddings[[a]],
            labels[[a]],
            gallery=embeddings[others],
            gallery_labels=labels[others],
        )
        total += float(loss)
        gradient[a] += d_query[0]
        gradient[others] += d_others
    whole_loss, whole = loss_and_gradient(face, objective, embeddings, labels, reduction="sum")
    assert_allclose(whole_loss, total, rtol=1e-11, atol=1e-12)
    assert_allclose(whole, gradient, rtol=1e-9, atol=1e-10)


@EACH_OBJECTIVE
@given(seed=SEEDS, images=st.integers(1, 5), views=st.integers(2, 4))
def test_views_are_labels_that_need_not_be_given(
    face: Face, objective: Any, seed: int, images: int, views: int
) -> None:
    embeddings = np.random.default_rng(seed).normal(size=(images, views, 4))
    weights = np.random.default_rng(seed).uniform(0.5, 2, size=(images, views))
    loss, gradient = loss_and_gradient(face, objective, embeddings, weights=weights)
    as_tuple = tuple(embeddings[:, view] for view in range(views))
    tuple_loss, tuple_gradient = loss_and_gradient(face, objective, as_tuple, weights=weights)
    flat, labels = embeddings.reshape(-1, 4), np.repeat(np.arange(images), views)
    flat_loss, flat_gradient = loss_and_gradient(face, objective, flat, labels, weights=weights.ravel())
    assert_allclose(tuple_loss, loss, rtol=1e-13)
    assert_allclose(stacked(tuple_gradient), gradient, rtol=1e-11, atol=1e-13)
    assert_allclose(flat_loss, loss, rtol=1e-11, atol=1e-13)
    assert_allclose(flat_gradient.reshape(gradient.shape), gradient, rtol=1e-9, atol=1e-11)


@given(case=score_cases(least_temperature=0.01), constant=st.floats(-50, 50))
def test_adding_a_constant_to_the_scores_changes_nothing(
    face: Face, case: ScoreCase, constant: float
) -> None:
    """So that a row of d loss / d scores sums to 0; FastAP alone has a scale with fixed ends."""
    for objective in (SmoothAP(0.01), SmoothAP(0.2), SupCon(0.1)):
        arguments = ("score_loss", objective, case.scores, case.relevant)
        moved = ("score_loss", objective, case.scores + constant, case.relevant)
        loss, gradient = face.value_and_gradient(*arguments, **case.options)
        # The sum is rounded to the last digit of the constant, which the temperature then divides.
        rounding = abs(constant) * 2.0**-52 / objective.temperature * case.scores.size
        assert_allclose(face.value(*moved, **case.options), loss, rtol=1e-12, atol=1e-13 + 4 * rounding)
        scale = max(1.0, np.abs(gradient).max())
        assert_allclose(np.sum(gradient, axis=1), 0, atol=1e-13 * scale * case.scores.size)


@given(case=embedding_cases())
def test_average_precision_losses_lie_between_0_and_1(face: Face, case: Case) -> None:
    case = case.without("weights").with_options(reduction="none")
    for objective in (SmoothAP(0.001), SmoothAP(1.0), FastAP(1), FastAP(20)):
        losses = face.value("embedding_loss", objective, *case.arguments, **case.options)
        assert np.all(losses >= -1e-12)
        assert np.all(losses <= 1)


@given(seed=SEEDS)
def test_a_perfect_ranking_tends_to_no_loss(face: Face, seed: int) -> None:
    """Classes on axes of their own: all positives tie at 1, and everything else is at 0."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(4), [2, 3, 4, 5]))
    embeddings = np.eye(4)[labels] * rng.uniform(0.1, 10, size=(len(labels), 1))
    losses = [face.value("embedding_loss", SmoothAP(t), embeddings, labels) for t in (1.0, 0.1, 0.03, 0.01)]
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 1e-12
    assert_allclose(face.value("embedding_loss", FastAP(2), embeddings, labels), 0, atol=1e-12)


@given(seed=SEEDS)
def test_a_temperature_of_nearly_0_gives_the_exact_average_precision(face: Face, seed: int) -> None:
    _, embeddings, labels = batch(seed, count=15)
    losses = face.value("embedding_loss", SmoothAP(1e-9), embeddings, labels, reduction="none")
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    for a in range(len(labels)):
        others = np.arange(len(labels)) != a
        same = labels[others] == labels[a]
        expected = 1 - average_precision_score(same, unit[others] @ unit[a]) if same.any() else 0.0
        assert math.isclose(losses[a], expected, abs_tol=1e-6)


@EACH_OBJECTIVE
@given(seed=SEEDS)
def test_weights_mean_repetition(face: Face, objective: Any, seed: int) -> None:
    """A query of weight 2 is the query twice, in the mean and its gradient; weight 0 is no query at all."""
    rng, gallery, gallery_labels = batch(seed, count=9)
    queries, labels = rng.normal(size=(3, 5)), gallery_labels[[0, 1, 0]]
    options = {"gallery": gallery, "gallery_labels": gallery_labels}
    weights = np.array([2.0, 0.0, 1.0])
    weighted_loss, weighted = loss_and_gradient(face, objective, queries, labels, weights=weights, **options)
    twice = [0, 0, 2]
    loss, gradients = loss_and_gradient(face, objective, queries[twice], labels[twice], **options)
    assert_allclose(weighted_loss, loss, rtol=1e-12)
    assert_allclose(weighted[1], gradients[1], rtol=1e-9, atol=1e-11)
    assert np.all(weighted[0][1] == 0)


@pytest.mark.parametrize("objective", [*OBJECTIVES, SmoothAP(0.05)], ids=repr)
@given(seed=SEEDS)
def test_every_face_agrees_with_numpy(face: Face, objective: Any, seed: int) -> None:
    """To 1e-12: one definition in every framework."""
    _, embeddings, labels = batch(seed)
    numpy_face = CoreFace("numpy", "numpy", np.array, np.asarray)
    loss, gradient = loss_and_gradient(face, objective, embeddings, labels)
    expected_loss, expected = loss_and_gradient(numpy_face, objective, embeddings, labels)
    assert_allclose(loss, expected_loss, rtol=1e-12, atol=1e-14)
    assert_allclose(gradient, expected, rtol=0, atol=1e-12 * max(1.0, np.abs(expected).max()))


def test_nt_xent_is_cross_entropy_over_the_other_views(face: Face) -> None:
    """SimCLR as most code writes it: a softmax over all other rows, whose target is the other view."""
    views = np.random.default_rng(11).normal(size=(7, 2, 6))
    unit = views.reshape(14, 6) / np.linalg.norm(views.reshape(14, 6), axis=1, keepdims=True)
    logits = unit @ unit.T / 0.2
    np.fill_diagonal(logits, -np.inf)
    log_softmax = logits - np.log(np.sum(np.exp(logits), axis=1, keepdims=True))
    expected = -np.mean([log_softmax[a, a ^ 1] for a in range(14)])
    assert_allclose(face.value("embedding_loss", SupCon(0.2), views), expected, rtol=1e-12)
    assert_allclose(oracle.embedding(SupCon(0.2), views), expected, rtol=1e-12)
