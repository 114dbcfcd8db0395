"""A study from end to end on small pictures: every cell once, whatever interrupts it; tables made of its lines."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import study as command_line
from reproduction import cells, schedule
from reproduction.cells import Judge, Place, run_cell, validation
from reproduction.choosing import choose
from reproduction.ledger import Ledger
from reproduction.plan import FRESH, Arm, Judging, LongCheck, Study, StudyError, read_study
from reproduction.report import update_document, with_tables
from reproduction.schedule import run_study
from reproduction.statistics import paired
from reproduction.tables import by_seed, sections

from pretraining.datasets import load
from pretraining.runs import DivergedRun
from torch_s2r2.options import TorchOptions
from torch_s2r2.views import whole_pictures

EXAMPLES = Path(__file__).parents[2] / "examples"
DOCUMENT = EXAMPLES.parent / "docs" / "reproduction.md"
LINES = sorted((DOCUMENT.parent / "reproduction").glob("*.jsonl"))
STUDIES = sorted((EXAMPLES / "studies").glob("*.toml"))
SMALL: dict[str, Any] = {
    "steps": 2, "views_per_step": 32, "warmup_steps": 1, "head_hidden": 16, "head_dim": 8, "prototypes": 6,
    "queue_size": 16, "checkpoint_every": 1, "device": "cpu",
}  # fmt: skip
FEW = Judging(
    train_images=40, test_images=15, tuning_train_images=30, tuning_test_images=10, statistics_images=20
)


def small_study(**changes: Any) -> Study:
    """Three arms on Fashion-MNIST's files, 10 runs of tuning, 7 with fresh seeds, 1 longer one."""
    values: dict[str, Any] = {
        "name": "tiny",
        "data": ("fashion-mnist",),
        "arms": (
            Arm("S2R2-8", 2, {"method": "s2r2", "views": 8}, {"learning_rate": [1e-3, 1e-2]}),
            Arm("SimCLR-2", 2, {"method": "simclr", "views": 2}, {"learning_rate": [1e-3, 1e-2]}),
            Arm("untrained", 2, baseline="untrained"),
            Arm("raw pixels", 1, baseline="pixels"),
        ),
        "reference": "S2R2-8",
        "rivals": ("SimCLR-2",),
        "options": {name: value for name, value in SMALL.items() if name != "device"},
        "judging": FEW,
        "tuning_seeds": (100, 101),
        "snapshots": 2,
        "long": LongCheck(3, ("S2R2-8",)),
    }
    return Study(**(values | changes))


RUNS = 8 + 7 + 1


@pytest.fixture
def place(tmp_path: Path, fashion_mnist: Path) -> Place:
    cells._load.cache_clear()
    return Place(tmp_path / "runs", fashion_mnist, device="cpu")


def test_every_cell_is_run_once(tmp_path, place, monkeypatch) -> None:
    study, path = small_study(), tmp_path / "lines.jsonl"
    run_study(study, Ledger(path), place, workers=0)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len({line["cell"] for line in lines}) == len(lines) == RUNS
    assert [line["stage"] for line in lines] == ["tuning"] * 8 + ["fresh"] * 7 + ["long"]
    chosen = choose(study, Ledger(path))
    fresh = [line for line in lines if line["stage"] == "fresh"]
    for line in fresh:
        assert line["settings"] == chosen["fashion-mnist", line["arm"]]
        assert {"knn", "linear", "knn_map", "linear_map", "rank"} <= line.keys()
        trained = line["arm"] in ("S2R2-8", "SimCLR-2")
        assert [step for step, _ in line.get("curve", [])] == ([1, 2] if trained else [])
        assert ("cpu_seconds" in line) == trained
    assert (lines[-1]["steps"], lines[0]["steps"]) == (6, 2)
    left = sorted(str(p.parent.relative_to(place.folder)) for p in place.folder.rglob("encoder.pt"))
    assert left == [f"fresh/fashion-mnist/{arm}/seed=0" for arm in ("S2R2-8", "SimCLR-2")]

    monkeypatch.setattr(schedule, "run_cell", lambda *_: pytest.fail("a finished cell is run again"))
    run_study(study, Ledger(path), place, workers=0)
    assert len(path.read_text().splitlines()) == RUNS


def test_the_same_cell_gives_the_same_figures(place) -> None:
    study = small_study()
    cell = study.tuning_cells()[0]
    one, other = (run_cell(study, cell, dataclasses.replace(place, folder=place.folder / n)) for n in "ab")
    assert {**one, "seconds": 0, "cpu_seconds": 0} == {**other, "seconds": 0, "cpu_seconds": 0}


def test_the_best_mean_on_validation_is_chosen(tmp_path) -> None:
    study, path = small_study(), tmp_path / "lines.jsonl"
    knn = {("S2R2-8", 1e-3): (0.9, 0.1), ("S2R2-8", 1e-2): (0.6, 0.6)}
    with pytest.raises(StudyError, match="lacks 8 runs of the tuning, such as tuning/fashion-mnist/S2R2-8"):
        choose(study, Ledger(path))
    ledger = Ledger(path)
    with ledger.writing():
        for cell in study.tuning_cells():
            rate = dict(cell.settings)["learning_rate"]
            value = knn.get((cell.arm, rate), (0.5, 0.5))[cell.seed - 100]
            ledger.add({"cell": cell.name, "stage": cell.stage, "knn": value})
    assert choose(study, ledger) == {
        ("fashion-mnist", "S2R2-8"): {"learning_rate": 1e-2},
        ("fashion-mnist", "SimCLR-2"): {"learning_rate": 1e-3},  # of equals the first
        ("fashion-mnist", "untrained"): {},
        ("fashion-mnist", "raw pixels"): {},
    }


def test_settings_that_diverge_are_not_chosen(tmp_path, place) -> None:
    arm = Arm("S2R2-8", 1, {"method": "s2r2", "views": 8}, {"learning_rate": [1e-3, 1e30]})
    study, path = (
        small_study(arms=(arm,), rivals=(), long=None, tuning_seeds=(100,)),
        tmp_path / "lines.jsonl",
    )
    run_study(study, Ledger(path), place, workers=0)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert ["diverged" in line for line in lines] == [False, True, False]
    assert lines[1]["knn"] == 0 and "in a new run" in lines[1]["diverged"]
    assert choose(study, Ledger(path)) == {("fashion-mnist", "S2R2-8"): {"learning_rate": 1e-3}}

    (cell,) = study.fresh_cells({("fashion-mnist", "S2R2-8"): {"learning_rate": 1e30}})
    with pytest.raises(DivergedRun):  # fresh seeds are averaged: none may be left out
        run_cell(study, cell, dataclasses.replace(place, folder=tmp_path / "unlucky"))


def test_settings_are_chosen_without_test_pictures(fashion_mnist, tmp_path, stl10) -> None:
    data = load("fashion-mnist", fashion_mnist)
    splits = validation(data)
    found = [
        np.asarray(images[np.arange(len(images))]) for images in (splits.train_images, splits.test_images)
    ]
    assert [len(images) for images in found] == [52, 12]
    pool = {picture.tobytes() for picture in data.splits.train_images}
    assert {picture.tobytes() for images in found for picture in images} == pool
    assert len(splits.train_labels) == 52 and len(splits.test_labels) == 12

    judge = Judge(FEW, data, TorchOptions(device="cpu"), final=False)
    assert {picture.tobytes() for picture in judge.test[np.arange(10)]} <= {p.tobytes() for p in found[1]}
    final = Judge(FEW, data, TorchOptions(device="cpu"), final=True)
    assert {p.tobytes() for p in final.test[np.arange(15)]} <= {p.tobytes() for p in data.splits.test_images}


def test_batch_norms_are_estimated_anew_on_clean_pictures(fashion_mnist) -> None:
    data, options = load("fashion-mnist", fashion_mnist), TorchOptions(device="cpu")
    judge = Judge(FEW, data, options, final=True)
    encoder = cells.initialise_seeded(options, 28, 1)
    encode = judge.clean(encoder)
    few = np.linspace(0, 63, 40).round().astype(int)[np.linspace(0, 39, 20).round().astype(int)]
    first = encoder[0](whole_pictures(data.images[few], 28, judge.device))
    np.testing.assert_allclose(encoder[1].running_mean, first.mean((0, 2, 3)).detach(), rtol=1e-4, atol=1e-5)
    assert encode(data.images[:3]).shape == (3, 128)


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_the_studies_that_come_with_it_can_be_read(path: Path) -> None:
    study = read_study(path)
    cells_of_all = [*study.tuning_cells(), *study.fresh_cells({})]
    assert len({cell.name for cell in cells_of_all}) == len(cells_of_all) > 10
    per_step = {study.trainer_options(cell).views_per_step for cell in cells_of_all}
    assert len(per_step) == 1, "arms must have equal views a step"
    assert all(study.trainer_options(cell).batch_images is None for cell in cells_of_all)


@pytest.mark.parametrize(("name", "data"), [("stl10", "stl10"), ("coco", "coco")])
def test_the_large_studies_run_on_small_files(name, data, stl10, coco, tmp_path, monkeypatch) -> None:
    study = read_study(EXAMPLES / "studies" / f"{name}.toml")
    arms = tuple(
        dataclasses.replace(
            arm, seeds=1, grid={key: values[:1] for key, values in arm.grid.items()}, options=arm.options
        )
        for arm in study.arms
        if arm.name in ("S2R2-8", "SwAV-8", "untrained", "raw pixels")
    )
    options = study.options | {
        "steps": 2,
        "views_per_step": 16,
        "image_size": 16,
        "workers": 0,
        "amp": "off",  # bfloat16 takes half a minute a step on CPUs that have none
        "prototypes": 4,
        "queue_size": 4,
    }
    small = dataclasses.replace(
        study,
        arms=arms,
        rivals=("SwAV-8",),
        options=options | {"encoder": "resnet18"},
        judging=FEW,
        snapshots=0,
    )
    cells._load.cache_clear()
    ledger = Ledger(tmp_path / "lines.jsonl")
    place = Place(tmp_path / "runs", {"stl10": stl10, "coco": coco}[data], device="cpu")
    run_study(small, ledger, place, workers=0)
    assert sorted(ledger.lines) == sorted(f"fresh/{data}/{arm.name}/seed=0" for arm in arms)
    assert all(0 <= line["knn"] <= 1 and 0 <= line["linear"] <= 1 for line in ledger.lines.values())


@pytest.mark.long
def test_killed_it_loses_no_finished_cell(tmp_path, fashion_mnist) -> None:
    (tmp_path / "tiny.toml").write_text(
        'data = ["fashion-mnist"]\nreference = "a"\nrivals = ["b"]\n[options]\n'
        + "".join(f"{k} = {v}\n" for k, v in SMALL.items() if k != "device")
        + "[judging]\ntrain_images = 40\ntest_images = 15\n"
        + "".join(
            f'[[arms]]\nname = "{n}"\nseeds = 6\noptions = {{ method = "{m}", views = 2 }}\n'
            for n, m in (("a", "s2r2"), ("b", "simclr"))
        )
    )
    lines = tmp_path / "runs" / "results.jsonl"
    command = [
        sys.executable, str(EXAMPLES / "study.py"), str(tmp_path / "tiny.toml"), "--data-root", str(fashion_mnist),
        "--folder", str(tmp_path / "runs"), "--device", "cpu", "--workers", "2",
    ]  # fmt: skip

    def started(count: int) -> subprocess.Popen[bytes]:
        """The study, once it has so many lines."""
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
        limit = time.monotonic() + 120
        while not (lines.exists() and lines.read_bytes().count(b"\n") >= count):
            if process.poll() is not None or time.monotonic() > limit:
                process.kill()
                pytest.fail(f"the study ended too soon, or waits: {process.communicate()[1].decode()}")
            time.sleep(0.05)
        return process

    process = started(2)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and b"The same command goes on" in said
    process = started(4)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    kept = lines.read_bytes()
    kept = kept[: kept.rindex(b"\n") + 1]
    lines.write_bytes(kept + b'{"cell": "fresh/fashion-mni')  # as a kill within a write leaves it
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert lines.read_bytes().startswith(kept)
    assert len({json.loads(line)["cell"] for line in lines.read_text().splitlines()}) == 12
    assert "figures fashion-mnist" in done.stdout


def test_lines_of_another_study_are_refused(tmp_path, place) -> None:
    study, path = small_study(tuning_seeds=(100,), long=None), tmp_path / "lines.jsonl"
    run_study(study, Ledger(path), place, workers=0)
    for changes in (
        {"options": study.options | {"steps": 3}},
        {"judging": dataclasses.replace(FEW, neighbours=3)},
    ):
        with pytest.raises(
            StudyError, match=r"was run with other options than tiny has now; give another --results"
        ):
            run_study(dataclasses.replace(study, **changes), Ledger(path), place, workers=0)
    more = dataclasses.replace(study, arms=(dataclasses.replace(study.arms[0], seeds=3), *study.arms[1:]))
    run_study(more, Ledger(path), place, workers=0)
    assert len(Ledger(path).lines) == len(Ledger(path).of_stage("tuning")) + 8


def test_two_studies_do_not_write_into_one_file(tmp_path) -> None:
    one, other = Ledger(tmp_path / "lines.jsonl"), Ledger(tmp_path / "lines.jsonl")
    with one.writing(), pytest.raises(StudyError, match="another study is writing into"), other.writing():
        pass


def test_damaged_lines_are_named(tmp_path) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_text('{"cell": "a"}\nno JSON\n')
    with pytest.raises(StudyError, match=r"lines.jsonl, line 2, is no line of results"):
        Ledger(path)
    path.write_text('{"cell": "a"}\n{"cell": "a"}\n')
    with pytest.raises(StudyError, match="line 2: a is there twice"):
        Ledger(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rivals": ("nobody",)}, "no arm is called nobody"),
        ({"tuning_seeds": (1, 100)}, "tuning seeds must not be fresh ones, 0 to 1"),
        ({"tuning_seeds": ()}, "has a grid, and there are no tuning_seeds"),
        ({"options": {"stepz": 3}}, "stepz"),
        ({"options": {"steps": 0}}, "steps must be above 0"),
        ({"data": ("fashion-mist",)}, "data must be one of"),
    ],
)
def test_wrong_studies_are_refused(changes, message) -> None:
    with pytest.raises(StudyError, match=message):
        small_study(**changes)


def test_arms_are_tuned_alike() -> None:
    arms = small_study().arms
    unequal = dataclasses.replace(arms[1], grid={"learning_rate": [1e-3]})
    with pytest.raises(StudyError, match=r"every arm must have a grid of the same size, got sizes \[1, 2\]"):
        small_study(arms=(arms[0], unequal, *arms[2:]))
    with pytest.raises(StudyError, match="names of their own"):
        small_study(arms=(arms[0], arms[0]))


def made_up(tmp_path: Path) -> tuple[Study, Ledger]:
    """Figures whose differences are known: on every seed S2R2 is 1 and 3 points better, give or take a half."""
    study, ledger = small_study(), Ledger(tmp_path / "made-up.jsonl")
    with ledger.writing():
        for cell in study.fresh_cells({}):
            ahead = 0.02 + (0.01 if cell.seed else -0.01) if cell.arm == "S2R2-8" else 0.0
            line = {name: getattr(cell, name) for name in ("stage", "data", "arm", "seed")}
            figures = dict.fromkeys(
                ("knn", "linear", "knn_map", "linear_map"), 0.7 + 0.05 * cell.seed + ahead
            )
            ledger.add({"cell": cell.name, **line, "settings": {}, "steps": 2, "rank": 3.0, **figures})
    return study, ledger


def test_tables_hold_the_paired_differences(tmp_path) -> None:
    study, ledger = made_up(tmp_path)
    tables = sections(study, ledger)
    (row,) = [line for line in tables["differences"].splitlines() if "k-NN" in line]
    # 1 and 3 points: mean 2, deviation √2, so ± 12.706 · √2 / √2 at one degree of freedom; t = 2
    assert [cell.strip() for cell in row.split("|")[1:-1]] == [
        "fashion-mnist", "SimCLR-2", "k-NN", "+2.00 [-10.71, +14.71]", "2", "0.295", "0.590",
    ]  # fmt: skip
    (row,) = [line for line in tables["figures fashion-mnist"].splitlines() if "untrained" in line]
    assert "72.5 ± 31.8" in row
    assert "tuning" not in tables


def test_a_document_gets_its_tables(tmp_path) -> None:
    study, ledger = made_up(tmp_path)
    text = "Before\n<!-- tiny: differences -->\nold\n<!-- end -->\nafter <!-- other: runs -->\n"
    made = with_tables(text, study, ledger)
    assert "old" not in made and "+2.00 [-10.71, +14.71]" in made
    assert made.startswith("Before\n<!-- tiny: differences -->\n| ") and made.endswith(
        "after <!-- other: runs -->\n"
    )
    assert with_tables(made, study, ledger) == made
    with pytest.raises(StudyError, match="has no lines for the table 'tuning'"):
        with_tables("<!-- tiny: tuning -->\n<!-- end -->\n", study, ledger)
    with pytest.raises(StudyError, match="must end with"):
        with_tables("<!-- tiny: runs -->\n", study, ledger)
    (tmp_path / "text.md").write_text(text)
    update_document(tmp_path / "text.md", study, ledger)
    assert (tmp_path / "text.md").read_text() == made
    with pytest.raises(StudyError, match=r"nosuch\.md can't be read"):
        update_document(tmp_path / "nosuch.md", study, ledger)


@pytest.mark.parametrize("path", LINES, ids=lambda path: path.stem)
def test_the_reproduction_has_the_tables_of_its_lines(path: Path) -> None:
    """Where this fails, `python examples/study.py NAME --report --results ... --document ...` puts it right."""
    study, ledger = read_study(EXAMPLES / "studies" / f"{path.stem}.toml"), Ledger(path)
    text = DOCUMENT.read_text(encoding="utf-8")
    assert with_tables(text, study, ledger) == text
    shown = re.findall(rf"<!-- {path.stem}: (.+) -->", text)
    assert shown
    cells_of_all = [*study.tuning_cells(), *study.fresh_cells(choose(study, ledger))]
    ledger.check(study, cells_of_all)
    assert ledger.lines.keys() <= {cell.name for cell in cells_of_all}


def test_the_reproduction_shows_pictures_that_exist() -> None:
    pictures = re.findall(r"\]\((images/\S+\.png)\)", DOCUMENT.read_text(encoding="utf-8"))
    assert pictures
    assert all((DOCUMENT.parent / picture).is_file() for picture in pictures)


def test_the_readme_says_what_came_out() -> None:
    lines = Ledger(DOCUMENT.parent / "reproduction" / "small.jsonl").of_stage(FRESH)
    text = (EXAMPLES.parent / "README.md").read_text(encoding="utf-8")
    for data in ("objects", "scenes"):
        pair = paired(by_seed(lines, data, "S2R2-8", "linear"), by_seed(lines, data, "SimCLR-2", "linear"))
        assert pair.count == 8
        assert f"{pair.mean:.1f} ± {pair.high - pair.mean:.1f}" in text


def test_the_report_has_tables_and_pictures(tmp_path, place, capsys) -> None:
    study, path = small_study(tuning_seeds=(100,)), tmp_path / "lines.jsonl"
    ledger = Ledger(path)
    run_study(study, ledger, place, workers=0)
    said = command_line.write_report(study, ledger, place)
    for name in ("report.md", "margins.png", "curves.png", "neighbours.png"):
        assert str(place.folder / name) in said
        assert (place.folder / name).stat().st_size > 500
    text = (place.folder / "report.md").read_text()
    for section in ("figures fashion-mnist", "runs", "tuning", "differences", "long"):
        assert f"## {section}\n\n| " in text


def test_mistakes_end_with_a_sentence(tmp_path, capsys) -> None:
    assert command_line.main(["nosuch"]) == 1
    assert "nosuch.toml can't be read" in capsys.readouterr().err
    (tmp_path / "bad.toml").write_text("data = [\n")
    assert command_line.main([str(tmp_path / "bad.toml")]) == 1
    assert "is not TOML" in capsys.readouterr().err
    (tmp_path / "bad.toml").write_text('data = ["scenes"]\nunknown = 1\n')
    assert command_line.main([str(tmp_path / "bad.toml")]) == 1
    assert "is no study" in capsys.readouterr().err


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_the_quick_study_ends_with_its_report(tmp_path) -> None:
    command = [sys.executable, str(EXAMPLES / "study.py"), "quick", "--folder", str(tmp_path)]
    done = subprocess.run([*command, "--data-root", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    study = read_study(EXAMPLES / "studies" / "quick.toml")
    assert len(Ledger(tmp_path / "results.jsonl").lines) == len(study.tuning_cells()) + len(
        list(study.fresh_cells({}))
    )
    for name in ("margins.png", "curves.png", "neighbours.png"):
        assert (tmp_path / name).stat().st_size > 5000
    assert "scenes minus objects" in done.stdout
