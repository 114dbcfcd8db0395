"""The options that only the PyTorch trainer has."""

from dataclasses import dataclass

from pretraining.options import Options, option


@dataclass(frozen=True, kw_only=True)
class TorchOptions(Options):
    """The options of the PyTorch trainer."""

    device: str = option("auto", "auto (a GPU if there is one), cpu, cuda, cuda:1, mps ...", decides=False)
    amp: str = option("off", "mixed precision", choices=("off", "bfloat16", "float16"))
    channels_last: bool = option(False, "keep pictures channels-last in memory")
    compile: bool = option(False, "torch.compile the encoder and its head")
