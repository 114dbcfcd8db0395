"""Random views of pictures, made on the device by kornia, each picture and each view with draws of its own.

kornia draws from PyTorch's global CPU generator, which the trainer seeds anew for every step.
"""

from dataclasses import dataclass

import kornia.augmentation as kornia
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from pretraining.options import Options

# The means and standard deviations of Fashion-MNIST (grey) and of ImageNet (colour), on a scale of 0 to 1.
GREY_STATISTICS = ((0.286,), (0.353,))
COLOUR_STATISTICS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
SMALL_IMAGE = 64  # pixels; below it the usual blur would leave nothing to recognise


@dataclass(frozen=True)
class Crop:
    """So many views of `size` pixels, each showing between `area[0]` and `area[1]` of the picture's area."""

    views: int
    size: int
    area: tuple[float, float]


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


class Views(nn.Module):
    """Makes the views of a batch of pictures.

    Args:
        options: their number, sizes and strengths.
        image_size: side of a full view in pixels.
        channels: of the pictures, 1 or 3; what comes out has as many.
    """

    def __init__(self, options: Options, image_size: int, channels: int) -> None:
        super().__init__()
        self.crops = crops(options, image_size)
        self.augmentations = nn.ModuleList(
            nn.Sequential(
                kornia.RandomResizedCrop(
                    (crop.size, crop.size), scale=crop.area, cropping_mode="resample", align_corners=False
                ),
                *_appearance(options, crop.size, channels),
            )
            for crop in self.crops
        )

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """Views of uint8 pictures `[b, height, width, channels]`, normalised; a tensor for each kind of crop.

        Each is `[b · views, channels, size, size]`, and the views of a picture are neighbours.
        """
        source = pictures.permute(0, 3, 1, 2).float() / 255
        made = []
        for crop, augment in zip(self.crops, self.augmentations, strict=True):
            shrunk = _shrink(source, crop.size)
            made.append(normalise(augment(shrunk.repeat_interleave(crop.views, dim=0)).clamp(0, 1)))
        return made


def _appearance(options: Options, size: int, channels: int) -> list[nn.Module]:
    """The augmentations other than the crop, by default as strong as suits the kind of picture."""
    colour = channels == 3
    jitter = (0.8 if colour else 0.4) if options.jitter is None else options.jitter
    grayscale = 0.2 if options.grayscale is None else options.grayscale
    blur = (0.0 if size < SMALL_IMAGE else 0.5) if options.blur is None else options.blur
    chain: list[nn.Module] = [] if options.no_flip else [kornia.RandomHorizontalFlip()]
    if jitter and colour:  # SimCLR's recipe: all four, in 8 of 10 views
        chain.append(kornia.ColorJitter(jitter, jitter, jitter, jitter / 4, p=0.8))
    elif jitter:
        chain.append(kornia.RandomBrightness((1 - jitter, 1 + jitter), p=0.8))
        chain.append(kornia.RandomContrast((1 - jitter, 1 + jitter), p=0.8))
    if grayscale and colour:
        chain.append(kornia.RandomGrayscale(p=grayscale))
    if blur:
        width = max(3, size // 10 // 2 * 2 + 1)  # SimCLR: a tenth of the side, odd
        chain.append(kornia.RandomGaussianBlur((width, width), (0.1, 2.0), p=blur))
    return chain


def _shrink(source: Tensor, size: int) -> Tensor:
    """Pictures much larger than a view, made smaller with a proper filter: the crop samples without one."""
    side = 2 * size
    if min(source.shape[2:]) <= side:
        return source
    scale = side / min(source.shape[2:])
    height, width = (round(scale * length) for length in source.shape[2:])
    return functional.interpolate(source, (height, width), mode="bilinear", antialias=True)


def normalise(images: Tensor) -> Tensor:
    """Images `[b, channels, height, width]` in 0 to 1, shifted and scaled to mean 0 and deviation 1."""
    statistics = GREY_STATISTICS if images.shape[1] == 1 else COLOUR_STATISTICS
    mean, deviation = (images.new_tensor(values).view(1, -1, 1, 1) for values in statistics)
    return (images - mean) / deviation


def whole_pictures(pictures: NDArray[np.uint8], image_size: int, device: torch.device) -> Tensor:
    """Pictures `[b, height, width, channels]` as the encoder sees them when it is used: whole, unaltered."""
    images = torch.tensor(pictures, device=device).permute(0, 3, 1, 2).float() / 255
    if images.shape[2:] != (image_size, image_size):
        images = functional.interpolate(images, (image_size, image_size), mode="bilinear", antialias=True)
    return normalise(images)
