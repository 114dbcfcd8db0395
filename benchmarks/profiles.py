"""Where the time of a loss and its gradient goes: by PyTorch's operations, or by the loops that XLA makes.

    python benchmarks/profiles.py                       # at 4,096 rows of 8 views
    python benchmarks/profiles.py --rows 16384 --ways JAX

PyTorch's operations are timed one by one, where they are compiled together. XLA's times are its own, of the thread
that starts a loop: two loops may run at a time.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import machine

machine.confine()

from batches import Run, Setting  # noqa: E402
from contenders import Contender, contenders, floor, runner  # noqa: E402

RUNS = 10


def of_torch(run: Run) -> Counter[str]:
    """Seconds of each of PyTorch's operations within the pass over blocks."""
    from torch.utils._python_dispatch import TorchDispatchMode

    from rankloss.torch import _operators

    seconds: Counter[str] = Counter()
    embedding_pass = _operators.embedding_pass

    class Timed(TorchDispatchMode):
        def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            start = time.perf_counter()
            result = operation(*args, **(kwargs or {}))
            seconds[str(operation.overloadpacket)] += time.perf_counter() - start
            return result

    def timed(*arguments: Any) -> Any:
        with Timed():
            return embedding_pass(*arguments)

    with patch.object(_operators, "embedding_pass", timed):
        for _ in range(RUNS):
            run()
    return seconds


def of_compiled_torch(run: Run) -> Counter[str]:
    """Seconds of the compiled formulas; the rest of a run is what is around them, the products above all."""
    from rankloss.torch import _compiled

    seconds: Counter[str] = Counter()
    program = _compiled._Programs.run

    def timed(*arguments: Any) -> Any:
        start = time.perf_counter()
        result = program(*arguments)
        seconds["compiled formulas"] += time.perf_counter() - start
        return result

    with patch.object(_compiled._Programs, "run", timed):
        for _ in range(RUNS):
            run()
    return seconds


def of_jax(run: Run) -> Counter[str]:
    """Seconds of each of the program's loops, those that differ by a number counted as one."""
    import jax

    seconds: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(RUNS):
                run()
        (file,) = Path(folder).rglob("*.xplane.pb")
        for plane in jax.profiler.ProfileData.from_file(str(file)).planes:
            for line in plane.lines:
                for event in line.events:
                    if "XLAEigen" in line.name and "Execute" not in event.name:
                        seconds[re.sub(r"\.\d+$", "", event.name)] += event.duration_ns / 1e9
    return seconds


PROFILERS: dict[str, Callable[[Run], Counter[str]]] = {
    "PyTorch": of_torch,
    "PyTorch compiled": of_compiled_torch,
    "JAX": of_jax,
}


def show(contender: Contender, setting: Setting) -> None:
    """Print the milliseconds of a run, of the floor, and of the operations that take the longest."""
    run, of_floor = runner(contender, setting), floor(contender.way, setting)
    times: dict[Run, list[float]] = {of_floor: [], run: []}
    for _ in range(RUNS):
        for each, found in times.items():
            start = time.perf_counter()
            each()
            found.append(time.perf_counter() - start)
    of_floor_ms, own_ms = (1000 * sorted(found)[RUNS // 2] for found in times.values())
    print(f"\n{contender.loss}, {contender.way}: {own_ms:.1f} ms, the floor {of_floor_ms:.1f} ms")
    for name, seconds in PROFILERS[contender.way](run).most_common(12):
        print(f"{1000 * seconds / RUNS:8.1f} ms  {name}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--ways", nargs="*", choices=list(PROFILERS), default=list(PROFILERS))
    options = parser.parse_args()
    for contender in contenders():
        if contender.way in options.ways and contender.peer is None:
            show(contender, Setting("rows", options.rows))


if __name__ == "__main__":
    main()
