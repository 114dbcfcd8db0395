"""The encoders: which there are, how they are exported, and how they are used.

An exported encoder is an Orbax checkpoint of a flax.nnx model's parameters and batch statistics:

    model = SmallEncoder(channels=1, rngs=nnx.Rngs(0))
    state = ocp.StandardCheckpointer().restore(folder.absolute(), nnx.state(model))
    nnx.update(model, state)

For a ResNet the first line is `ResNet18(small_images=True, rngs=nnx.Rngs(0))`, for pictures of 64 pixels and more
without `small_images`. `model.eval()` then makes it use the batch statistics.
"""

import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from flax import nnx
from jax import Array, random
from numpy.typing import NDArray

from jax_s2r2.devices import choose_mesh
from jax_s2r2.networks import ResNet18, ResNet50, SmallEncoder
from jax_s2r2.options import JaxOptions
from jax_s2r2.views import whole_pictures
from pretraining.crops import SMALL_IMAGE
from pretraining.datasets import PretrainingData
from pretraining.runs import Encode
from pretraining.sampling import step_seed

ENCODER_FOLDER = "encoder"
UNFINISHED = ".orbax-checkpoint-tmp*"  # added to the name of what Orbax has not moved into place


def start_keys(seed: int) -> Array:
    """Three keys that follow from a run's seed: for the encoder, for the rest of the model, and for the steps."""
    return random.split(random.key(step_seed(seed, 0) % 2**32), 3)  # 0 is no step


def build_encoder(options: JaxOptions, image_size: int, channels: int, dtype: Any = None) -> nnx.Module:
    """The encoder as the run with these options starts.

    A ResNet takes three channels whatever the data have: see `encoder_input`.
    """
    rngs = nnx.Rngs(start_keys(options.seed)[0])
    if options.encoder == "small":
        return SmallEncoder(channels, dtype=dtype, rngs=rngs)
    resnet = {"resnet18": ResNet18, "resnet50": ResNet50}[options.encoder]
    return resnet(small_images=image_size < SMALL_IMAGE, dtype=dtype, rngs=rngs)


def feature_size(name: str) -> int:
    """How many features the encoder of that name gives."""
    return {"small": SmallEncoder.feature_size, "resnet18": 512, "resnet50": 2048}[name]


def encoder_input(name: str, images: Array) -> Array:
    """Images with as many channels as the encoder takes: a ResNet sees grey pictures three times."""
    if name == "small" or images.shape[-1] == 3:
        return images
    return jnp.broadcast_to(images, (*images.shape[:-1], 3))


def save_encoder(run_folder: Path, state: nnx.State) -> None:
    """Leave the encoder's state in the run folder, in place of an earlier one and of what a killed run left."""
    for unfinished in run_folder.glob(f"{ENCODER_FOLDER}{UNFINISHED}"):
        shutil.rmtree(unfinished)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save((run_folder / ENCODER_FOLDER).absolute(), state, force=True)


def encode_with(state: nnx.State, options: JaxOptions, data: PretrainingData) -> Encode:
    """A function from uint8 pictures `[b, height, width, channels]` to float32 features `[b, d]`.

    Args:
        state: of the encoder.
    """
    encoder = build_encoder(options, data.image_size, data.channels)
    encoder.eval()
    graph = nnx.graphdef(encoder)
    # One device is enough, and batches may be of any size.
    device = choose_mesh(options.device).devices.flat[0]
    state = jax.device_put(state, device)

    @jax.jit
    def features(state: nnx.State, pictures: Array) -> Array:
        images = encoder_input(options.encoder, whole_pictures(pictures, data.image_size))
        return nnx.merge(graph, state)(images)

    def encode(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.asarray(features(state, pictures))

    return encode
