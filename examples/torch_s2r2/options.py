"""The options that only the PyTorch trainer has."""

from dataclasses import dataclass
from typing import ClassVar

from pretraining.options import Options, option


@dataclass(frozen=True, kw_only=True)
class TorchOptions(Options):
    """The options of the PyTorch trainer."""

    trainer: ClassVar[str] = "torch"

    channels_last: bool = option(False, "keep pictures channels-last in memory")
    compile: bool = option(False, "torch.compile the encoder and its head")
