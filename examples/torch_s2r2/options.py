"""The options that only the PyTorch trainer has."""

from dataclasses import dataclass
from typing import ClassVar

from pretraining.options import METHODS, Options, option


@dataclass(frozen=True, kw_only=True)
class TorchOptions(Options):
    """The options of the PyTorch trainer."""

    trainer: ClassVar[str] = "torch"

    method: str = option(
        "s2r2",
        "s2r2 ranks the views by --objective; simclr is NT-Xent (SupCon over two views; with more views "
        "it is SupCon over all of them); swav is lightly's SwAV with multi-crop; supervised learns the pictures' "
        "labels by cross-entropy, to compare with",
        choices=(*METHODS, "supervised"),
    )
    snapshot_every: int = option(
        0, "keep the encoder of every so many steps as encoder-STEP.pt; 0 keeps the last only", decides=False
    )
    channels_last: bool = option(False, "keep pictures channels-last in memory")
    compile: bool = option(False, "torch.compile the encoder and its head")
