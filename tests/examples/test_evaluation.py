"""Encoders judged beside each other: what results.json holds, the pictures, and encoders that go wrong."""

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from small_data import pictures

from pretraining import evaluation, exhibits, report
from pretraining.datasets import EvaluationSplits, load
from pretraining.evaluation import Candidate, EvaluationOptions, evaluate_encoders, evaluate_run

SMALL = EvaluationOptions(train_images=60, test_images=30, batch=16, neighbours=5, map_images=20, queries=3)


def means(images: np.ndarray) -> np.ndarray:
    """An encoder: the mean of each quarter of the picture."""
    side = images.shape[1] // 2
    return images.reshape(len(images), 2, side, 2, side, -1).mean(axis=(2, 4)).reshape(len(images), -1) / 255


def noise(images: np.ndarray) -> np.ndarray:
    """An encoder that knows nothing."""
    return np.random.default_rng(0).normal(size=(len(images), 7)).astype(np.float32)


def splits(*, multi_label: bool = False, channels: int = 1) -> EvaluationSplits:
    """Pictures whose class is the quarter that is bright; or which quarters are, if several may be."""
    rng = np.random.default_rng(0)
    parts = []
    for count in (80, 40):
        held = (
            rng.random((count, 4)) < 0.5
            if multi_label
            else np.eye(4, dtype=bool)[rng.integers(4, size=count)]
        )
        bright = np.where(held, 200, 40).reshape(count, 2, 1, 2, 1, 1)
        images = np.broadcast_to(bright, (count, 2, 8, 2, 8, channels)).reshape(count, 16, 16, channels)
        images = (images + rng.integers(0, 40, images.shape)).astype(np.uint8)
        parts += [images, held if multi_label else held.argmax(axis=1)]
    return EvaluationSplits(*parts, ("nw", "ne", "sw", "se"), multi_label)


def write_curves(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"{step},{step}.5,{2 / step},{'0.5' if step % 2 else ''},100.0,0.01" for step in range(1, 9)]
    head = "step,seconds,loss,map,views_per_second,learning_rate"
    (folder / "curves.csv").write_text("\n".join([head, *lines, "9,9.5,0.2"]))  # the last line cut short


def test_a_run_is_judged_beside_its_baselines_and_raw_pixels(tmp_path):
    write_curves(tmp_path)
    content = evaluate_run(
        tmp_path, means, splits(), name="S2R2", baselines={"untrained": noise}, seed=3,
        data_name="quarters", settings={"steps": 8, "folder": tmp_path}, options=SMALL,
    )  # fmt: skip
    assert json.loads((tmp_path / "results.json").read_text()) == json.loads(json.dumps(content))
    assert [row["name"] for row in content["encoders"]] == ["S2R2", "untrained", "raw pixels"]
    trained, untrained, pixels = content["encoders"]
    assert (trained["trained"], untrained["trained"], pixels["trained"]) == (True, False, False)
    assert trained["knn"] == trained["linear"] == 1.0
    assert trained["retrieval"] > 0.99
    assert untrained["knn"] < 0.6
    assert untrained["retrieval"] < 0.6
    assert (trained["dimensions"], untrained["dimensions"], pixels["dimensions"]) == (4, 7, 256)
    assert trained["settings"] == {"steps": 8, "folder": str(tmp_path)}
    assert content["seed"] == content["settings"]["seed"] == 3
    assert content["data"] == {
        "name": "quarters", "train_images": 60, "test_images": 30, "classes": ["nw", "ne", "sw", "se"],
        "multi_label": False,
    }  # fmt: skip
    assert {"python", "numpy", "scikit-learn", "rankloss"} <= content["versions"].keys()
    assert set(content["pictures"].values()) == {"neighbours.png", "curves.png", "map.png"}
    for name in content["pictures"].values():
        height, width, _ = imread(tmp_path / name).shape
        assert 300 < height < 3000
        assert 600 < width < 3000
    assert "| S2R2 " in (tmp_path / "results.md").read_text()


def test_the_same_seed_gives_the_same_figures(tmp_path):
    def figures(folder: str, seed: int) -> list[tuple[float, ...]]:
        options = EvaluationOptions(train_images=30, test_images=20, neighbours=5, map_images=0, seed=seed)
        results = evaluate_encoders(tmp_path / folder, {"means": Candidate(means)}, splits(), options=options)
        return [(row.knn, row.linear, row.retrieval, row.effective_rank) for row in results.encoders]

    assert figures("a", 0) == figures("b", 0)
    assert figures("a", 0) != figures("c", 1)


def test_several_classes_a_picture_are_judged_by_mean_average_precision(tmp_path):
    data = splits(multi_label=True)
    results = evaluate_encoders(
        tmp_path, {"means": Candidate(means), "noise": Candidate(noise)}, data, options=SMALL
    )
    good, bad, _ = results.encoders
    assert good.knn > 0.95
    assert good.linear > 0.95
    assert bad.knn < 0.8
    assert bad.linear < 0.8
    assert good.retrieval > bad.retrieval
    assert "k-NN mAP" in report.table(results)
    assert "share a class" in report.notes(results)
    assert set(results.pictures) == {"nearest neighbours", "map of the features"}  # no run, no curves


def test_fewer_pictures_than_asked_for_are_all_used(tmp_path):
    results = evaluate_encoders(tmp_path, {"means": Candidate(means)}, splits(channels=3))
    assert (results.data.train_images, results.data.test_images) == (80, 40)


def test_an_encoder_sees_each_chosen_picture_once_and_in_batches(tmp_path):
    seen: list[int] = []

    def encode(images: np.ndarray) -> np.ndarray:
        assert images.dtype == np.uint8
        assert images.shape[1:] == (16, 16, 1)
        seen.append(len(images))
        return means(images)

    evaluate_encoders(tmp_path, {"means": Candidate(encode)}, splits(), options=SMALL)
    assert seen == [16, 16, 16, 12, 16, 14]


@pytest.mark.parametrize(
    ("encode", "message"),
    [
        (lambda images: np.full((len(images), 3), np.nan), "broken must give finite features"),
        (lambda images: np.zeros((len(images), 3, 1)), r"broken must give features \[16, d\], got the shape"),
        (lambda images: np.zeros((3, 3)), r"broken must give features \[16, d\], got the shape \(3, 3\)"),
    ],
)
def test_a_broken_encoder_is_named(tmp_path, encode, message):
    with pytest.raises(ValueError, match=message):
        evaluate_encoders(tmp_path, {"broken": Candidate(encode)}, splits(), options=SMALL)
    assert not (tmp_path / "results.json").exists()


@pytest.mark.parametrize(
    ("field", "value", "least"),
    [("train_images", 0, 1), ("neighbours", -3, 1), ("queries", -1, 0), ("seed", -1, 0)],
)
def test_options_are_checked_when_made(field, value, least):
    with pytest.raises(ValueError, match=f"{field} must be at least {least}, got {value}"):
        EvaluationOptions(**{field: value})


def test_pictures_can_be_left_out(tmp_path):
    options = EvaluationOptions(train_images=30, test_images=20, neighbours=5, map_images=0, queries=0)
    results = evaluate_encoders(tmp_path, {"means": Candidate(means)}, splits(), options=options)
    assert results.pictures == {}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results.json", "results.md"]


def test_a_collapsed_encoder_is_judged_and_shows_in_its_rank(tmp_path):
    collapsed = Candidate(lambda images: np.ones((len(images), 5), np.float32))
    results = evaluate_encoders(tmp_path, {"collapsed": collapsed}, splits(), options=SMALL)
    assert results.encoders[0].effective_rank == 0.0
    assert results.encoders[0].knn < 0.6


def test_small_pictures_keep_their_pixels():
    images = pictures(3, 28, 1)
    np.testing.assert_allclose(evaluation.pixel_features(images), images.reshape(3, -1) / 255, rtol=1e-6)


@pytest.mark.parametrize("side", [64, 80, 33])
def test_large_pictures_are_averaged(side):
    images = np.random.default_rng(0).integers(0, 256, (2, side, side, 3), np.uint8)
    found = evaluation.pixel_features(images).reshape(2, 32, 32, 3)
    np.testing.assert_allclose(found.mean(axis=(1, 2)), images.mean(axis=(1, 2)) / 255, rtol=1e-5)
    if side == 64:
        expected = images.reshape(2, 32, 2, 32, 2, 3).mean(axis=(2, 4)) / 255
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_queries_are_of_different_classes_and_drawn_by_the_seed():
    labels = np.repeat(np.arange(5), [50, 1, 1, 1, 50])
    for seed in range(5):
        chosen = exhibits.pick_queries(labels, 5, np.random.default_rng(seed))
        assert sorted(labels[chosen]) == [0, 1, 2, 3, 4]
    assert len(exhibits.pick_queries(labels, 8, np.random.default_rng(0))) == 8
    assert len(set(exhibits.pick_queries(labels, 200, np.random.default_rng(0)))) == 103


def test_pictures_that_share_a_class_are_right():
    single = np.array([0, 1, 0])
    np.testing.assert_array_equal(
        exhibits.share_a_class(single, np.array([[0], [1]]), np.array([[1, 2], [0, 2]])),
        [[False, True], [False, False]],
    )
    several = np.array([[1, 1, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]], dtype=bool)
    found = exhibits.share_a_class(several, np.array([[0], [3]]), np.array([[1, 2], [0, 3]]))
    np.testing.assert_array_equal(found, [[True, False], [False, False]])


@pytest.mark.parametrize("name", ["coco", "folder"])
def test_pictures_that_are_decoded_when_asked_for(tmp_path, request, name):
    root = request.getfixturevalue({"coco": "coco", "folder": "folder_data"}[name])
    data = load(name, root, image_size=40).splits
    options = EvaluationOptions(neighbours=3, queries=2)
    results = evaluate_encoders(tmp_path / "out", {"means": Candidate(means)}, data, options=options)
    assert results.data.multi_label == (name == "coco")
    assert results.encoders[1].dimensions == 32 * 32 * 3
    assert set(results.pictures) == {"nearest neighbours"}  # too few pictures for a map


def test_retrieval_of_some_pictures_leaves_no_class_out(tmp_path, monkeypatch):
    data = splits()
    order = np.argsort(data.test_labels, kind="stable")  # as folders come
    arranged = EvaluationSplits(
        data.train_images,
        data.train_labels,
        data.test_images[order],
        data.test_labels[order],
        data.class_names,
    )
    queried: list[np.ndarray] = []

    def note(test: np.ndarray, labels: np.ndarray, *_: object) -> float:
        queried.append(labels)
        return 0.5

    monkeypatch.setattr(evaluation.measures, "retrieval_map", note)
    options = EvaluationOptions(neighbours=5, retrieval_images=16, map_images=0, queries=0)
    evaluate_encoders(tmp_path, {"means": Candidate(means)}, arranged, options=options)
    assert len(queried[0]) == 16
    assert set(queried[0]) == {0, 1, 2, 3}
