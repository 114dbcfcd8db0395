"""What a run does after each of its steps, whatever the framework: record, measure, save, stop.

The promises of every trainer are kept here: the loss and the weights stay finite or the run ends, a crash
loses no more than the steps since the last checkpoint, and Ctrl-C loses none.
"""

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType, TracebackType
from typing import Any, Self

from pretraining.progress import Progress, Row
from pretraining.runs import TITLES, DivergedRun, InterruptedRun, Run


class Journal:
    """Context in which a run takes its steps from `first_step` on; `after_step` is called after each.

    Args:
        save: writes the checkpoint of the step that it is given; called where `is_finite` holds, right after
            that step.
        is_finite: whether all weights and running statistics are finite numbers.
        shown: whether there is a progress bar.
    """

    def __init__(
        self,
        run: Run,
        first_step: int,
        *,
        save: Callable[[int], None],
        is_finite: Callable[[], bool],
        shown: bool,
    ) -> None:
        self._run, self._options = run, run.options
        self._save, self._is_finite, self._shown = save, is_finite, shown
        self._first_step, self._saved = first_step, first_step - 1
        self._open = ExitStack()

    def __enter__(self) -> Self:
        options = self._options
        title = TITLES[options.method]
        self._progress = self._open.enter_context(
            Progress(self._run.folder, self._first_step, options.steps, title, shown=self._shown)
        )
        self._received = self._open.enter_context(_signals())
        self._started = self._before = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def after_step(self, step: int, loss: float, average_precision: Callable[[], float]) -> None:
        """Record a step; save and stop where it is time to.

        Args:
            loss: of the step's batch, before the step.
            average_precision: measures the exact mAP of the step's views, where it is wanted.

        Raises:
            DivergedRun: the loss or the weights are not finite. The last checkpoint is kept.
            InterruptedRun: a signal came; the step's checkpoint is written.
        """
        options = self._options
        if not math.isfinite(loss):
            raise self._not_finite(f"the loss became {loss} at step {step}")
        measure = step % options.map_every == 0 or step in (1, options.steps)
        precision = average_precision() if measure else None
        now = time.perf_counter()
        views_per_second = options.image_count * options.view_count / (now - self._before)
        seconds = self._progress.seconds_before + now - self._started
        rate = options.learning_rate_at(step)
        self._progress.record(Row(step, seconds, loss, precision, views_per_second, rate))
        self._before = now
        received = list(self._received)
        if received or step % options.checkpoint_every == 0 or step == options.steps:
            if not self._is_finite():
                raise self._not_finite(f"weights became infinite or NaN by step {step}")
            self._progress.sync()
            self._save(step)
            self._saved = step
        if received:
            raise InterruptedRun(
                f"stopped at step {step} of {options.steps} with a checkpoint; --resume goes on", received[0]
            )

    def _not_finite(self, what: str) -> DivergedRun:
        saved = self._saved
        kept = f"the checkpoint of step {saved} is kept" if saved else "there was no checkpoint yet"
        return DivergedRun(
            f"{what}; {kept}: try a lower --learning-rate or a higher --temperature in a new run"
        )


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect Ctrl-C and SIGTERM instead of being ended by them; a second one acts as usual.

    Only the main thread can do so; in another the list stays empty.
    """
    received: list[int] = []
    former: dict[int, Any] = {}

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)
        restore()

    def restore() -> None:
        for number, handler in former.items():
            signal.signal(number, handler)
        former.clear()

    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            former[number] = signal.signal(number, note)
    except ValueError:  # not in the main thread
        former.clear()
    try:
        yield received
    finally:
        restore()
