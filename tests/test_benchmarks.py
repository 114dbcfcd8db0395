"""Benchmarks: what docs/benchmarks.md says is what was measured, of equal things, and slower code is noticed."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import compare
import contenders
import pytest
import report
import results
from batches import Setting, settings
from peers import PEERS

from rankloss import SupCon

DOCUMENT = report.DOCUMENT.read_text(encoding="utf-8")
SPEED = {
    "group": "rows",
    "rows": 512,
    "dimensions": 128,
    "positives": 7,
    "block_size": None,
    "library": "rankloss",
    "loss": "SmoothAP",
    "way": "JAX",
    "ratio": [1.9, 2.0, 2.1],
    "milliseconds": [9.5, 10.0, 10.5],
    "floor": [5.0, 5.0, 5.0],
    "rounds": 9,
    "error": 1e-7,
    "code": "made up",
}
SIZED = [
    SPEED | {"group": "blocks", "block_size": size, "ratio": [ratio] * 3}
    for size, ratio in ((32, 4.0), (64, 2.0), (None, 2.2))
]
MEMORY = {
    "rows": 512,
    "positives": 7,
    "library": "rankloss",
    "loss": "SmoothAP",
    "way": "JAX",
    "mib": 100.0,
    "code": "made up",
}


def test_the_document_has_the_saved_tables() -> None:
    """Where this fails, `python benchmarks/report.py` puts it right."""
    assert report.updated(DOCUMENT, report.document_tables()) == DOCUMENT


def test_the_document_shows_every_table_once_and_pictures_that_exist() -> None:
    names = re.findall(r"<!-- (\w+) -->\n", DOCUMENT)
    assert sorted(name for name in names if name != "end") == sorted(report.document_tables())
    for picture in re.findall(r"\]\((images/\S+\.png)\)", DOCUMENT):
        assert (report.DOCUMENT.parent / picture).is_file(), picture


def test_saved_results_name_no_workplace() -> None:
    for file in results.SAVED.rglob("*.json"):
        assert not re.search(r"/(home|work|tmp|root|opt)/|https?://", file.read_text(encoding="utf-8")), file


@pytest.mark.parametrize(
    ("ratio", "worse"),
    [
        ([1.9, 2.0, 2.1], False),
        ([2.39, 2.49, 2.6], False),  # within the tolerance
        ([2.2, 2.6, 2.7], True),
        ([2.05, 2.6, 2.7], False),  # its quartiles reach into the saved ones
        ([1.0, 1.1, 1.2], False),
    ],
)
def test_a_ratio_is_worse_beyond_the_tolerance_and_both_spreads(ratio: list[float], worse: bool) -> None:
    (found,) = compare.comparisons([SPEED], [SPEED | {"ratio": ratio}], tolerance=0.25)
    assert found.worse == worse
    assert compare.status([found]) == int(worse)


@pytest.mark.parametrize(("mib", "worse"), [(100.0, False), (124.0, False), (130.0, True), (20.0, False)])
def test_memory_is_worse_beyond_the_tolerance(mib: float, worse: bool) -> None:
    (found,) = compare.comparisons([MEMORY], [MEMORY | {"mib": mib}], tolerance=0.25)
    assert found.worse == worse


def test_little_memory_may_double() -> None:
    (found,) = compare.comparisons([MEMORY | {"mib": 10.0}], [MEMORY | {"mib": 20.0}], tolerance=0.25)
    assert not found.worse


@pytest.mark.parametrize(
    "change",
    [
        {"rows": 1024},
        {"way": "NumPy"},
        {"block_size": 32},
        {"library": "optax", "loss": "ntxent"},
        {"others": 0.5},
    ],
)
def test_only_ours_and_what_was_measured_alike_is_compared(change: dict[str, Any]) -> None:
    slower = SPEED | {"ratio": [8.0, 9.0, 10.0]} | change
    assert list(compare.comparisons([SPEED], [slower], tolerance=0.25)) == []
    assert compare.status([]) == 2


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"milliseconds": [95.0, 100.0, 105.0], "floor": [50.0, 50.0, 50.0]}, 0),  # seconds never count
        ({"ratio": [3.0, 3.0, 3.0]}, 1),
        ({"rows": 64}, 2),
    ],
)
def test_exit_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], status: int
) -> None:
    for folder, record in (("saved", SPEED), ("new", SPEED | change)):
        (tmp_path / folder).mkdir()
        content = {"environment": {}, "commands": [], "records": [record]}
        (tmp_path / folder / "speed.json").write_text(json.dumps(content))
    arguments = ["--saved", str(tmp_path / "saved"), "--new", str(tmp_path / "new")]
    assert compare.main(arguments) == status
    assert ("WORSE SmoothAP, JAX, rows, 512 rows" in capsys.readouterr().out) == (status == 1)
    if status == 1:
        assert compare.main([*arguments, "--tolerance", "0.6"]) == 0


SAVED_HARDWARE = {
    "": {"processor": "this", "caches": "L2 1M"},
    "b": {"processor": "that", "caches": "L2 1M"},
    "c": {"processor": "that", "caches": "L2 2M"},
    "d": {"processor": "this", "caches": "L2 1M", "device": "a GPU"},
}


@pytest.mark.parametrize(
    ("hardware", "folder"),
    [
        (SAVED_HARDWARE[""], ""),
        (SAVED_HARDWARE["b"], "b"),
        (SAVED_HARDWARE["c"], "c"),
        (SAVED_HARDWARE["d"], "d"),
        ({"processor": "that", "caches": "L2 4M"}, "b"),
        ({"processor": "this", "caches": "L2 2M"}, ""),
        ({"processor": "another", "caches": "L2 4M"}, ""),
    ],
)
def test_new_results_are_compared_with_those_of_the_most_similar_hardware(
    tmp_path: Path, hardware: dict[str, str], folder: str
) -> None:
    for name, environment in SAVED_HARDWARE.items():
        (tmp_path / name).mkdir(exist_ok=True)
        content = {"environment": environment | {"versions": {}}, "commands": [], "records": []}
        (tmp_path / name / "speed.json").write_text(json.dumps(content))
    found = compare.saved_of(tmp_path, "speed.json", hardware | {"versions": {"numpy": "9"}})
    assert found["environment"] == SAVED_HARDWARE[folder] | {"versions": {}}


def test_results_are_kept_one_a_measurement_and_resumed(tmp_path: Path) -> None:
    file = tmp_path / "new" / "speed.json"
    measured = {name: value for name, value in SPEED.items() if name not in results.MEASURES}
    for ratio in ([1.0, 1.0, 1.0], [2.0, 2.0, 2.0]):
        results.Results(file, "a command").add(measured | {"ratio": ratio})
    results.Results(file, "another").add(measured | {"rows": 1024, "ratio": [3.0, 3.0, 3.0]})
    content = results.read(file)
    assert [record["ratio"][1] for record in content["records"]] == [2.0, 3.0]
    assert content["commands"] == ["a command", "another"]
    saved = results.Results(file, "another")
    assert saved.has(**measured) and not saved.has(**measured | {"rows": 64})
    busy = results.Results(file, "another")
    busy.add(measured | {"ratio": [2.0, 2.0, 2.0], "others": 0.5})
    assert not busy.has(**measured)
    busy.add(measured | {"ratio": [2.0, 2.0, 2.0], "others": 0.01})
    assert busy.has(**measured)
    stale = file.read_text().replace(results.code_digest(), "other code")
    file.write_text(stale)
    assert not results.Results(file, "another").has(**measured)


def test_results_of_another_machine_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "speed.json"
    results.Results(file, "a command").add(SPEED)
    file.write_text(file.read_text().replace('"cores": 2', '"cores": 64'))
    with pytest.raises(RuntimeError, match=r"other versions \(cores: 64 became 2\); remove it"):
        results.Results(file, "a command")


def test_tables_tell_what_is_impossible_from_what_was_not_measured() -> None:
    peer = {"library": "pytorch-metric-learning", "loss": "SmoothAPLoss", "way": "PyTorch"}
    records = [SPEED, SPEED | {"rows": 4096, "ratio": [100.0, 1234.5, 2e4]}, SPEED | peer]
    assert report.against_rows(records, "SmoothAP").splitlines() == [
        "| × floor, by rows | 512 | 4,096 |",
        "| --- | ---: | ---: |",
        "| **SmoothAP**, JAX | 2.00 (1.90–2.10) | 1,234 (100–20,000) |",
        "| pytorch-metric-learning SmoothAPLoss, PyTorch | 2.00 (1.90–2.10) | ✗ |",
    ]
    other = SPEED | {"rows": 4096, "way": "NumPy"}
    assert "| **SmoothAP**, JAX | 2.00 (1.90–2.10) | – |" in report.against_rows([SPEED, other], "SmoothAP")


def test_the_automatic_block_size_is_compared_with_the_best() -> None:
    assert report.blocks(SIZED).splitlines() == [
        "| × floor, by block size | automatic ÷ best | 32 | 64 | automatic |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| **SmoothAP**, JAX, 512 rows | 1.10 | 4.00 | 2.00 | 2.20 |",
    ]


def test_another_processor_has_a_table_of_choices() -> None:
    assert report.block_choices(SIZED).splitlines() == [
        "| automatic ÷ best (the best), by rows | 512 |",
        "| --- | ---: |",
        "| **SmoothAP**, JAX | 1.10 (64) |",
    ]
    assert report.all_rows([*SIZED, SPEED], "× floor, by rows", report.median).splitlines() == [
        "| × floor, by rows | 512 |",
        "| --- | ---: |",
        "| **SmoothAP**, JAX | 2.00 |",
    ]


def test_tables_go_by_objective_way_and_size_ours_first() -> None:
    peer = {"library": "optax", "loss": "ranking_softmax_loss"}
    given = [
        peer,
        {"rows": 64, "way": "NumPy"},
        {"loss": "SupCon"},
        {"loss": "FastAP"},
        {},
        {"way": "PyTorch"},
    ]
    found = report.ordered([SPEED | change for change in given])
    assert found == [SPEED | given[place] for place in (5, 4, 1, 3, 2, 0)]


def test_aims_stand_beside_what_was_measured() -> None:
    here = SPEED | {"rows": 4096}
    there = here | {"ratio": [1.0, 1.1, 1.2], "others": 0.5}
    table = report.aims([SPEED, here, here | {"library": "optax", "ratio": [9.0] * 3}], [there])
    assert "| SmoothAP | 2.0; –, – | 1.5; –, – | 1.3; 2.00, 1.10 ~ | 1.6; –, – |" in table


def test_a_faster_peer_is_named() -> None:
    own = SPEED | {"loss": "SupCon"}
    peer = SPEED | {"library": "optax", "loss": "ranking_softmax_loss"}
    assert report.faster_peers([own, peer | {"ratio": [2.0, 2.2, 2.4]}]) == "Nowhere in these tables."
    by_its_floor = peer | {"ratio": [1.0, 1.0, 1.0], "milliseconds": [11.0, 12.0, 13.0]}
    assert report.faster_peers([own, by_its_floor]) == "Nowhere in these tables."
    found = report.faster_peers([own, peer | {"ratio": [1.0, 1.0, 1.0], "milliseconds": [5.0, 5.0, 5.0]}])
    assert "ranking_softmax_loss, JAX: 0.50 times as long as our SupCon at 512 rows" in found


def peers_by_name() -> dict[str, contenders.Contender]:
    return {str(contender): contender for contender in contenders.contenders() if contender.peer}


@pytest.mark.parametrize("name", peers_by_name())
def test_peers_compute_what_ours_do(name: str) -> None:
    contender = peers_by_name()[name]
    assert contender.peer is not None
    per_class = 2 if contender.peer.groups == ("pairs",) else 8
    setting = Setting(contender.peer.groups[0], 256, dimensions=16, per_class=per_class)
    assert contenders.check(contender, setting) < 1e-5


def test_unequal_losses_are_not_timed() -> None:
    contender = next(one for one in contenders.contenders() if one.loss == "SupConLoss")
    with pytest.raises(AssertionError, match="loss of PyTorch-pytorch-metric-learning-SupConLoss"):
        contenders.check(replace(contender, objective=SupCon(0.11)), Setting("rows", 64, dimensions=16))


def test_every_peer_takes_part_somewhere() -> None:
    for contender in contenders.contenders():
        assert any(contender.takes_part(setting) for setting in settings()), contender
    assert {peer.framework for peer in PEERS} <= set(contenders.WAYS)
