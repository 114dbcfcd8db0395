"""A ranking loss as a module, for code that keeps its losses in objects."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from rankloss._arguments import Reduction, check_flag, check_settings
from rankloss.objectives import Objective
from rankloss.objectives.blockwise import split_objective
from rankloss.torch._functions import embedding_loss


class RankingLoss(nn.Module):
    """`embedding_loss` of an objective, as a `torch.nn.Module` without parameters.

    Args:
        objective: `SmoothAP()`, `FastAP()`, `SupCon()` or `Blockwise(...)` of one.
        normalize, include_query, reduction, block_size: as in `rankloss.embedding_loss`.
        compile: as in `rankloss.torch.embedding_loss`: compile the formulas once, then use them at every call.

    Call it with embeddings [n, d] and labels [n], or with views [images, views, d] alone; `gallery`,
    `gallery_labels`, `relevant` and `weights` are keyword arguments of the call.

    Example:
        >>> import torch
        >>> import rankloss.torch as rl
        >>> loss_fn = rl.RankingLoss(rl.SmoothAP(temperature=0.05))
        >>> loss_fn
        RankingLoss(SmoothAP(temperature=0.05, exact=False), normalize=True, include_query=False, reduction='mean')
        >>> embeddings = torch.eye(4)[:, :3] + 0.5
        >>> loss_fn(embeddings, torch.tensor([0, 0, 1, 1]))
        tensor(0.4288)
    """

    def __init__(
        self,
        objective: Objective,
        *,
        normalize: bool = True,
        include_query: bool = False,
        reduction: Reduction = "mean",
        block_size: int | None = None,
        compile: bool = False,
    ) -> None:
        super().__init__()
        split_objective(objective)
        check_settings(normalize, include_query, reduction, block_size)
        check_flag("compile", compile)
        self.objective = objective
        self.normalize = normalize
        self.include_query = include_query
        self.reduction: Reduction = reduction
        self.block_size = block_size
        self.compiled = compile

    def forward(
        self, embeddings: Tensor | tuple[Tensor, ...], labels: Tensor | None = None, **arrays: Any
    ) -> Tensor:
        """The loss of a batch."""
        return embedding_loss(
            self.objective,
            embeddings,
            labels,
            normalize=self.normalize,
            include_query=self.include_query,
            reduction=self.reduction,
            block_size=self.block_size,
            compile=self.compiled,
            **arrays,
        )

    def extra_repr(self) -> str:
        text = (
            f"{self.objective!r}, normalize={self.normalize}, include_query={self.include_query}, "
            f"reduction={self.reduction!r}"
        )
        text += "" if self.block_size is None else f", block_size={self.block_size}"
        return text + ", compile=True" if self.compiled else text
