"""Every backend has the core's names."""

import importlib.metadata

import pytest
from faces import selected_backends

import rankloss

BACKENDS = [name for name in ("torch", "jax", "tensorflow", "keras") if name in selected_backends()]


@pytest.mark.parametrize("name", rankloss.__all__)
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_same_names(backend: str, name: str) -> None:
    """Objectives and metrics are the core's own; what computes a gradient is the framework's business here."""
    library = importlib.import_module(f"rankloss.{backend}")
    if name.endswith("_and_gradient"):
        assert not hasattr(library, name)
    elif isinstance(getattr(rankloss, name), type):
        assert getattr(library, name) is getattr(rankloss, name)
    else:
        assert callable(getattr(library, name))


def test_the_version_is_that_of_the_installed_package() -> None:
    assert rankloss.__version__ == importlib.metadata.version("rankloss")
