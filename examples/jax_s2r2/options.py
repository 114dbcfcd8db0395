"""The options that only the JAX trainer has, or has not."""

from dataclasses import dataclass
from typing import ClassVar

from pretraining.options import Options


@dataclass(frozen=True, kw_only=True)
class JaxOptions(Options):
    """The options of the JAX trainer."""

    trainer: ClassVar[str] = "jax"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.amp == "float16":
            raise ValueError("amp must be off or bfloat16 in JAX, whose float16 has no loss scaling here")
