"""Who is compared: our losses in every framework, the losses of others, and the floor that both are measured by.

`Contender` names one; `floor`, `runner` and `check` import its framework.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Any

import numpy as np
from batches import Run, Setting
from peers import PEERS, Peer

from rankloss import FastAP, SmoothAP, SupCon

OBJECTIVES = (SmoothAP(0.01), FastAP(10), SupCon(0.1))
WAYS = {
    "PyTorch": "in_torch",
    "PyTorch compiled": "in_torch",
    "JAX": "in_jax",
    "TensorFlow XLA": "in_tensorflow",
    "TensorFlow function": "in_tensorflow",
    "NumPy": "in_numpy",
}
"""The ways in which our losses run, and the module that has them."""


@dataclass(frozen=True)
class Contender:
    """A loss of a library, in one of the ways."""

    way: str
    library: str
    loss: str
    objective: Any
    peer: Peer | None = None

    def __str__(self) -> str:
        return f"{self.way}-{self.library}-{self.loss}".replace(" ", "_")

    def takes_part(self, setting: Setting) -> bool:
        """Whether it belongs into a group at this size."""
        if self.peer is not None:
            return setting.group in self.peer.groups and setting.rows <= self.peer.most_rows
        if setting.group == "pairs" or setting.group == "positives":
            return isinstance(self.objective, SupCon if setting.group == "pairs" else SmoothAP)
        if setting.dimensions > 512 and isinstance(self.objective, FastAP):
            return False  # too many cosines are 0 up to rounding, where its gradient jumps, to be checked
        if setting.group == "blocks":
            return self.way not in ("NumPy", "TensorFlow function")
        return self.way != "NumPy" or setting.rows <= 16_384


def contenders() -> Iterator[Contender]:
    """All of them, framework by framework."""
    for way in WAYS:
        for objective in OBJECTIVES:
            yield Contender(way, "rankloss", type(objective).__name__, objective)
        for peer in PEERS:
            if peer.framework == way:
                yield Contender(way, peer.library, peer.loss, peer.equals, peer)


def floor(way: str, setting: Setting) -> Run:
    """The three matrix products of n × n × d, in this framework."""
    run: Run = import_module(WAYS[way]).FLOORS[way](setting)
    return run


def runner(contender: Contender, setting: Setting) -> Run:
    """Loss and gradient of a contender."""
    module = import_module(WAYS[contender.way])
    if contender.peer is None:
        run: Run = module.OURS[contender.way](contender.objective, setting)
    else:
        run = module.PEERS[contender.library, contender.loss](setting)
    return run


@lru_cache(maxsize=32)
def _reference(objective: Any, setting: Setting, include_query: bool) -> tuple[Any, Any]:
    found: tuple[Any, Any] = import_module("in_torch").reference(objective, setting, include_query)
    return found


def check(contender: Contender, setting: Setting) -> float:
    """Fail unless loss and gradient are ours in float64 up to float32's rounding; returns the loss's relative error.

    So that different things are never compared. At most at 2,048 rows, and at fewer where a peer's documented
    errors begin.
    """
    peer = contender.peer
    small = setting.with_rows(min(setting.rows, 2048 if peer is None else peer.checked_rows))
    include_query = peer is not None and peer.include_query
    expected_loss, expected = _reference(contender.objective, small, include_query)
    loss, gradient = (
        np.asarray(part.cpu() if hasattr(part, "cpu") else part) for part in runner(contender, small)()
    )
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-4, err_msg=f"loss of {contender}")
    np.testing.assert_allclose(
        gradient.reshape(expected.shape),
        expected,
        rtol=0,
        atol=1e-3 * np.abs(expected).max(),
        err_msg=f"gradient of {contender}",
    )
    return float(abs(loss - expected_loss) / abs(expected_loss))
