"""JAX runs as the evaluation sees them: the trained encoders of run folders, and untrained ones."""

from pathlib import Path

import orbax.checkpoint as ocp
from flax import nnx

from jax_s2r2.checkpoints import CHECKPOINTS, open_checkpoints
from jax_s2r2.encoders import ENCODER_FOLDER, build_encoder, encode_with
from jax_s2r2.options import JaxOptions
from pretraining.datasets import PretrainingData
from pretraining.runs import Encode, RunError


def trained(run_folder: Path, options: JaxOptions, data: PretrainingData) -> tuple[str, Encode]:
    """The exported encoder of a finished run, or that of an unfinished one's checkpoint, and a word on which.

    Raises:
        RunError: the run folder has neither, or it can't be read.
    """
    like = nnx.state(build_encoder(options, data.image_size, data.channels))
    path = run_folder / ENCODER_FOLDER
    if path.exists():
        try:
            with ocp.StandardCheckpointer() as checkpointer:
                state = checkpointer.restore(path.absolute(), like)
        except Exception as error:  # Orbax has no error of its own
            raise RunError(f"{path} is not an encoder of --encoder {options.encoder}") from error
        return "", encode_with(state, options, data)
    step, state = _checkpointed(run_folder, like, options, data)
    return f", step {step} of {options.steps}", encode_with(state, options, data)


def untrained(options: JaxOptions, data: PretrainingData) -> Encode:
    """The encoder as the run with these options starts."""
    return encode_with(nnx.state(build_encoder(options, data.image_size, data.channels)), options, data)


def _checkpointed(
    run_folder: Path, like: nnx.State, options: JaxOptions, data: PretrainingData
) -> tuple[int, nnx.State]:
    path = run_folder / CHECKPOINTS
    with open_checkpoints(run_folder) as manager:
        step = manager.latest_step()
        if step is None:
            raise RunError(
                f"{run_folder} has neither {ENCODER_FOLDER} nor {CHECKPOINTS}: nothing was trained there yet"
            )
        try:
            found = manager.restore(step, args=ocp.args.Composite(encoder=ocp.args.StandardRestore(like)))
        except Exception as error:  # Orbax has no error of its own
            raise RunError(
                f"{path / str(step)} holds no encoder of --encoder {options.encoder} for {data.name}"
            ) from error
        return step, found["encoder"]
