"""Which settings the tuning chose for each arm: those with the best mean k-NN figure on validation pictures."""

from typing import Any

from reproduction.ledger import Ledger
from reproduction.plan import TUNING, Arm, Study, StudyError

Chosen = dict[tuple[str, str], dict[str, Any]]


def tuning_figures(
    study: Study, ledger: Ledger, data: str, arm: Arm
) -> list[tuple[dict[str, Any], list[float]]]:
    """Each point of an arm's grid, with its k-NN figures of those tuning seeds that have been run."""
    figures = []
    for point in arm.points():
        cells = [study.cell_of(TUNING, data, arm, seed, point) for seed in study.tuning_seeds]
        figures.append((point, [ledger.lines[cell.name]["knn"] for cell in cells if cell in ledger]))
    return figures


def choose(study: Study, ledger: Ledger) -> Chosen:
    """The settings of each data set and arm; of equals, the first in the study's file.

    Raises:
        StudyError: a run of the tuning is missing.
    """
    missing = [cell.name for cell in study.tuning_cells() if cell not in ledger]
    if missing:
        raise StudyError(f"{ledger.path} lacks {len(missing)} runs of the tuning, such as {missing[0]}")
    chosen: Chosen = {}
    for data in study.data:
        for arm in study.arms:
            points = arm.points()
            if len(points) > 1:
                figures = tuning_figures(study, ledger, data, arm)
                points = [max(figures, key=lambda pair: sum(pair[1]) / len(pair[1]))[0]]
            chosen[data, arm.name] = points[0]
    return chosen
