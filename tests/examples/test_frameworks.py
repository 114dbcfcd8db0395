"""Choosing a framework imports no other, whatever is installed: that takes seconds, and memory on a GPU."""

import subprocess
import sys
from pathlib import Path

import pretrain_torch
import pytest
from runs import MakeOptions, command_line

FRAMEWORKS = ("jax", "keras", "tensorflow", "torch")
SCRIPTS = Path(pretrain_torch.__file__).parent
USED = """
import sys
sys.path.insert(0, {scripts!r})
import {program}
status = {program}.main(sys.argv[1:])
print(status, *(name for name in {frameworks} if name in sys.modules))
"""


def frameworks_of(program: str, *arguments: object) -> list[str]:
    """The frameworks that a program has loaded in the end, after its exit status."""
    code = USED.format(scripts=str(SCRIPTS), program=program, frameworks=FRAMEWORKS)
    line = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1].split()


@pytest.mark.parametrize("framework", ["torch"])
def test_a_trainer_and_the_evaluation_load_their_own_framework_alone(
    framework: str, fashion_mnist: Path, small_options: MakeOptions, tmp_path: Path
) -> None:
    folder, data = tmp_path / "run", ("--data-root", fashion_mnist)
    trainer, line = f"pretrain_{framework}", command_line(small_options(steps=1))
    assert frameworks_of(trainer, "--run-folder", folder, *data, *line) == ["0", framework]
    few = ("--map-images", "0", "--queries", "1", "--neighbours", "3")
    assert frameworks_of("evaluate", folder, *data, *few) == ["0", framework]
