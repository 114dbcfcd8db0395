"""What the views of a picture are like: their sizes and areas, how strongly they are altered, their scale.

Each trainer makes them in its own framework, with these numbers.
"""

from dataclasses import dataclass

from pretraining.options import Options

# The means and standard deviations of Fashion-MNIST (grey) and of ImageNet (colour), on a scale of 0 to 1.
GREY_STATISTICS = ((0.286,), (0.353,))
COLOUR_STATISTICS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
SMALL_IMAGE = 64  # pixels; below it the usual blur would leave nothing to recognise
ASPECTS = (3 / 4, 4 / 3)  # of a crop's width to its height
JITTERED = 0.8  # of the views are jittered
BLUR_DEVIATIONS = (0.1, 2.0)  # pixels


def statistics(channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The means and standard deviations of pictures with so many channels."""
    return GREY_STATISTICS if channels == 1 else COLOUR_STATISTICS


@dataclass(frozen=True)
class Crop:
    """So many views of `size` pixels, each showing between `area[0]` and `area[1]` of the picture's area."""

    views: int
    size: int
    area: tuple[float, float]

    def source_size(self, height: int, width: int) -> tuple[int, int]:
        """What to shrink pictures to, by a filter, before they are cropped: the crop samples without one."""
        scale = min(1.0, 2 * self.size / min(height, width))
        return round(scale * height), round(scale * width)


def crops(options: Options, image_size: int) -> tuple[Crop, ...]:
    """What views a run makes: all alike, or for SwAV two full crops and the rest small ones (multi-crop)."""
    crop_min = 0.2 if options.crop_min is None else options.crop_min
    if options.method != "swav":
        return (Crop(options.view_count, image_size, (crop_min, 1.0)),)
    full = Crop(2, image_size, (crop_min, 1.0))
    if options.view_count == 2:
        return (full,)
    # SwAV's own small crops have 96 pixels beside 224. Of 28 pixels that leaves 12, which show too little: on
    # Fashion-MNIST, crops of 20 pixels and more of the area gave 1 to 2 points of k-NN accuracy (one seed).
    size, area_max = (5 / 7, 0.6) if image_size < SMALL_IMAGE else (3 / 7, 0.35)
    area_max = options.small_crop_max or area_max
    small_size = options.small_crop_size or max(8, round(image_size * size))
    small = Crop(options.view_count - 2, small_size, (min(crop_min, area_max) / 2, area_max))
    return full, small


@dataclass(frozen=True)
class Appearance:
    """What is done to a view besides cropping it; 0 leaves a thing out.

    Brightness and contrast (of colours saturation, too) change by a factor of 1 - `jitter` to 1 + `jitter`, the
    hue turns by up to `hue` of its circle. `grayscale` and `blur` are probabilities, `blur_width` is the side of
    the blur's kernel.
    """

    flip: bool
    jitter: float
    hue: float
    grayscale: float
    blur: float
    blur_width: int


def appearance(options: Options, size: int, channels: int) -> Appearance:
    """How views of that size are altered, by default as strongly as suits the kind of picture."""
    colour = channels == 3
    jitter = (0.8 if colour else 0.4) if options.jitter is None else options.jitter
    grayscale = 0.2 if options.grayscale is None else options.grayscale
    return Appearance(
        flip=not options.no_flip,
        jitter=jitter,
        hue=jitter / 4 if colour else 0.0,
        grayscale=grayscale if colour else 0.0,
        blur=(0.0 if size < SMALL_IMAGE else 0.5) if options.blur is None else options.blur,
        blur_width=max(3, size // 10 // 2 * 2 + 1),  # SimCLR: a tenth of the side, odd
    )
