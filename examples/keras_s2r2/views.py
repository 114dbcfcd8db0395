"""Random views of pictures as Keras layers, each picture and each view with draws of its own.

RandomFlip and RandomGrayscale are Keras' own. The other layers are here because Keras has no random resized
crop, its colour layers alter every picture, in one order and by other formulas than the PyTorch trainer's, and
its RandomGaussianBlur draws one width for the whole batch. Pixels go from 0 to 255.
"""

import math
from collections.abc import Callable
from typing import Any

import keras
from keras import layers, ops, random

from pretraining.crops import ASPECTS, BLUR_DEVIATIONS, JITTERED, Appearance, Crop, appearance, crops
from pretraining.options import Options

Tensor = Any  # of the backend that Keras runs on
TRIES = 10  # of a crop whose area and aspect fit into the picture
DRAWS_APART = 1000  # more than the numbers of draws of one layer in one step
GREY_SHARES = (0.299, 0.587, 0.114)


class RandomLayer(layers.Layer):
    """A layer that draws from `generator`, as Keras' own random layers do."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(dtype="float32", **settings)
        self.generator = random.SeedGenerator(0)

    def draw(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return random.uniform(shape, low, high, dtype="float32", seed=self.generator)


class RandomResizedCrops(RandomLayer):
    """Crops of pictures `[b, height, width, channels]`, resized: `[b · views, size, size, channels]`.

    Bilinear, with the outer pixels of the crop as the outer pixels of the view. Sampling along an axis is a product
    with a matrix of each view's own, which every backend is fast at.
    """

    def __init__(self, crop: Crop) -> None:
        super().__init__()
        self.crop = crop

    def call(self, pictures: Tensor) -> Tensor:
        count, height, width, channels = pictures.shape
        views, size = self.crop.views, self.crop.size
        lengths = self.lengths(count * views, height, width)
        rows, columns = (
            ops.reshape(samples(self.starts(length, side), length, side, size), (count, views, 1, size, side))
            for length, side in zip(lengths, (height, width), strict=True)
        )
        planes = ops.transpose(pictures, (0, 3, 1, 2))[:, None]
        cropped = ops.matmul(ops.matmul(rows, planes), ops.transpose(columns, (0, 1, 2, 4, 3)))
        images = ops.reshape(cropped, (count * views, channels, size, size))
        return ops.transpose(images, (0, 2, 3, 1))

    def lengths(self, count: int, height: int, width: int) -> tuple[Tensor, Tensor]:
        """The crops' heights and widths in pixels: the first of some tries that fits, or the whole picture."""
        low, high = self.crop.area
        area = self.draw(count, TRIES, low=low, high=high) * (height * width)
        log_low, log_high = (math.log(aspect) for aspect in ASPECTS)
        aspect = ops.exp(self.draw(count, TRIES, low=log_low, high=log_high))
        heights, widths = ops.round(ops.sqrt(area / aspect)), ops.round(ops.sqrt(area * aspect))
        fits = (heights >= 1) & (heights <= height) & (widths >= 1) & (widths <= width)
        order = ops.cast(fits, "int32") * ops.arange(TRIES, 0, -1, dtype="int32")
        first = ops.argmax(order, axis=1, keepdims=True)
        some = ops.any(fits, axis=1)
        chosen = (ops.take_along_axis(lengths, first, axis=1)[:, 0] for lengths in (heights, widths))
        whole = (float(height), float(width))
        rows, columns = (ops.where(some, c, w) for c, w in zip(chosen, whole, strict=True))
        return rows, columns

    def starts(self, lengths: Tensor, side: int) -> Tensor:
        """Where stretches of such lengths begin: at any whole pixel, as long as they end within the side."""
        room = side - lengths + 1
        return ops.minimum(ops.floor(self.draw(lengths.shape[0]) * room), room - 1)


class RandomGreyJitter(RandomLayer):
    """Adds to all pixels of some pictures; multiplies those of some."""

    def __init__(self, strength: float) -> None:
        super().__init__()
        self.strength = strength

    def call(self, images: Tensor) -> Tensor:
        one = (images.shape[0], 1, 1, 1)
        shift, factor = (self.draw(*one, low=-self.strength, high=self.strength) for _ in range(2))
        brighter, stronger = (self.draw(*one) < JITTERED for _ in range(2))
        images = _in_range(ops.where(brighter, images + 255 * shift, images))
        return _in_range(ops.where(stronger, images * (1 + factor), images))


class RandomColourJitter(RandomLayer):
    """Brightness, contrast, saturation and hue of some pictures, in an order drawn for the batch."""

    def __init__(self, strength: float, hue: float) -> None:
        super().__init__()
        self.strength, self.hue = strength, hue

    def call(self, images: Tensor) -> Tensor:
        one = (images.shape[0], 1, 1, 1)
        factors = [self.draw(*one, low=1 - self.strength, high=1 + self.strength) for _ in range(3)]
        turn = self.draw(*one, low=-self.hue, high=self.hue)
        jittered = self.draw(*one) < JITTERED
        steps: list[Callable[[Tensor], Tensor]] = [
            lambda x: _in_range(x * factors[0]),
            lambda x: blend(x, ops.mean(grey(x), axis=(1, 2, 3), keepdims=True), factors[1]),
            lambda x: blend(x, grey(x), factors[2]),
            lambda x: turn_hue(x, turn),
        ]
        order, altered = ops.argsort(self.draw(len(steps))), images
        for place in range(len(steps)):
            altered = ops.switch(order[place], steps, altered)
        return ops.where(jittered, altered, images)


class RandomBlur(RandomLayer):
    """Blurs some pictures, each by a Gaussian of a width of its own."""

    def __init__(self, probability: float, width: int) -> None:
        super().__init__()
        self.probability, self.width = probability, width

    def call(self, images: Tensor) -> Tensor:
        count = images.shape[0]
        deviations = self.draw(count, low=BLUR_DEVIATIONS[0], high=BLUR_DEVIATIONS[1])
        return ops.where(
            self.draw(count, 1, 1, 1) < self.probability, blur(images, deviations, self.width), images
        )


class Views(layers.Layer):
    """Makes the views of a batch of pictures.

    Args:
        options: their number, sizes and strengths.
        image_size: side of a full view in pixels.
        channels: of the pictures, 1 or 3; what comes out has as many.

    Call it with uint8 pictures `[b, height, width, channels]` and a seed; all draws follow from it. Out comes an
    array for each kind of crop, `[b · views, size, size, channels]`; the views of a picture are neighbours.
    """

    def __init__(self, options: Options, image_size: int, channels: int) -> None:
        super().__init__(dtype="float32", name="views")
        self.crops = crops(options, image_size)
        self.chains = [
            [RandomResizedCrops(crop), *_appearance(appearance(options, crop.size, channels), channels)]
            for crop in self.crops
        ]
        for layer in (layer for chain in self.chains for layer in chain):
            layer.built = True  # nothing to build: see Pretraining
        self.built = True

    def call(self, pictures: Tensor, seed: Tensor) -> list[Tensor]:
        self._reseed(seed)
        source = ops.cast(pictures, "float32")
        made = []
        for crop, chain in zip(self.crops, self.chains, strict=True):
            images = resized(source, crop.source_size(*source.shape[1:3]))
            for layer in chain:
                images = layer(images)
            made.append(_in_range(images))
        return made

    def _reseed(self, seed: Tensor) -> None:
        """Let every layer draw from a sequence of its own, which begins anew with each step's seed."""
        drawing = [layer for chain in self.chains for layer in chain]
        for number, layer in enumerate(drawing):
            state = layer.generator.state
            state.assign(
                ops.stack([ops.cast(seed, state.dtype), ops.cast(number * DRAWS_APART, state.dtype)])
            )


def _appearance(how: Appearance, channels: int) -> list[layers.Layer]:
    chain: list[layers.Layer] = []
    if how.flip:
        chain.append(layers.RandomFlip("horizontal", data_format="channels_last", dtype="float32", seed=0))
    if how.jitter:
        chain.append(
            RandomColourJitter(how.jitter, how.hue) if channels == 3 else RandomGreyJitter(how.jitter)
        )
    if how.grayscale:
        grayscale = layers.RandomGrayscale(
            how.grayscale, data_format="channels_last", dtype="float32", seed=0
        )
        chain.append(grayscale)
    if how.blur:
        chain.append(RandomBlur(how.blur, how.blur_width))
    return chain


def samples(starts: Tensor, lengths: Tensor, side: int, size: int) -> Tensor:
    """The matrices `[crops, size, side]` that sample stretches of a side at so many places, by interpolation."""
    steps = ops.arange(size, dtype="float32") / max(1, size - 1)
    places = starts[:, None] + (lengths[:, None] - 1) * steps
    return ops.relu(1 - ops.abs(places[:, :, None] - ops.arange(side, dtype="float32")))


def resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Images `[b, height, width, channels]`, made smaller with a proper filter, or larger."""
    if tuple(images.shape[1:3]) == size:
        return images
    return ops.image.resize(images, size, antialias=True, data_format="channels_last")


def _in_range(images: Tensor) -> Tensor:
    return ops.clip(images, 0, 255)


def blur(images: Tensor, deviations: Tensor, width: int) -> Tensor:
    """Images blurred by Gaussians of these deviations `[b]` in pixels, cut off at an odd width."""
    reach = width // 2
    kernels = ops.exp(-0.5 * ops.square(ops.arange(-reach, reach + 1, dtype="float32") / deviations[:, None]))
    kernels = kernels / ops.sum(kernels, axis=1, keepdims=True)
    for axis in (1, 2):
        edges = [(reach, reach) if a == axis else (0, 0) for a in range(4)]
        padded, side = ops.pad(images, edges, mode="reflect"), images.shape[axis]
        shifted = (padded[:, t : t + side] if axis == 1 else padded[:, :, t : t + side] for t in range(width))
        parts = [kernels[:, t, None, None, None] * part for t, part in enumerate(shifted)]
        images = sum(parts[1:], parts[0])
    return images


def grey(images: Tensor) -> Tensor:
    """The brightness of colours, `[b, height, width, 1]`."""
    return ops.sum(images * ops.convert_to_tensor(GREY_SHARES, "float32"), axis=-1, keepdims=True)


def blend(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    """Images moved away from others for a factor over 1, towards them below 1."""
    return _in_range(images * factor + other * (1 - factor))


def turn_hue(images: Tensor, turn: Tensor) -> Tensor:
    """Images with each hue turned by a part of the circle of hues."""
    hue, rest = ops.split(keras.ops.image.rgb_to_hsv(images / 255, data_format="channels_last"), [1], axis=-1)
    turned = ops.concatenate([ops.mod(hue + turn, 1.0), rest], axis=-1)
    return 255 * keras.ops.image.hsv_to_rgb(turned, data_format="channels_last")
