"""The pictures of a study: margins with intervals, learning curves, views against quality, neighbours."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pretraining import exhibits
from pretraining.pictures import SERIES, save
from pretraining.runs import TITLES
from reproduction.cells import Judge, Place, load_data, trained
from reproduction.ledger import Ledger, Line
from reproduction.plan import FRESH, Study
from reproduction.statistics import Estimate, estimate
from reproduction.tables import MAP_MEASURES, by_seed, compared, of_cpu
from torch_s2r2.encoders import ENCODER_FILE

MARGINS, CURVES, VIEWS = "margins.png", "curves.png", "views.png"


def draw(study: Study, ledger: Ledger, folder: Path) -> list[Path]:
    """Draw what the lines suffice for; return the pictures' paths."""
    made = {MARGINS: _margins(study, ledger), CURVES: _curves(study, ledger), VIEWS: _views(study, ledger)}
    return [save(drawn, folder / name) for name, drawn in made.items() if drawn is not None]


def _margins(study: Study, ledger: Ledger) -> Figure | None:
    """Reference minus each rival in mAP, with 95 % intervals; a panel a measure, a colour a data set."""
    found = compared(study, ledger, tuple(MAP_MEASURES))
    if not found:
        return None
    figure = Figure(figsize=(9.5, 1.6 + 0.5 * len(study.rivals)), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for panel, (measure, title) in zip(panels, MAP_MEASURES.items(), strict=True):
        panel.axvline(0, color="#888888", linewidth=1)
        for number, data in enumerate(study.data):
            for row, rival in enumerate(study.rivals):
                pair = found.get((data, rival, measure))
                if pair is not None:
                    height = row + 0.24 * (number - (len(study.data) - 1) / 2)
                    panel.errorbar(
                        pair.mean,
                        height,
                        xerr=_reach(pair),
                        fmt="os^D"[number % 4],
                        color=SERIES[number % len(SERIES)],
                        capsize=3,
                        label=data if row == 0 else None,
                    )
        panel.set_title(f"{title}, mAP", fontsize=12, loc="left")
        panel.set_xlabel(f"points by which {study.reference} is better")
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_yticks(range(len(study.rivals)), [f"against {rival}" for rival in study.rivals])
    panels[0].invert_yaxis()
    panels[0].legend(frameon=False, fontsize=11)
    return figure


def _curves(study: Study, ledger: Ledger) -> Figure | None:
    """k-NN on validation pictures along the training, by steps and by processor seconds; a row a data set."""
    lines = [line for line in ledger.of_stage(FRESH) if line.get("curve")]
    data_sets = [data for data in study.data if any(line["data"] == data for line in lines)]
    if not data_sets:
        return None
    figure = Figure(figsize=(10, 3.6 * len(data_sets)), layout="constrained")
    panels = figure.subplots(len(data_sets), 2, squeeze=False, sharey="row")
    for row, data in zip(panels, data_sets, strict=True):
        for number, arm in enumerate((study.reference, *study.rivals)):
            own = [line for line in lines if line["data"] == data and line["arm"] == arm]
            if own:
                _curve(row, own, SERIES[number % len(SERIES)], arm)
        several = not any("knn_map" in line for line in lines if line["data"] == data)
        row[0].set(ylabel=f"k-NN {'mAP' if several else 'accuracy'} (%)", xlabel="step")
        row[0].set_title(f"{data}: validation pictures", fontsize=12, loc="left")
        row[1].set_xlabel("processor seconds of training")
        for panel in row:
            panel.spines[["top", "right"]].set_visible(False)
    _legend(figure, panels[0, 0])
    return figure


def _legend(figure: Figure, panel: Axes) -> None:
    """Above all panels, since in one it would cover bars or bands."""
    handles, labels = panel.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False, fontsize=11)


def _curve(row: Sequence[Axes], lines: Sequence[Line], colour: str, arm: str) -> None:
    """The mean over the seeds, with a band of one standard deviation."""
    steps = np.array([step for step, _ in lines[0]["curve"]], dtype=np.float64)
    values = 100 * np.array([[value for _, value in line["curve"]] for line in lines])
    mean, deviation = values.mean(axis=0), values.std(axis=0)
    costs = of_cpu(lines)
    seconds = steps * float(np.mean(costs)) / lines[0]["steps"] if costs else None
    for panel, along in zip(row, (steps, seconds), strict=True):
        if along is not None:
            panel.plot(along, mean, color=colour, marker=".", linewidth=1.8, label=arm)
            panel.fill_between(
                along, mean - deviation, mean + deviation, color=colour, alpha=0.15, linewidth=0
            )


def _views(study: Study, ledger: Ledger) -> Figure | None:
    """The linear probe against the views of a picture, a line a method, a panel a data set."""
    families: dict[str, list[tuple[int, str]]] = {}
    for arm in study.arms:
        if arm.baseline is None and "objective" not in arm.options and "views" in arm.options:
            family = TITLES[arm.options["method"]]
            families.setdefault(family, []).append((arm.options["views"], arm.name))
    families = {family: sorted(arms) for family, arms in families.items() if len(arms) > 1}
    lines = ledger.of_stage(FRESH)
    if not families or not lines:
        return None
    figure = Figure(figsize=(4.8 * len(study.data), 3.8), layout="constrained")
    panels = figure.subplots(1, len(study.data), squeeze=False)[0]
    for panel, data in zip(panels, study.data, strict=True):
        for number, (family, arms) in enumerate(families.items()):
            values = {views: list(by_seed(lines, data, arm, "linear").values()) for views, arm in arms}
            means = {views: estimate(of_arm) for views, of_arm in values.items() if of_arm}
            panel.errorbar(
                [views * (1 + 0.03 * (number - 1)) for views in means],  # side by side
                [value.mean for value in means.values()],
                yerr=[_reach(value) for value in means.values()],
                color=SERIES[number],
                marker="o",
                capsize=3,
                label=family,
            )
        ticks = sorted({views for arms in families.values() for views, _ in arms})
        panel.set_xscale("log", base=2)
        panel.set_xticks(ticks, [str(views) for views in ticks])
        panel.set(xlabel="views of a picture, at as many views a step", ylabel="linear probe (%)")
        panel.set_title(data, fontsize=12, loc="left")
        panel.spines[["top", "right"]].set_visible(False)
    _legend(figure, panels[0])
    return figure


def _reach(value: Estimate) -> float:
    """How far a mean's interval reaches to either side."""
    return 0.0 if value.count < 2 else value.high - value.mean


def draw_neighbours(study: Study, ledger: Ledger, place: Place, folder: Path) -> list[Path]:
    """Draw test pictures of the last data set with their neighbours under each method, of the first fresh seed.

    Only where the encoders are still in their run folders.
    """
    data = study.data[-1]
    features = {}
    for line in ledger.of_stage(FRESH):
        if (line["data"], line["seed"]) == (data, 0) and line["arm"] in (study.reference, *study.rivals):
            cell = study.cell_of(FRESH, data, study.arm(line["arm"]), 0, line["settings"])
            options = place.options(study, cell)
            if (options.folder / ENCODER_FILE).is_file():
                judge = Judge(study.judging, load_data(options), options, final=True)
                encode = judge.clean(trained(options, load_data(options)))
                features[cell.arm] = judge.features(encode, judge.test)
    if not features:
        return []
    drawn = exhibits.draw_neighbours(
        folder,
        features,
        judge.splits,
        judge.test_numbers,
        judge.test_labels,
        count=6,
        rng=np.random.default_rng(0),
    )
    return [folder / name for name in drawn.values()]
