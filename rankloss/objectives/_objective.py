"""What an objective is to the rest of the package."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol, runtime_checkable

from rankloss._arguments import check_count
from rankloss._framework import Array, Framework
from rankloss._relevance import Relevance


@runtime_checkable
class RankingObjective(Protocol):
    """A loss of a query by the scores of its candidates: a frozen dataclass of plain options.

    Value and gradient are in closed form. CONTRIBUTING.md shows how to write one.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]

    # Not demanded: `block_factor`, see the function of that name.

    def loss_and_gradient(
        self, framework: Framework, scores: Array, relevance: Relevance, scale: Array | None
    ) -> tuple[Array, Array | None]:
        """Losses of the queries of a block, and their gradient by the scores.

        Args:
            framework: supplies the array namespace `xp`, loops and scatter-adds.
            scores: [q, g]. May be overwritten. Where an item is no candidate, anything may stand.
            relevance: the candidates and positives.
            scale: [q] factor of each query's gradient, or None where no gradient is wanted.

        Returns:
            Losses [q], 0 for a query without a positive, and d losses[q] / d scores[q, g] · scale[q], or
            None.
        """
        ...


def block_factor(objective: object) -> int:
    """How many times as many scores as usual a block may hold: the attribute `block_factor` of an objective, or 1.

    More is for formulas that make few arrays of a block's size: they stay in the caches with longer blocks, of which
    the matrix products are faster.
    """
    return check_count("block_factor", getattr(objective, "block_factor", 1))


def check_objective(objective: object, name: str) -> None:
    """Raise TypeError unless `objective` is one."""
    if isinstance(objective, type) or not isinstance(objective, RankingObjective):
        hint = f", did you mean {objective.__name__}()" if isinstance(objective, type) else ""
        raise TypeError(f"{name} must be an objective such as SmoothAP(), found {objective!r}{hint}")
