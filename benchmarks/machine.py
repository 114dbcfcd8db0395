"""Two cores for everything, what the numbers were measured on, and whether others worked there meanwhile."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

CORES = 2
DEVICE = os.environ.get("RANKLOSS_BENCH_DEVICE", "cpu")
"""Where PyTorch and JAX compute: cpu or cuda."""
LIBRARIES = (
    "numpy", "torch", "jax", "tensorflow", "pytorch-metric-learning", "lightly", "optax", "array-api-compat"
)  # fmt: skip


def confine() -> None:
    """Keep this process, and every thread pool it will start, on two cores; before any framework is imported.

    The pools of XLA and TensorFlow are as large as the set of cores that a process may use, those of OpenMP and
    BLAS ask the environment first.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(CORES)
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    if DEVICE == "cpu":
        os.environ["JAX_PLATFORMS"] = "cpu"
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")


def environment() -> dict[str, Any]:
    """Processor, caches, memory, system and versions: what must be the same for numbers to stand in one table."""
    return {
        "processor": _first_line("/proc/cpuinfo", "model name") or platform.processor() or "unknown",
        "cores": CORES,
        "caches": _caches(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": dict(_versions()),
    } | ({} if DEVICE == "cpu" else {"device": _device()})


def _versions() -> Iterator[tuple[str, str]]:
    for name in LIBRARIES:
        with suppress(metadata.PackageNotFoundError):  # not every one is needed for every measurement
            yield name, metadata.version(name)


def _device() -> str:
    import torch

    return torch.cuda.get_device_name()


def _first_line(path: str, field: str, separator: str = ":") -> str | None:
    if not Path(path).exists():
        return None
    lines = Path(path).read_text().splitlines()
    return next((line.split(separator, 1)[1].strip() for line in lines if line.startswith(field)), None)


def _caches() -> str:
    folder = Path("/sys/devices/system/cpu/cpu0/cache")
    found = []
    for index in sorted(folder.glob("index*")) if folder.exists() else ():
        level, kind, size = ((index / name).read_text().strip() for name in ("level", "type", "size"))
        if kind != "Instruction":
            found.append(f"L{level} {size}")
    return ", ".join(found)


class OtherWork:
    """How many cores' worth of work the machine does for other processes, from `start` to `so_far`.

    Two threads that wait for each other at every matrix product are slowed down a hundredfold by one busy process
    beside them, ratios included, so that such results are told apart. Linux only; 0 elsewhere.
    """

    def start(self) -> None:
        self.began = self._now()

    def so_far(self) -> float:
        wall, everyone, own = (now - then for now, then in zip(self._now(), self.began, strict=True))
        return round(max(0.0, (everyone - own) / wall), 3)

    @staticmethod
    def _now() -> tuple[float, float, float]:
        own = os.times()
        of_own = own.user + own.system
        line = _first_line("/proc/stat", "cpu ", separator=" ")
        if line is None:
            return time.monotonic(), of_own, of_own
        user, nice, system, _, _, *interrupts = map(int, line.split()[:8])
        ticks = user + nice + system + sum(interrupts)
        return time.monotonic(), ticks / os.sysconf("SC_CLK_TCK"), of_own
