"""The tables of a study, made of its lines of results alone, so that no figure can drift from them."""

from collections.abc import Callable, Sequence
from typing import Any

from pretraining.report import markdown_table
from reproduction.choosing import tuning_figures
from reproduction.ledger import Ledger, Line
from reproduction.plan import FRESH, LONG, TUNING, Study
from reproduction.statistics import Estimate, difference, estimate, holm, paired

MEASURES = {"knn": "k-NN", "linear": "linear probe"}
SHORT = {
    "learning_rate": "lr",
    "temperature": "τ",
    "sinkhorn_epsilon": "ε",
    "num_bins": "bins",
    "weight_decay": "wd",
}
MAP_MEASURES = {"knn_map": "k-NN", "linear_map": "linear probe"}


def figure(line: Line, measure: str) -> float:
    """A figure of a line in per cent; where pictures have several labels, the figure is a mAP to begin with."""
    return 100 * float(line.get(measure, line[measure.removesuffix("_map")]))


def by_seed(lines: Sequence[Line], data: str, arm: str, measure: str) -> dict[int, float]:
    """An arm's figures by seed."""
    return {
        line["seed"]: figure(line, measure) for line in lines if line["data"] == data and line["arm"] == arm
    }


def compared(study: Study, ledger: Ledger, measures: Sequence[str]) -> dict[tuple[str, str, str], Estimate]:
    """Reference minus rival, paired by seed, by data set, rival and measure."""
    lines, found = ledger.of_stage(FRESH), {}
    for data in study.data:
        for rival in study.rivals:
            for measure in measures:
                pair = paired(*(by_seed(lines, data, arm, measure) for arm in (study.reference, rival)))
                if pair is not None:
                    found[data, rival, measure] = pair
    return found


def runs(study: Study, ledger: Ledger) -> str:
    """How many runs there are, and what they cost."""
    planned = {
        TUNING: len(study.tuning_cells()),
        FRESH: sum(cell.stage == FRESH for cell in study.fresh_cells({})),
        LONG: sum(cell.stage == LONG for cell in study.fresh_cells({})),
    }
    rows = []
    for stage, count in planned.items():
        lines = ledger.of_stage(stage)
        on_gpu = sum("device" in line for line in lines)
        hours = sum(of_cpu(lines)) / 3600
        rows.append([stage, f"{len(lines)} of {count}", str(on_gpu), f"{hours:.1f} h"])
    return markdown_table(["runs", "done", "on a GPU", "processor time of the others' training"], rows)


def of_cpu(lines: Sequence[Line]) -> list[float]:
    """Processor seconds of the trainings that ran on the CPU alone."""
    return [line["cpu_seconds"] for line in lines if "cpu_seconds" in line and "device" not in line]


def tuning(study: Study, ledger: Ledger) -> str:
    """What the tuning found, and which settings it chose (in bold): k-NN figures on validation pictures."""
    rows = []
    for arm in study.arms:
        for data in study.data if len(arm.points()) > 1 else ():
            means = [
                (point, 100 * sum(values) / len(values))
                for point, values in tuning_figures(study, ledger, data, arm)
                if values
            ]
            if means:
                best = max(mean for _, mean in means)
                cells = [
                    f"{_settings(point)}: " + (f"**{mean:.1f}**" if mean == best else f"{mean:.1f}")
                    for point, mean in means
                ]
                rows.append([arm.name, data, "; ".join(cells)])
    return markdown_table(["arm", "data", "k-NN (%) at each point of the grid"], rows)


def figures(study: Study, ledger: Ledger, data: str) -> str:
    """Every arm on the test pictures of a data set: means over the fresh seeds with 95 % intervals."""
    lines = [line for line in ledger.of_stage(FRESH) if line["data"] == data]
    several = not any("knn_map" in line for line in lines)
    columns = {name: f"{title} {'mAP' if several else 'accuracy'}" for name, title in MEASURES.items()}
    if not several:
        columns |= {name: f"{title} mAP" for name, title in MAP_MEASURES.items()}
    rows = []
    for arm in study.arms:
        own = [line for line in lines if line["arm"] == arm.name]
        if own:
            cells = [_with_interval(estimate([figure(line, name) for line in own])) for name in columns]
            rank = sum(line["rank"] for line in own) / len(own)
            costs = of_cpu(own)
            cost = f"{sum(costs) / len(costs):.0f} s" if costs else "-"
            rows.append(
                [arm.name, str(len(own)), _settings(own[0]["settings"]) or "-", *cells, f"{rank:.1f}", cost]
            )
    head = ["arm", "seeds", "settings", *columns.values(), "effective rank", "training on a core"]
    return markdown_table(head, rows)


def differences(study: Study, ledger: Ledger) -> str:
    """The reference minus each rival in points, paired by seed, with p values for that many comparisons."""
    found = compared(study, ledger, tuple(MEASURES))
    adjusted = holm([pair.p for pair in found.values()])
    rows = [
        [
            data,
            rival,
            MEASURES[measure],
            _signed(pair),
            str(pair.count),
            _probability(pair.p),
            _probability(p),
        ]
        for ((data, rival, measure), pair), p in zip(found.items(), adjusted, strict=True)
    ]
    head = ["data", f"{study.reference} minus", "measure", "points", "seeds", "p", f"p, Holm of {len(rows)}"]
    return markdown_table(head, rows)


def margins(study: Study, ledger: Ledger) -> str:
    """Whether the margins, all in mAP, are larger on the last data set than on the first."""
    found = compared(study, ledger, tuple(MAP_MEASURES))
    first, last = study.data[0], study.data[-1]
    rows = []
    for rival in study.rivals:
        for measure, title in MAP_MEASURES.items():
            pair = [found.get((data, rival, measure)) for data in (first, last)]
            if pair[0] is not None and pair[1] is not None:
                cells = [_signed(value) for value in (*pair, difference(pair[1], pair[0]))]
                rows.append([rival, title, *cells])
    head = [f"{study.reference} minus", "measure, in mAP", first, last, f"{last} minus {first}"]
    return markdown_table(head, rows)


def long_check(study: Study, ledger: Ledger) -> str:
    """The arms that were run with more steps, beside their runs of the usual length."""
    rows = []
    for line in ledger.of_stage(LONG):
        usual = [other for other in ledger.of_stage(FRESH) if _same(line, other)]
        for name, of in ((f"{line['steps']:,} steps", [line]), ("the usual", usual)):
            if of:
                cells = [f"{sum(figure(each, measure) for each in of) / len(of):.1f}" for measure in MEASURES]
                rank = sum(each["rank"] for each in of) / len(of)
                rows.append([line["data"], line["arm"], name, *cells, f"{rank:.1f}"])
    head = ["data", "arm", "length", *(f"{title} (%)" for title in MEASURES.values()), "effective rank"]
    return markdown_table(head, rows)


def _same(one: Line, other: Line) -> bool:
    return all(one[name] == other[name] for name in ("data", "arm", "seed"))


SECTIONS: dict[str, Callable[[Study, Ledger], str]] = {
    "runs": runs,
    "tuning": tuning,
    "differences": differences,
    "margins": margins,
    "long": long_check,
}


def sections(study: Study, ledger: Ledger) -> dict[str, str]:
    """All tables by the names under which a document holds them; those without a row are left out."""
    found = {f"figures {data}": figures(study, ledger, data) for data in study.data}
    found |= {name: make(study, ledger) for name, make in SECTIONS.items()}
    return {name: text for name, text in found.items() if text.count("\n") > 1}


def _settings(settings: dict[str, Any]) -> str:
    return ", ".join(f"{SHORT.get(name, name)} {value:g}" for name, value in settings.items())


def _with_interval(value: Estimate) -> str:
    return f"{value.mean:.1f}" + (f" ± {(value.high - value.low) / 2:.1f}" if value.count > 1 else "")


def _signed(value: Estimate) -> str:
    return f"{value.mean:+.2f} [{value.low:+.2f}, {value.high:+.2f}]"


def _probability(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
