"""The pretraining methods: what the loss of a batch of views is.

A method is a module that is called with the embeddings of every kind of crop, `[pictures, views, d]` each,
and the step. S2R2 and SimCLR rank the views by rankloss; SwAV is lightly's; the supervised one is for comparison.
"""

from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

import rankloss.torch as rl
from pretraining.objectives import objective
from pretraining.options import Options
from pretraining.runs import RunError
from pretraining.sampling import batches
from torch_s2r2.options import TorchOptions


class Method(Protocol):
    """What the trainer asks of a method; it is also an nn.Module."""

    def before_step(self, step: int) -> None:
        """Bring the method's own parameters in order before the step's forward pass."""

    def __call__(self, embeddings: list[Tensor], step: int) -> Tensor:
        """The loss of the batch."""


def build_method(options: TorchOptions, labels: NDArray[Any] | None = None) -> Method:
    """The method that the options ask for; `labels` are those of the pictures, for the supervised one.

    Raises:
        RunError: the method needs labels and there are none.
    """
    if options.method == "swav":
        return SwAV(options)
    if options.method == "supervised":
        if labels is None:
            raise RunError(
                f"--method supervised needs labelled pictures to train on, --data {options.data} has none"
            )
        return Supervised(options, labels)
    return Ranking(options)


class Ranking(nn.Module):
    """Each view is a query, and the other views of its picture are what it should find among all others."""

    def __init__(self, options: TorchOptions) -> None:
        super().__init__()
        self.options = options
        self.include_query = options.method == "s2r2" and options.include_query

    def before_step(self, step: int) -> None:
        """Nothing to do: a ranking loss has no parameters."""

    def forward(self, embeddings: list[Tensor], step: int) -> Tensor:
        views = torch.cat([kind.float() for kind in embeddings], dim=1)
        now = objective(self.options, self.options.temperature_at(step))
        return rl.embedding_loss(now, views, include_query=self.include_query)


class SwAV(nn.Module):
    """lightly's SwAV: a view predicts which prototypes a full crop of the same picture is assigned to.

    Two things differ from lightly's example. Its prototypes have a bias, which its `normalize` leaves alone
    and which shifts the scores of whole prototypes; it is taken off, as SwAV's authors have none. And its
    queues are used only once they are full: until then they hold noise, which would take part in the
    assignment.
    """

    def __init__(self, options: Options) -> None:
        super().__init__()
        from lightly.loss import SwaVLoss
        from lightly.loss.memory_bank import MemoryBankModule
        from lightly.models.modules import SwaVPrototypes

        self.prototypes = SwaVPrototypes(
            options.head_dim, options.prototypes, options.prototypes_frozen_steps
        )
        for head in self.prototypes.heads:
            head.register_parameter("bias", None)
        self.loss = SwaVLoss(
            temperature=cast(float, options.loss_temperature), sinkhorn_epsilon=options.sinkhorn_epsilon
        )
        queue = (options.queue_size, options.head_dim)
        self.queues = nn.ModuleList(
            MemoryBankModule(size=queue, feature_dim_first=False)
            for _ in range(2 if options.queue_size else 0)
        )
        for bank in self.queues:  # lightly leaves them out of the state dict; a resumed run needs them
            bank.register_buffer("bank", bank.bank, persistent=True)
            bank.register_buffer("bank_ptr", bank.bank_ptr, persistent=True)
        self.first_queue_step = options.first_queue_step

    def before_step(self, step: int) -> None:
        """Put the prototypes back onto the unit sphere."""
        self.prototypes.normalize()

    def forward(self, embeddings: list[Tensor], step: int) -> Tensor:
        # Outside autocast: the exponential in lightly's assignment overflows float16 at exp(1 / 0.05).
        with torch.autocast(embeddings[0].device.type, enabled=False):
            crops = [functional.normalize(views.float(), dim=-1).unbind(1) for views in embeddings]
            scores = [[self.prototypes(view, step) for view in kind] for kind in crops]
            small = scores[1] if len(scores) == 2 else []
            loss = self.loss(scores[0], small, self._queue_scores(crops[0], step))
        return cast(Tensor, loss).squeeze()

    def _queue_scores(self, full_crops: tuple[Tensor, ...], step: int) -> list[Tensor] | None:
        """Scores of the queued full crops, before these join them; None while the queues are not used."""
        earlier = [
            queue(view.detach(), update=True)[1] for queue, view in zip(self.queues, full_crops, strict=False)
        ]
        if not earlier or step < self.first_queue_step:
            return None
        with torch.no_grad():
            return [self.prototypes(features, step) for features in earlier]


class Supervised(nn.Module):
    """Cross-entropy with the labels, by a linear layer on each view's embedding: what a budget gives with them.

    Args:
        labels: of all pictures; class numbers `[pictures]`, or booleans `[pictures, classes]`.
    """

    def __init__(self, options: Options, labels: NDArray[Any]) -> None:
        super().__init__()
        self.options, self.labels = options, labels
        classes = labels.shape[1] if labels.ndim == 2 else int(labels.max()) + 1
        self.classifier = nn.Linear(options.head_dim, classes)

    def before_step(self, step: int) -> None:
        """Nothing to do."""

    def forward(self, embeddings: list[Tensor], step: int) -> Tensor:
        logits = self.classifier(torch.cat(embeddings, dim=1)).float()
        numbers = next(batches(len(self.labels), self.options.image_count, self.options.seed, step, step))
        of_pictures = torch.from_numpy(np.asarray(self.labels[numbers])).to(logits.device)
        of_views = of_pictures.repeat_interleave(logits.shape[1], dim=0)
        if of_views.ndim == 2:
            return functional.binary_cross_entropy_with_logits(logits.flatten(0, 1), of_views.float())
        return functional.cross_entropy(logits.flatten(0, 1), of_views)
