"""PyTorch runs as the evaluation sees them: the trained encoders of run folders, and untrained ones."""

from pathlib import Path
from typing import Any

import torch

from pretraining.datasets import PretrainingData
from pretraining.runs import Encode, RunError
from torch_s2r2.checkpoints import CHECKPOINT
from torch_s2r2.devices import choose_device
from torch_s2r2.encoders import ENCODER_FILE, build_encoder, encode_with, initialise_seeded, load_encoder
from torch_s2r2.options import TorchOptions


def trained(run_folder: Path, options: TorchOptions, data: PretrainingData) -> tuple[str, Encode]:
    """The exported encoder of a finished run, or that of an unfinished one's checkpoint, and a word on which.

    Raises:
        RunError: the run folder has neither, or it can't be read.
    """
    device = choose_device(options.device)
    try:
        if (run_folder / ENCODER_FILE).is_file():
            return "", load_encoder(run_folder, options, data.image_size, data.channels, device)
    except ValueError as error:
        raise RunError(str(error)) from error
    step, weights = _checkpointed(run_folder)
    encoder = build_encoder(options.encoder, data.image_size, data.channels)
    try:
        encoder.load_state_dict(weights)
    except (RuntimeError, TypeError) as error:
        raise RunError(
            f"{run_folder / CHECKPOINT} holds no encoder of --encoder {options.encoder} for {data.name}"
        ) from error
    encode = encode_with(encoder, options.encoder, data.image_size, device)
    return f", step {step} of {options.steps}", encode


def untrained(options: TorchOptions, data: PretrainingData) -> Encode:
    """The encoder as the run with these options starts."""
    encoder = initialise_seeded(options, data.image_size, data.channels)
    return encode_with(encoder, options.encoder, data.image_size, choose_device(options.device))


def _checkpointed(run_folder: Path) -> tuple[int, Any]:
    path = run_folder / CHECKPOINT
    if not path.is_file():
        raise RunError(
            f"{run_folder} has neither {ENCODER_FILE} nor {CHECKPOINT}: nothing was trained there yet"
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        return int(content["step"]), content["state"]["encoder"]
    except Exception as error:  # whatever zip reader and unpickler raise, the file is of no use
        raise RunError(f"{path} can't be read as a checkpoint of this trainer") from error
