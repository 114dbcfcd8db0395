"""The JAX trainer's views: distributed as PyTorch's, each with draws of its own, the same again from a key."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from harness import Harness
from harness_jax import HARNESS
from numpy.typing import NDArray
from runs import UNALTERED, altered_by
from small_data import pictures

from jax_s2r2.options import JaxOptions
from jax_s2r2.views import make_views, normalise, whole_pictures
from pretraining.crops import appearance, crops
from torch_s2r2.options import TorchOptions
from torch_s2r2.views import Views
from torch_s2r2.views import whole_pictures as torch_whole_pictures

MakeOptions = Callable[..., JaxOptions]


@pytest.fixture(autouse=True)
def harness() -> Iterator[Harness]:
    """JAX's alone."""
    with HARNESS.prepared():
        yield HARNESS


def views_of(options: JaxOptions, images: NDArray[np.uint8], size: int, seed: int = 0) -> list[NDArray[Any]]:
    """The views `[pictures, views, size, size, channels]` of each kind."""
    made = []
    for kind in crops(options, size):
        look = appearance(options, kind.size, images.shape[3])
        of_kind = jax.jit(make_views, static_argnums=(2, 3))
        made.append(np.asarray(of_kind(jnp.asarray(images), jax.random.key(seed), kind, look)))
    return made


@pytest.mark.parametrize(
    ("channels", "changes"),
    [
        pytest.param(1, {}, id="grey"),
        pytest.param(1, altered_by("crop"), id="crops"),
        pytest.param(3, UNALTERED | {"jitter": 0.8}, id="colours"),
        pytest.param(3, UNALTERED | {"blur": 1.0, "grayscale": 0.5}, id="blurred"),
    ],
)
def test_views_are_distributed_as_pytorchs(channels: int, changes: dict[str, Any]) -> None:
    """The mean and deviation of each pixel over many views of a picture."""
    images, size, count = pictures(2, 32, channels, seed=3), 24, 16
    shared = {"views": 64, "batch_images": 2} | changes
    options, torch_options = JaxOptions(**shared), TorchOptions(**shared)
    # kornia draws one order of the colours' changes a batch, and so do we: many small batches.
    ours = np.concatenate([views_of(options, images, size, seed)[0] for seed in range(count)], axis=1)
    torch.manual_seed(0)
    make = Views(torch_options, size, channels)
    batches = [make(torch.from_numpy(images))[0].unflatten(0, (2, 64)) for _ in range(count)]
    theirs = torch.cat(batches, dim=1).numpy().transpose(0, 1, 3, 4, 2)
    assert ours.shape == theirs.shape == (2, 64 * count, size, size, channels)
    noise = 4 * theirs.std(axis=1) / np.sqrt(64 * count) + 0.01
    if channels == 3 and "jitter" in changes and changes["jitter"]:
        noise = noise + 0.1  # the order differs
    difference = np.abs(ours.mean(axis=1) - theirs.mean(axis=1))
    assert (difference < noise).mean() > 0.99
    deviations = ours.std(axis=1).mean(), theirs.std(axis=1).mean()
    assert abs(deviations[0] - deviations[1]) < 0.05 * deviations[1] + 0.01


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("only", ["crop", "flip", "jitter", "grayscale", "blur"])
def test_every_view_of_every_picture_has_draws_of_its_own(channels: int, only: str) -> None:
    if only == "grayscale" and channels == 1:
        pytest.skip("grey pictures stay grey")
    options = JaxOptions(views=64, batch_images=2, **altered_by(only))
    # The same picture twice: were the draws one for the batch or one for a picture, views would be equal.
    twice = np.concatenate([pictures(1, 32, channels, seed=1)] * 2)
    first, second = views_of(options, twice, 32)[0]
    distinct = {view.round(3).tobytes() for view in first}
    assert len(distinct) == 2 if only in ("flip", "grayscale") else len(distinct) > 40
    assert not np.allclose(first, second)


def test_no_augmentation_is_the_picture_as_pytorch_has_it() -> None:
    images = pictures(2, 28, 3)
    whole = np.asarray(whole_pictures(jnp.asarray(images), 28))
    (views,) = views_of(JaxOptions(views=2, batch_images=2, **UNALTERED), images, 28)
    np.testing.assert_allclose(views, np.repeat(whole[:, None], 2, axis=1), atol=1e-4)
    for size in (28, 20):
        ours = np.asarray(whole_pictures(jnp.asarray(images), size))
        theirs = torch_whole_pictures(images, size, torch.device("cpu")).numpy().transpose(0, 2, 3, 1)
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_a_key_repeats_the_views(small_options: MakeOptions) -> None:
    options, images = small_options(), pictures(3, 40, 3)
    (first,), (again,), (other,) = (views_of(options, images, 32, seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_swav_makes_two_full_crops_and_small_ones(small_options: MakeOptions) -> None:
    full, small = views_of(small_options(method="swav", views=6), pictures(2, 28, 1), 28)
    assert full.shape == (2, 2, 28, 28, 1)
    assert small.shape == (2, 4, 20, 20, 1)


def test_larger_pictures_are_shrunk_first(small_options: MakeOptions) -> None:
    options = small_options(no_flip=True, jitter=0.0, crop_min=1.0, grayscale=0.0, blur=0.0)
    board = (np.indices((256, 256)).sum(axis=0) % 2 * 255).astype(np.uint8)  # grey in the mean, if filtered
    (views,) = views_of(options, np.repeat(board[None, :, :, None], 3, axis=3), 32)
    grey = np.asarray(normalise(jnp.full((1, 1, 3), 0.5)))
    assert np.abs(views[:, :, 2:-2, 2:-2] - grey).max() < 0.2
