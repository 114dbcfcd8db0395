"""Run the cells of a study that are not done yet, several at a time, and write each line as it comes."""

import multiprocessing
import os
import shutil
import signal
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from itertools import islice
from typing import Any

from tqdm import tqdm

from pretraining.runs import InterruptedRun
from reproduction.cells import Place, prepare, run_cell
from reproduction.choosing import choose
from reproduction.ledger import Ledger
from reproduction.plan import FRESH, Cell, Study, StudyError


def run_study(study: Study, ledger: Ledger, place: Place, workers: int) -> None:
    """Tune, then run the fresh seeds and the long check; what the ledger has is not run again.

    Args:
        workers: processes that run cells; 0 runs them in this one.

    Raises:
        StudyError: the ledger's lines are of another study, or a worker died.
        DataError, RunError, InterruptedRun: of a cell.
    """
    tuning = study.tuning_cells()
    ledger.check(study, tuning)
    fresh = len(list(study.fresh_cells({})))
    with ledger.writing(), _stopping(), tqdm(total=len(tuning) + fresh, unit="run", smoothing=0.05) as bar:
        _run(study, tuning, ledger, place, workers, bar)
        rest = list(study.fresh_cells(choose(study, ledger)))
        ledger.check(study, rest)
        _run(study, rest, ledger, place, workers, bar)


def _run(
    study: Study, cells: Sequence[Cell], ledger: Ledger, place: Place, workers: int, bar: "tqdm[Any]"
) -> None:
    open_cells = [cell for cell in cells if cell not in ledger]
    bar.initial += len(cells) - len(open_cells)  # so that the time left is that of new runs
    bar.update(len(cells) - len(open_cells))
    with closing(_lines(study, open_cells, place, workers)) as lines:
        for cell, line in lines:
            ledger.add(line)
            _tidy(place, cell)
            bar.set_description(cell.name, refresh=False)
            bar.update()


def _lines(
    study: Study, cells: Sequence[Cell], place: Place, workers: int
) -> Generator[tuple[Cell, dict[str, Any]]]:
    """The cells' lines, in the order in which they finish."""
    if workers == 0:
        for cell in cells:
            yield cell, run_cell(study, cell, place)
        return
    waiting = iter(cells)
    context = multiprocessing.get_context("spawn")  # a fork would copy the state of PyTorch's threads
    with ProcessPoolExecutor(workers, context, prepare, (place.threads,)) as pool:
        running: dict[Future[dict[str, Any]], Cell] = {}
        try:
            for cell in islice(waiting, workers):
                running[pool.submit(_run_or_end, study, cell, place)] = cell
            while running:
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield running.pop(future), future.result()
                    for cell in islice(waiting, 1):
                        running[pool.submit(_run_or_end, study, cell, place)] = cell
        except BrokenProcessPool as error:
            raise StudyError("a process of the study was killed; the same command goes on") from error
        except (KeyboardInterrupt, GeneratorExit):  # the latter where the caller was interrupted
            for process in multiprocessing.active_children():
                process.terminate()  # the trainer writes a checkpoint, then ends
            raise


def _tidy(place: Place, cell: Cell) -> None:
    """Remove the run's folder, but for the first fresh seed's, whose encoders make a picture."""
    folder = place.run_folder(cell)
    if not (cell.stage == FRESH and cell.seed == 0):
        shutil.rmtree(folder, ignore_errors=True)


def _run_or_end(study: Study, cell: Cell, place: Place) -> dict[str, Any]:
    """Run a cell in a process of the pool; end the process when it is told to stop.

    The pool waits for its processes to end, and the trainer, which writes its checkpoint first, takes the signal.
    """
    try:
        return run_cell(study, cell, place)
    except (InterruptedRun, KeyboardInterrupt):
        os._exit(1)


@contextmanager
def _stopping() -> Iterator[None]:
    """SIGTERM stops the study as Ctrl-C does."""

    def stop(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    try:
        former = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)
