"""The demo on 64 pictures: it ends with the table, goes on where it stopped, and does not do things twice."""

import json
import shutil
from pathlib import Path

import demo
import pytest
from harness import Harness, harnesses

from pretraining.runs import OPTIONS, InterruptedRun

ENCODERS = ["S2R2, 8 views", "SimCLR, 2 views", "SwAV, 2 views", "untrained", "raw pixels"]


OF_ONE_TRAINER = pytest.mark.parametrize(
    "harness", harnesses()[:1], indirect=True, ids=lambda harness: harness.name
)


@pytest.fixture
def arguments(harness: Harness, tmp_path: Path, fashion_mnist: Path) -> list[str]:
    return [
        "--framework", harness.name, "--folder", str(tmp_path / "demo"), "--data-root", str(fashion_mnist),
        "--steps", "2", "--views-per-step", "32", "--evaluation-images", "64",
    ]  # fmt: skip


def test_ends_with_the_table_and_goes_on_where_it_stopped(tmp_path, arguments, capsys, monkeypatch):
    assert demo.main(arguments) == 0
    said = capsys.readouterr().out
    rows = [line.split("|")[1].strip() for line in said.splitlines() if line.startswith("| ")]
    assert rows[2:] == ENCODERS
    assert "One seed (0)" in said
    folder = tmp_path / "demo"
    for name in ("neighbours.png", "curves.png", "map.png", "results.md", "results.json"):
        assert str(folder / name) in said
        assert (folder / name).stat().st_size > 500
    figures = json.loads((folder / "results.json").read_text())["encoders"]
    assert [row["settings"].get("method") for row in figures] == ["s2r2", "simclr", "swav", None, None]
    per_step = [row["settings"]["views_per_step"] for row in figures[:3]]
    assert per_step == [32, 32, 32]

    monkeypatch.setattr(demo, "_demo", lambda *_, **__: pytest.fail("a finished demo trains again"))
    assert demo.main(arguments) == 0
    again = capsys.readouterr().out
    assert "finished earlier; --fresh starts over" in again
    assert said[said.index("| encoder") :] == again[again.index("| encoder") :]
    monkeypatch.undo()

    # stopped after the training: the runs stay as they are, and the figures come out the same
    checkpoints = {path: path.stat().st_mtime_ns for path in folder.glob("*/checkpoint*")}
    assert len(checkpoints) == 3
    (folder / "results.json").unlink()
    assert demo.main(arguments) == 0
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*/checkpoint*")} == checkpoints
    assert capsys.readouterr().out.count("trained earlier") == 3
    redone = json.loads((folder / "results.json").read_text())["encoders"]
    assert [{**row, "seconds": 0} for row in redone] == [{**row, "seconds": 0} for row in figures]


@OF_ONE_TRAINER
def test_other_options_are_refused_and_fresh_starts_over(tmp_path, arguments, capsys, monkeypatch):
    folder = tmp_path / "demo"
    (folder / "s2r2").mkdir(parents=True)
    (folder / "mine.txt").write_text("kept")

    def stop(*_: object, **__: object) -> None:
        raise InterruptedRun("stopped", 2)

    monkeypatch.setattr(demo, "evaluate_encoders", stop)
    assert demo.main(arguments) == 130
    assert "The same command goes on" in capsys.readouterr().err
    before = (folder / "s2r2" / "options.json").read_bytes()

    assert demo.main([*arguments, "--steps", "3"]) == 1
    said = capsys.readouterr().err
    assert "--steps 2 (here 3)" in said
    assert "--fresh starts the demo over" in said
    assert (folder / "s2r2" / "options.json").read_bytes() == before

    assert demo.main([*arguments, "--steps", "3", "--fresh"]) == 130
    assert json.loads((folder / "s2r2" / "options.json").read_text())["steps"] == 3
    assert (folder / "mine.txt").read_text() == "kept"


@OF_ONE_TRAINER
def test_fresh_removes_only_runs(tmp_path, arguments):
    folder = tmp_path / "demo"
    (folder / "swav").mkdir(parents=True)
    (folder / "swav" / "notes.txt").write_text("not a run")
    (folder / "simclr").mkdir()
    (folder / "simclr" / OPTIONS).write_text("{}")
    demo._clear(folder)
    assert (folder / "swav" / "notes.txt").is_file()
    assert not (folder / "simclr").exists()
    shutil.rmtree(folder)
    demo._clear(folder)  # nothing there is nothing to remove


@OF_ONE_TRAINER
def test_missing_data_that_can_not_be_downloaded_is_one_sentence(
    tmp_path, arguments, fashion_mnist, capsys, monkeypatch
):
    import torchvision.datasets

    def refuse(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torchvision.datasets, "FashionMNIST", refuse)
    shutil.rmtree(fashion_mnist)
    assert demo.main(arguments) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("error: Fashion-MNIST could not be downloaded (no route to host)")


@OF_ONE_TRAINER
def test_wrong_numbers_are_one_sentence(arguments, capsys):
    assert demo.main([*arguments, "--views-per-step", "3"]) == 1
    assert "error: views_per_step must be" in capsys.readouterr().err
