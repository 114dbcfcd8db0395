"""Importing `rankloss.keras`: what it loads, on which device memory it lays hands, and what it says if it can't."""

import os
import subprocess
import sys

import keras
import pytest
from faces import selected_backends

FRAMEWORKS = {"torch", "jax", "tensorflow"}
EACH_BACKEND = pytest.mark.parametrize("backend", sorted(FRAMEWORKS & set(selected_backends())))


def run(code: str, backend: str) -> str:
    """What `code` prints in a fresh interpreter whose Keras is to run on `backend`."""
    environment = os.environ | {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-W", "error", "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


# What says whether a framework has started a backend, made a context, taken memory.
STARTED = {
    "torch": "import torch; started = torch.cuda.is_initialized",
    "jax": "import jax; started = jax._src.xla_bridge.backends_are_initialized",
    "tensorflow": "from tensorflow.python.eager.context import context\n"
    "def started(): return context()._context_handle is not None",
}


@EACH_BACKEND
def test_it_loads_what_keras_runs_on_and_no_more_and_touches_no_device(backend: str) -> None:
    """Beyond what Keras itself does, which loads JAX beside TensorFlow where both are installed."""
    code = f"""
import sys, keras
{STARTED[backend]}
before, by_keras = set(sys.modules), started()
import rankloss.keras
assert started() == by_keras
print(*sorted({{name.split('.')[0] for name in set(sys.modules) - before}}))
print(*sorted(name for name in sys.modules if name.startswith('rankloss.') and name.count('.') == 1))
"""
    loaded, ours = (line.split() for line in run(code, backend).splitlines())
    assert not (FRAMEWORKS - {backend}) & set(loaded)
    assert f"rankloss.{backend}" in ours
    assert not {f"rankloss.{other}" for other in FRAMEWORKS - {backend}} & set(ours)


@EACH_BACKEND
def test_the_backends_themselves_touch_no_device(backend: str) -> None:
    assert run(f"import rankloss.{backend}\n{STARTED[backend]}\nprint(started())", backend) == "False"


def message(code: str, backend: str) -> str:
    return run(
        f"try:\n    {code}\n    import rankloss.keras\nexcept ImportError as error:\n    print(error)",
        backend,
    )


def test_a_backend_of_keras_without_a_framework_says_what_to_set() -> None:
    found = message("import keras", "numpy")
    assert "found 'numpy'" in found
    assert "set the environment variable KERAS_BACKEND" in found


def test_a_missing_keras_says_what_to_install() -> None:
    found = message("import sys; sys.modules['keras'] = None", "jax")
    assert found == "rankloss.keras needs Keras: pip install 'rankloss[keras]'"


def test_a_missing_framework_says_what_to_install_or_set() -> None:
    found = message("import sys; sys.modules['torch'] = None", "torch")
    assert "without torch: install it, or set KERAS_BACKEND" in found


def test_an_old_keras_says_what_to_install() -> None:
    found = message("import keras; keras.__version__ = '3.7.2'", keras.backend.backend())
    assert found == "rankloss.keras needs Keras 3.8 or newer, found 3.7.2: pip install -U 'rankloss[keras]'"
