"""The devices of a run: the batch is spread over all of them, and each has the whole model."""

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from pretraining.options import Options
from pretraining.runs import RunError

BATCH = "batch"


def choose_mesh(name: str) -> Mesh:
    """All devices of that kind; `auto` is the kind that JAX prefers.

    Raises:
        RunError: there is none.
    """
    try:
        devices = jax.devices(None if name == "auto" else name)
    except RuntimeError as error:
        raise RunError(f"--device {name} is not there: {str(error).splitlines()[0]}") from error
    return Mesh(np.array(devices), (BATCH,))


def check_batch(options: Options, mesh: Mesh) -> None:
    """Raise RunError if the pictures of a batch can't be spread evenly."""
    if options.image_count % mesh.size:
        raise RunError(
            f"a batch of {options.image_count} pictures can't be spread over {mesh.size} devices: give "
            f"--batch-images a multiple of {mesh.size}"
        )


def spread(mesh: Mesh) -> NamedSharding:
    """Each device has its part of the first axis."""
    return NamedSharding(mesh, PartitionSpec(BATCH))


def everywhere(mesh: Mesh) -> NamedSharding:
    """Each device has all of an array."""
    return NamedSharding(mesh, PartitionSpec())
