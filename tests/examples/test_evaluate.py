"""`evaluate.py`: one run, several side by side, an unfinished one, and folders that hold no run."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import evaluate
import numpy as np
import pytest
from harness import harnesses

from pretraining.datasets import load

FEW = ["--neighbours", "5", "--map-images", "0", "--queries", "2", "--device", "cpu"]


@pytest.fixture
def run(harness, small_options, fashion_mnist):
    """Makes a run on the small Fashion-MNIST and returns its folder."""

    def make(name: str, **changes) -> Path:
        folder = small_options().folder.with_name(name)
        options = small_options(run_folder=folder, data_root=fashion_mnist, steps=2, **changes)
        harness.trainer.train(options, show_progress=False)
        return folder

    return make


def encoders(folder: Path) -> list[dict]:
    return json.loads((folder / "results.json").read_text())["encoders"]


def test_a_run_is_judged_in_its_own_folder(run, capsys):
    folder = run("one")
    assert evaluate.main([str(folder), *FEW]) == 0
    assert [row["name"] for row in encoders(folder)] == ["S2R2, 4 views", "untrained", "raw pixels"]
    assert encoders(folder)[0]["settings"]["steps"] == 2
    said = capsys.readouterr().out
    assert said.startswith("| encoder")
    assert str(folder / "neighbours.png") in said
    assert (folder / "neighbours.png").is_file()
    assert (folder / "curves.png").is_file()


def test_several_runs_stand_side_by_side(run, tmp_path):
    folders = [run("one"), run("two", seed=1), run("three", method="swav")]
    assert evaluate.main([*map(str, folders), *FEW, "--output", str(tmp_path / "out")]) == 0
    names = ["S2R2, 4 views (one)", "S2R2, 4 views (two)", "SwAV, 2 + 2 crops", "untrained", "raw pixels"]
    assert [row["name"] for row in encoders(tmp_path / "out")] == names
    assert not (folders[0] / "results.json").exists()


@pytest.mark.parametrize("harness", harnesses()[:1], indirect=True, ids=lambda harness: harness.name)
def test_runs_of_several_frameworks_stand_side_by_side(small_options, fashion_mnist, tmp_path):
    values = dataclasses.asdict(small_options(data_root=fashion_mnist, steps=2))
    folders = [tmp_path / harness.name for harness in harnesses()]
    for harness, folder in zip(harnesses(), folders, strict=True):
        shared = {field.name for field in dataclasses.fields(harness.trainer.options)} & values.keys()
        options = harness.trainer.options(**{name: values[name] for name in shared} | {"run_folder": folder})
        harness.trainer.train(options, show_progress=False)
    assert evaluate.main([*map(str, folders), *FEW, "--output", str(tmp_path / "out")]) == 0
    names = [harness.name for harness in harnesses()]
    expected = [f"S2R2, 4 views, {name}" for name in names] + [f"untrained, {name}" for name in names]
    assert [row["name"] for row in encoders(tmp_path / "out")] == [*expected, "raw pixels"]


def test_an_unfinished_run_is_judged_by_its_checkpoint(run, harness):
    folder = run("one")
    finished = evaluate.main([str(folder), *FEW]) == 0 and encoders(folder)[0]
    remove(folder / harness.trainer.encoder)
    assert evaluate.main([str(folder), *FEW]) == 0
    stopped = encoders(folder)[0]
    assert stopped["name"] == "S2R2, 4 views, step 2 of 2"
    same = ("knn", "linear", "retrieval", "effective_rank")
    assert [stopped[name] for name in same] == [finished[name] for name in same]


def test_the_untrained_encoder_is_the_one_the_run_started_from(run, harness, fashion_mnist, small_options):
    folder = run("one", learning_rate=1e-12, warmup_steps=0)  # a run that hardly moves
    data, options = load("fashion-mnist", fashion_mnist), small_options()
    other = harness.trainer.untrained(dataclasses.replace(options, seed=1), data)
    _, trained = harness.trainer.trained(folder, options, data)
    features = [
        encode(data.images[:20]) for encode in (trained, harness.trainer.untrained(options, data), other)
    ]
    # The batch norms' running statistics have moved; the order of the pictures along a feature tells weights apart.
    alike = [np.corrcoef(a.ravel(), features[0].ravel())[0, 1] for a in features[1:]]
    assert alike[0] > 0.7 > alike[1] + 0.3, alike


def remove(path: Path) -> None:
    """A file, or a folder with all that is in it."""
    assert path.exists()
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def spoil(path: Path) -> None:
    """Overwrite a file, or every file in a folder."""
    for file in [path] if path.is_file() else [inner for inner in path.rglob("*") if inner.is_file()]:
        file.write_bytes(b"nothing of use")


def spoil_encoder(folder: Path, encoder: Path) -> None:
    spoil(encoder)


def other_encoder(folder: Path, encoder: Path) -> None:
    options = json.loads((folder / "options.json").read_text())
    (folder / "options.json").write_text(json.dumps(options | {"encoder": "resnet18"}))


def spoil_checkpoint(folder: Path, encoder: Path) -> None:
    remove(encoder)
    spoil(checkpoint_of(folder))


def nothing_yet(folder: Path, encoder: Path) -> None:
    remove(encoder)
    remove(checkpoint_of(folder))


def checkpoint_of(folder: Path) -> Path:
    (found,) = folder.glob("checkpoint*")
    return found


def no_options(folder: Path, encoder: Path) -> None:
    remove(folder / "options.json")


def foreign_options(folder: Path, encoder: Path) -> None:
    (folder / "options.json").write_text("[1]")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (spoil_encoder, r"encoder\S* is not an encoder of --encoder small"),
        (other_encoder, r"encoder\S* is not an encoder of --encoder resnet18"),
        (spoil_checkpoint, r"checkpoint\S* (can't be read as a checkpoint|holds no encoder)"),
        (nothing_yet, r"has neither encoder\S* nor checkpoint"),
        (no_options, "holds no run of a trainer"),
        (foreign_options, "holds no run of a trainer"),
    ],
)
def test_a_folder_that_can_not_be_judged_is_one_sentence(run, harness, capsys, damage, message):
    folder = run("one")
    damage(folder, folder / harness.trainer.encoder)
    capsys.readouterr()
    assert evaluate.main([str(folder), *FEW]) == 1
    said = capsys.readouterr().err
    assert re.search(message, said)
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert not (folder / "results.json").exists()


def test_runs_of_different_data_do_not_stand_side_by_side(run, capsys):
    first, second = run("one"), run("two")
    options = json.loads((second / "options.json").read_text())
    (second / "options.json").write_text(json.dumps(options | {"data": "stl10"}))
    assert evaluate.main([str(first), str(second), *FEW]) == 1
    assert "must be of one data set" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--neighbours", "neighbours must be at least 1"),
        ("--train-images", "train_images must be at least 1"),
    ],
)
def test_wrong_numbers_are_one_sentence(run, capsys, flag, message):
    folder = run("one")
    assert evaluate.main([str(folder), *FEW, flag, "0"]) == 1
    assert message in capsys.readouterr().err
