"""What importing costs and brings along: the core no framework, a backend its own alone, and both quickly."""

import ast
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from faces import selected_backends

ROOT = Path(__file__).parents[1]
FRAMEWORKS = {"torch", "jax", "jaxlib", "tensorflow", "keras", "cupy", "flax", "optax"}
OF_THE_CORE = {"numpy", "array_api_compat", "rankloss"}
OF_A_BACKEND = {
    "torch": {"torch"},
    "jax": {"jax"},
    "tensorflow": {"tensorflow"},
    "keras": {"keras"},
}


def run(code: str) -> str:
    """What `code` prints in a fresh interpreter, where TensorFlow, which imports Keras, chooses what that runs on."""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        env={name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"},
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def imports(file: Path) -> set[str]:
    """Every module that a file imports, anywhere in it, with `rankloss`'s own sub-modules in full."""
    names = set[str]()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} has a relative import, which says nothing about its origin"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def files(folder: Path) -> list[Path]:
    found = sorted(folder.rglob("*.py"))
    assert found, f"{folder} has no Python files"
    return found


def test_the_core_imports_no_framework() -> None:
    for file in files(ROOT / "rankloss"):
        for name in imports(file):
            top = name.split(".")[0]
            assert top in OF_THE_CORE or top in sys.stdlib_module_names, f"{file.name} imports {name}"
            assert not name.startswith(tuple(f"rankloss.{framework}" for framework in FRAMEWORKS)), name


@pytest.mark.parametrize("folder", sorted((ROOT / "backends").glob("[a-z]*")), ids=lambda folder: folder.name)
def test_a_backend_imports_its_own_framework_alone(folder: Path) -> None:
    backend = folder.name
    others = {f"rankloss.{name}" for name in OF_A_BACKEND} - {f"rankloss.{backend}"}
    for file in files(folder):
        for name in imports(file):
            top = name.split(".")[0]
            allowed = top in OF_THE_CORE | OF_A_BACKEND[backend] or top in sys.stdlib_module_names
            assert allowed, f"{file.name} imports {name}"
            # rankloss.keras has no numbers of its own: it picks the backend that Keras runs on.
            assert backend == "keras" or ".".join(name.split(".")[:2]) not in others, f"{file.name}: {name}"


def test_importing_the_core_loads_no_framework() -> None:
    loaded = run("import sys, rankloss; print(*sorted({name.split('.')[0] for name in sys.modules}))").split()
    assert "rankloss" in loaded
    assert not FRAMEWORKS & set(loaded)


def test_using_the_core_with_numpy_loads_no_framework() -> None:
    code = """
import sys, numpy, rankloss
x, y = numpy.eye(4), numpy.array([0, 0, 1, 1])
rankloss.embedding_loss_and_gradient(rankloss.SmoothAP(), x, y)
rankloss.embedding_metric(rankloss.AveragePrecision(), x, y)
print(*sorted({name.split('.')[0] for name in sys.modules}))
"""
    assert not FRAMEWORKS & set(run(code).split())


@pytest.mark.parametrize("backend", ["torch", "jax", "tensorflow"])
def test_importing_a_backend_loads_no_other_framework(backend: str) -> None:
    if backend not in selected_backends():
        pytest.skip(f"{backend} is not among the backends to test")
    code = f"""
import sys, {backend}
before = set(sys.modules)
import rankloss.{backend}
print(*sorted({{name.split('.')[0] for name in set(sys.modules) - before}}))
"""
    assert not (FRAMEWORKS - {backend}) & set(run(code).split())


@pytest.mark.parametrize("backend", ["torch", "jax", "tensorflow", "keras"])
def test_a_backend_whose_framework_is_missing_says_what_to_install(backend: str) -> None:
    if importlib.util.find_spec(f"rankloss.{backend}") is None:
        pytest.skip(f"rankloss.{backend} is not installed")
    code = f"""
import sys
sys.modules[{backend!r}] = None
try:
    import rankloss.{backend}
except ImportError as error:
    print(error)
"""
    assert f"pip install rankloss[{backend}]" in run(code).replace("'", "").replace('"', "")


def test_importing_takes_under_a_fifth_of_a_second_above_numpy() -> None:
    """The best of a few tries: what the machine does besides is not the library's."""
    code = """
import time, numpy
start = time.perf_counter()
import rankloss
print(time.perf_counter() - start)
"""
    assert min(float(run(code)) for _ in range(5)) < 0.2
