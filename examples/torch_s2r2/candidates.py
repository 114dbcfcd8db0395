"""PyTorch runs as candidates of the evaluation: the trained encoders of run folders, and untrained ones."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pretraining.datasets import PretrainingData
from pretraining.evaluation import Candidate
from torch_s2r2.checkpoints import CHECKPOINT, RunError
from torch_s2r2.encoders import ENCODER_FILE, build_encoder, encode_with, initialise_seeded, load_encoder
from torch_s2r2.options import TorchOptions
from torch_s2r2.training import TITLES


def title(options: TorchOptions) -> str:
    """What a run is called beside others: its method and its views of a picture."""
    views = options.view_count
    crops = f"2 + {views - 2} crops" if options.method == "swav" and views > 2 else f"{views} views"
    return f"{TITLES[options.method]}, {crops}"


def titles(runs: Mapping[Path, TorchOptions]) -> dict[Path, str]:
    """Each run's title, with its folder where another run has the same."""
    short = {folder: title(options) for folder, options in runs.items()}
    shared = {name for name in short.values() if list(short.values()).count(name) > 1}
    return {folder: f"{name} ({folder.name})" if name in shared else name for folder, name in short.items()}


def trained(
    run_folder: Path, options: TorchOptions, data: PretrainingData, device: torch.device
) -> tuple[str, Candidate]:
    """The exported encoder of a finished run, or that of an unfinished one's checkpoint, and a word on which.

    Raises:
        RunError: the run folder has neither, or it can't be read.
    """
    settings = json.loads(options.to_json())
    try:
        if (run_folder / ENCODER_FILE).is_file():
            encode = load_encoder(run_folder, options, data.image_size, data.channels, device)
            return "", Candidate(encode, trained=True, run_folder=run_folder, settings=settings)
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
    word = f", step {step} of {options.steps}"
    return word, Candidate(encode, trained=True, run_folder=run_folder, settings=settings)


def untrained(options: TorchOptions, data: PretrainingData, device: torch.device) -> Candidate:
    """The encoder as the run with these options starts."""
    encoder = initialise_seeded(options, data.image_size, data.channels)
    return Candidate(encode_with(encoder, options.encoder, data.image_size, device))


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
