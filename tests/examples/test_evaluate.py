"""`evaluate.py`: one run, several side by side, an unfinished one, and folders that hold no run."""

import json
from pathlib import Path

import evaluate
import pytest
import torch

from pretraining.datasets import load
from torch_s2r2.training import train

FEW = ["--neighbours", "5", "--map-images", "0", "--queries", "2", "--device", "cpu"]


@pytest.fixture
def run(small_options, fashion_mnist):
    """Makes a run on the small Fashion-MNIST and returns its folder."""

    def make(name: str, **changes) -> Path:
        folder = small_options().folder.with_name(name)
        train(
            small_options(run_folder=folder, data_root=fashion_mnist, steps=2, **changes), show_progress=False
        )
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


def test_an_unfinished_run_is_judged_by_its_checkpoint(run):
    folder = run("one")
    finished = evaluate.main([str(folder), *FEW]) == 0 and encoders(folder)[0]
    (folder / "encoder.pt").unlink()
    assert evaluate.main([str(folder), *FEW]) == 0
    stopped = encoders(folder)[0]
    assert stopped["name"] == "S2R2, 4 views, step 2 of 2"
    same = ("knn", "linear", "retrieval", "effective_rank")
    assert [stopped[name] for name in same] == [finished[name] for name in same]


def test_the_untrained_encoder_is_the_one_the_run_started_from(run, fashion_mnist, small_options):
    folder = run("one", learning_rate=1e-12, warmup_steps=0)  # a run that hardly moves
    assert evaluate.main([str(folder), *FEW]) == 0
    weights = torch.load(folder / "encoder.pt", weights_only=True)
    data = load("fashion-mnist", fashion_mnist)
    from torch_s2r2.encoders import initialise_seeded

    start = initialise_seeded(small_options(), data.image_size, data.channels).state_dict()
    for name, value in start.items():
        if value.is_floating_point() and "running" not in name:
            torch.testing.assert_close(weights[name], value, rtol=0, atol=1e-6)


def spoil_encoder(folder: Path) -> None:
    (folder / "encoder.pt").write_bytes(b"not an encoder")


def other_encoder(folder: Path) -> None:
    torch.save(torch.nn.Linear(2, 3).state_dict(), folder / "encoder.pt")


def spoil_checkpoint(folder: Path) -> None:
    (folder / "encoder.pt").unlink()
    (folder / "checkpoint.pt").write_bytes(b"nothing")


def nothing_yet(folder: Path) -> None:
    (folder / "encoder.pt").unlink()
    (folder / "checkpoint.pt").unlink()


def no_options(folder: Path) -> None:
    (folder / "options.json").unlink()


def foreign_options(folder: Path) -> None:
    (folder / "options.json").write_text("[1]")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_encoder, "encoder.pt is not an encoder of --encoder small"),
        (other_encoder, "encoder.pt is not an encoder of --encoder small"),
        (spoil_checkpoint, "checkpoint.pt can't be read as a checkpoint"),
        (nothing_yet, "has neither encoder.pt nor checkpoint.pt"),
        (no_options, "holds no run of a trainer"),
        (foreign_options, "holds no run of a trainer"),
    ],
)
def test_a_folder_that_can_not_be_judged_is_one_sentence(run, capsys, spoil, message):
    folder = run("one")
    spoil(folder)
    assert evaluate.main([str(folder), *FEW]) == 1
    said = capsys.readouterr().err
    assert message in said
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
