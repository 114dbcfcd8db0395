"""The PyTorch trainer's encoders: how they start, and how they are loaded where they are wanted."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from harness import Harness
from harness_torch import HARNESS
from runs import MakeOptions

from pretraining.datasets import PretrainingData
from pretraining.runs import read_options
from torch_s2r2.candidates import trained
from torch_s2r2.checkpoints import CHECKPOINT
from torch_s2r2.encoders import ENCODER_FILE, SmallEncoder
from torch_s2r2.learner import Learner
from torch_s2r2.options import TorchOptions
from torch_s2r2.training import train


@pytest.fixture
def harness() -> Harness:
    """PyTorch's alone."""
    return HARNESS


def test_runs_of_all_methods_start_from_one_encoder(small_options: MakeOptions) -> None:
    starts = [
        Learner(small_options(method=method), 16, 1, torch.device("cpu")).encoder.state_dict()
        for method in ("s2r2", "simclr", "swav")
    ]
    for other in starts[1:]:
        assert all(torch.equal(value, other[name]) for name, value in starts[0].items())


def test_exported_small_encoder_is_what_was_trained(
    small_options: MakeOptions, small_data: PretrainingData
) -> None:
    result = train(small_options(), data=small_data, show_progress=False)
    encoder = SmallEncoder(channels=1)
    encoder.load_state_dict(torch.load(result.run_folder / ENCODER_FILE, weights_only=True))
    features = result.encode(np.asarray(small_data.images[:5]))
    assert (features.shape, features.dtype) == ((5, 128), np.float32)
    options = read_options(result.run_folder, TorchOptions)
    assert options == small_options()
    _, loaded = trained(result.run_folder, options, small_data)
    np.testing.assert_array_equal(loaded(np.asarray(small_data.images[:5])), features)


def test_exported_resnet_is_torchvisions(small_options: MakeOptions, folder_data: Path) -> None:
    options = small_options(
        encoder="resnet18", data="folder", data_root=folder_data, image_size=64, batch_images=4, views=2,
        steps=2, workers=1,
    )  # fmt: skip
    train(options, show_progress=False)
    model = torchvision.models.resnet18()
    model.fc = torch.nn.Identity()
    model.load_state_dict(torch.load(options.folder / ENCODER_FILE, weights_only=True))
    assert torch.load(options.folder / CHECKPOINT, weights_only=True)["state"]["encoder"].keys() == (
        model.state_dict().keys()
    )


def test_exported_resnet_for_small_pictures(small_options: MakeOptions, small_data: PretrainingData) -> None:
    options = small_options(encoder="resnet18", steps=1, views=2, batch_images=2)
    train(options, data=small_data, show_progress=False)
    model = torchvision.models.resnet18()
    model.fc = torch.nn.Identity()
    model.conv1 = torch.nn.Conv2d(3, 64, 3, padding=1, bias=False)
    model.maxpool = torch.nn.Identity()
    model.load_state_dict(torch.load(options.folder / ENCODER_FILE, weights_only=True))
