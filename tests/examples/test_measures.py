"""The figures of the evaluation, against plain loops and cases whose answer is known."""

import math
import warnings

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from pretraining import measures


def blobs(seed: int, count: int, classes: int = 3, spread: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(classes, 8))
    labels = rng.integers(classes, size=count)
    return (centres[labels] + spread * rng.normal(size=(count, 8))).astype(np.float32), labels


def knn_by_loops(train, train_labels, test, *, neighbours, temperature, classes):
    scores = np.zeros((len(test), classes))
    for row, query in enumerate(test.astype(np.float64)):
        cosines = [
            float(query @ item / np.linalg.norm(query) / np.linalg.norm(item))
            for item in train.astype(np.float64)
        ]
        for index in sorted(range(len(train)), key=lambda i: -cosines[i])[:neighbours]:
            vote = math.exp(cosines[index] / temperature)
            held = [train_labels[index]] if train_labels.ndim == 1 else np.flatnonzero(train_labels[index])
            for label in held:
                scores[row, label] += vote
    return scores


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("memory", [10_000_000, 50], ids=["one block", "many blocks"])
def test_knn_equals_plain_loops(monkeypatch, multi_label, memory):
    monkeypatch.setattr(measures, "SCORES_IN_MEMORY", memory)
    train, labels = blobs(0, 40)
    test, _ = blobs(1, 15)
    if multi_label:
        labels = np.random.default_rng(2).random((40, 3)) < 0.5
    options = {"neighbours": 7, "temperature": 0.07, "classes": 3}
    found = measures.knn_scores(train, labels, test, **options)
    expected = knn_by_loops(train, labels, test, **options)
    # the votes are shares of their sum, which is the loops' total for one class a picture
    total = knn_by_loops(train, np.zeros(40, np.int64), test, **options)[:, :1]
    np.testing.assert_allclose(found, expected / total, rtol=1e-4)


def test_knn_votes_weigh_near_neighbours_more():
    train = np.array([[1.0, 0.0], [0.6, 0.8], [0.6, -0.8]], dtype=np.float32)
    query = np.array([[1.0, 0.05]], dtype=np.float32)
    scores = measures.knn_scores(train, np.array([0, 1, 1]), query, neighbours=3, temperature=0.07, classes=2)
    assert scores[0, 0] > 0.9
    flat = measures.knn_scores(train, np.array([0, 1, 1]), query, neighbours=3, temperature=1e6, classes=2)
    np.testing.assert_allclose(flat, [[1 / 3, 2 / 3]], atol=1e-5)


def test_a_tiny_temperature_does_not_overflow():
    train, labels = blobs(0, 30)
    scores = measures.knn_scores(train, labels, train, neighbours=5, temperature=1e-4, classes=3)
    assert np.isfinite(scores).all()
    assert measures.judge(scores, labels) == 1.0  # each picture is its own nearest neighbour


@pytest.mark.parametrize("count", [0, 31])
def test_as_many_neighbours_as_there_are(count):
    train, _ = blobs(0, 30)
    with pytest.raises(ValueError, match="count must be from 1 to the 30 rows of gallery"):
        measures.nearest(train, train, count)


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_temperature_is_checked(temperature):
    train, labels = blobs(0, 30)
    with pytest.raises(ValueError, match="temperature must be greater than 0, got"):
        measures.knn_scores(train, labels, train, neighbours=3, temperature=temperature, classes=3)


def test_nearest_to_leaves_the_query_out_even_among_duplicates():
    features = np.array([[1, 0], [1, 0], [1, 0], [0, 1], [1, 0]], dtype=np.float32)
    queries = np.array([2, 3])
    found = measures.nearest_to(features, queries, 3)
    assert found.shape == (2, 3)
    assert set(found[0]) == {0, 1, 4}
    assert 3 not in found[1]
    for query in (0, 1, 2, 4):  # more duplicates than are asked for: whichever come first, not the query
        (few,) = measures.nearest_to(features, np.array([query]), 2)
        assert set(few) < {0, 1, 2, 4} - {query}


def test_neighbours_of_every_row_are_the_nearest_others():
    features, _ = blobs(3, 25)
    found = measures.nearest_to(features, np.arange(25), 4)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -2)
    np.testing.assert_array_equal(found, np.argsort(-cosines, axis=1)[:, :4])


def test_linear_probe_separates_what_a_line_separates():
    train, labels = blobs(0, 300, spread=0.2)
    test, test_labels = blobs(1, 200, spread=0.2)
    scores = measures.linear_scores(train, labels, test, strength=1.0, classes=3)
    assert measures.judge(scores, test_labels) > 0.98
    shuffled = np.random.default_rng(0).permutation(labels)
    scores = measures.linear_scores(train, shuffled, test, strength=1.0, classes=3)
    assert measures.judge(scores, test_labels) < 0.7


def test_linear_probe_does_not_mind_the_features_scale():
    train, labels = blobs(0, 200)
    test, _ = blobs(1, 50)
    scale = np.array([1e-4, 1e4, 1, 1, 1, 1, 1, 1], dtype=np.float32)
    plain = measures.linear_scores(train, labels, test, strength=1.0, classes=3)
    scaled = measures.linear_scores(train * scale + 5, labels, test * scale + 5, strength=1.0, classes=3)
    np.testing.assert_allclose(scaled, plain, atol=0.05)


@pytest.mark.parametrize("present", [(1,), (0, 2)])
def test_linear_probe_never_chooses_a_class_it_has_not_seen(present):
    train, _ = blobs(0, 60)
    labels = np.array(present)[np.arange(60) % len(present)]
    scores = measures.linear_scores(train, labels, train, strength=1.0, classes=4)
    assert set(scores.argmax(axis=1)) <= set(present)


def test_linear_probe_of_two_classes_has_the_signs_right():
    train, labels = blobs(0, 100, classes=2, spread=0.1)
    scores = measures.linear_scores(train, labels, train, strength=1.0, classes=2)
    assert measures.judge(scores, labels) == 1.0


def test_multi_label_probe_judges_each_class_by_itself():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(300, 6)).astype(np.float32)
    labels = features[:, :4] > np.array([0.0, 1.0, 0.0, 9.0])  # no picture has the last class
    labels[:, 2] = rng.random(300) < 0.5  # and no feature tells of the third
    scores = measures.linear_scores(features[:200], labels[:200], features[200:], strength=1.0, classes=4)
    each = [average_precision_score(labels[200:, c], scores[:, c]) for c in range(3)]
    assert each[0] > 0.98
    assert each[1] > 0.9
    assert each[2] < 0.75
    assert measures.judge(scores, labels[200:]) == pytest.approx(np.mean(each))


def test_no_warning_where_the_probe_has_many_directions_and_little_data():
    rng = np.random.default_rng(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        measures.linear_scores(
            rng.normal(size=(80, 500)),
            np.arange(80) % 10,
            rng.normal(size=(5, 500)),
            strength=1.0,
            classes=10,
        )


def test_the_strength_is_the_one_that_does_best_on_held_out_pictures():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 60)  # sorted by class, as folders come: the last fifth is one class
    features = np.concatenate([np.eye(3)[labels], rng.normal(size=(180, 150))], axis=1)
    accuracies = {}
    for strength in (10.0, 1e-4):
        fit, judged = np.arange(180) % 5 != 4, np.arange(180) % 5 == 4
        scores = measures.linear_scores(
            features[fit], labels[fit], features[judged], strength=strength, classes=3
        )
        accuracies[strength] = measures.judge(scores, labels[judged])
    best = max(accuracies, key=lambda strength: accuracies[strength])
    assert accuracies[10.0] != accuracies[1e-4]
    for order in ((10.0, 1e-4), (1e-4, 10.0)):
        assert measures.choose_strength(features, labels, order, classes=3) == best
    assert measures.choose_strength(features, labels, (5.0,), classes=3) == 5.0
    with pytest.raises(ValueError, match="strengths must name at least one"):
        measures.choose_strength(features, labels, (), classes=3)


def test_pictures_of_every_class_are_held_out(monkeypatch):
    fitted: list[np.ndarray] = []

    def note(train, labels, test, *, strength, classes):
        fitted.append(labels)
        return np.zeros((len(test), classes))

    monkeypatch.setattr(measures, "linear_scores", note)
    labels = np.repeat([0, 1, 2], 10)
    measures.choose_strength(np.zeros((30, 2)), labels, (1.0, 2.0), classes=3)
    assert [np.bincount(part).tolist() for part in fitted] == [[8, 8, 8]] * 2


def test_retrieval_is_the_average_precision_of_each_test_picture_among_the_others():
    test, labels = blobs(0, 30)
    unit = test / np.linalg.norm(test, axis=1, keepdims=True)
    others = ~np.eye(30, dtype=bool)
    each = [
        average_precision_score((labels == labels[q])[others[q]], (unit @ unit[q])[others[q]])
        for q in range(30)
    ]
    assert measures.retrieval_map(test, labels, test[:0], labels[:0]) == pytest.approx(
        np.mean(each), rel=1e-5
    )


def test_multi_label_retrieval_ranks_the_training_pictures(monkeypatch):
    monkeypatch.setattr(measures, "SCORES_IN_MEMORY", 100)  # several blocks, the last one short
    rng = np.random.default_rng(0)
    train, test = rng.normal(size=(40, 5)).astype(np.float32), rng.normal(size=(13, 5)).astype(np.float32)
    train_labels, test_labels = rng.random((40, 6)) < 0.2, rng.random((13, 6)) < 0.2
    test_labels[3] = False  # shares nothing with anything: no query
    unit, queries = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (train, test))
    each = []
    for query, held in zip(queries, test_labels, strict=True):
        right = (train_labels & held).any(axis=1)
        if right.any():
            each.append(average_precision_score(right, unit @ query))
    found = measures.retrieval_map(test, test_labels, train, train_labels)
    assert found == pytest.approx(np.mean(each), rel=1e-5)


def test_multi_label_retrieval_without_a_shared_class_is_an_error():
    features, labels = np.ones((4, 2), np.float32), np.zeros((4, 3), bool)
    with pytest.raises(ValueError, match="share a class"):
        measures.retrieval_map(features, labels, features, labels)


def test_effective_rank_counts_the_directions_that_vary_alike():
    rng = np.random.default_rng(0)
    line = rng.normal(size=(200, 1)) @ rng.normal(size=(1, 10)) + 3.0
    assert measures.effective_rank(line) == pytest.approx(1.0, abs=1e-6)
    signs = np.array([[1 if row >> column & 1 else -1 for column in range(4)] for row in range(16)])
    assert measures.effective_rank(np.hstack([signs, np.zeros((16, 3))])) == pytest.approx(4.0)
    assert measures.effective_rank(np.full((5, 3), 2.0)) == 0.0


def test_labels_are_checked():
    train, labels = blobs(0, 30)
    options = {"neighbours": 3, "temperature": 0.1}
    with pytest.raises(ValueError, match="labels must be from 0 to 1, got 0 to 2"):
        measures.knn_scores(train, labels, train, classes=2, **options)
    with pytest.raises(ValueError, match="a column for each of the 4 classes, got 3"):
        measures.knn_scores(train, np.eye(3, dtype=bool)[labels], train, classes=4, **options)
    with pytest.raises(ValueError, match="at least one class"):
        measures.judge(np.zeros((3, 2)), np.zeros((3, 2), bool))
