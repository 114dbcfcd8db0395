"""What is JAX's own in its trainer: Orbax checkpoints, exported encoders, several devices, SwAV's state."""

import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from flax import nnx
from harness import Harness
from harness_jax import HARNESS
from runs import command_line

from jax_s2r2.checkpoints import Checkpoints
from jax_s2r2.devices import choose_mesh
from jax_s2r2.encoders import ENCODER_FOLDER
from jax_s2r2.learner import Learner
from jax_s2r2.networks import SmallEncoder
from jax_s2r2.options import JaxOptions
from jax_s2r2.views import whole_pictures
from pretraining.datasets import PretrainingData
from pretraining.progress import read_curves
from pretraining.runs import Run, RunError, open_run

MakeOptions = Callable[..., JaxOptions]


@pytest.fixture(autouse=True)
def harness() -> Iterator[Harness]:
    """JAX's alone."""
    with HARNESS.prepared():
        yield HARNESS


@pytest.fixture
def saved(small_options: MakeOptions, small_data: PretrainingData) -> Run:
    """A run with a checkpoint of step 4."""
    found = Run(small_options(), small_data, small_data.images, "data")
    found.folder.mkdir()
    with Checkpoints(found) as checkpoints:
        checkpoints.save(2, state_of(0))
        checkpoints.save(4, state_of(1))
    return found


def state_of(seed: int) -> dict[str, nnx.State]:
    numbers = np.random.default_rng(seed).normal(size=(64, 64)).astype(np.float32)
    return {
        "encoder": nnx.State({"weight": jnp.asarray(numbers)}),
        "others": nnx.State({"step": jnp.int32(3)}),
    }


def load_again(saved: Run, **changes: Any) -> tuple[int, dict[str, nnx.State]] | None:
    with Checkpoints(
        Run(saved.options, saved.data, saved.images, changes.get("mark", "data"))
    ) as checkpoints:
        return checkpoints.load(changes.get("like", state_of(0)))


def test_a_checkpoint_comes_back_as_it_was_and_the_earlier_is_gone(saved: Run) -> None:
    found = load_again(saved)
    assert found is not None
    step, state = found
    assert step == 4
    np.testing.assert_array_equal(state["encoder"]["weight"], state_of(1)["encoder"]["weight"])
    assert [path.name for path in (saved.folder / "checkpoints").iterdir()] == ["4"]


# Orbax leaves more behind than coroutines where any file may be cut short: it is collected within this test.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_every_file_of_a_checkpoint_is_needed_as_it_was(saved: Run) -> None:
    """A file cut short, or with one bit changed, is found out, or changes nothing."""
    files = [path for path in (saved.folder / "checkpoints").rglob("*") if path.is_file()]
    refused = set()
    for file in files:
        content = file.read_bytes()
        flipped = bytearray(content)
        flipped[len(content) * 2 // 3] ^= 1
        for damaged in (content[: len(content) // 2], bytes(flipped)):
            file.write_bytes(damaged)
            try:
                found = load_again(saved)
            except RunError as error:
                assert "\n" not in str(error)
                refused.add(file.name)
            else:
                assert found is not None and found[0] == 4
                np.testing.assert_array_equal(found[1]["encoder"]["weight"], state_of(1)["encoder"]["weight"])
        file.write_bytes(content)
    largest = max(files, key=lambda path: path.stat().st_size)
    assert largest.name in refused
    gc.collect()


def test_checkpoints_of_other_data_or_another_form_are_refused(saved: Run) -> None:
    with pytest.raises(RunError, match=r"other data \(data, here pictures\)"):
        load_again(saved, mark="pictures")
    like = state_of(0) | {"encoder": nnx.State({"weight": jnp.ones((3, 3))})}
    with pytest.raises(RunError, match="can't be read as a checkpoint"):
        load_again(saved, like=like)
    about = saved.folder / "checkpoints" / "4" / "description" / "metadata"
    about.write_text(json.dumps({"format": "other"}))
    with pytest.raises(RunError, match="is not a checkpoint of this trainer"):
        load_again(saved)


def test_the_exported_encoder_is_loaded_in_three_lines(
    small_options: MakeOptions, small_data: PretrainingData
) -> None:
    result = HARNESS.trainer.train(small_options(steps=2), data=small_data, show_progress=False)
    folder = result.run_folder / ENCODER_FOLDER
    model = SmallEncoder(channels=1, rngs=nnx.Rngs(7))
    state = ocp.StandardCheckpointer().restore(folder.absolute(), nnx.state(model))
    nnx.update(model, state)
    model.eval()
    features = model(whole_pictures(small_data.images[:5], 16))
    np.testing.assert_allclose(
        features, result.encode(np.asarray(small_data.images[:5])), rtol=1e-4, atol=1e-4
    )


def test_float16_is_refused() -> None:
    with pytest.raises(ValueError, match="amp must be off or bfloat16 in JAX"):
        JaxOptions(amp="float16")


@pytest.mark.parametrize("method", ["s2r2", "swav"])
def test_runs_of_all_methods_start_from_one_encoder(small_options: MakeOptions, method: str) -> None:
    mesh = choose_mesh("cpu")
    one, other = (
        jax.tree.leaves(Learner(small_options(method=m), 16, 1, mesh).state["encoder"])
        for m in ("simclr", method)
    )
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_swavs_prototypes_are_of_length_1_and_frozen_at_first(small_options: MakeOptions) -> None:
    options = small_options(method="swav", prototypes_frozen_steps=3, optimizer="sgd", weight_decay=0.0)
    learner = Learner(options, 16, 1, choose_mesh("cpu"))
    pictures = jnp.asarray(np.random.default_rng(0).integers(0, 256, (8, 16, 16, 1), np.uint8))

    def method() -> nnx.State:
        return learner.state["others"][0]["method"]

    start, moved = np.asarray(method()["prototypes"][...]), []
    start = start / np.linalg.norm(start, axis=1, keepdims=True)
    for step in (1, 2, 3):
        learner.step(pictures, step)
        moved.append(not np.allclose(method()["prototypes"][...], start, atol=1e-6))
    assert moved == [False, False, True]
    queues = np.asarray(method()["queues"][...])
    np.testing.assert_allclose(np.linalg.norm(queues, axis=2), 1, rtol=1e-5)  # 16 places, 8 pictures a step


ON_FOUR = """
import sys
sys.path.insert(0, {examples!r})
import jax, pretrain_jax
assert len(jax.devices()) == 4
refused = pretrain_jax.main(sys.argv[1:] + ["--batch-images", "6"])
sys.exit(pretrain_jax.main(sys.argv[1:]) if refused == 1 else "a batch of 6 went onto 4 devices")
"""


def test_four_devices_do_what_one_does(
    fashion_mnist: Path, small_options: MakeOptions, tmp_path: Path
) -> None:
    """SGD, since Adam makes whole steps of gradients that are rounding alone."""
    options = small_options(optimizer="sgd", steps=3, data_root=fashion_mnist)
    four = tmp_path / "four"
    code = ON_FOUR.format(examples=str(Path(__file__).parents[2] / "examples"))
    line = ["--run-folder", four, "--data-root", fashion_mnist, "--optimizer", "sgd", *command_line(options)]
    environment = os.environ | HARNESS.environment | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, line)],
        capture_output=True, text=True, timeout=300, check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (
        "a batch of 6 pictures can't be spread over 4 devices: give --batch-images a multiple" in done.stderr
    )
    HARNESS.trainer.train(options, show_progress=False)
    states = []
    for folder in (options.folder, four):
        found = open_run(
            small_options(optimizer="sgd", steps=3, data_root=fashion_mnist, run_folder=folder, resume=True)
        )
        with Checkpoints(found) as checkpoints:
            step, state = checkpoints.load(Learner(options, 28, 1, choose_mesh("cpu")).state)
        assert step == 3
        states.append(jax.tree.leaves(state))
    for one, other in zip(*states, strict=True):
        # On one processor entries of the first two layers differed by 0.6 % of the largest, all others by 2e-5.
        np.testing.assert_allclose(other, one, rtol=1e-3, atol=0.01 * float(np.abs(one).max()))
    losses = [[row.loss for row in read_curves(folder)] for folder in (options.folder, four)]
    np.testing.assert_allclose(*losses, rtol=1e-5)
