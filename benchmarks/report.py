"""The tables of docs/benchmarks.md from the saved results, and the pictures that it shows.

python benchmarks/report.py                    # writes both
python benchmarks/report.py --results FOLDER   # prints the tables of other results

A table stands in the document between `<!-- NAME -->` and `<!-- end -->`.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from contenders import WAYS
from peers import PEERS
from results import ROOT, SAVED, Record, is_quiet, read

DOCUMENT = ROOT / "docs" / "benchmarks.md"
OBJECTIVES = ("SmoothAP", "FastAP", "SupCon")
NOT_MEASURED = "–"
IMPOSSIBLE = "✗"
TARGET_MIB = {16_384: 256, 65_536: 1024}
AIMS = {
    "PyTorch": (2.0, 2.0, 1.4),
    "PyTorch compiled": (1.5, 1.5, 1.25),
    "JAX": (1.3, 1.4, 1.2),
    "TensorFlow XLA": (1.6, 1.6, 1.4),
}
"""What we aim at for 4,096 rows, × floor, by way and objective."""


def objective_of(record: Record) -> str:
    """Our objective that a loss is, or equals."""
    for peer in PEERS:
        if (peer.library, peer.loss) == (record["library"], record["loss"]):
            return type(peer.equals).__name__
    return str(record["loss"])


def ordered(records: list[Record]) -> list[Record]:
    """Records in the order of tables and legends: by objective, way and size, ours first."""
    ways = list(WAYS)
    return sorted(
        records,
        key=lambda record: (
            OBJECTIVES.index(objective_of(record)),
            ways.index(record["way"]),
            record["library"] != "rankloss",
            label(record),
            record["rows"],
        ),
    )


def label(record: Record) -> str:
    """A loss and the way in which it runs, ours bold."""
    if record["library"] == "rankloss":
        return f"**{record['loss']}**, {record['way']}"
    return f"{record['library']} {record['loss']}, {record['way']}"


def most_rows(name: str) -> float:
    """How many rows a loss can take, by its label."""
    limits = [peer.most_rows for peer in PEERS if name.startswith(f"{peer.library} {peer.loss},")]
    return limits[0] if limits else float("inf")


def times(record: Record) -> str:
    """Median and quartiles of a ratio."""
    low, median, high = (f"{value:.2f}" if value < 100 else f"{value:,.0f}" for value in record["ratio"])
    return f"{median} ({low}–{high}){mark(record)}"


def mark(record: Record) -> str:
    """Of what was measured while others worked."""
    return "" if is_quiet(record) else " ~"


def grid(
    records: list[Record],
    corner: str,
    row_of: Callable[[Record], str],
    column_of: Callable[[Record], Any],
    cell: Callable[[Record], str],
    heading: Callable[[Any], str] = lambda value: f"{value:,d}",
) -> str:
    """A table with a row and a column for each value that occurs; rows in order of appearance."""
    if not records:
        return "Not measured yet."
    columns = sorted({column_of(record) for record in records}, key=lambda value: (value is None, value))
    rows = list(dict.fromkeys(row_of(record) for record in records))
    cells = {(row_of(record), column_of(record)): cell(record) for record in records}
    lines = [
        f"| {corner} | " + " | ".join(map(heading, columns)) + " |",
        "| --- |" + " ---: |" * len(columns),
    ]
    for row in rows:
        found = [
            cells.get((row, column), IMPOSSIBLE if _is_beyond(row, corner, column) else NOT_MEASURED)
            for column in columns
        ]
        lines.append(f"| {row} | " + " | ".join(found) + " |")
    return "\n".join(lines)


def _is_beyond(row: str, corner: str, column: Any) -> bool:
    return corner.endswith("rows") and column > most_rows(row)


def against_rows(records: list[Record], objective: str) -> str:
    """Cost against the number of rows, of an objective and the peers that equal it."""
    chosen = [r for r in records if r["group"] == "rows" and objective_of(r) == objective]
    return grid(chosen, "× floor, by rows", label, lambda r: r["rows"], times)


def floors(records: list[Record]) -> str:
    """Milliseconds of the floor in every way: the median over what was measured beside it."""
    by_place: dict[tuple[str, int], list[float]] = {}
    for record in records:
        if record["group"] == "rows":
            by_place.setdefault((record["way"], record["rows"]), []).append(record["floor"][1])
    chosen = [{"way": way, "rows": rows, "floors": found} for (way, rows), found in by_place.items()]
    return grid(
        chosen,
        "floor in ms, by rows",
        lambda r: str(r["way"]),
        lambda r: r["rows"],
        lambda r: f"{sorted(r['floors'])[len(r['floors']) // 2]:,.1f}",
    )


def overview(records: list[Record]) -> str:
    """The picture of all objectives over the number of rows."""
    chosen = [record for record in records if record["group"] == "rows"]
    return pictured("", chosen, "rows", "Cost by rows").strip()


def of_group(records: list[Record], group: str, corner: str, column: str) -> str:
    """Cost against a property of the batch."""
    chosen = [record for record in records if record["group"] == group]
    table = grid(chosen, corner, label, lambda r: r[column], times)
    return table if group == "pairs" else pictured(table, chosen, group, f"Cost by {column}")


def with_labels(records: list[Record]) -> str:
    """Cost of our losses of labels, by objective and way."""
    chosen = [record for record in records if record["group"] == "labels"]
    ways = list(WAYS)
    return grid(
        chosen,
        "× floor",
        lambda r: f"**{r['loss']}**",
        lambda r: ways.index(r["way"]),
        times,
        heading=lambda number: ways[number],
    )


def blocks(records: list[Record]) -> str:
    """Cost against the block size, and the automatic one over the best of those."""
    chosen = [record for record in records if record["group"] == "blocks"]

    def row_of(record: Record) -> str:
        best = _best_size(chosen, record)
        own = [r["ratio"][1] for r in chosen if _same_but_block(r, record) and r["block_size"] is None]
        verdict = f"{own[0] / best['ratio'][1]:.2f}" if own and best else NOT_MEASURED
        return f"{label(record)}, {record['rows']:,d} rows | {verdict}"

    table = grid(
        chosen,
        "× floor, by block size | automatic ÷ best",
        row_of,
        lambda r: r["block_size"],
        lambda r: f"{r['ratio'][1]:.2f}{mark(r)}",
        heading=lambda size: "automatic" if size is None else str(size),
    )
    table = table.replace("| --- |", "| --- | ---: |", 1)
    return pictured(
        table, [r for r in chosen if r["rows"] == 4096], "blocks", "Cost by block size, at 4,096 rows"
    )


def _same_but_block(one: Record, other: Record) -> bool:
    return all(one[name] == other[name] for name in ("library", "loss", "way", "rows"))


def _best_size(records: list[Record], record: Record) -> Record | None:
    """The fastest of the same with a given block size."""
    given = (r for r in records if _same_but_block(r, record) and r["block_size"] is not None)
    return min(given, key=lambda r: float(r["ratio"][1]), default=None)


def memory(records: list[Record]) -> str:
    """MiB above the inputs, measured, and as XLA planned them."""

    def cell(record: Record) -> str:
        planned = f" ({record['planned_mib']:,.0f})" if "planned_mib" in record else ""
        return f"{record['mib']:,.0f}{planned}"

    return grid(records, "MiB, by rows", label, lambda r: r["rows"], cell)


def faster_peers(records: list[Record]) -> str:
    """Where a peer takes less time than our loss that it equals, in the same framework.

    In milliseconds, too: where a run takes as long as a few calls, so does its floor, and ratios alone say little.
    """
    lines = []
    for peer in PEERS:
        for record in records:
            if (record["library"], record["loss"]) != (peer.library, peer.loss):
                continue
            place = [record[name] for name in ("group", "rows", "way")]
            for own in records:
                same = own["library"] == "rankloss" and own["loss"] == objective_of(record)
                if same and [own[name] for name in ("group", "rows", "way")] == place:
                    shares = [record[name][1] / own[name][1] for name in ("ratio", "milliseconds")]
                    if max(shares) < 1:
                        lines.append(
                            f"- {label(record)}: {shares[0]:.2f} times as long as our {own['loss']} at "
                            f"{record['rows']:,d} rows in classes of {record['positives'] + 1}"
                        )
    return "\n".join(lines) or "Nowhere in these tables."


def limits() -> str:
    """How each peer is set up here, and how far it goes."""
    lines = ["| loss | equals our | not run beyond | because it | mind |", "| --- | --- | ---: | --- | --- |"]
    for peer in PEERS:
        cells = (
            f"{peer.library} {peer.loss}",
            f"`{type(peer.equals).__name__}`",
            f"{peer.most_rows:,d} rows",
            peer.limit,
            peer.remark,
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def accuracy(records: list[Record]) -> str:
    """The largest errors over all spreads."""
    if not records:
        return "Not measured yet."
    lines = [
        "| temperature | positives of 4,096 | error of a loss | of the gradient |",
        "| ---: | ---: | ---: | ---: |",
    ]
    for place in dict.fromkeys((record["positives"], record["temperature"]) for record in records):
        chosen = [r for r in records if (r["positives"], r["temperature"]) == place]
        worst = [max(record[name] for record in chosen) for name in ("loss_error", "gradient_error")]
        lines.append(f"| {place[1]} | {place[0]} | {worst[0]:.1e} | {worst[1]:.1e} |")
    return pictured("\n".join(lines), records, "accuracy", "Error by temperature and spread of scores")


def machine(content: dict[str, Any]) -> str:
    """What it was measured on."""
    found = content["environment"]
    if not found:
        return "Not measured yet."
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    device = [f"- {found['device']}"] if "device" in found else []
    lines = [
        *device,
        f"- {found['cores']} cores of {found['processor']} ({found['caches']}), {found['memory_gib']} GiB, "
        f"{found['system']}",
        f"- Python {found['python']}, {versions}",
    ]
    return "\n".join(lines)


def all_rows(records: list[Record], corner: str, cell: Callable[[Record], str]) -> str:
    """Cost against the number of rows, of all objectives in one table."""
    return grid(
        [record for record in records if record["group"] == "rows"],
        corner,
        label,
        lambda record: record["rows"],
        cell,
    )


def with_milliseconds(record: Record) -> str:
    """Medians of the ratio and of the time."""
    return f"{record['ratio'][1]:,.1f}; {record['milliseconds'][1]:,.1f} ms{mark(record)}"


def median(record: Record) -> str:
    """That of the ratio."""
    return f"{record['ratio'][1]:,.2f}{mark(record)}"


def block_choices(records: list[Record]) -> str:
    """By how much the automatic block size misses the best one, and which that is."""
    chosen = [record for record in records if record["group"] == "blocks"]

    def cell(record: Record) -> str:
        best = _best_size(chosen, record)
        if best is None:
            return NOT_MEASURED
        return f"{record['ratio'][1] / best['ratio'][1]:.2f} ({best['block_size']}){mark(record)}"

    return grid(
        [record for record in chosen if record["block_size"] is None],
        "automatic ÷ best (the best), by rows",
        label,
        lambda record: record["rows"],
        cell,
    )


def aims(*machines: list[Record]) -> str:
    """What is aimed at for 4,096 rows, and what some machines' records have."""
    lines = [
        "| × floor at 4,096 rows: aim; measured | " + " | ".join(AIMS) + " |",
        "| --- |" + " ---: |" * len(AIMS),
    ]
    for number, objective in enumerate(OBJECTIVES):
        cells = []
        for way, wanted in AIMS.items():
            place = {"group": "rows", "rows": 4096, "library": "rankloss", "loss": objective, "way": way}
            found = [
                next((median(r) for r in records if place.items() <= r.items()), NOT_MEASURED)
                for records in machines
            ]
            cells.append(f"{wanted[number]}; {', '.join(found)}")
        lines.append(f"| {objective} | {' | '.join(cells)} |")
    return "\n".join(lines)


def pictured(table: str, records: list[Record], name: str, caption: str) -> str:
    """A table with the picture that is drawn of the same records."""
    return f"{table}\n\n![{caption}](images/benchmarks/{name}.png)" if records else table


def tables(folder: Path) -> dict[str, str]:
    """Every table of the results in a folder, by its name in the document."""
    speed, used, errors = (read(folder / f"{name}.json") for name in ("speed", "memory", "accuracy"))
    records, of_memory = ordered(speed["records"]), ordered(used["records"])
    return {
        "machine": machine(speed),
        "floors": floors(records),
        **{objective: against_rows(records, objective) for objective in OBJECTIVES},
        "overview": overview(records),
        "pairs": of_group(records, "pairs", "× floor, by rows", "rows"),
        "labels": with_labels(records),
        "dimensions": of_group(records, "dimensions", "× floor, by d", "dimensions"),
        "positives": of_group(records, "positives", "× floor, by positives a query", "positives"),
        "blocks": blocks(records),
        "memory": pictured(
            memory(of_memory),
            of_memory,
            "memory",
            "Memory by rows; black marks are what we aim at",
        ),
        "accuracy": accuracy(errors["records"]),
        "limits": limits(),
        "faster": faster_peers(records),
    }


def document_tables() -> dict[str, str]:
    """Those of the document: of the saved results, and short ones of another processor and a GPU."""
    own, other, gpu = (read(SAVED / name / "speed.json") for name in ("", "other", "cuda"))
    of_other, of_gpu = ordered(other["records"]), ordered(gpu["records"])
    used_by_other = ordered(read(SAVED / "other" / "memory.json")["records"])
    return tables(SAVED) | {
        "aims": aims(own["records"], of_other),
        "other_machine": machine(other),
        "other_floors": floors(of_other),
        "other": all_rows(of_other, "× floor, by rows", median),
        "other_labels": with_labels(of_other),
        "other_blocks": block_choices(of_other),
        "other_memory": memory(used_by_other),
        "other_faster": faster_peers(of_other),
        "gpu_machine": machine(gpu),
        "gpu": all_rows(of_gpu, "× floor and ms, by rows", with_milliseconds),
        "gpu_faster": faster_peers(of_gpu),
    }


def updated(document: str, found: dict[str, str]) -> str:
    """The document with its tables replaced."""

    def replacement(match: re.Match[str]) -> str:
        return f"<!-- {match[1]} -->\n{found[match[1]]}\n<!-- end -->"

    return re.sub(r"<!-- (\w+) -->\n.*?<!-- end -->", replacement, document, flags=re.DOTALL)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--results", type=Path, default=SAVED)
    folder = parser.parse_args().results
    if folder.resolve() != SAVED.resolve():
        print("\n\n".join(f"{name}\n\n{table}" for name, table in tables(folder).items()))
        return
    DOCUMENT.write_text(updated(DOCUMENT.read_text(encoding="utf-8"), document_tables()), encoding="utf-8")
    from pictures import draw  # which needs matplotlib, and the tables don't

    draw(folder)


if __name__ == "__main__":
    main()
