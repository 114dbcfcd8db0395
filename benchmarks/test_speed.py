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
UNREPEATED = 32_768
"""Beyond so many rows a run takes half a minute, compiling some seconds: two rounds, or one of each block size, and
the first one counts, too."""


def is_quick(setting: Setting) -> bool:
    """Whether `make bench` measures it: ours and the peers at 512 and 4,096 rows, in all frameworks."""
    return setting.group in ("rows", "pairs") and setting.rows in (512, 4096)


def cases(of_blocks: bool) -> list[Any]:
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
        if (setting.group == "blocks") == of_blocks
        for contender in everyone
        if contender.takes_part(setting)
    ]


def quartiles(values: Sequence[float]) -> list[float]:
    """Lower quartile, median and upper quartile, to four digits; a single value is all three."""
    found = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    return [float(f"{value:.4g}") for value in found]


def seconds(run: Any) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


@pytest.mark.timeout(0)
@pytest.mark.parametrize(("setting", "contender"), cases(of_blocks=False))
def test_loss_and_gradient(
    request: pytest.FixtureRequest, benchmark: Any, setting: Setting, contender: Contender
) -> None:
    measure(request.config.option, benchmark, [setting], contender)


@pytest.mark.timeout(0)
@pytest.mark.parametrize(("setting", "contender"), cases(of_blocks=True))
def test_block_sizes(
    request: pytest.FixtureRequest, benchmark: Any, setting: Setting, contender: Contender
) -> None:
    """All sizes in each round, one after another, so that they are compared under the same conditions."""
    measure(request.config.option, benchmark, setting.in_blocks(), contender)


def measure(options: Any, benchmark: Any, compared: list[Setting], contender: Contender) -> None:
    """Rounds of a contender in some settings that differ by the block size alone, each right after the floor."""
    command = " ".join(["pytest benchmarks --benchmark-enable --results DIR", *_selection(options)])
    saved = Results(options.results / "speed.json", command) if benchmark.enabled else None
    if saved is not None and options.resume and all(saved.has(**_measured(s, contender)) for s in compared):
        pytest.skip("measured before")
    errors = [check(contender, setting) for setting in compared]
    of_floor = floor(contender.way, compared[0])
    runs = [runner(contender, setting) for setting in compared]
    times: list[list[float]] = [[] for _ in runs]
    floors: list[list[float]] = [[] for _ in runs]

    def until_last() -> None:
        for own, before, run in zip(times[:-1], floors[:-1], runs[:-1], strict=True):
            before.append(seconds(of_floor))
            own.append(seconds(run))
        floors[-1].append(seconds(of_floor))

    if compared[0].rows > UNREPEATED:
        rounds = 2 if len(compared) == 1 else 1
    else:
        warm_ups = range(3 if compared[0].rows <= 8192 else 1)
        once = min(seconds(until_last) + seconds(runs[-1]) for _ in warm_ups)
        rounds = min(max(int(options.seconds * len(runs) / once), ROUNDS.start), ROUNDS.stop - 1)
    benchmark.group, benchmark.name = str(compared[0]), str(contender)
    others = OtherWork()
    others.start()
    benchmark.pedantic(runs[-1], setup=until_last, rounds=rounds)
    if saved is None:
        return
    times[-1] = benchmark.stats.stats.data
    for setting, own, before, error in zip(compared, times, floors, errors, strict=True):
        own, before = own[-rounds:], before[-rounds:]  # without those before, which compile
        saved.add(
            _measured(setting, contender)
            | {
                "ratio": quartiles([one / other for one, other in zip(own, before, strict=True)]),
                "milliseconds": quartiles([1000 * value for value in own]),
                "floor": quartiles([1000 * value for value in before]),
                "rounds": rounds,
                "others": others.so_far(),
                "error": float(f"{error:.1e}"),
            }
        )


def _measured(setting: Setting, contender: Contender) -> dict[str, Any]:
    return {
        "group": setting.group,
        "rows": setting.rows,
        "dimensions": setting.dimensions,
        "positives": setting.per_class - 1,
        "block_size": setting.block_size,
        "library": contender.library,
        "loss": contender.loss,
        "way": contender.way,
    }


def _selection(options: Any) -> Iterator[str]:
    if options.markexpr:
        yield f"-m '{options.markexpr}'"
    if options.keyword:
        yield f"-k '{options.keyword}'"
