"""The optimisers, with PyTorch's formulas: Keras' AdamW, and SGD and LARS, which differ or are missing in Keras."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from pretraining.options import Options

TRUST = 0.001  # lightly's LARS: the part of a weight's length that a step of learning rate 1 moves it by


class StepSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """The learning rate of each step, as the options have it; steps that float16 skips are not counted."""

    def __init__(self, options: Options) -> None:
        steps = range(1, options.steps + 1)
        self.rates = np.array([options.learning_rate_at(step) for step in steps], np.float32)

    def __call__(self, step: Any) -> Any:
        return ops.take(
            ops.convert_to_tensor(self.rates), ops.minimum(ops.cast(step, "int32"), len(self.rates) - 1)
        )


class Momentum(keras.optimizers.Optimizer):
    """SGD with momentum, or LARS.

    Unlike Keras' SGD, it adds the weight decay to the gradient, and its momentum holds gradients, not steps.

    Args:
        lars: scale the gradient of each variable with weight decay to a part of the variable's length.
    """

    def __init__(self, learning_rate: Any, *, momentum: float, weight_decay: float, lars: bool) -> None:
        super().__init__(learning_rate, name="lars" if lars else "sgd")
        # Not the base class's weight_decay, which shrinks the variables by themselves.
        self.momentum, self.decay, self.lars = momentum, weight_decay, lars

    def build(self, variables: Sequence[keras.Variable]) -> None:
        if self.built:
            return
        super().build(variables)
        self.buffers = self.add_optimizer_variables(variables, "momentum")

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        rate, gradient = ops.cast(learning_rate, variable.dtype), ops.cast(gradient, variable.dtype)
        if self.decay and self._use_weight_decay(variable):
            gradient = self._decayed(gradient, ops.convert_to_tensor(variable))
        buffer = self.buffers[self._get_variable_index(variable)]
        held = buffer * self.momentum + gradient
        self.assign(buffer, held)
        self.assign_sub(variable, rate * held)

    def _decayed(self, gradient: Any, weights: Any) -> Any:
        decayed = gradient + self.decay * weights
        if not self.lars:
            return decayed
        length, slope = (ops.sqrt(ops.sum(ops.square(x))) for x in (weights, gradient))
        scaled = decayed * (TRUST * length / (slope + self.decay * length + 1e-8))
        return ops.where((length > 0) & (slope > 0), scaled, gradient)


def build_optimizer(options: Options, variables: Sequence[keras.Variable]) -> keras.optimizers.Optimizer:
    """SGD, LARS or AdamW over these variables; biases and batch norms get no weight decay."""
    rates, decay = StepSchedule(options), options.weight_decay
    if options.optimizer == "adamw":
        optimizer = keras.optimizers.AdamW(rates, weight_decay=decay, epsilon=1e-8)
    else:
        lars = options.optimizer == "lars"
        optimizer = Momentum(rates, momentum=options.momentum, weight_decay=decay, lars=lars)
    optimizer.exclude_from_weight_decay([v for v in variables if len(v.shape) <= 1])
    if options.amp == "float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    optimizer.build(variables)  # so that a checkpoint can be loaded before the first step
    return optimizer
