"""What a study does: the arms, the grid each is tuned over, the seeds; read from its TOML file.

A cell is one run of it. The cells of tuning follow from the file alone, those of the fresh seeds from the file and
what the tuning chose.
"""

import hashlib
import itertools
import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch_s2r2.options import TorchOptions

TUNING, FRESH, LONG = "tuning", "fresh", "long"
BASELINES = ("untrained", "pixels")
Settings = Mapping[str, Any]


class StudyError(ValueError):
    """A study that can't be run as its file says; the message is one sentence for the user."""


@dataclass(frozen=True)
class Arm:
    """What is compared: a method with its options.

    Attributes:
        options: the trainer's, beside the study's own.
        grid: the values of each option that is tuned; every combination is tried.
        seeds: how many fresh seeds it gets.
        baseline: one of `BASELINES` for what is not trained, or None.
    """

    name: str
    seeds: int
    options: dict[str, Any] = field(default_factory=dict)
    grid: dict[str, list[Any]] = field(default_factory=dict)
    baseline: str | None = None

    def __post_init__(self) -> None:
        if self.baseline not in (None, *BASELINES):
            raise StudyError(
                f"the baseline of {self.name} must be one of {', '.join(BASELINES)}, got {self.baseline}"
            )

    def points(self) -> list[dict[str, Any]]:
        """Every combination of the grid's values."""
        return [
            dict(zip(self.grid, values, strict=True)) for values in itertools.product(*self.grid.values())
        ]


@dataclass(frozen=True)
class Judging:
    """How encoders are judged.

    Attributes:
        image_size: side of the pictures that the encoder is given, None for that of the views.
        train_images: pictures whose features and labels the k-NN and the linear probe know.
        test_images: pictures that are judged, at most.
        tuning_train_images: in place of `train_images` while settings are chosen and for the curves.
        tuning_test_images: in place of `test_images`; they are validation pictures.
        statistics_images: clean training pictures from which batch norms take their statistics.
    """

    image_size: int | None = None
    train_images: int = 10_000
    test_images: int = 10_000
    tuning_train_images: int = 4_000
    tuning_test_images: int = 2_500
    statistics_images: int = 2_000
    neighbours: int = 20
    temperature: float = 0.07
    linear_strengths: tuple[float, ...] = (0.01, 0.1, 1.0)
    batch: int = 500


@dataclass(frozen=True)
class LongCheck:
    """Some arms once more, with so many times the steps."""

    factor: int
    arms: tuple[str, ...]
    seeds: int = 1


@dataclass(frozen=True)
class Cell:
    """One run. `settings` are the tuned options, `steps_factor` is above 1 in the long check."""

    stage: str
    data: str
    arm: str
    seed: int
    settings: tuple[tuple[str, Any], ...] = ()
    steps_factor: int = 1

    @property
    def name(self) -> str:
        """What tells the cell from all others of the study."""
        settings = [f"{option}={value}" for option, value in self.settings] if self.stage == TUNING else []
        return "/".join([self.stage, self.data, self.arm, *settings, f"seed={self.seed}"])


@dataclass(frozen=True)
class Study:
    """All that decides a study.

    Attributes:
        data: data sets, by the trainers' names.
        options: the trainer's options of all runs.
        tuning_seeds: seeds of the tuning; fresh seeds count from 0, and none may be among them.
        reference: the arm that is compared with each of `rivals`.
        snapshots: how many encoders a run of a fresh seed is judged by on its way, for the learning curves.
    """

    name: str
    data: tuple[str, ...]
    arms: tuple[Arm, ...]
    reference: str
    rivals: tuple[str, ...]
    options: dict[str, Any] = field(default_factory=dict)
    judging: Judging = field(default_factory=Judging)
    tuning_seeds: tuple[int, ...] = ()
    snapshots: int = 0
    long: LongCheck | None = None

    def __post_init__(self) -> None:
        names = [arm.name for arm in self.arms]
        if len(set(names)) < len(names):
            raise StudyError(f"arms must have names of their own, got {', '.join(names)}")
        for name in (self.reference, *self.rivals, *(self.long.arms if self.long else ())):
            if name not in names:
                raise StudyError(f"no arm is called {name}, there are {', '.join(names)}")
        most = max(arm.seeds for arm in self.arms)
        if any(seed < most for seed in self.tuning_seeds):
            raise StudyError(f"tuning seeds must not be fresh ones, 0 to {most - 1}, got {self.tuning_seeds}")
        sizes = {len(arm.points()) for arm in self.arms if arm.baseline is None}
        if len(sizes) > 1:
            raise StudyError(f"every arm must have a grid of the same size, got sizes {sorted(sizes)}")
        for arm in self.arms:
            if len(arm.points()) > 1 and not self.tuning_seeds:
                raise StudyError(f"{arm.name} has a grid, and there are no tuning_seeds")
        for cell in (
            *self.tuning_cells(),
            *(self.cell_of(FRESH, self.data[0], arm, 0, {}) for arm in self.arms),
        ):
            self.trainer_options(cell)

    def arm(self, name: str) -> Arm:
        """The arm of that name."""
        return next(arm for arm in self.arms if arm.name == name)

    def cell_of(
        self, stage: str, data: str, arm: Arm, seed: int, settings: Settings, steps_factor: int = 1
    ) -> Cell:
        """A cell of an arm."""
        return Cell(stage, data, arm.name, seed, tuple(settings.items()), steps_factor)

    def tuning_cells(self) -> list[Cell]:
        """The runs that choose each arm's settings; none where there is nothing to choose."""
        tuned = [arm for arm in self.arms if len(arm.points()) > 1]
        return [
            self.cell_of(TUNING, data, arm, seed, point)
            for seed in self.tuning_seeds
            for arm in tuned
            for data in self.data
            for point in arm.points()
        ]

    def fresh_cells(self, chosen: Mapping[tuple[str, str], Settings]) -> Iterator[Cell]:
        """The runs of fresh seeds, seed by seed, then the long check; `chosen` has settings by data and arm."""
        for seed in range(max(arm.seeds for arm in self.arms)):
            for arm in self.arms:
                if seed < arm.seeds:
                    for data in self.data:
                        yield self.cell_of(FRESH, data, arm, seed, chosen.get((data, arm.name), {}))
        if self.long is not None:
            for seed in range(self.long.seeds):
                for name in self.long.arms:
                    for data in self.data:
                        settings = chosen.get((data, name), {})
                        yield self.cell_of(LONG, data, self.arm(name), seed, settings, self.long.factor)

    def trainer_options(self, cell: Cell, **place: Any) -> TorchOptions:
        """The trainer's options of a cell; `place` are those that decide no number, such as the run folder."""
        arm = self.arm(cell.arm)
        of_arm = {} if arm.baseline else arm.options | dict(cell.settings)
        try:
            options = TorchOptions(**(self.options | of_arm | {"data": cell.data, "seed": cell.seed} | place))
        except (TypeError, ValueError) as error:
            raise StudyError(f"the options of {cell.name}: {error}") from error
        if cell.steps_factor == 1:
            return options
        longer = {
            "steps": options.steps * cell.steps_factor,
            "warmup_steps": options.warmup_steps * cell.steps_factor,
        }
        return TorchOptions(**(asdict(options) | longer))

    def mark(self, cell: Cell) -> str:
        """Tells what the study's file says of a cell from anything else; a line of results carries it."""
        arm = self.arm(cell.arm)
        said = [self.options, arm.options, arm.baseline, dict(cell.settings), cell.steps_factor]
        content = json.dumps([*said, cell.data, cell.seed, asdict(self.judging)], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:12]


def read_study(path: Path) -> Study:
    """The study in a TOML file.

    Raises:
        StudyError: there is none, or it says something that a study has not.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StudyError(f"{path} can't be read: {error.strerror}") from error
    except ValueError as error:
        raise StudyError(f"{path} is not TOML: {error}") from error
    try:
        judging = content.pop("judging", {})
        if "linear_strengths" in judging:
            judging["linear_strengths"] = tuple(judging["linear_strengths"])
        long = content.pop("long", None)
        return Study(
            name=path.stem,
            arms=tuple(Arm(**arm) for arm in content.pop("arms", [])),
            judging=Judging(**judging),
            long=None if long is None else LongCheck(**(long | {"arms": tuple(long["arms"])})),
            **{key: tuple(value) if isinstance(value, list) else value for key, value in content.items()},
        )
    except StudyError as error:
        raise StudyError(f"{path}: {error}") from error
    except (TypeError, ValueError, KeyError) as error:
        raise StudyError(f"{path} is no study: {error}") from error
