"""The options that only the PyTorch trainer has."""

import math
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
    final_temperature: float | None = option(
        None, "s2r2, simclr: the temperature goes to this one along half a cosine (default: it stays)"
    )
    snapshot_every: int = option(
        0, "keep the encoder of every so many steps as encoder-STEP.pt; 0 keeps the last only", decides=False
    )
    channels_last: bool = option(False, "keep pictures channels-last in memory")
    compile: bool = option(False, "torch.compile the encoder and its head")

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check(
            "final_temperature", self.final_temperature is None or self.final_temperature > 0, "above 0"
        )
        if self.final_temperature is not None and (self.loss_temperature is None or self.method == "swav"):
            raise ValueError(
                "final_temperature needs a loss with a temperature: smooth_ap, sup_con or simclr"
            )

        if self.method == "swav":  # lightly sums exp(score / epsilon) in float32
            self._check("sinkhorn_epsilon", self.sinkhorn_epsilon >= 0.015, "0.015 or more with method swav")

    def temperature_at(self, step: int) -> float | None:
        """The temperature of a step, 1 to `steps`."""
        first, last = self.loss_temperature, self.final_temperature
        if first is None or last is None:
            return first
        done = (step - 1) / max(1, self.steps - 1)
        return last + (first - last) * 0.5 * (1 + math.cos(math.pi * done))
