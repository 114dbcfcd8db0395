"""Random views of pictures, made inside the compiled step, each picture and each view with draws of its own.

The distributions are those of the PyTorch trainer's views, which kornia makes.
"""

import dm_pix as pix
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax, random

from pretraining.crops import ASPECTS, BLUR_DEVIATIONS, JITTERED, Appearance, Crop, statistics

CANDIDATES = 10  # boxes that are drawn for a crop; the first that fits into the picture is taken
DRAWS = 2 * CANDIDATES + 12  # enough for a view


class Draws:
    """A view's random numbers, handed out one after the other.

    They come from one call for all views: XLA compiles each call of JAX's generator anew, for a second on a CPU.
    """

    def __init__(self, uniforms: Array) -> None:
        self._uniforms, self._used = uniforms, 0

    def between(self, least: float, most: float, count: int | None = None) -> Array:
        """A number between the two, or `count` of them."""
        start = self._used
        self._used += count or 1
        assert self._used <= len(self._uniforms)
        taken = self._uniforms[start] if count is None else self._uniforms[start : self._used]
        return least + (most - least) * taken

    def happens(self, probability: float) -> Array:
        """Whether something of this probability does."""
        return self.between(0, 1) < probability


def make_views(pictures: Array, key: Array, kind: Crop, look: Appearance) -> Array:
    """Views `[b, views, size, size, channels]` of uint8 pictures `[b, height, width, channels]`, normalised."""
    source = _resize(_unit_range(pictures), kind.source_size(*pictures.shape[1:3]))
    view_key, order_key = random.split(key)
    uniforms = random.uniform(view_key, (len(pictures), kind.views, DRAWS))
    order = random.permutation(order_key, 4)  # one for the batch, as torchvision and kornia have it

    def view(image: Array, uniforms: Array) -> Array:
        return _view(image, Draws(uniforms), kind, look, order)

    return normalise(jax.vmap(jax.vmap(view, in_axes=(None, 0)))(source, uniforms))


def whole_pictures(pictures: Array, image_size: int) -> Array:
    """Pictures `[b, height, width, channels]` as the encoder sees them when it is used: whole, unaltered."""
    return normalise(_resize(_unit_range(pictures), (image_size, image_size)))


def normalise(images: Array) -> Array:
    """Images `[..., channels]` in 0 to 1, shifted and scaled to mean 0 and deviation 1."""
    mean, deviation = (np.asarray(values, np.float32) for values in statistics(images.shape[-1]))
    return (images - mean) / deviation


def _unit_range(pictures: Array) -> Array:
    return pictures.astype(jnp.float32) / 255


def _resize(images: Array, size: tuple[int, int]) -> Array:
    """Images `[b, *size, channels]`, made from larger ones with a proper filter."""
    if images.shape[1:3] == size:
        return images
    return jax.image.resize(images, (len(images), *size, images.shape[3]), "linear", antialias=True)


def _view(image: Array, draws: Draws, kind: Crop, look: Appearance, order: Array) -> Array:
    """One view `[size, size, channels]` of one image `[height, width, channels]`."""
    colour = image.shape[2] == 3
    image = _crop(image, draws, kind)
    if look.flip:
        image = jnp.where(draws.happens(0.5), image[:, ::-1], image)
    if look.jitter:
        image = (
            _jitter_colours(image, draws, look, order) if colour else _jitter_grey(image, draws, look.jitter)
        )
    if look.grayscale:
        grey = pix.rgb_to_grayscale(image, keep_dims=True)
        image = jnp.where(draws.happens(look.grayscale), grey, image)
    if look.blur:
        image = _blur(image, draws, look)
    return image.clip(0, 1)


def _crop(image: Array, draws: Draws, kind: Crop) -> Array:
    """A random box of the image, resized by bilinear samples; the whole image where no drawn box fits."""
    height, width, channels = image.shape
    areas = draws.between(*kind.area, count=CANDIDATES) * height * width
    aspects = jnp.exp(draws.between(*np.log(ASPECTS), count=CANDIDATES))
    boxes = jnp.stack([jnp.sqrt(areas / aspects), jnp.sqrt(areas * aspects)], axis=1).round()
    sides = np.array([height, width], np.float32)
    fits = ((boxes > 0) & (boxes <= sides)).all(axis=1)
    box = jnp.where(fits.any(), boxes[fits.argmax()], sides)
    start = jnp.floor(draws.between(0, 1, count=2) * (sides - box + 1))
    # The box's outermost pixels come to lie on the view's, as kornia has it; a box may be one pixel wide.
    scale = (kind.size - 1) / jnp.maximum(box - 1, 1e-3)
    shape, move = (kind.size, kind.size, channels), 0.5 - (start + 0.5) * scale
    return jax.image.scale_and_translate(image, shape, (0, 1), scale, move, "linear", antialias=False)


def _jitter_grey(image: Array, draws: Draws, strength: float) -> Array:
    """Brightness, then contrast, each in `JITTERED` of the views."""
    shift = jnp.where(draws.happens(JITTERED), draws.between(-strength, strength), 0.0)
    factor = jnp.where(draws.happens(JITTERED), draws.between(1 - strength, 1 + strength), 1.0)
    return ((image + shift).clip(0, 1) * factor).clip(0, 1)


def _jitter_colours(image: Array, draws: Draws, look: Appearance, order: Array) -> Array:
    """Brightness, contrast, saturation and hue in this order of them, in `JITTERED` of the views."""
    brightness, contrast, saturation = draws.between(1 - look.jitter, 1 + look.jitter, count=3)
    turn = draws.between(-look.hue, look.hue)

    def mixed(factor: Array, image: Array, other: Array) -> Array:
        return (factor * image + (1 - factor) * other).clip(0, 1)

    changes = (
        lambda image: (brightness * image).clip(0, 1),
        lambda image: mixed(contrast, image, pix.rgb_to_grayscale(image).mean()),
        lambda image: mixed(saturation, image, pix.rgb_to_grayscale(image)),
        lambda image: pix.adjust_hue(image, turn),
    )
    jittered = image
    for place in range(len(changes)):
        jittered = lax.switch(order[place], changes, jittered)
    return jnp.where(draws.happens(JITTERED), jittered, image)


def _blur(image: Array, draws: Draws, look: Appearance) -> Array:
    reach = look.blur_width // 2
    padded = jnp.pad(image, ((reach, reach), (reach, reach), (0, 0)), mode="reflect")
    blurred = pix.gaussian_blur(padded, draws.between(*BLUR_DEVIATIONS), look.blur_width, padding="VALID")
    return jnp.where(draws.happens(look.blur), blurred, image)
