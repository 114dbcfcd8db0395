"""Scenes and objects composed of Fashion-MNIST's items: what is in them, and that they are kept."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from pretraining import datasets, scenes
from pretraining.datasets import load
from pretraining.scenes import SIDE, Composition, Part, composed

SMALL = partial(Composition, train=30, validation=12, test=12)


def plain_items(
    train: int = 150, validation: int = 150, test: int = 150, step: int = 0
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Squares as bright as the part they are of says, plus `step` for each class."""
    classes = np.arange(60) % 10
    bright = np.where(
        np.arange(60) % scenes.VALIDATION_SHARE == scenes.VALIDATION_SHARE - 1, validation, train
    )

    def squares(brightness: np.ndarray) -> np.ndarray:
        filled = np.broadcast_to(brightness[:, None, None, None], (60, 28, 28, 1))
        return (filled + step * classes[:, None, None, None]).astype(np.uint8)

    return (squares(bright), classes), (squares(np.full(60, test)), classes)


def made(folder: Path, items: tuple[int, int], **brightness: int) -> dict[str, Part]:
    return composed(SMALL(items=items), folder, lambda: plain_items(**brightness))


@pytest.fixture(autouse=True)
def _dark_backgrounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenes, "BRIGHTNESS", (20.0, 40.0))


def test_parts_have_their_sizes(tmp_path: Path) -> None:
    parts = made(tmp_path, (3, 4))
    assert {name: part.images.shape for name, part in parts.items()} == {
        "train": (30, SIDE, SIDE, 1),
        "validation": (12, SIDE, SIDE, 1),
        "test": (12, SIDE, SIDE, 1),
    }
    assert {part.labels.shape[1] for part in parts.values()} == {10}


def test_a_pictures_label_is_the_class_of_its_item(tmp_path: Path) -> None:
    for part in made(tmp_path, (1, 1), train=150, validation=150, test=150, step=10).values():
        classes = (part.images.max(axis=(1, 2, 3)).astype(int) - 150) // 10
        np.testing.assert_array_equal(part.labels, np.eye(10, dtype=bool)[classes])


def test_a_scene_shows_all_its_classes(tmp_path: Path) -> None:
    scenes_made = made(tmp_path, (3, 4), train=150, validation=150, test=150, step=10)["train"]
    counts = scenes_made.labels.sum(axis=1)
    assert counts.max() == 4 and counts.min() >= 1 and counts.mean() > 2.5
    for picture, present in zip(scenes_made.images, scenes_made.labels, strict=True):
        shown = [(picture == 150 + 10 * c).sum() > 20 for c in np.flatnonzero(present)]
        assert all(shown)


def test_items_of_the_parts_are_different_ones(tmp_path: Path) -> None:
    parts = made(tmp_path, (3, 4), train=250, validation=190, test=130)
    brightest = {name: part.images.max(axis=(1, 2, 3)) for name, part in parts.items()}
    assert [set(brightest[name].tolist()) for name in scenes.PARTS] == [{250}, {190}, {130}]


def test_the_seed_decides(tmp_path: Path) -> None:
    one, same, other = (
        composed(SMALL(items=(1, 1), seed=seed), tmp_path / str(number), plain_items)["train"].images
        for number, seed in enumerate((0, 0, 1))
    )
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_they_are_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = made(tmp_path, (3, 4))
    monkeypatch.setattr(scenes, "_compose", None)  # to call it is an error
    again = made(tmp_path, (3, 4))
    for name in scenes.PARTS:
        np.testing.assert_array_equal(again[name].images, first[name].images)
        np.testing.assert_array_equal(again[name].labels, first[name].labels)
    with pytest.raises(TypeError):  # of other items
        made(tmp_path, (3, 4), test=100)
    with pytest.raises(TypeError):  # more of them in a picture
        made(tmp_path, (3, 5))


@pytest.mark.parametrize("damage", ["cut short", "changed"])
def test_a_damaged_file_is_made_anew(tmp_path: Path, damage: str) -> None:
    first = made(tmp_path, (1, 1))["test"].images
    (path,) = tmp_path.glob("composed-1-1-*.npz")
    if damage == "cut short":
        path.write_bytes(path.read_bytes()[:-100])
    else:
        with np.load(path) as file:
            arrays = dict(file)
        arrays["test_images"] = arrays["test_images"] ^ 1
        np.savez_compressed(path, **arrays)
    np.testing.assert_array_equal(made(tmp_path, (1, 1))["test"].images, first)


def test_items_cover_little_of_each_other() -> None:
    rng = np.random.default_rng(0)
    canvas, boxes = np.zeros((SIDE, SIDE), np.float32), list[tuple[int, int, int]]()
    for _ in range(3):
        scenes._paste(canvas, np.full((18, 18), 200, np.uint8), boxes, rng)
    shares = [scenes._overlap(boxes[i], boxes[j]) for i in range(3) for j in range(i)]
    assert max(shares) <= scenes.OVERLAP


def test_the_overlap_of_two_squares() -> None:
    assert scenes._overlap((0, 0, 4), (2, 3, 2)) == pytest.approx(2 * 1 / 4)
    assert scenes._overlap((0, 0, 4), (4, 0, 4)) == 0


@pytest.mark.parametrize(("name", "several"), [("scenes", True), ("objects", False)])
def test_they_are_data_sets_by_name(
    name: str, several: bool, fashion_mnist: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "Composition", SMALL)
    data = load(name, fashion_mnist)
    assert data.splits is not None
    assert (data.name, data.image_size, data.channels) == (name, SIDE, 1)
    assert data.splits.multi_label is several
    assert data.splits.train_labels.shape == ((30, 10) if several else (30,))
    assert data.splits.train_labels.dtype == (np.bool_ if several else np.int64)
    assert len(data.splits.test_images) == len(data.splits.test_labels) == 12
