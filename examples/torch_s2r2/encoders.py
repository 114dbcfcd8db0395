"""The encoders: torchvision's ResNets and a small conv net, how they are exported, and how they are used.

An exported encoder is a plain state dict. For pictures of 64 pixels and more it is torchvision's own:

    model = torchvision.models.resnet18()
    model.fc = torch.nn.Identity()
    model.load_state_dict(torch.load("encoder.pt", weights_only=True))

Below 64 pixels the first layers are those usual for small pictures, so two lines come before the last:

    model.conv1 = torch.nn.Conv2d(3, 64, 3, padding=1, bias=False)
    model.maxpool = torch.nn.Identity()
"""

from pathlib import Path

import numpy as np
import torch
import torchvision
from numpy.typing import NDArray
from torch import Tensor, nn

from pretraining.crops import SMALL_IMAGE
from pretraining.files import write_whole
from pretraining.runs import Encode
from torch_s2r2.options import TorchOptions
from torch_s2r2.views import whole_pictures

ENCODER_FILE = "encoder.pt"


class SmallEncoder(nn.Sequential):
    """A conv net of 93,000 parameters, for the CPU: `[b, channels, s, s]` to `[b, 128]`.

    It halves the picture twice before its widest layer, where the other order would take twice the time.
    """

    feature_size = 128

    def __init__(self, channels: int = 1) -> None:
        super().__init__(
            *_convolution(channels, 32, stride=2),
            *_convolution(32, 64, stride=2),
            *_convolution(64, 128, stride=1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )


def _convolution(inputs: int, outputs: int, stride: int) -> tuple[nn.Module, ...]:
    return (
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def build_encoder(name: str, image_size: int, channels: int) -> nn.Module:
    """A freshly initialised encoder of that name, one of the options' `ENCODERS`.

    A ResNet takes three channels whatever the data have: see `encoder_input`.
    """
    if name == "small":
        return SmallEncoder(channels)
    model = torchvision.models.get_model(name, weights=None)
    model.fc = nn.Identity()
    if image_size < SMALL_IMAGE:
        model.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
        model.maxpool = nn.Identity()
    return model


def feature_size(name: str) -> int:
    """How many features the encoder of that name gives."""
    return {"small": SmallEncoder.feature_size, "resnet18": 512, "resnet50": 2048}[name]


def encoder_input(name: str, images: Tensor) -> Tensor:
    """Images with as many channels as the encoder takes: a ResNet sees grey pictures three times."""
    return images.expand(-1, 3, -1, -1) if name != "small" and images.shape[1] == 1 else images


def initialise_seeded(options: TorchOptions, image_size: int, channels: int) -> nn.Module:
    """The encoder as the run with these options starts: the untrained one to compare with."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        return build_encoder(options.encoder, image_size, channels)


def snapshot_file(step: int) -> str:
    """The name of the encoder that a run keeps of one of its steps."""
    return f"encoder-{step}.pt"


def write_encoder(path: Path, encoder: nn.Module) -> None:
    """Export an encoder, so that it can be read where there is no such device."""
    content = {name: tensor.cpu() for name, tensor in encoder.state_dict().items()}
    write_whole(path, lambda file: torch.save(content, file))


def encode_with(encoder: nn.Module, name: str, image_size: int, device: torch.device) -> Encode:
    """A function from uint8 pictures `[b, height, width, channels]` to float32 features `[b, d]`."""

    def encode(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        encoder.to(device).eval()
        with torch.inference_mode():
            features = encoder(encoder_input(name, whole_pictures(pictures, image_size, device)))
        return features.float().cpu().numpy()

    return encode


def load_encoder(
    run_folder: Path, options: TorchOptions, image_size: int, channels: int, device: torch.device
) -> Encode:
    """The trained encoder of a finished run, as a function of pictures.

    Raises:
        ValueError: the run folder has no encoder of these options.
    """
    encoder = build_encoder(options.encoder, image_size, channels)
    path = run_folder / ENCODER_FILE
    try:
        encoder.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except FileNotFoundError as error:
        raise ValueError(f"{path} is missing: the run has not finished, go on with it by --resume") from error
    except Exception as error:  # torch.load raises what its unpickler and zip reader raise
        raise ValueError(f"{path} is not an encoder of --encoder {options.encoder}") from error
    return encode_with(encoder, options.encoder, image_size, device)
