"""Keras runs as the evaluation sees them: the trained encoders of run folders, and untrained ones."""

from pathlib import Path

import keras

from keras_s2r2.checkpoints import CHECKPOINT, load_weights, read_checkpoint, written
from keras_s2r2.devices import device
from keras_s2r2.encoders import ENCODER_FILE, build_encoder, encode_with, initialise_seeded, seeds_of
from keras_s2r2.model import Pretraining
from keras_s2r2.options import KerasOptions
from pretraining.datasets import PretrainingData
from pretraining.runs import Encode, RunError


def trained(run_folder: Path, options: KerasOptions, data: PretrainingData) -> tuple[str, Encode]:
    """The exported encoder of a finished run, or that of an unfinished one's checkpoint, and a word on which.

    Raises:
        RunError: the run folder has neither, or it can't be read.
    """
    exported = run_folder / ENCODER_FILE
    with device(options.device):
        if exported.is_file():
            return "", encode_with(_loaded(exported, options), data.image_size, options.device)
        step, encoder = _checkpointed(run_folder, options, data)
    return f", step {step} of {options.steps}", encode_with(encoder, data.image_size, options.device)


def _loaded(exported: Path, options: KerasOptions) -> keras.Model:
    try:
        encoder = keras.saving.load_model(exported, compile=False)
    except Exception as error:  # zip, JSON and h5 readers raise many kinds
        raise RunError(f"{exported} is not an encoder of --encoder {options.encoder}") from error
    if encoder.name != options.encoder:
        raise RunError(f"{exported} is not an encoder of --encoder {options.encoder}, but a {encoder.name}")
    return encoder


def _checkpointed(
    run_folder: Path, options: KerasOptions, data: PretrainingData
) -> tuple[object, keras.Model]:
    path = run_folder / CHECKPOINT
    if not path.is_file():
        raise RunError(
            f"{run_folder} has neither {ENCODER_FILE} nor {CHECKPOINT}: nothing was trained there yet"
        )
    found, weights = read_checkpoint(path)
    model = Pretraining(options, data.image_size, data.channels)
    load_weights(model, weights, path)
    step = found.get("step") if isinstance(found, dict) else None
    return step, in_float32(model, options, data)


def untrained(options: KerasOptions, data: PretrainingData) -> Encode:
    """The encoder as the run with these options starts."""
    with device(options.device):
        encoder = initialise_seeded(options, data.image_size, data.channels)
    return encode_with(encoder, data.image_size, options.device)


def in_float32(model: Pretraining, options: KerasOptions, data: PretrainingData) -> keras.Model:
    """The model's encoder, which may compute in half precision, as one that does not."""
    encoder = build_encoder(options.encoder, data.image_size, data.channels, seeds_of(options))
    encoder.set_weights(model.encoder.get_weights())
    return encoder


def export_encoder(model: Pretraining, options: KerasOptions, data: PretrainingData) -> bytes:
    """The content of the file that `keras.saving.load_model` loads."""
    return written(in_float32(model, options, data).save, ENCODER_FILE)
