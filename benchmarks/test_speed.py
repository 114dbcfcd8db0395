"""Time of a loss and its gradient as a ratio to the floor of its framework: `make bench`, `make bench-all`.

In every round the floor runs just before the loss, so that whatever else slows the machine down meanwhile hits
both; a record has the median and quartiles of these rounds' ratios. Before it is timed, a loss must agree with ours
in float64, in value and gradient.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from batches import Setting, settings
from contenders import Contender, check, contenders, floor, runner
from machine import OtherWork
from results import Results

ROUNDS = range(3, 16)


def is_quick(setting: Setting) -> bool:
    """Whether `make bench` measures it: ours and the peers at 512 and 4,096 rows, in all frameworks."""
    return setting.group in ("rows", "pairs") and setting.rows in (512, 4096)


def cases() -> list[Any]:
    """Every contender that takes part in a setting, with its setting."""
    everyone = list(contenders())
    return [
        pytest.param(
            setting,
            contender,
            marks=[pytest.mark.quick] if is_quick(setting) else [],
            id=f"{setting}-{contender}",
        )
        for setting in settings()
        for contender in everyone
        if contender.takes_part(setting)
    ]


def quartiles(values: Sequence[float]) -> list[float]:
    """Lower quartile, median and upper quartile, to four digits."""
    return [float(f"{value:.4g}") for value in statistics.quantiles(values, n=4, method="inclusive")]


def seconds(run: Any) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


@pytest.mark.timeout(0)
@pytest.mark.parametrize(("setting", "contender"), cases())
def test_loss_and_gradient(
    request: pytest.FixtureRequest, benchmark: Any, setting: Setting, contender: Contender
) -> None:
    options = request.config.option
    command = " ".join(["pytest benchmarks", *_selection(options)])
    measured = {
        "group": setting.group,
        "rows": setting.rows,
        "dimensions": setting.dimensions,
        "positives": setting.per_class - 1,
        "block_size": setting.block_size,
        "library": contender.library,
        "loss": contender.loss,
        "way": contender.way,
    }
    saved = Results(options.results / "speed.json", command) if benchmark.enabled else None
    if saved is not None and options.resume and saved.has(**measured):
        pytest.skip("measured before")
    error = check(contender, setting)
    of_floor, run = floor(contender.way, setting), runner(contender, setting)
    once = min(seconds(of_floor) + seconds(run) for _ in range(3 if setting.rows <= 8192 else 1))
    rounds = min(max(int(options.seconds / once), ROUNDS.start), ROUNDS.stop - 1)
    floors: list[float] = []
    benchmark.group, benchmark.name = str(setting), str(contender)
    others = OtherWork()
    others.start()
    benchmark.pedantic(run, setup=lambda: floors.append(seconds(of_floor)), rounds=rounds)
    if saved is not None:
        times = benchmark.stats.stats.data
        saved.add(
            measured
            | {
                "ratio": quartiles([own / other for own, other in zip(times, floors, strict=True)]),
                "milliseconds": quartiles([1000 * value for value in times]),
                "floor": quartiles([1000 * value for value in floors]),
                "rounds": rounds,
                "others": others.so_far(),
                "error": float(f"{error:.1e}"),
            }
        )


def _selection(options: Any) -> Iterator[str]:
    if options.markexpr:
        yield f"-m '{options.markexpr}'"
    if options.keyword:
        yield f"-k '{options.keyword}'"
