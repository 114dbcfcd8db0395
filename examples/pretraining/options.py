"""The options of a pretraining run: one frozen dataclass, from which the command line is made.

Every trainer takes these and adds its framework's own in a subclass. A field's metadata hold its help, its
choices, and whether it decides the numbers of a run: `decides=False` marks what may differ in a resumed run.
"""

import argparse
import dataclasses
import json
import math
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

from pretraining.datasets import DATASETS

METHODS = ("s2r2", "simclr", "swav")
OBJECTIVES = ("smooth_ap", "fast_ap", "sup_con")
ENCODERS = ("small", "resnet18", "resnet50")
OPTIMIZERS = ("sgd", "lars", "adamw")
DEFAULT_VIEWS = {"s2r2": 8, "simclr": 2, "swav": 8, "supervised": 2}
DEFAULT_TEMPERATURES = {"smooth_ap": 0.05, "fast_ap": None, "sup_con": 0.1, "simclr": 0.2, "swav": 0.1}
POSITIVE = (
    "batch_images", "blocks", "checkpoint_every", "evaluation_images", "head_dim", "head_hidden",
    "image_size", "learning_rate", "limit_images", "map_every", "num_bins", "prototypes",
    "sinkhorn_epsilon", "small_crop_max", "small_crop_size", "steps", "temperature", "views_per_step",
)  # fmt: skip
NOT_NEGATIVE = (
    "momentum", "prototypes_frozen_steps", "queue_size", "queue_start_step", "seed", "warmup_steps",
    "weight_decay", "workers",
)  # fmt: skip
DEFAULT_LEARNING_RATES = {"sgd": 0.1, "lars": 1.0, "adamw": 2e-3}


def option(default: Any, help: str, *, choices: tuple[str, ...] | None = None, decides: bool = True) -> Any:
    """A field of an options dataclass that the command line shows as `--field-name`.

    It makes a dataclass field, which ruff (RUF009) can't know where it does not know the field's type.
    """
    return field(default=default, metadata={"help": help, "choices": choices, "decides": decides})


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a run does. `Options()` is S2R2 on Fashion-MNIST; the fields' help says the rest."""

    trainer: ClassVar[str] = ""  # the name under which pretraining.trainers has it

    run_folder: Path | None = option(  # noqa: RUF009
        None, "where everything is written (default: runs/METHOD-DATA)", decides=False
    )
    resume: bool = option(False, "go on from the run folder's checkpoint", decides=False)
    seed: int = option(0, "the same seed gives the same run again on the same machine")
    # Data
    data: str = option("fashion-mnist", "the data set", choices=tuple(DATASETS))
    data_root: Path | None = option(  # noqa: RUF009
        None, "the folder that holds the data set", decides=False
    )
    download: bool = option(False, "download fashion-mnist or stl10 if it is missing", decides=False)
    workers: int = option(
        2, "processes (JAX, Keras: threads) that decode pictures not in memory", decides=False
    )
    image_size: int | None = option(
        None, "side of a view in pixels (default: 28, 56, 96 or 224 as the data set has)"
    )
    limit_images: int | None = option(None, "pretrain on the first so many pictures only")
    # Method
    method: str = option(
        "s2r2",
        "s2r2 ranks the views by --objective; simclr is NT-Xent (SupCon over two views; with more views "
        "it is SupCon over all of them); swav is lightly's SwAV with multi-crop",
        choices=METHODS,
    )
    objective: str = option("smooth_ap", "what s2r2 optimises", choices=OBJECTIVES)
    temperature: float | None = option(
        None, f"of the loss (default: {', '.join(f'{k} {v}' for k, v in DEFAULT_TEMPERATURES.items() if v)})"
    )
    num_bins: int = option(10, "bins of fast_ap")
    blocks: int = option(1, "s2r2: rank each view within one of so many blocks of the batch only (Blockwise)")
    include_query: bool = option(False, "s2r2: count the query as one of its own positives")
    prototypes: int = option(128, "swav: number of prototypes")
    prototypes_frozen_steps: int = option(20, "swav: first steps in which the prototypes stay as they are")
    sinkhorn_epsilon: float = option(0.05, "swav: how soft the assignment to prototypes is")
    queue_size: int = option(512, "swav: earlier pictures that are assigned along with the batch; 0 is none")
    queue_start_step: int = option(100, "swav: the queue is used from this step on, once it is full")
    # Views
    views: int | None = option(
        None,
        "views of a picture, 2 to 64 (default: 8, simclr and supervised 2); swav's are two full crops, the others "
        "small",
    )
    views_per_step: int = option(512, "views in a batch (pictures times views), so that methods compare")
    batch_images: int | None = option(None, "pictures in a batch, in place of --views-per-step")
    crop_min: float | None = option(None, "least part of the picture's area in a view (default: 0.2)")
    small_crop_size: int | None = option(
        None, "swav: side of a small crop (default: 3/7 of a view's, under 64 px 5/7)"
    )
    small_crop_max: float | None = option(
        None, "swav: greatest part of the area in a small crop (default: 0.35, under 64 px 0.6)"
    )
    no_flip: bool = option(False, "do not mirror views")
    jitter: float | None = option(
        None, "strength of the colour jitter, 0 to 1 (default: 0.4 grey, 0.8 colour)"
    )
    grayscale: float | None = option(None, "probability that a colour view turns grey (default: 0.2)")
    blur: float | None = option(None, "probability that a view is blurred (default: 0 under 64 px, else 0.5)")
    # Model
    encoder: str = option("small", "small is a conv net for the CPU; torchvision's ResNets", choices=ENCODERS)
    head_hidden: int = option(256, "width of the projection head's hidden layer")
    head_dim: int = option(64, "dimensions of the embeddings that the loss sees")
    device: str = option(
        "auto", "auto (a GPU if there is one), cpu, or another that the framework knows", decides=False
    )
    amp: str = option("off", "mixed precision", choices=("off", "bfloat16", "float16"))
    # Optimiser
    steps: int = option(200, "length of the training")
    optimizer: str = option("adamw", "what takes the steps", choices=OPTIMIZERS)
    learning_rate: float | None = option(
        None, f"after warm-up (default: {', '.join(f'{k} {v}' for k, v in DEFAULT_LEARNING_RATES.items())})"
    )
    warmup_steps: int = option(
        20, "steps in which the learning rate rises; after them it falls as a cosine to 0"
    )
    momentum: float = option(0.9, "of sgd and lars")
    weight_decay: float = option(1e-4, "not applied to biases and batch norms")
    # What is written
    checkpoint_every: int = option(50, "steps between checkpoints", decides=False)
    map_every: int = option(5, "steps between measurements of the views' exact mAP", decides=False)
    no_evaluation: bool = option(False, "stop after the training", decides=False)
    evaluation_images: int = option(10_000, "at most so many training and test pictures judge", decides=False)

    def __post_init__(self) -> None:
        for option_field in dataclasses.fields(self):
            choices, value = option_field.metadata["choices"], getattr(self, option_field.name)
            if choices and value not in choices:
                raise ValueError(f"{option_field.name} must be one of {', '.join(choices)}, got {value!r}")
        for name in POSITIVE:
            self._check(name, getattr(self, name) is None or getattr(self, name) > 0, "above 0")
        for name in NOT_NEGATIVE:
            self._check(name, getattr(self, name) >= 0, "0 or more")
        for name in ("crop_min", "small_crop_max", "jitter", "grayscale", "blur"):
            self._check(name, getattr(self, name) is None or 0 <= getattr(self, name) <= 1, "between 0 and 1")
        self._check("views", 2 <= self.view_count <= 64, "between 2 and 64")
        self._check("crop_min", self.crop_min is None or self.crop_min > 0, "above 0")
        self._check("batch_images", self.batch_images is None or self.batch_images >= 2, "2 or more")
        two_pictures = 2 * self.view_count
        enough = self.batch_images is not None or self.views_per_step >= two_pictures
        self._check("views_per_step", enough, f"at least {two_pictures}, two pictures' views")

    def _check(self, name: str, holds: bool, needed: str) -> None:
        value = getattr(self, name)
        if not holds or (isinstance(value, float) and not math.isfinite(value)):
            raise ValueError(f"{name} must be {needed}, got {value}")

    @property
    def folder(self) -> Path:
        """The run folder, the default one included."""
        return self.run_folder or Path("runs") / f"{self.method}-{self.data}"

    @property
    def view_count(self) -> int:
        """Views of a picture, with the method's default."""
        return DEFAULT_VIEWS[self.method] if self.views is None else self.views

    @property
    def image_count(self) -> int:
        """Pictures in a batch."""
        return self.batch_images or self.views_per_step // self.view_count

    @property
    def loss_temperature(self) -> float | None:
        """The temperature of the loss, with its default; None for fast_ap and supervised, which have none."""
        if self.temperature is not None:
            return self.temperature
        return DEFAULT_TEMPERATURES.get(self.objective if self.method == "s2r2" else self.method)

    @property
    def peak_learning_rate(self) -> float:
        """The learning rate after warm-up, with the optimiser's default."""
        return self.learning_rate or DEFAULT_LEARNING_RATES[self.optimizer]

    @property
    def first_queue_step(self) -> int:
        """The first step whose queue swav uses: it is full by then, and no sooner than `queue_start_step`."""
        steps_to_fill = -(-self.queue_size // self.image_count)
        return max(self.queue_start_step, steps_to_fill + 1)

    def learning_rate_at(self, step: int) -> float:
        """The learning rate of a step, 1 to `steps`: a linear rise, then half a cosine that ends near 0."""
        if step <= self.warmup_steps:
            return self.peak_learning_rate * step / self.warmup_steps
        done = (step - self.warmup_steps - 1) / max(1, self.steps - self.warmup_steps)
        return self.peak_learning_rate * 0.5 * (1 + math.cos(math.pi * done))

    def to_json(self) -> str:
        """The trainer's name and all options, readable; `from_json` reads them back."""
        values = {"trainer": self.trainer} | {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return json.dumps({k: str(v) if isinstance(v, Path) else v for k, v in values.items()}, indent=2)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The options that `to_json` wrote.

        Raises:
            ValueError: the text is not the JSON of such options.
        """
        values, known = json.loads(text), {f.name for f in dataclasses.fields(cls)}
        if not isinstance(values, dict) or "trainer" not in values:
            raise ValueError("these are not the options of a pretraining run")
        if (theirs := values.pop("trainer")) != cls.trainer:
            raise ValueError(f"these are options of the trainer {theirs}, not {cls.trainer}")
        if unknown := values.keys() - known:
            raise ValueError(f"no option is called {', '.join(sorted(unknown))}")
        hints = typing.get_type_hints(cls)
        paths = {k for k, v in values.items() if v is not None and _plain(hints[k]) is Path}
        return cls(**{k: Path(v) if k in paths else v for k, v in values.items()})

    def differences(self, other: Self) -> list[str]:
        """What decides the numbers and differs, each as `--views 4 (here 8)`: first the other's value."""
        decisive = [f.name for f in dataclasses.fields(self) if f.metadata["decides"]]
        changed = [name for name in decisive if getattr(self, name) != getattr(other, name)]
        return [f"--{n.replace('_', '-')} {getattr(other, n)} (here {getattr(self, n)})" for n in changed]


AnyOptions = TypeVar("AnyOptions", bound=Options)


def parse(cls: type[AnyOptions], description: str, arguments: list[str] | None = None) -> AnyOptions:
    """Read the options from the command line; a wrong one ends the program with its usage and a sentence."""
    parser = argparse.ArgumentParser(description=description)
    hints = typing.get_type_hints(cls)
    for option_field in dataclasses.fields(cls):
        flag, about = f"--{option_field.name.replace('_', '-')}", option_field.metadata
        kind = _plain(hints[option_field.name])
        shown = "" if option_field.default in (None, False) else f" (default: {option_field.default})"
        text = (about["help"] + shown).replace("%", "%%")
        if kind is bool:
            parser.add_argument(flag, action="store_true", help=text)
        else:
            default, choices = option_field.default, about["choices"]
            parser.add_argument(flag, type=kind, default=default, choices=choices, help=text)
    try:
        return cls(**vars(parser.parse_args(arguments)))
    except ValueError as error:
        parser.error(str(error))


def _plain(hint: Any) -> Any:
    """The type behind `int | None`."""
    if isinstance(hint, types.UnionType):
        return next(part for part in typing.get_args(hint) if part is not type(None))
    return hint
