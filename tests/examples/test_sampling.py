"""The order of the pictures, the seeds of the steps, and the curves of a resumed run."""

from pathlib import Path

import numpy as np
import pytest

from pretraining.progress import CURVES, Progress, Row, read_curves
from pretraining.sampling import batches, step_seed


def test_every_epoch_shows_every_picture_once_in_an_order_of_its_own() -> None:
    steps = list(batches(12, 4, 0, 1, 6))
    assert [len(step) for step in steps] == [4] * 6
    epochs = np.concatenate(steps[:3]), np.concatenate(steps[3:])
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(12))
    assert (epochs[0] != epochs[1]).any()
    assert (epochs[0] != np.concatenate(list(batches(12, 4, 1, 1, 3)))).any()


def test_what_fills_no_batch_is_left_out() -> None:
    first, second = (np.concatenate(list(batches(11, 4, 0, start, start + 1))) for start in (1, 3))
    assert len(np.unique(first)) == len(np.unique(second)) == 8
    assert set(first) != set(second)


@pytest.mark.parametrize("first_step", [2, 3, 4, 6])
def test_order_does_not_depend_on_where_a_run_starts(first_step: int) -> None:
    whole = list(batches(10, 3, 5, 1, 8))
    np.testing.assert_array_equal(whole[first_step - 1 :], list(batches(10, 3, 5, first_step, 8)))


def test_step_seeds_are_all_different() -> None:
    seeds = {step_seed(seed, step) for seed in range(30) for step in range(30)}
    assert len(seeds) == 900
    assert all(0 <= seed < 2**63 for seed in seeds)


def row(step: int, precision: float | None = None) -> Row:
    return Row(step, step / 2, 1 / step, precision, 100.0, 1e-3)


def test_curves_of_a_resumed_run_go_back_to_its_first_step(tmp_path: Path) -> None:
    with Progress(tmp_path, 1, 5, "title", shown=False) as progress:
        for step in range(1, 5):
            progress.record(row(step, 0.5 if step == 2 else None))
    with Progress(tmp_path, 3, 5, "title", shown=False) as progress:
        assert progress.seconds_before == 1.0
        assert read_curves(tmp_path) == [row(1), row(2, 0.5)]
        progress.record(row(3))
    assert read_curves(tmp_path) == [row(1), row(2, 0.5), row(3)]
    assert (tmp_path / CURVES).read_text().splitlines()[
        0
    ] == "step,seconds,loss,map,views_per_second,learning_rate"
    assert sorted(path.name for path in tmp_path.iterdir()) == [CURVES, "tensorboard"]


def test_line_that_a_crash_cut_off_is_left_out(tmp_path: Path) -> None:
    with Progress(tmp_path, 1, 5, "title", shown=False) as progress:
        progress.record(row(1))
        progress.record(row(2))
    whole = (tmp_path / CURVES).read_text()
    (tmp_path / CURVES).write_text(whole.rstrip().rpartition(",")[0])
    assert read_curves(tmp_path) == [row(1)]
