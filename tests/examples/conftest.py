"""Small data sets in the true formats, and options of runs that take a second."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness import Harness, harnesses
from PIL import Image
from runs import MakeOptions
from small_data import CLASSES, pictures, write_idx

from pretraining import datasets
from pretraining.datasets import EvaluationSplits, PretrainingData
from pretraining.options import Options


@pytest.fixture
def fashion_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with 64 training and 20 test pictures; the Debian package is out of sight."""
    monkeypatch.setattr(datasets, "DEBIAN_FASHION_MNIST", tmp_path / "no-package")
    folder = tmp_path / "fashion"
    folder.mkdir()
    for part, count in (("train", 64), ("t10k", 20)):
        write_idx(folder / f"{part}-images-idx3-ubyte.gz", pictures(count, 28, 1, seed=count)[..., 0])
        write_idx(folder / f"{part}-labels-idx1-ubyte.gz", np.arange(count) % 10)
    return folder


@pytest.fixture
def stl10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with STL10's binary files: 12 unlabelled, 10 training and 20 test pictures."""
    from torchvision.datasets import STL10

    root = tmp_path / "stl"
    folder = root / STL10.base_folder
    folder.mkdir(parents=True)
    for name, count in (("unlabeled", 12), ("train", 10), ("test", 20)):
        # A picture is its red, green and blue plane, each column by column.
        planes = pictures(count, 96, 3, seed=count).transpose(0, 3, 2, 1)
        (folder / f"{name}_X.bin").write_bytes(planes.tobytes())
        if name != "unlabeled":
            (folder / f"{name}_y.bin").write_bytes((1 + np.arange(count) % 10).astype(np.uint8).tobytes())
    (folder / "class_names.txt").write_text("\n".join(CLASSES) + "\n")
    (folder / "fold_indices.txt").write_text("0 1 2 3\n")

    def listed(names: list[list[str]]) -> list[list[str]]:
        return [[name, hashlib.md5((folder / name).read_bytes()).hexdigest()] for name, _ in names]

    for attribute in ("train_list", "test_list"):  # torchvision knows the sums of the true files
        monkeypatch.setattr(STL10, attribute, listed(getattr(STL10, attribute)))
    return root


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """COCO's layout: 9 training and 5 test jpgs of odd sizes, 3 categories with gaps in their ids."""
    root = tmp_path / "coco"
    (root / "annotations").mkdir(parents=True)
    for split, count in (("train2017", 9), ("val2017", 5)):
        (root / split).mkdir()
        content: dict[str, list[dict[str, Any]]] = {
            "images": [],
            "annotations": [],
            "categories": [
                {"id": i, "name": n} for i, n in ((7, "train"), (1, "person"), (90, "toothbrush"))
            ],
        }
        for number in range(count):
            name = f"{number:012d}.jpg"
            Image.fromarray(pictures(1, 60, 3, seed=number)[0, : 40 + number]).save(root / split / name)
            content["images"].append(
                {"id": 100 + number, "file_name": name, "height": 40 + number, "width": 60}
            )
            for category in ((1,), (7, 7, 90), ())[number % 3]:
                content["annotations"].append({
                    "id": 1 + len(content["annotations"]), "image_id": 100 + number, "category_id": category,
                    "bbox": [1, 1, 9, 9], "area": 81, "iscrowd": 0, "segmentation": [[1, 1, 10, 1, 10, 10]],
                })  # fmt: skip
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return root


@pytest.fixture
def folder_data(tmp_path: Path) -> Path:
    """train/ and val/ with two classes of pngs, some of them grey or with an alpha channel."""
    root = tmp_path / "folder"
    for part, count in (("train", 8), ("val", 4)):
        for number in range(count):
            path = root / part / ("apple", "pear")[number % 2] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            mode = ("RGB", "L", "RGBA")[number % 3]
            Image.fromarray(pictures(1, 50, 3, seed=number)[0]).convert(mode).save(path)
    return root


@pytest.fixture
def small_data() -> PretrainingData:
    """64 grey pictures of 16 pixels."""
    images, labels = pictures(64, 16, 1), np.arange(64) % 4
    splits = EvaluationSplits(images, labels, images[:20], labels[:20], ("a", "b", "c", "d"))
    return PretrainingData("small", images, splits, 16, labels)


@pytest.fixture(params=harnesses(), ids=lambda harness: harness.name)
def harness(request: pytest.FixtureRequest) -> Iterator[Harness]:
    """One trainer after another."""
    found: Harness = request.param
    with found.prepared():
        yield found


@pytest.fixture
def small_options(harness: Harness, tmp_path: Path) -> MakeOptions:
    """Makes options of a run of 6 steps of 8 pictures."""

    def make(**changes: Any) -> Options:
        values: dict[str, Any] = {
            "run_folder": tmp_path / "run", "steps": 6, "views": 4, "batch_images": 8, "head_hidden": 16,
            "head_dim": 8, "warmup_steps": 2, "checkpoint_every": 2, "map_every": 3, "no_evaluation": True,
            "device": "cpu", "prototypes": 6, "queue_size": 16, "queue_start_step": 3,
            "prototypes_frozen_steps": 2,
        }  # fmt: skip
        return harness.trainer.options(**values | changes)

    return make
