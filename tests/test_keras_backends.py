"""`rankloss.keras` on the two backends that this process does not run Keras on, each in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

OTHERS = sorted({"torch", "jax", "tensorflow"} - {keras.backend.backend()})
FILES = [
    path.name
    for path in sorted(Path(__file__).parent.glob("test_keras*.py"))
    if path.name != Path(__file__).name
]
# A step of fit, labels as integers, weights, views, masks, metrics, saving; all else once more in `make test-all`.
CHOSEN = (
    "test_a_step_of_fit or test_neighbouring_large_labels or test_sample_weights or test_mixed_precision or "
    "test_views_that_an_image_lacks or test_evaluate_and_fit_print_it or test_other_callbacks or "
    "(test_a_compiled_model and Blockwise)"
)


def run(backend: str, *selection: str) -> None:
    environment = os.environ | {"KERAS_BACKEND": backend, "RANKLOSS_TEST_BACKENDS": "keras"}
    command = [sys.executable, "-m", "pytest", "-q", *selection, *FILES]
    result = subprocess.run(
        command, cwd=Path(__file__).parent, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout[-5000:]
    assert " passed" in result.stdout


@pytest.mark.parametrize("backend", OTHERS)
def test_the_other_backends(backend: str) -> None:
    run(backend, "-k", CHOSEN)


@pytest.mark.long
@pytest.mark.parametrize("backend", OTHERS)
def test_all_of_the_other_backends(backend: str) -> None:
    run(backend)
