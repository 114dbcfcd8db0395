"""What every test shares: the hypothesis profiles, and `face`, which runs a test body on every face."""

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator

import pytest
from cases import OBJECTIVES
from faces import Face, JaxFace, TensorFlowFace, TorchFace, selected_backends, selected_faces
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
TRACED_IN_SHORT = ("test_golden", "test_edge_cases", "test_bad_input", "test_windows")
OF_MANY_PROGRAMS = (
    "test_the_dtype_and_shape_of_a_loss_follow_the_embeddings",
    "test_inputs_are_left_as_they_are",
    "test_only_the_proportions_of_weights_count_in_a_mean",
    "test_weights_at_the_ends_of_the_range",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave to `make test-all` what is compiled for hundreds of shapes and options, a second or more each.

    Faces that trace whatever they are asked for do bad input, the first golden file of each source, and the edge
    cases of the objective that compiles soonest. Keras' has the functions of another: no generated batches.
    """
    for item in items:
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        face = parameters.get("face")
        if not isinstance(face, JaxFace | TensorFlowFace | TorchFace):
            continue
        generated = is_generated(item)
        often = face.framework == "jax" and item.path.stem in COMPILED_OFTEN
        short = (
            item.path.stem in TRACED_IN_SHORT
            and getattr(item, "originalname", "") not in OF_MANY_PROGRAMS
            and parameters.get("objective", OBJECTIVES[-1]) == OBJECTIVES[-1]
            and parameters.get("name", "_0").endswith("_0")
        )
        jax_or_keras = face.framework == "jax" or face.backend == "keras"
        if often or (generated and jax_or_keras) or (face.traced and (generated or not short)):
            item.add_marker("long")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Fewer examples where each is compiled; Hypothesis has settings for a test, not for one of its faces."""
    face = getattr(getattr(item, "callspec", None), "params", {}).get("face")
    with pytest.MonkeyPatch.context() as patch:
        if is_generated(item) and isinstance(face, JaxFace | TensorFlowFace):
            name = "_hypothesis_internal_use_settings"
            usual = getattr(item.obj, name)
            patch.setattr(item.obj, name, settings(usual, max_examples=min(usual.max_examples, 30)))
        return (yield)


def is_generated(item: pytest.Item) -> bool:
    return getattr(item.obj, "is_hypothesis_test", False)


@pytest.fixture(autouse=True, scope="module")
def _programs_of_a_module() -> Iterator[None]:
    """Drop JAX's compiled programs after each module: thousands of them use up the process's memory maps."""
    yield
    if "jax" in sys.modules:
        sys.modules["jax"].clear_caches()
