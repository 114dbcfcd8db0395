"""What every test shares: the hypothesis profiles, and `face`, which runs a test body on every face."""

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator

import pytest
from faces import Face, selected_backends, selected_faces
from hypothesis import HealthCheck, settings

# Derandomised, so that the suite does the same everywhere; `--hypothesis-profile=thorough` looks further.
settings.register_profile(
    "steady",
    derandomize=True,
    max_examples=30,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("thorough", settings.get_profile("steady"), derandomize=False, max_examples=400)
settings.load_profile("steady")

if "tensorflow" in selected_backends() and importlib.util.find_spec("triton"):
    importlib.import_module("triton")  # PyTorch's compiler, which crashes if it is loaded after TensorFlow

if "keras" in selected_backends():
    # It runs on one framework a process: the one that is asked for, else PyTorch, where it is quickest. The
    # environment stays as it is for the processes that tests start: TensorFlow imports Keras, and crashes if PyTorch
    # comes after it.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_BACKEND", os.environ.get("KERAS_BACKEND", "torch"))
        importlib.import_module("keras")

# The files that are about one backend, where it is not selected.
collect_ignore_glob = [
    f"test_{name}*.py" for name in ("torch", "jax", "tensorflow", "keras") if name not in selected_backends()
]


@pytest.fixture(scope="session", params=selected_faces(), ids=lambda face: face.name)
def face(request: pytest.FixtureRequest) -> Face:
    """One way to call the library, after another."""
    return request.param


COMPILED_OFTEN = ("test_gradients", "test_blockwise", "test_oracle_agreement", "test_precision")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave to `make test-all` what JAX compiles for hundreds of shapes and options, a second or more each."""
    for item in items:
        face = getattr(getattr(item, "callspec", None), "params", {}).get("face")
        generated = getattr(item.obj, "is_hypothesis_test", False)
        if getattr(face, "backend", None) == "jax" and (generated or item.path.stem in COMPILED_OFTEN):
            item.add_marker("long")


@pytest.fixture(autouse=True, scope="module")
def _programs_of_a_module() -> Iterator[None]:
    """Drop JAX's compiled programs after each module: thousands of them use up the process's memory maps."""
    yield
    if "jax" in sys.modules:
        sys.modules["jax"].clear_caches()
