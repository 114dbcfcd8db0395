"""Pictures of one thing, and scenes of many, composed of Fashion-MNIST's: data sets that differ in nothing else.

An item is turned, scaled, mirrored and put somewhere on a canvas with a textured background. The items of
training, validation and test pictures are different ones. Pictures are drawn from a seed, and kept in a file.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from pretraining.files import write_whole

SIDE = 56
SCALES = (0.6, 0.95)  # of an item's 28 pixels
ANGLES = (-30.0, 30.0)  # degrees
OVERLAP = 0.15  # of the smaller of two items, at most, unless no place is found
TRIES = 40  # places that are drawn for an item; the one that overlaps least is taken
TEXTURES = (4, 7, 14)  # cells along a side of the background's coarse, middle and fine layer
BRIGHTNESS = (20.0, 110.0)  # of the background, out of 255
VALIDATION_SHARE = 6  # one in so many of the training items serves validation

Pictures = NDArray[np.uint8]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Composition:
    """What is composed: between `items[0]` and `items[1]` things a picture, and how many pictures of each part."""

    items: tuple[int, int]
    train: int = 20_000
    validation: int = 5_000
    test: int = 5_000
    seed: int = 0


@dataclass(frozen=True)
class Part:
    """Pictures `[pictures, 56, 56, 1]`, and which of the classes are in each, boolean `[pictures, classes]`."""

    images: Pictures
    labels: NDArray[np.bool_]


PARTS = ("train", "validation", "test")


def composed(
    composition: Composition,
    folder: Path,
    read_items: Callable[[], tuple[tuple[Pictures, Labels], tuple[Pictures, Labels]]],
) -> dict[str, Part]:
    """The parts "train", "validation" and "test", made now or read from the folder, where they are kept.

    Args:
        read_items: gives Fashion-MNIST's training and test pictures `[pictures, 28, 28, 1]` with their classes.
    """
    least, most = composition.items
    (images, labels), test = read_items()
    sources = hashlib.sha256(images.tobytes() + labels.tobytes() + test[0].tobytes() + test[1].tobytes())
    recipe = f"{composition!r} {sources.hexdigest()} {_settings()}"
    path = folder / f"composed-{least}-{most}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}.npz"
    kept = _read(path)
    if kept is not None:
        return kept
    held_out = np.arange(len(images)) % VALIDATION_SHARE == VALIDATION_SHARE - 1
    sources_of = {
        "train": (images[~held_out], labels[~held_out]),
        "validation": (images[held_out], labels[held_out]),
        "test": test,
    }
    parts = {
        name: _compose(
            *sources_of[name], getattr(composition, name), composition.items, (composition.seed, number)
        )
        for number, name in enumerate(PARTS)
    }
    _write(path, parts)
    return parts


def _settings() -> str:
    return repr((SIDE, SCALES, ANGLES, OVERLAP, TRIES, TEXTURES, BRIGHTNESS, VALIDATION_SHARE))


def _compose(
    images: Pictures, labels: Labels, count: int, numbers: tuple[int, int], seed: tuple[int, int]
) -> Part:
    rng = np.random.default_rng(seed)
    canvases = np.empty((count, SIDE, SIDE, 1), np.uint8)
    present = np.zeros((count, 10), np.bool_)
    for picture in tqdm(range(count), "composing pictures", leave=False, disable=None):
        chosen = rng.choice(len(images), rng.integers(numbers[0], numbers[1] + 1), replace=False)
        canvas, boxes = _background(rng), list[tuple[int, int, int]]()
        for item in chosen:
            _paste(canvas, _varied(images[item, :, :, 0], rng), boxes, rng)
        canvases[picture, :, :, 0] = canvas.clip(0, 255).round()
        present[picture, labels[chosen]] = True
    return Part(canvases, present)


def _background(rng: np.random.Generator) -> NDArray[np.float32]:
    """Smooth noise of three scales, the finer the fainter, over a brightness of its own."""
    texture = np.full((SIDE, SIDE), rng.uniform(*BRIGHTNESS), np.float32)
    for cells in TEXTURES:
        noise = rng.normal(0, 60 / cells, (cells, cells)).astype(np.float32)
        texture += np.asarray(Image.fromarray(noise).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    return texture


def _varied(item: Pictures, rng: np.random.Generator) -> Pictures:
    """The item mirrored or not, turned and scaled, on black."""
    picture = Image.fromarray(item[:, ::-1].copy() if rng.random() < 0.5 else item)
    side = max(2, round(item.shape[0] * rng.uniform(*SCALES)))
    turned = picture.rotate(rng.uniform(*ANGLES), Image.Resampling.BILINEAR)
    return np.asarray(turned.resize((side, side), Image.Resampling.BILINEAR, reducing_gap=3.0))


def _paste(
    canvas: NDArray[np.float32],
    item: Pictures,
    boxes: list[tuple[int, int, int]],
    rng: np.random.Generator,
) -> None:
    """Lay the item onto the canvas where it covers little of those in `boxes`, (top, left, side) each."""
    side = item.shape[0]
    best, least = (0, 0), np.inf
    for top, left in rng.integers(0, SIDE - side + 1, (TRIES, 2)).tolist():
        covered = max((_overlap((top, left, side), box) for box in boxes), default=0.0)
        if covered < least:
            best, least = (top, left), covered
        if covered <= OVERLAP:
            break
    top, left = best
    boxes.append((top, left, side))
    # What is black around an item is no part of it; its edge fades.
    opaque = (item.astype(np.float32) / 32).clip(0, 1)
    under = canvas[top : top + side, left : left + side]
    under[...] = opaque * item + (1 - opaque) * under


def _overlap(one: tuple[int, int, int], other: tuple[int, int, int]) -> float:
    """The common area of two squares, as a share of the smaller one's."""
    height, width = (
        min(one[axis] + one[2], other[axis] + other[2]) - max(one[axis], other[axis]) for axis in (0, 1)
    )
    return max(0, height) * max(0, width) / min(one[2], other[2]) ** 2


def _read(path: Path) -> dict[str, Part] | None:
    """The parts in a file, or None if there is none or it is damaged."""
    try:
        with path.open("rb") as content, np.load(content) as file:
            arrays = {name: file[name] for name in file.files}
        parts = {name: Part(arrays[f"{name}_images"], arrays[f"{name}_labels"]) for name in PARTS}
        return parts if bytes(arrays["digest"]) == _digest(parts) else None
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None


def _write(path: Path, parts: dict[str, Part]) -> None:
    arrays = {f"{name}_images": part.images for name, part in parts.items()}
    arrays |= {f"{name}_labels": part.labels for name, part in parts.items()}
    arrays["digest"] = np.frombuffer(_digest(parts), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda file: np.savez_compressed(file, **arrays))


def _digest(parts: dict[str, Part]) -> bytes:
    content = hashlib.sha256()
    for name in PARTS:
        content.update(parts[name].images.tobytes())
        content.update(parts[name].labels.tobytes())
    return content.digest()
