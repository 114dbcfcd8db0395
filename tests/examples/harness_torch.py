"""What the tests of all trainers must know of PyTorch's."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from harness import KILL_IN_A_STEP, Disturbance, after_steps, disturb_loss

from torch_s2r2.checkpoints import CHECKPOINT
from torch_s2r2.learner import Learner
from torch_s2r2.trainer import TRAINER

KILL_IN_A_WRITE = """
import torch
plain = torch.save
def save(content, file):
    if content.get("step") == 6:
        file.write(b"PK half a checkpoint")
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    plain(content, file)
torch.save = save
"""


class TorchHarness:
    name = "torch"
    trainer = TRAINER
    frameworks = {"torch"}  # noqa: RUF012
    settings = {  # noqa: RUF012
        "s2r2": {},
        "fast_ap-sgd": {"objective": "fast_ap", "optimizer": "sgd"},
        "sup_con-blocks-bfloat16": {"objective": "sup_con", "blocks": 2, "amp": "bfloat16"},
        "simclr-lars": {"method": "simclr", "optimizer": "lars"},
        "swav-channels-last": {"method": "swav", "channels_last": True},
        "float16": {"amp": "float16"},
        "supervised": {"method": "supervised"},
    }
    environment: dict[str, str] = {}  # noqa: RUF012
    kills = {  # noqa: RUF012
        "in-a-step": (KILL_IN_A_STEP.format(package="torch_s2r2"), 4),
        "in-a-write": (KILL_IN_A_WRITE, 4),
    }

    def prepared(self) -> AbstractContextManager[object]:
        return nullcontext()

    def state(self, folder: Path) -> dict[str, Any]:
        return _flat(torch.load(folder / CHECKPOINT, weights_only=True)["state"])

    def step(self, folder: Path) -> int | None:
        path = folder / CHECKPOINT
        return torch.load(path, weights_only=True)["step"] if path.exists() else None

    def draw(self) -> None:
        torch.rand(3)

    def disturb(self, monkeypatch: pytest.MonkeyPatch, at: int, act: Disturbance) -> None:
        disturb_loss(monkeypatch, Learner, at, act)

    def spoil(self, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
        def spoiled(learner: Learner, number: int, found: Any) -> Any:
            if number == at:
                next(learner.head.parameters()).data[0, 0] = torch.inf
            return found

        after_steps(monkeypatch, Learner, spoiled)


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, (list, tuple)):
        items = enumerate(value)
    else:
        return {name: value.numpy() if isinstance(value, torch.Tensor) else value}
    return {k: v for key, part in items for k, v in _flat(part, f"{name}.{key}".lstrip(".")).items()}


HARNESS = TorchHarness()
