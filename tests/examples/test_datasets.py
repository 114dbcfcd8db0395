"""The data sets' loaders, on small files in the true formats, and what they say when files are missing."""

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from small_data import CLASSES, pictures, write_idx

from pretraining import datasets
from pretraining.datasets import DataError, DecodedImages, load


def test_fashion_mnist_reads_idx(fashion_mnist: Path) -> None:
    data = load("fashion-mnist", fashion_mnist)
    assert data.splits is not None
    np.testing.assert_array_equal(data.images, pictures(64, 28, 1, seed=64))
    np.testing.assert_array_equal(data.splits.test_images, pictures(20, 28, 1, seed=20))
    np.testing.assert_array_equal(data.splits.test_labels, np.arange(20) % 10)
    assert data.splits.train_labels.dtype == np.int64
    assert (data.image_size, data.channels, data.splits.class_names[9]) == (28, 1, "Ankle boot")
    assert not data.splits.multi_label


def test_fashion_mnist_where_torchvision_puts_it(fashion_mnist: Path, tmp_path: Path) -> None:
    shutil.copytree(fashion_mnist, tmp_path / "root" / "FashionMNIST" / "raw")
    assert len(load("fashion-mnist", tmp_path / "root").images) == 64


def test_fashion_mnist_where_debian_puts_it(
    fashion_mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "DEBIAN_FASHION_MNIST", fashion_mnist)
    assert len(load("fashion-mnist", tmp_path / "elsewhere", image_size=32).images) == 64


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[:40], "end-of-stream|ended before"),
        (lambda content: b"no gzip file", "[Nn]ot a gzipped"),
        (
            lambda content: gzip.compress(gzip.decompress(content)[:-5]),
            r"says \(64, 28, 28\) and holds 50171",
        ),
        (lambda content: gzip.compress(b"\0\0\x0d" + gzip.decompress(content)[3:]), "not an idx file of 3"),
    ],
)
def test_fashion_mnist_damaged(fashion_mnist: Path, damage: Callable[[bytes], bytes], message: str) -> None:
    path = fashion_mnist / "train-images-idx3-ubyte.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=f"damaged, download it again.*({message})"):
        load("fashion-mnist", fashion_mnist)


def test_fashion_mnist_labels_must_match(fashion_mnist: Path) -> None:
    write_idx(fashion_mnist / "train-labels-idx1-ubyte.gz", np.zeros(63))
    with pytest.raises(DataError, match="train has 64 images and 63 labels"):
        load("fashion-mnist", fashion_mnist)


def test_stl10_reads_the_binary_layout(stl10: Path) -> None:
    data = load("stl10", stl10)
    assert data.splits is not None
    np.testing.assert_array_equal(data.images, pictures(12, 96, 3, seed=12))
    np.testing.assert_array_equal(data.splits.train_images, pictures(10, 96, 3, seed=10))
    np.testing.assert_array_equal(data.splits.test_labels, np.arange(20) % 10)
    assert data.splits.class_names == CLASSES
    assert (data.image_size, data.channels) == (96, 3)


def test_stl10_damaged(stl10: Path) -> None:
    path = stl10 / "stl10_binary" / "test_X.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"damaged: give --download, or unpack stl10_binary\.tar\.gz"):
        load("stl10", stl10)


def test_coco_labels_are_the_categories_in_a_picture(coco: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = load("coco", coco, image_size=24)
    assert data.splits is not None
    assert data.splits.multi_label
    assert data.splits.class_names == ("person", "train", "toothbrush")
    expected = [[True, False, False], [False, True, True], [False, False, False]]
    np.testing.assert_array_equal(data.splits.train_labels, expected * 3)
    np.testing.assert_array_equal(data.splits.test_labels, (expected * 2)[:5])
    assert data.images.shape == (9, 32, 32, 3)
    assert data.splits.test_images.shape == (5, 24, 24, 3)
    assert capsys.readouterr().out == ""


def test_coco_annotations_damaged(coco: Path) -> None:
    (coco / "annotations" / "instances_val2017.json").write_text("{")
    with pytest.raises(DataError, match=r"instances_val2017\.json is not a COCO annotation file"):
        load("coco", coco)


def test_folder_of_classes(folder_data: Path) -> None:
    data = load("folder", folder_data, image_size=24)
    assert data.splits is not None
    assert data.splits.class_names == ("apple", "pear")
    np.testing.assert_array_equal(data.splits.train_labels, [0, 0, 0, 0, 1, 1, 1, 1])
    assert data.splits.test_images[:].shape == (4, 24, 24, 3)
    assert data.images[1].shape == (32, 32, 3)


def test_folder_without_test_pictures_can_still_be_pretrained_on(folder_data: Path) -> None:
    shutil.rmtree(folder_data / "val")
    assert load("folder", folder_data).splits is None


def test_folder_with_other_classes_in_test(folder_data: Path) -> None:
    (folder_data / "val" / "pear").rename(folder_data / "val" / "plum")
    with pytest.raises(DataError, match=r"must hold the classes of .*'apple', 'pear'.*got.*'plum'"):
        load("folder", folder_data)


def test_folder_picture_that_can_not_be_read(folder_data: Path) -> None:
    (folder_data / "train" / "apple" / "2.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match="picture 1 of the data set can't be read"):
        load("folder", folder_data).images[:]


def test_decoded_images_are_indexed_like_an_array(folder_data: Path) -> None:
    images = load("folder", folder_data, image_size=24).images
    assert isinstance(images, DecodedImages)
    every = np.stack([images[i] for i in range(len(images))])
    assert every.std() > 0
    np.testing.assert_array_equal(images[2:5], every[2:5])
    np.testing.assert_array_equal(images[np.array([6, 0, 6])], every[[6, 0, 6]])
    np.testing.assert_array_equal(images[[3, 1]], every[[3, 1]])
    assert images[5:5].shape == (0, 32, 32, 3)
    assert images.first(3).shape == (3, 32, 32, 3)
    assert images.first(99).shape == images.shape
    np.testing.assert_array_equal(images.first(3)[:], every[:3])
    with pytest.raises(IndexError):
        images[len(images) : len(images) + 1][0]


def test_resizing_keeps_the_whole_picture(coco: Path) -> None:
    images = load("coco", coco, image_size=24).images
    blots = pictures(1, 60, 3, seed=8)[0, :48]  # picture 8 of the training split is 48 by 60
    corners = [blots[0, 0], blots[0, -1], blots[-1, 0], blots[-1, -1]]
    decoded = images[8]
    np.testing.assert_allclose(
        [decoded[0, 0], decoded[0, -1], decoded[-1, 0], decoded[-1, -1]], corners, atol=40
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "fashion-mnist",
            "install the Debian package dataset-fashion-mnist, or give --download, or put its four",
        ),
        ("stl10", "STL10 is missing from .* or damaged: give --download"),
        ("coco", r"COCO is missing: unpack train2017\.zip and annotations_trainval2017\.zip"),
        ("folder", r"--data folder needs a --data-root that holds train/CLASS/\*\.jpg"),
    ],
)
def test_missing_data_is_one_sentence(
    name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "DEBIAN_FASHION_MNIST", tmp_path)
    with pytest.raises(DataError, match=message) as caught:
        load(name, tmp_path / "nothing")
    assert "\n" not in str(caught.value)


def test_download_that_fails_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import STL10, FashionMNIST

    def fail(*arguments: object, **options: object) -> None:
        raise RuntimeError("Error downloading x\nfrom all mirrors")

    monkeypatch.setattr(datasets, "DEBIAN_FASHION_MNIST", tmp_path)
    monkeypatch.setattr(FashionMNIST, "download", fail)
    monkeypatch.setattr(STL10, "download", fail)
    for name, title in (("fashion-mnist", "Fashion-MNIST"), ("stl10", "STL10")):
        with pytest.raises(DataError, match=rf"{title} could not be downloaded \(Error downloading x\)"):
            load(name, tmp_path / "nothing", download=True)


def test_unknown_name() -> None:
    with pytest.raises(
        ValueError,
        match="data must be one of fashion-mnist, scenes, objects, stl10, coco, folder, got 'mnist'",
    ):
        load("mnist")
