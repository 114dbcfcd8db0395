"""Random views of pictures, made on the device by kornia, each picture and each view with draws of its own.

kornia draws from PyTorch's global CPU generator, which the trainer seeds anew for every step.
"""

import kornia.augmentation as kornia
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from pretraining.crops import ASPECTS, BLUR_DEVIATIONS, JITTERED, Appearance, appearance, crops, statistics
from pretraining.options import Options


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
                    (crop.size, crop.size),
                    scale=crop.area,
                    ratio=ASPECTS,
                    cropping_mode="resample",
                    align_corners=False,
                ),
                *_alterations(appearance(options, crop.size, channels), channels),
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
            shrunk = _resize(source, crop.source_size(*source.shape[2:]))
            made.append(normalise(augment(shrunk.repeat_interleave(crop.views, dim=0)).clamp(0, 1)))
        return made


def _alterations(look: Appearance, channels: int) -> list[nn.Module]:
    """kornia's augmentations other than the crop."""
    jitter = look.jitter
    chain: list[nn.Module] = [kornia.RandomHorizontalFlip()] if look.flip else []
    if jitter and channels == 3:  # SimCLR's recipe: all four together
        chain.append(kornia.ColorJitter(jitter, jitter, jitter, look.hue, p=JITTERED))
    elif jitter:
        chain.append(kornia.RandomBrightness((1 - jitter, 1 + jitter), p=JITTERED))
        chain.append(kornia.RandomContrast((1 - jitter, 1 + jitter), p=JITTERED))
    if look.grayscale:
        chain.append(kornia.RandomGrayscale(p=look.grayscale))
    if look.blur:
        width = look.blur_width
        chain.append(kornia.RandomGaussianBlur((width, width), BLUR_DEVIATIONS, p=look.blur))
    return chain


def _resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Images `[b, channels, *size]`, made from larger ones with a proper filter."""
    if tuple(images.shape[2:]) == size:
        return images
    return functional.interpolate(images, size, mode="bilinear", antialias=True)


def normalise(images: Tensor) -> Tensor:
    """Images `[b, channels, height, width]` in 0 to 1, shifted and scaled to mean 0 and deviation 1."""
    mean, deviation = (images.new_tensor(v).view(1, -1, 1, 1) for v in statistics(images.shape[1]))
    return (images - mean) / deviation


def whole_pictures(pictures: NDArray[np.uint8], image_size: int, device: torch.device) -> Tensor:
    """Pictures `[b, height, width, channels]` as the encoder sees them when it is used: whole, unaltered."""
    images = torch.tensor(pictures, device=device).permute(0, 3, 1, 2).float() / 255
    return normalise(_resize(images, (image_size, image_size)))
