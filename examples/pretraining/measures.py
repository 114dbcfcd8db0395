"""What features are worth: weighted k-nearest neighbours, a linear probe, retrieval, and how many directions
they use.

NumPy in, numbers out, whatever framework made the features. Labels are integers ``[n]`` (one class a picture)
or 0/1 rows ``[n, classes]`` (several classes a picture); a single-label figure is an accuracy, a multi-label
one the mean over the classes of the average precision, and both are fractions of 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

import rankloss

Features = NDArray[np.floating]
Labels = NDArray[Any]  # integers, or booleans in rows

SCORES_IN_MEMORY = 10_000_000  # entries of a block of similarities: 40 MB in float32


def unit_rows(features: Features) -> NDArray[np.float32]:
    """Return the rows scaled to length 1; a zero row stays zero."""
    rows = np.asarray(features, dtype=np.float32)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(np.float32).tiny)


def nearest(queries: Features, gallery: Features, count: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return the ``count`` gallery rows of greatest cosine similarity to each query, best first.

    Returns:
        indices [queries, count] into the gallery, and their similarities [queries, count].
    """
    if not 1 <= count <= len(gallery):
        raise ValueError(f"count must be from 1 to the {len(gallery)} rows of gallery, got {count}")
    unit_queries, unit_gallery = unit_rows(queries), unit_rows(gallery)
    indices = np.empty((len(queries), count), dtype=np.intp)
    similarities = np.empty((len(queries), count), dtype=np.float32)
    rows = max(1, SCORES_IN_MEMORY // len(gallery))
    for start in range(0, len(queries), rows):
        block = slice(start, start + rows)
        scores = unit_queries[block] @ unit_gallery.T
        best = np.argpartition(scores, -count, axis=1)[:, -count:]
        order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1, kind="stable")
        indices[block] = np.take_along_axis(best, order, axis=1)
        similarities[block] = np.take_along_axis(scores, indices[block], axis=1)
    return indices, similarities


def nearest_to(features: Features, queries: NDArray[np.intp], count: int) -> NDArray[np.intp]:
    """Return the indices [queries, count] of the other rows most similar to each of the rows ``queries``."""
    indices, _ = nearest(features[queries], features, count + 1)
    others = indices != queries[:, None]
    others[others.all(axis=1), -1] = False  # duplicates of the query pushed it out: drop the last of them
    return indices[others].reshape(len(queries), count)


def knn_scores(
    train: Features,
    train_labels: Labels,
    test: Features,
    *,
    neighbours: int,
    temperature: float,
    classes: int,
) -> NDArray[np.float64]:
    """Return each class's share [test, classes] of the neighbours' votes exp(cosine / temperature).

    A multi-label neighbour votes for each of its classes, so that a row need not sum to 1.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be greater than 0, got {temperature}")
    indices, similarities = nearest(test, train, neighbours)
    # relative to the nearest neighbour: the shares are the same, and no vote overflows or all vanish
    votes = np.exp((similarities - similarities[:, :1]).astype(np.float64) / temperature)
    votes /= votes.sum(axis=1, keepdims=True)
    return np.einsum("qk,qkc->qc", votes, _class_rows(train_labels, classes)[indices])


def linear_scores(
    train: Features, train_labels: Labels, test: Features, *, strength: float, classes: int
) -> NDArray[np.float64]:
    """Return a logistic regression's decisions [test, classes].

    Features are standardised by the training ones. One multinomial fit for one class a picture, else one fit a
    class. ``strength`` is scikit-learn's C. A class that the training pictures all have, or all lack, has the
    same decision for every picture.
    """
    scaler = StandardScaler().fit(np.asarray(train, dtype=np.float64))
    x, x_test = (scaler.transform(np.asarray(part, dtype=np.float64)) for part in (train, test))
    rows = _class_rows(train_labels, classes)
    scores = np.full((len(test), classes), -np.inf)
    if train_labels.ndim == 1:
        present = np.flatnonzero(rows.any(axis=0))
        if len(present) == 1:
            scores[:, present[0]] = 0.0
            return scores
        model = _fit(strength, x, train_labels)
        decision = model.decision_function(x_test)
        scores[:, present] = decision if len(present) > 2 else np.stack([-decision, decision], axis=1)
        return scores
    for index in range(classes):
        if len(np.unique(rows[:, index])) == 2:
            scores[:, index] = _fit(strength, x, rows[:, index]).decision_function(x_test)
        else:
            scores[:, index] = 0.0
    return scores


def choose_strength(
    train: Features, train_labels: Labels, strengths: Sequence[float], *, classes: int
) -> float:
    """Return the strength that does best on every fifth training picture when fitted on the others.

    No test picture has a say. The first is returned where there is no choice, or too little data to make one.
    """
    if not strengths:
        raise ValueError("strengths must name at least one strength, got none")
    held_out = np.arange(len(train)) % 5 == 4  # spread out, since folders come sorted by class
    if len(strengths) == 1 or not train_labels[held_out].any():
        return strengths[0]
    fitted, fitted_labels = train[~held_out], train_labels[~held_out]
    figures = []
    for strength in strengths:
        scores = linear_scores(fitted, fitted_labels, train[held_out], strength=strength, classes=classes)
        figures.append(judge(scores, train_labels[held_out]))
    return strengths[int(np.argmax(figures))]


def judge(scores: NDArray[np.float64], labels: Labels) -> float:
    """Return the accuracy of the greatest score, or of multi-label rows the classes' mean average precision.

    A class that no picture has says nothing about its ranking, and is left out.
    """
    if labels.ndim == 1:
        return float(np.mean(scores.argmax(axis=1) == labels))
    present = labels.any(axis=0)
    if not present.any():
        raise ValueError("labels must hold at least one class, got rows of zeros only")
    return float(average_precision_score(labels[:, present], scores[:, present], average="macro"))


def retrieval_map(test: Features, test_labels: Labels, train: Features, train_labels: Labels) -> float:
    """Return the mean over the test pictures of the exact average precision with which they find their like.

    One class a picture: each test picture ranks the other test pictures, and those of its class are right.
    Several: it ranks the training pictures, and right are those that share at least one class with it; a
    common class makes most pictures right, so this figure is high by chance and worth comparing only with
    that of other features.
    """
    metric = rankloss.AveragePrecision()
    queries = np.asarray(test, dtype=np.float32)
    if test_labels.ndim == 1:
        return float(rankloss.embedding_metric(metric, queries, test_labels))
    gallery = np.asarray(train, dtype=np.float32)
    found, queried = 0.0, 0
    rows = max(1, SCORES_IN_MEMORY // len(gallery))
    for start in range(0, len(queries), rows):
        block = slice(start, start + rows)
        shares = test_labels[block].astype(np.float32) @ train_labels.T.astype(np.float32) > 0
        right = shares.any(axis=1)  # whoever shares nothing has no query
        if right.any():
            found += float(right.sum()) * float(
                rankloss.embedding_metric(metric, queries[block], gallery=gallery, relevant=shares)
            )
            queried += int(right.sum())
    if queried == 0:
        raise ValueError("labels must let one test picture share a class with a training picture, got none")
    return found / queried


def effective_rank(features: Features) -> float:
    """Return how many directions the features vary in: exp of the entropy of their variances' shares.

    It is 1 where all features lie on a line and d where d directions vary alike: a small one is a collapse.
    """
    centred = np.asarray(features, dtype=np.float64)
    centred = centred - centred.mean(axis=0)
    variances = np.maximum(np.linalg.eigvalsh(centred.T @ centred), 0.0)
    total = variances.sum()
    if total == 0:
        return 0.0
    shares = variances[variances > 0] / total
    return float(np.exp(-np.sum(shares * np.log(shares))))


def _class_rows(labels: Labels, classes: int) -> NDArray[np.float64]:
    if labels.ndim == 2:
        if labels.shape[1] != classes:
            raise ValueError(
                f"labels must have a column for each of the {classes} classes, got {labels.shape[1]}"
            )
        return labels.astype(np.float64)
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise ValueError(
            f"labels must be from 0 to {classes - 1}, got {int(labels.min())} to {int(labels.max())}"
        )
    return np.eye(classes)[labels]


def _fit(strength: float, x: NDArray[np.float64], y: NDArray[Any]) -> LogisticRegression:
    # One thread: the solver takes hundreds of small products, and with two threads on two cores that other
    # work shares, 10,000 pictures took 26 s in place of 1.3 s.
    with threadpool_limits(1):
        return LogisticRegression(C=strength, tol=1e-3, max_iter=5_000).fit(x, y)
