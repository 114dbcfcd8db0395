"""The trainers from end to end on 64 pictures: repeated, refused, evaluated, exported."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness import Harness
from runs import MakeOptions, differing, of_the_encoder, run

from pretraining.command_line import run as run_command_line
from pretraining.datasets import PretrainingData
from pretraining.progress import read_curves
from pretraining.runs import OPTIONS, RunError, read_options


def test_seed_gives_the_same_run_and_another_does_not(
    harness: Harness, small_options: MakeOptions, small_data: PretrainingData, tmp_path: Path
) -> None:
    first = run(harness, small_options(), small_data)
    harness.draw()  # what else the program draws must not matter
    again = run(harness, small_options(run_folder=tmp_path / "again"), small_data)
    other = run(harness, small_options(run_folder=tmp_path / "other", seed=1), small_data)
    assert differing(first, again) == []
    assert differing(of_the_encoder(first), of_the_encoder(other))


def test_learns_to_find_views_of_the_same_picture(
    harness: Harness, small_options: MakeOptions, small_data: PretrainingData
) -> None:
    options = small_options(steps=40, batch_images=32, head_dim=32, crop_min=0.6, no_flip=True, jitter=0.1)
    result = harness.trainer.train(options, data=small_data, show_progress=False)
    rows = read_curves(result.run_folder)
    assert np.mean([row.loss for row in rows[-5:]]) < 0.8 * np.mean([row.loss for row in rows[:3]])
    assert result.map is not None and rows[0].map is not None
    assert result.map > rows[0].map + 0.1
    assert (result.step, result.loss, result.seconds) == (40, rows[-1].loss, rows[-1].seconds)


def test_error_is_one_sentence_and_status_1(
    harness: Harness, fashion_mnist: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["--data", "folder", "--data-root", str(tmp_path / "nothing")]
    assert run_command_line(harness.trainer, "", line) == 1
    message = capsys.readouterr().err
    assert message.startswith("error: --data folder needs a --data-root")
    assert message.count("\n") == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_images": 65}, "a batch takes 65 pictures and the data set has 64: give a smaller"),
        ({"limit_images": 7}, "a batch takes 8 pictures and the data set has 7"),
        ({"blocks": 3}, "--blocks 3 does not divide a batch of 8 pictures"),
        ({"device": "nonsense"}, "--device nonsense is not there"),
    ],
)
def test_runs_that_can_not_start(
    harness: Harness,
    small_options: MakeOptions,
    small_data: PretrainingData,
    changes: dict[str, Any],
    message: str,
) -> None:
    with pytest.raises(RunError, match=message):
        run(harness, small_options(**changes), small_data)


def test_folder_of_something_else(
    harness: Harness, small_options: MakeOptions, small_data: PretrainingData, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "diary.txt").write_text("dear")
    with pytest.raises(RunError, match="is not empty: give --resume to go on with its run"):
        run(harness, small_options(), small_data)
    with pytest.raises(RunError, match=r"holds no run to resume: it has no options\.json"):
        run(harness, small_options(resume=True), small_data)
    with pytest.raises(RunError, match="is a file"):
        run(harness, small_options(run_folder=tmp_path / "run" / "diary.txt"), small_data)
    with pytest.raises(RunError, match="holds no run of this trainer"):
        read_options(tmp_path / "run", harness.trainer.options)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["diary.txt"]


def test_folder_whose_process_was_killed_at_once(
    harness: Harness, small_options: MakeOptions, small_data: PretrainingData, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "options.json.123.partial").write_text('{"trainer": "to')
    run(harness, small_options(resume=True), small_data)
    assert harness.step(tmp_path / "run") == 6


def test_resuming_with_other_options_or_data(
    harness: Harness, small_options: MakeOptions, small_data: PretrainingData, tmp_path: Path
) -> None:
    run(harness, small_options(), small_data)
    with pytest.raises(RunError, match=r"other options: --views 4 \(here 3\)"):
        run(harness, small_options(views=3, resume=True), small_data)
    killed = tmp_path / "killed"  # before its first checkpoint
    killed.mkdir()
    (killed / OPTIONS).write_bytes((small_options().folder / OPTIONS).read_bytes())
    with pytest.raises(RunError, match=r"has other options: --views 4 \(here 3\)"):
        run(harness, small_options(views=3, resume=True, run_folder=killed), small_data)
    others = PretrainingData("small", 255 - np.asarray(small_data.images), None, 16)
    with pytest.raises(RunError, match="was made with other data"):
        run(harness, small_options(resume=True), others)


def test_evaluation_at_the_end(
    harness: Harness, small_options: MakeOptions, small_data: PretrainingData
) -> None:
    options = small_options(no_evaluation=False)
    result = harness.trainer.train(options, data=small_data, show_progress=False)
    assert result.results is not None
    assert (options.folder / "results.json").is_file()
    again = harness.trainer.train(
        small_options(no_evaluation=False, resume=True), data=small_data, show_progress=False
    )
    assert again.results == result.results


def test_progress_bar_shows_loss_map_and_speed(
    harness: Harness,
    small_options: MakeOptions,
    small_data: PretrainingData,
    capfd: pytest.CaptureFixture[str],
) -> None:
    harness.trainer.train(small_options(), data=small_data)
    shown = capfd.readouterr().err
    assert re.search(r"S2R2: 100%.* 6/6 .*loss=0\.\d+, views/s=[\d,]+, mAP=0\.\d+", shown)
