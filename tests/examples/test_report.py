"""results.json and the table: they come back as they were written, and foreign files are refused."""

import dataclasses
import json
import os
import sys
import types
from importlib.metadata import PackageNotFoundError

import pytest

from pretraining import report
from pretraining.report import DataFacts, EncoderFigures, Results, ResultsError


def results(**changes) -> Results:
    rows = [
        EncoderFigures("S2R2", True, 128, 0.8125, 0.9, 0.1, 0.5, 12.34, 1.5, {"steps": 200}),
        EncoderFigures("raw pixels", False, 784, 0.75, 0.85, 0.01, 0.4, 28.0, 2.5),
    ]
    data = DataFacts("Fashion-MNIST", 10_000, 10_000, ["Coat", "Bag"], False)
    made = Results(
        data, 0, {"neighbours": 20, "temperature": 0.07, "retrieval_images": 4_000}, rows, {"map": "map.png"}
    )
    return dataclasses.replace(made, **changes)


def test_results_come_back(tmp_path):
    report.write_results(tmp_path, results())
    assert report.read_results(tmp_path) == results()
    assert json.loads((tmp_path / "results.json").read_text())["schema"] == 1
    text = (tmp_path / "results.md").read_text()
    assert report.table(results()) in text
    assert "![map](map.png)" in text
    (tmp_path / "plain").touch()
    assert {path.stat().st_mode for path in tmp_path.iterdir()} == {(tmp_path / "plain").stat().st_mode}


def test_versions_of_packages_installed_under_another_name(monkeypatch):
    stand_in = types.ModuleType("tensorflow")
    monkeypatch.setitem(sys.modules, "tensorflow", stand_in)
    monkeypatch.setattr(report, "PACKAGES", ("numpy", "tensorflow", "not-loaded"))

    def version(name: str) -> str:
        if name == "tensorflow":
            raise PackageNotFoundError(name)
        return "1.2"

    monkeypatch.setattr(report.metadata, "version", version)
    assert report.versions() | {"python": ""} == {"python": "", "numpy": "1.2", "tensorflow": "unknown"}
    stand_in.__version__ = "2.0"
    assert report.versions()["tensorflow"] == "2.0"


def test_the_table_shows_per_cents_and_lines_up():
    lines = report.table(results()).splitlines()
    assert len(set(map(len, lines))) == 1
    cells = [cell.strip() for cell in lines[2].strip("|").split("|")]
    assert cells == ["S2R2", "81.2 %", "90.0 %", "50.0 %", "12.3 of 128"]


def test_the_notes_say_one_seed_and_how_sure_a_figure_is():
    said = report.notes(results())
    assert "One seed (0)" in said
    assert "± 0.8 points" in said  # 1.96 sqrt(0.75 · 0.25 / 10,000)


def test_the_notes_name_the_seeds_of_the_runs():
    first, second = results().encoders
    rows = [dataclasses.replace(first, settings={"seed": 7}), second]
    assert "One seed (7)" in report.notes(results(encoders=rows))
    rows.append(dataclasses.replace(first, settings={"seed": 3}))
    assert "One seed a run (3, 7)" in report.notes(results(encoders=rows))


def test_the_summary_names_every_file(tmp_path):
    said = report.summary(results(), tmp_path)
    assert said.splitlines()[0].startswith("| encoder")
    for name in ("map.png", "results.md", "results.json"):
        assert str(tmp_path / name) in said


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"schema": 1}', '{"schema": 1, "data": {}, "encoders": []}']
)
def test_a_foreign_file_is_refused_in_a_sentence(tmp_path, content):
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(ResultsError, match=r"results\.json is not a results file that this program wrote"):
        report.read_results(tmp_path)


def test_a_missing_file_and_a_newer_schema_are_told_apart(tmp_path):
    with pytest.raises(ResultsError, match=r"results\.json can't be read: No such file"):
        report.read_results(tmp_path)
    report.write_results(tmp_path, results(schema=2))
    with pytest.raises(ResultsError, match="has schema 2, and this program reads 1"):
        report.read_results(tmp_path)


def test_an_interrupted_write_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    report.write_results(tmp_path, results())
    before = sorted(path.name for path in tmp_path.iterdir())

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(KeyboardInterrupt):
        report.write_results(tmp_path, results(seed=9))
    assert report.read_results(tmp_path).seed == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_figures_that_are_not_numbers_are_not_written(tmp_path):
    broken = [dataclasses.replace(results().encoders[0], knn=float("nan"))]
    with pytest.raises(ValueError, match="not JSON compliant"):
        report.write_results(tmp_path, results(encoders=broken))
    assert list(tmp_path.iterdir()) == []
