"""What the tests of all trainers must know of JAX's.

The programs are compiled in haste, once for all processes of a session: that takes most of these tests' time.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from harness import KILL_IN_A_STEP, Disturbance, after_steps, disturb_loss
from jax.experimental.compilation_cache import compilation_cache

from jax_s2r2.checkpoints import open_checkpoints
from jax_s2r2.learner import Learner
from jax_s2r2.trainer import TRAINER

KILL_IN_A_WRITE = """
plain = os.rename
def rename(source, *rest, **options):
    if "checkpoints/6.orbax-checkpoint-tmp/encoder" in str(source):
        os.kill(os.getpid(), signal.SIGKILL)
    plain(source, *rest, **options)
os.rename = rename
"""
KILL_BEFORE_THE_MOVE = KILL_IN_A_WRITE.replace(
    '"checkpoints/6.orbax-checkpoint-tmp/encoder" in str(source)',
    'str(source).endswith("checkpoints/6.orbax-checkpoint-tmp")',
)
KILL_IN_REMOVING_THE_EARLIER = """
plain = os.rmdir
def rmdir(path, **options):
    if str(path).endswith("checkpoints/4"):
        os.kill(os.getpid(), signal.SIGKILL)
    plain(path, **options)
os.rmdir = rmdir
"""


CACHE = tempfile.TemporaryDirectory(prefix="compiled-")  # removed when the process ends
IN_HASTE = {
    "jax_disable_most_optimizations": True,
    "jax_compilation_cache_dir": CACHE.name,
    "jax_persistent_cache_min_compile_time_secs": 0.0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}


class JaxHarness:
    name = "jax"
    trainer = TRAINER
    frameworks = {"jax"}  # noqa: RUF012
    settings = {  # noqa: RUF012
        "s2r2": {},
        "fast_ap-sgd": {"objective": "fast_ap", "optimizer": "sgd"},
        "sup_con-blocks-bfloat16": {"objective": "sup_con", "blocks": 2, "amp": "bfloat16"},
        "simclr-lars": {"method": "simclr", "optimizer": "lars"},
        "swav": {"method": "swav"},
    }
    kills = {  # noqa: RUF012
        "in-a-step": (KILL_IN_A_STEP.format(package="jax_s2r2"), 4),
        "in-a-write": (KILL_IN_A_WRITE, 4),
        "before-the-move": (KILL_BEFORE_THE_MOVE, 4),
        "in-removing-the-earlier": (KILL_IN_REMOVING_THE_EARLIER, 6),
    }
    environment = {name.upper(): str(value) for name, value in IN_HASTE.items()}  # noqa: RUF012

    @contextmanager
    def prepared(self) -> Iterator[None]:
        former = {name: jax.config.values[name] for name in IN_HASTE}
        for name, value in IN_HASTE.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()
        try:
            yield
        finally:
            for name, value in former.items():
                jax.config.update(name, value)
            compilation_cache.reset_cache()

    def state(self, folder: Path) -> dict[str, Any]:
        step, names = self.step(folder), ("encoder", "others")
        restore = ocp.args.Composite(**{name: ocp.args.StandardRestore() for name in names})
        with open_checkpoints(folder) as manager:
            found = dict(manager.restore(step, args=restore))
        leaves = jax.tree_util.tree_leaves_with_path(found)
        return {
            jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(leaf) for path, leaf in leaves
        }

    def step(self, folder: Path) -> int | None:
        with open_checkpoints(folder) as manager:
            return manager.latest_step()

    def draw(self) -> None:
        """JAX has no global random numbers."""

    def disturb(self, monkeypatch: pytest.MonkeyPatch, at: int, act: Disturbance) -> None:
        disturb_loss(monkeypatch, Learner, at, act)

    def spoil(self, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
        def spoiled(learner: Learner, number: int, found: Any) -> Any:
            if number == at:
                bias = learner.state["others"][0]["head"]["output"]["bias"]
                bias[...] = bias[...].at[0].set(jnp.inf)
            return found

        after_steps(monkeypatch, Learner, spoiled)


HARNESS = JaxHarness()
