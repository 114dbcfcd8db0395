"""`rankloss.keras` on the two backends that this process does not run Keras on, each in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

OTHERS = sorted({"torch", "jax", "tensorflow"} - {keras.backend.backend()})
FILES = sorted(
    path.name
    for path in Path(__file__).parent.glob("test_keras*.py")
    if path.stem not in ("test_keras_backends", "test_keras_import")
)


@pytest.mark.parametrize("backend", OTHERS)
def test_the_other_backends(backend: str) -> None:
    environment = os.environ | {"KERAS_BACKEND": backend, "RANKLOSS_TEST_BACKENDS": "keras"}
    command = [sys.executable, "-m", "pytest", "-q", "-m", "not long", *FILES]
    result = subprocess.run(
        command, cwd=Path(__file__).parent, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout[-5000:]
