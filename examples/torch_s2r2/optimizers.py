"""The optimisers; their learning rate is a function of the step, which the trainer sets."""

import torch
from torch import nn

from pretraining.options import Options


def build_optimizer(options: Options, modules: list[nn.Module], *, fused: bool) -> torch.optim.Optimizer:
    """SGD, LARS (lightly's) or AdamW over the modules' parameters.

    Biases and batch norms get no weight decay, by which lightly's LARS also knows not to rescale them.
    """
    parameters = [p for module in modules for p in module.parameters()]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": options.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if options.optimizer == "lars":
        from lightly.utils.lars import LARS  # takes seconds to import, so only where it is used

        return LARS(groups, lr=options.peak_learning_rate, momentum=options.momentum)
    if options.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=options.peak_learning_rate, momentum=options.momentum)
    return torch.optim.AdamW(groups, lr=options.peak_learning_rate, fused=fused)


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Use this learning rate from the next step on."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
