"""Choosing a framework imports no other, whatever is installed: that takes seconds, and memory on a GPU."""

import os
import subprocess
import sys
from pathlib import Path

from harness import Harness
from runs import MakeOptions, command_line

FRAMEWORKS = ("jax", "keras", "tensorflow", "torch")
SCRIPTS = Path(__file__).parents[2] / "examples"
USED = """
import sys
sys.path.insert(0, {scripts!r})
import {program}
status = {program}.main(sys.argv[1:])
print(status, *(name for name in {frameworks} if name in sys.modules))
"""


def frameworks_of(harness: Harness, program: str, *arguments: object) -> list[str]:
    """The frameworks that a program has loaded in the end."""
    code = USED.format(scripts=str(SCRIPTS), program=program, frameworks=FRAMEWORKS)
    line = [sys.executable, "-c", code, *map(str, arguments)]
    environment = os.environ | harness.environment
    done = subprocess.run(line, capture_output=True, text=True, timeout=300, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    status, *used = done.stdout.splitlines()[-1].split()
    assert status == "0", done.stderr
    return used


def test_a_trainer_and_the_evaluation_load_their_own_framework_alone(
    harness: Harness, fashion_mnist: Path, small_options: MakeOptions, tmp_path: Path
) -> None:
    folder, data = tmp_path / "run", ("--data-root", fashion_mnist)
    line = ("--run-folder", folder, *data, *command_line(small_options(steps=1)))
    used = frameworks_of(harness, f"pretrain_{harness.name}", *line)
    assert used == sorted(harness.frameworks)
    few = ("--map-images", "0", "--queries", "1", "--neighbours", "3")
    evaluated = frameworks_of(harness, "evaluate", folder, *data, *few)
    assert harness.name in evaluated
    assert set(evaluated) <= set(used)  # Keras loads some only where it saves
