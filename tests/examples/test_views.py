"""The views: their number and sizes, that each has draws of its own, and that a seed repeats them."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from harness import Harness
from harness_torch import HARNESS
from runs import altered_by
from small_data import pictures

from pretraining.crops import crops
from torch_s2r2.options import TorchOptions
from torch_s2r2.views import Views, normalise, whole_pictures

MakeOptions = Callable[..., TorchOptions]


@pytest.fixture
def harness() -> Harness:
    """PyTorch's alone."""
    return HARNESS


def make_views(options: TorchOptions, images: np.ndarray, size: int, seed: int = 0) -> list[torch.Tensor]:
    torch.manual_seed(seed)
    return Views(options, size, images.shape[3])(torch.from_numpy(images))


@pytest.mark.parametrize(("channels", "side", "size"), [(1, 28, 28), (3, 96, 64), (3, 300, 64)])
def test_shape_and_scale(small_options: MakeOptions, channels: int, side: int, size: int) -> None:
    (views,) = make_views(small_options(views=5), pictures(3, side, channels), size)
    assert views.shape == (15, channels, size, size)
    low, high = (
        normalise(torch.zeros(1, channels, 1, 1)).min(),
        normalise(torch.ones(1, channels, 1, 1)).max(),
    )
    assert low <= views.min() < 0 < views.max() <= high


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "only", ["crop", "flip", "jitter", "grayscale", "blur"], ids=lambda only: f"only-{only}"
)
def test_every_view_of_every_picture_has_draws_of_its_own(
    small_options: MakeOptions, channels: int, only: str
) -> None:
    if only == "grayscale" and channels == 1:
        pytest.skip("grey pictures stay grey")
    options = small_options(
        views=64,
        **altered_by(only),
    )
    # The same picture twice: were the draws one for the batch or one for a picture, views would be equal.
    twice = np.concatenate([pictures(1, 32, channels, seed=1)] * 2)
    (views,) = make_views(options, twice, 32)
    first, second = views.unflatten(0, (2, 64))
    distinct = {view.numpy().round(3).tobytes() for view in first}
    if only in ("flip", "grayscale"):
        assert len(distinct) == 2
    elif only == "crop":
        assert len(distinct) > 55  # now and then a crop is the whole picture
    else:
        assert len(distinct) > 40
    assert not torch.allclose(first, second)


def test_views_show_their_own_picture(small_options: MakeOptions) -> None:
    shades = np.array([0, 80, 160, 240], np.uint8)
    flat = np.broadcast_to(shades[:, None, None, None], (4, 28, 28, 1)).copy()
    (views,) = make_views(small_options(views=3, jitter=0.0), flat, 28)
    expected = normalise(torch.from_numpy(shades).float().view(4, 1, 1, 1) / 255)
    torch.testing.assert_close(views.unflatten(0, (4, 3)), expected[:, None].expand(4, 3, 1, 28, 28))


def test_no_augmentation_is_the_picture(small_options: MakeOptions) -> None:
    options = small_options(views=2, crop_min=1.0, no_flip=True, jitter=0.0)
    images = pictures(2, 28, 1)
    (views,) = make_views(options, images, 28)
    whole = whole_pictures(images, 28, torch.device("cpu"))
    # A crop of the whole area still draws its aspect, which is 1 where nothing else fits.
    torch.testing.assert_close(views, whole.repeat_interleave(2, dim=0), atol=1e-4, rtol=0)


def test_seed_repeats_the_views(small_options: MakeOptions) -> None:
    options, images = small_options(views=4), pictures(3, 40, 3)
    (first,), (again,), (other,) = (make_views(options, images, 32, seed) for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_crop_min_is_the_least_area(small_options: MakeOptions) -> None:
    ramp = np.broadcast_to(
        np.linspace(0, 255, 28).astype(np.uint8)[None, None, :, None], (1, 28, 28, 1)
    ).copy()

    def narrowest(crop_min: float) -> float:
        options = small_options(views=64, crop_min=crop_min, no_flip=True, jitter=0.0)
        (views,) = make_views(options, ramp, 28)
        spans = views.amax((1, 2, 3)) - views.amin((1, 2, 3))
        return float(spans.min() * 0.353)  # the part of the ramp that the narrowest view spans

    assert narrowest(0.05) < 0.35 < narrowest(0.5)


def test_swav_makes_two_full_crops_and_small_ones(small_options: MakeOptions) -> None:
    options = small_options(method="swav", views=6)
    full, small = make_views(options, pictures(2, 28, 1), 28)
    assert full.shape == (4, 1, 28, 28)
    assert small.shape == (8, 1, 20, 20)
    assert [crop.size for crop in crops(options, 224)] == [224, 96]
    assert [crop.size for crop in crops(small_options(method="swav", views=6, small_crop_size=16), 28)] == [
        28,
        16,
    ]
    assert len(make_views(small_options(method="swav", views=2), pictures(2, 28, 1), 28)) == 1


def test_whole_pictures_are_resized_to_what_the_encoder_takes() -> None:
    images = whole_pictures(pictures(2, 96, 3), 64, torch.device("cpu"))
    assert images.shape == (2, 3, 64, 64)


@pytest.mark.parametrize("views", [1, 65])
def test_number_of_views(small_options: MakeOptions, views: int) -> None:
    with pytest.raises(ValueError, match=f"views must be between 2 and 64, got {views}"):
        small_options(views=views)
