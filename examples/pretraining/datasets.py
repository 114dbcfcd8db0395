"""The data sets of the pretraining examples: one interface, and what each name stands for.

`load("fashion-mnist", root)` gives the pictures to pretrain on and the labelled ones to judge the encoder
with. Pictures are uint8 `[pictures, height, width, channels]`, a NumPy array where they fit in memory and
otherwise `DecodedImages`, which is indexed in the same way and decodes what it is asked for.
"""

import contextlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from pretraining.idx import read_idx_pair
from pretraining.scenes import PARTS, SIDE, Composition, composed


class DataError(RuntimeError):
    """The data set is missing or damaged; the message is one sentence for the user."""


class DecodedImages:
    """Pictures that are decoded when they are asked for, indexed like an array `[pictures, size, size, 3]`.

    The whole picture is resized to a square: nothing at the edge of a scene is cut off, and the random crops
    of the views change the aspect ratio anyway. `dataset[i][0]` is a PIL image, as torchvision's are.
    """

    def __init__(self, dataset: Any, size: int, count: int | None = None) -> None:
        self._dataset = dataset
        self.size = size
        self._count = len(dataset) if count is None else count

    def __len__(self) -> int:
        return self._count

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self), self.size, self.size, 3

    def first(self, count: int) -> "DecodedImages":
        """The first so many pictures."""
        return DecodedImages(self._dataset, self.size, min(count, len(self)))

    def __getitem__(
        self, index: int | np.integer[Any] | slice | Sequence[int] | NDArray[Any]
    ) -> NDArray[np.uint8]:
        """Decode: `images[3]` is `[size, size, 3]`; `images[2:9]` and `images[array]` have an axis more."""
        if isinstance(index, (int, np.integer)):
            return self._decode(int(index))
        chosen = np.arange(len(self))[index]
        if len(chosen) == 0:
            return np.zeros((0, *self.shape[1:]), np.uint8)
        return np.stack([self._decode(int(i)) for i in chosen])

    def _decode(self, index: int) -> NDArray[np.uint8]:
        try:
            picture = self._dataset[index][0].convert("RGB")
        except (OSError, UnidentifiedImageError) as error:
            raise DataError(f"picture {index} of the data set can't be read ({error})") from error
        resized = picture.resize((self.size, self.size), Image.Resampling.BILINEAR, reducing_gap=3.0)
        return np.array(resized)  # a copy, as PyTorch wants arrays that can be written to


Images = NDArray[np.uint8] | DecodedImages


@dataclass(frozen=True)
class EvaluationSplits:
    """Labelled pictures to judge an encoder with.

    Labels are class numbers, int64 `[pictures]`; where `multi_label` is true they are a boolean table
    `[pictures, classes]` of what is in each picture.
    """

    train_images: Images
    train_labels: NDArray[Any]
    test_images: Images
    test_labels: NDArray[Any]
    class_names: tuple[str, ...]
    multi_label: bool = False


@dataclass(frozen=True)
class PretrainingData:
    """Pictures to pretrain on, and the splits to evaluate with (None without test data).

    `image_size` is the side in pixels of what the encoder sees. The stored pictures may be larger.
    `labels` are those of `images` where they are known; only the method `supervised` sees them.
    `validation` holds pictures of their own in place of the test pictures, to choose settings by (None without).
    """

    name: str
    images: Images
    splits: EvaluationSplits | None
    image_size: int
    labels: NDArray[Any] | None = None
    validation: EvaluationSplits | None = None

    @property
    def channels(self) -> int:
        """1 for grey pictures, 3 for colour."""
        return self.images.shape[3]


DEBIAN_FASHION_MNIST = Path(
    "/usr/share/datasets/fashion-mnist"
)  # of the Debian package dataset-fashion-mnist
FASHION_MNIST_CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
SOURCE_OVER_VIEW = (
    4 / 3
)  # decoded pictures are this much larger than a view, so that crops of them keep detail


def load(
    name: str, root: Path | None = None, *, image_size: int | None = None, download: bool = False
) -> PretrainingData:
    """Load a data set by name.

    Args:
        name: one of `DATASETS`.
        root: the folder that holds it; None is `data` (`data/coco` for coco).
        image_size: side of a view in pixels; None is 28 for fashion-mnist, 56 for scenes and objects, which are made
            of it, 96 for stl10 and 224 otherwise.
        download: fetch fashion-mnist or stl10 through torchvision if it is not there.

    Raises:
        DataError: the data set is missing or damaged; says what to download and where to put it.
        ValueError: no data set has that name.
    """
    if name not in DATASETS:
        raise ValueError(f"data must be one of {', '.join(DATASETS)}, got {name!r}")
    return DATASETS[name](root, image_size, download)


FashionMnist = tuple[tuple[NDArray[np.uint8], NDArray[np.int64]], tuple[NDArray[np.uint8], NDArray[np.int64]]]
"""Training and test pictures `[pictures, 28, 28, 1]`, each with their classes."""


def _fashion_mnist(root: Path | None, image_size: int | None, download: bool) -> PretrainingData:
    (images, labels), (test_images, test_labels) = _read_fashion_mnist(root or Path("data"), download)
    splits = EvaluationSplits(images, labels, test_images, test_labels, FASHION_MNIST_CLASSES)
    return PretrainingData("fashion-mnist", images, splits, image_size or images.shape[1], labels)


def _scenes(root: Path | None, image_size: int | None, download: bool) -> PretrainingData:
    return _composed("scenes", Composition(items=(3, 4)), root, image_size, download)


def _objects(root: Path | None, image_size: int | None, download: bool) -> PretrainingData:
    return _composed("objects", Composition(items=(1, 1)), root, image_size, download)


def _composed(
    name: str, composition: Composition, root: Path | None, image_size: int | None, download: bool
) -> PretrainingData:
    """Pictures of as many Fashion-MNIST items as the composition says; with one item it has one class."""
    root = root or Path("data")
    try:
        parts = composed(composition, root, lambda: _read_fashion_mnist(root, download))
    except OSError as error:
        raise DataError(f"{name} can't be kept in {root} ({error}): give another --data-root") from error
    several, images = composition.items[1] > 1, parts["train"].images
    labels = {
        part: parts[part].labels if several else parts[part].labels.argmax(axis=1).astype(np.int64)
        for part in PARTS
    }
    validation, test = (
        EvaluationSplits(
            images, labels["train"], parts[part].images, labels[part], FASHION_MNIST_CLASSES, several
        )
        for part in ("validation", "test")
    )
    return PretrainingData(name, images, test, image_size or SIDE, labels["train"], validation)


def _read_fashion_mnist(root: Path, download: bool) -> FashionMnist:
    if download and not any(map(_has_fashion_mnist, _fashion_mnist_folders(root))):
        from torchvision.datasets import FashionMNIST

        _download("Fashion-MNIST", lambda: FashionMNIST(str(root), download=True))
    folder = next(filter(_has_fashion_mnist, _fashion_mnist_folders(root)), None)
    if folder is None:
        raise DataError(
            "Fashion-MNIST is missing: install the Debian package dataset-fashion-mnist, or give --download, "
            f"or put its four idx .gz files (train-images-idx3-ubyte.gz, ...) into {root}"
        )
    try:
        return read_idx_pair(folder, "train"), read_idx_pair(folder, "t10k")
    except (OSError, EOFError, ValueError) as error:
        raise DataError(f"Fashion-MNIST in {folder} is damaged, download it again: {error}") from error


def _fashion_mnist_folders(root: Path) -> tuple[Path, ...]:
    """Where to look: the folder itself, where torchvision downloads to, the Debian package."""
    return root, root / "FashionMNIST" / "raw", DEBIAN_FASHION_MNIST


def _has_fashion_mnist(folder: Path) -> bool:
    return (folder / "train-images-idx3-ubyte.gz").is_file()


def _stl10(root: Path | None, image_size: int | None, download: bool) -> PretrainingData:
    from torchvision.datasets import STL10

    root = root or Path("data")
    if download and not (root / STL10.base_folder / "unlabeled_X.bin").is_file():
        _download("STL10", lambda: STL10(str(root), split="unlabeled", download=True))
    try:
        unlabeled, train, test = (STL10(str(root), split=split) for split in ("unlabeled", "train", "test"))
    except (RuntimeError, OSError, ValueError) as error:
        raise DataError(
            f"STL10 is missing from {root} or damaged: give --download, or unpack stl10_binary.tar.gz of "
            f"https://cs.stanford.edu/~acoates/stl10 so that {root / STL10.base_folder} holds its .bin files"
        ) from error
    images, train_images, test_images = (np.moveaxis(split.data, 1, 3) for split in (unlabeled, train, test))
    train_labels, test_labels = (np.asarray(split.labels, np.int64) for split in (train, test))
    splits = EvaluationSplits(train_images, train_labels, test_images, test_labels, tuple(train.classes))
    return PretrainingData("stl10", images, splits, image_size or images.shape[1])


def _coco(root: Path | None, image_size: int | None, download: bool) -> PretrainingData:
    root, size = root or Path("data/coco"), image_size or 224
    train, train_labels, class_names = _coco_split(root, "train2017")
    test, test_labels, _ = _coco_split(root, "val2017")
    splits = EvaluationSplits(
        DecodedImages(train, size),
        train_labels,
        DecodedImages(test, size),
        test_labels,
        class_names,
        multi_label=True,
    )
    images = DecodedImages(train, round(size * SOURCE_OVER_VIEW))
    return PretrainingData("coco", images, splits, size, train_labels)


def _coco_split(root: Path, split: str) -> tuple[Any, NDArray[np.bool_], tuple[str, ...]]:
    """A CocoDetection data set, which categories are in each of its pictures, and the categories' names."""
    from torchvision.datasets import CocoDetection

    folder, annotations = root / split, root / "annotations" / f"instances_{split}.json"
    if not folder.is_dir() or not annotations.is_file():
        raise DataError(
            f"COCO is missing: unpack {split}.zip and annotations_trainval2017.zip of "
            f"https://cocodataset.org so that {folder} and {annotations} are there"
        )
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints what it is doing
            dataset = CocoDetection(str(folder), str(annotations))
    except ImportError as error:
        raise DataError("COCO needs pycocotools: pip install pycocotools") from error
    except (ValueError, KeyError) as error:
        raise DataError(f"{annotations} is not a COCO annotation file, unpack it again: {error}") from error
    categories = sorted(dataset.coco.cats)
    column = {category: i for i, category in enumerate(categories)}
    labels = np.zeros((len(dataset), len(categories)), np.bool_)
    for row, picture in enumerate(dataset.ids):
        for annotation in dataset.coco.imgToAnns[picture]:
            labels[row, column[annotation["category_id"]]] = True
    return dataset, labels, tuple(dataset.coco.cats[category]["name"] for category in categories)


def _folder(root: Path | None, image_size: int | None, download: bool) -> PretrainingData:
    size = image_size or 224
    layout = "train/CLASS/*.jpg and test/CLASS/*.jpg (or val/ in place of test/)"
    if root is None or not (root / "train").is_dir():
        raise DataError(f"--data folder needs a --data-root that holds {layout}, got {root}")
    train = _image_folder(root / "train")
    images = DecodedImages(train, round(size * SOURCE_OVER_VIEW))
    test_folder = next((root / name for name in ("test", "val") if (root / name).is_dir()), None)
    if test_folder is None:
        return PretrainingData("folder", images, None, size, np.asarray(train.targets, np.int64))
    test = _image_folder(test_folder)
    if test.classes != train.classes:
        raise DataError(
            f"{test_folder} must hold the classes of {root / 'train'}: {train.classes}, got {test.classes}"
        )
    train_labels, test_labels = (np.asarray(part.targets, np.int64) for part in (train, test))
    splits = EvaluationSplits(
        DecodedImages(train, size), train_labels, DecodedImages(test, size), test_labels, tuple(train.classes)
    )
    return PretrainingData("folder", images, splits, size, train_labels)


def _image_folder(folder: Path) -> Any:
    from torchvision.datasets import ImageFolder

    try:
        return ImageFolder(str(folder))
    except FileNotFoundError as error:  # no class folders, or one that holds no picture
        raise DataError(
            f"{folder} is no folder of class folders of pictures: {error}".splitlines()[0]
        ) from error


def _download(title: str, fetch: Callable[[], object]) -> None:
    try:
        fetch()
    except (OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"{title} could not be downloaded ({reason}): fetch it elsewhere, see --data-root"
        ) from error


DATASETS: dict[str, Callable[[Path | None, int | None, bool], PretrainingData]] = {
    "fashion-mnist": _fashion_mnist,
    "scenes": _scenes,
    "objects": _objects,
    "stl10": _stl10,
    "coco": _coco,
    "folder": _folder,
}
