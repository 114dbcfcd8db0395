"""What the documentation shows is run: doctests of every module, README's Python, the commands it names."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest
import torch
import torchvision

import rankloss

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def modules() -> list[str]:
    names = [module.name for module in pkgutil.iter_modules(rankloss.__path__, "rankloss.")]
    objectives = importlib.import_module("rankloss.objectives")
    names += [module.name for module in pkgutil.iter_modules(objectives.__path__, "rankloss.objectives.")]
    for backend in ("rankloss.torch", "rankloss.jax", "rankloss.tensorflow", "rankloss.keras"):
        package = importlib.import_module(backend)
        names += [module.name for module in pkgutil.iter_modules(package.__path__, f"{backend}.")]
    return names


@pytest.mark.parametrize("name", modules())
def test_doctests(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


@pytest.mark.parametrize("name", rankloss.__all__)
def test_every_public_name_has_an_example(name: str) -> None:
    assert ">>>" in getattr(rankloss, name).__doc__


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.parametrize("code", [code for code in blocks() if "torchvision" not in code])
def test_readme_runs(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(code, "README.md", "exec"), {})
    printed = re.findall(r"mAP (\d\.\d+)", capsys.readouterr().out)
    assert all(float(value) > 0.9 for value in printed)
    assert bool(printed) == ("mAP" in code)


def test_an_exported_encoder_loads_as_the_readme_shows(tmp_path: Path) -> None:
    (code,) = [code for code in blocks() if "torchvision" in code]
    trained = torchvision.models.resnet18()
    trained.fc = torch.nn.Identity()
    torch.save(trained.state_dict(), tmp_path / "encoder.pt")
    scope = {"torch": torch, "torchvision": torchvision}
    exec(re.sub(r'"[^"]*encoder\.pt"', repr(str(tmp_path / "encoder.pt")), code), scope)
    pictures = torch.rand(2, 3, 96, 96)
    assert torch.equal(trained.eval()(pictures), scope["model"].eval()(pictures))


def test_readme_names_what_exists() -> None:
    for path in re.findall(r"\]\(([\w./-]+\.(?:md|png))\)", README):
        assert (ROOT / path).is_file(), path
    for script in re.findall(r"python (\S+\.py)", README):
        assert (ROOT / script).is_file(), script
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"make ([\w-]+)", README):
        assert target in ("and",) or re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
