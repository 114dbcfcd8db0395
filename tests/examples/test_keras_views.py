"""The Keras trainer's views: numbers and draws as the PyTorch trainer's, by kornia, and a seed repeats them."""

from typing import Any

import kornia.augmentation
import kornia.enhance
import kornia.filters
import numpy as np
import pytest
import torch
from keras import ops
from runs import altered_by
from small_data import pictures

from keras_s2r2.options import KerasOptions
from keras_s2r2.views import RandomResizedCrops, Views, blend, blur, grey, resized, samples, turn_hue
from pretraining.crops import Crop


def make_views(images: np.ndarray, size: int, seed: int = 0, **options: Any) -> list[np.ndarray]:
    views = Views(KerasOptions(**options), size, images.shape[3])
    made = views(ops.convert_to_tensor(images), ops.convert_to_tensor(np.int32(seed)))
    return [ops.convert_to_numpy(kind) for kind in made]


def channels_first(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2)


def random_images(channels: int, side: int = 12) -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 255, (5, side, side, channels)).astype(np.float32)


@pytest.mark.parametrize(("channels", "side", "size"), [(1, 28, 28), (3, 96, 64), (3, 300, 64)])
def test_shape_and_range(channels: int, side: int, size: int) -> None:
    (views,) = make_views(pictures(3, side, channels), size, views=5)
    assert (views.shape, views.dtype) == ((15, size, size, channels), np.float32)
    assert 0 <= views.min() < views.max() <= 255


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("only", ["crop", "flip", "jitter", "grayscale", "blur"])
def test_every_view_of_every_picture_has_draws_of_its_own(channels: int, only: str) -> None:
    if only == "grayscale" and channels == 1:
        pytest.skip("grey pictures stay grey")
    # The same picture twice: were the draws one for the batch or one for a picture, views would be equal.
    twice = np.concatenate([pictures(1, 32, channels, seed=1)] * 2)
    (views,) = make_views(
        twice,
        32,
        views=64,
        **altered_by(only),
    )
    distinct = {view.round(1).tobytes() for view in views[:64]}
    if only in ("flip", "grayscale"):
        assert len(distinct) == 2
    else:
        assert len(distinct) > (55 if only == "crop" else 40)  # now and then a crop is the whole picture
    assert not np.allclose(views[:64], views[64:])


def test_views_show_their_own_picture() -> None:
    shades = np.array([0, 80, 160, 240], np.uint8)
    flat = np.broadcast_to(shades[:, None, None, None], (4, 28, 28, 1)).copy()
    (views,) = make_views(flat, 28, views=3, jitter=0.0)
    np.testing.assert_allclose(views, np.repeat(flat, 3, axis=0), rtol=1e-5)


def test_no_augmentation_is_the_picture() -> None:
    images = pictures(2, 28, 3)
    (views,) = make_views(images, 28, views=2, crop_min=1.0, no_flip=True, jitter=0.0, grayscale=0.0)
    np.testing.assert_allclose(views, np.repeat(images, 2, axis=0), atol=1e-3)


def test_seed_repeats_the_views() -> None:
    images = pictures(2, 40, 3)
    (first,), (again,), (other,) = (make_views(images, 32, seed, views=4, blur=0.5) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).mean() > 5


def test_swav_makes_two_full_crops_and_small_ones() -> None:
    full, small = make_views(pictures(2, 28, 1), 28, method="swav", views=6)
    assert full.shape == (4, 28, 28, 1)
    assert small.shape == (8, 20, 20, 1)


@pytest.mark.parametrize("size", [20, 28, 40])
def test_crop_is_kornias(size: int) -> None:
    torch.manual_seed(0)
    images = random_images(3, side=28)
    crop = kornia.augmentation.RandomResizedCrop(
        (size, size), scale=(0.2, 1.0), cropping_mode="resample", align_corners=False
    )
    expected = crop(channels_first(images))
    corners = crop._params["src"].numpy().astype(np.float32)
    (left, top), (right, bottom) = corners[:, 0].T, corners[:, 2].T
    rows, columns = (
        ops.convert_to_numpy(
            samples(*map(ops.convert_to_tensor, (start, end - start + 1)), side=28, size=size)
        )
        for start, end in ((top, bottom), (left, right))
    )
    found = np.einsum("byh,bhwc,bxw->bcyx", rows, images, columns)
    np.testing.assert_allclose(found, expected, atol=2e-3)


@pytest.mark.parametrize(("area", "height", "width"), [((0.2, 1.0), 28, 28), ((0.05, 0.35), 40, 60)])
def test_crops_are_drawn_as_kornias(area: tuple[float, float], height: int, width: int) -> None:
    count = 20_000
    layer = RandomResizedCrops(Crop(1, 8, area))
    ours = np.stack([ops.convert_to_numpy(part) for part in layer.lengths(count, height, width)], axis=1)
    torch.manual_seed(0)
    kornias = kornia.augmentation.RandomResizedCrop((8, 8), scale=area, cropping_mode="resample")
    corners = kornias.forward_parameters((count, 3, height, width))["src"].numpy()
    theirs = (corners[:, 2] - corners[:, 0] + 1)[:, ::-1]
    assert (ours == ours.round()).all()
    assert ours.min() >= 1 and (ours <= (height, width)).all()
    for part in (np.mean, np.std, lambda x, axis: np.quantile(x, 0.1, axis=axis)):
        np.testing.assert_allclose(part(ours, axis=0), part(theirs, axis=0), rtol=0.03)
    products = (np.mean(sizes[:, 0] * sizes[:, 1]) for sizes in (ours, theirs))
    np.testing.assert_allclose(*products, rtol=0.02)


def test_crops_lie_anywhere_within_the_picture() -> None:
    layer = RandomResizedCrops(Crop(1, 8, (0.2, 0.3)))
    lengths = ops.convert_to_tensor(np.full(4000, 20, np.float32))
    starts = ops.convert_to_numpy(layer.starts(lengths, 28))
    assert set(starts.tolist()) == set(range(9))
    assert np.bincount(starts.astype(int)).min() > 0.8 * 4000 / 9


def test_colours_change_as_kornias() -> None:
    images, factors = random_images(3), np.linspace(0.2, 1.8, 5, dtype=np.float32)
    theirs, images = channels_first(images) / 255, ops.convert_to_tensor(images)
    factor = ops.convert_to_tensor(factors[:, None, None, None])
    mean = ops.mean(grey(images), axis=(1, 2, 3), keepdims=True)
    turns = np.linspace(-0.4, 0.4, 5, dtype=np.float32)
    pairs = [
        (
            blend(images, mean, factor),
            kornia.enhance.adjust_contrast_with_mean_subtraction(theirs, torch.from_numpy(factors)),
        ),
        (
            blend(images, grey(images), factor),
            kornia.enhance.adjust_saturation_with_gray_subtraction(theirs, torch.from_numpy(factors)),
        ),
        (
            turn_hue(images, ops.convert_to_tensor(turns[:, None, None, None])),
            kornia.enhance.adjust_hue(theirs, torch.from_numpy(turns) * 2 * torch.pi),
        ),
    ]
    for found, expected in pairs:
        np.testing.assert_allclose(ops.convert_to_numpy(found), expected.permute(0, 2, 3, 1) * 255, atol=0.05)


def test_grey_jitter_shifts_and_scales() -> None:
    shades = np.array(
        [100, 200], np.uint8
    )  # the same draws for all pixels of a view, other ones for each view
    split = np.repeat(shades, 14)[None, None, :, None].repeat(28, axis=1)
    (views,) = make_views(split, 28, views=64, crop_min=1.0, no_flip=True, jitter=0.2)
    dark, light = views[:, 5, 2, 0], views[:, 5, -3, 0]
    assert 100 * 0.8 - 51 * 1.2 - 1 < dark.min() < 70 and 130 < dark.max() < (100 + 51) * 1.2 + 1
    whole = light < 254  # not clipped
    contrast = ((light - dark) / 100)[whole]
    assert contrast.min() > 0.79 and contrast.max() < 1.21 and contrast.std() > 0.05
    unscaled = np.isclose(contrast, 1, atol=1e-3).mean()
    assert 0.05 < unscaled < 0.4  # 1 in 5


@pytest.mark.parametrize("width", [3, 9])
def test_blur_is_kornias(width: int) -> None:
    images, deviations = random_images(3), np.linspace(0.1, 2, 5, dtype=np.float32)
    found = blur(ops.convert_to_tensor(images), ops.convert_to_tensor(deviations), width)
    sigma = torch.from_numpy(deviations)[:, None].expand(-1, 2)
    expected = kornia.filters.gaussian_blur2d(channels_first(images), (width, width), sigma)
    np.testing.assert_allclose(ops.convert_to_numpy(found), expected.permute(0, 2, 3, 1), atol=1e-2)


def test_pictures_are_made_smaller_by_a_filter() -> None:
    stripes = np.tile(np.array([0, 255], np.float32), (1, 64, 32))[..., None]
    small = ops.convert_to_numpy(resized(ops.convert_to_tensor(stripes), (16, 16)))
    assert small.shape == (1, 16, 16, 1)
    np.testing.assert_allclose(small, 127.5, atol=15)  # without a filter it would be 0 or 255
