"""SwAV (arXiv 2006.09882) for frameworks that lightly does not know, in the arrays of any of them.

A view predicts which prototypes a full crop of the same picture is assigned to. All of it is a pure function of
arrays: the caller holds prototypes and queues, and puts the prototypes back onto the unit sphere between steps.
`xp` is a namespace such as jax.numpy or keras.ops; the numbers are those of lightly's SwaVLoss.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pretraining.options import Options

Array = Any  # of the framework behind `xp`
SINKHORN_ITERATIONS = 3


def unit_rows(xp: Any, rows: Array) -> Array:
    """Rows `[..., d]` of length 1; a zero row stays zero."""
    squares = xp.sum(rows * rows, axis=-1, keepdims=True)
    return rows / xp.sqrt(xp.where(squares > 0, squares, xp.ones_like(squares)))


def log_softmax(xp: Any, scores: Array, axis: int) -> Array:
    """Logarithms of the softmax along an axis, without overflow."""
    shifted = scores - xp.max(scores, axis=axis, keepdims=True)
    return shifted - xp.log(xp.sum(xp.exp(shifted), axis=axis, keepdims=True))


def assign(xp: Any, scores: Array, *, epsilon: float) -> Array:
    """The soft assignment of pictures to prototypes, which uses all prototypes alike (Sinkhorn and Knopp).

    In logarithms, where an iteration is two softmaxes: over the pictures, then over the prototypes. exp(scores /
    epsilon) itself would overflow float32 for an epsilon under 0.012.

    Args:
        scores: `[pictures, prototypes]`, cosines.
        epsilon: the lower, the harder the assignment.

    Returns:
        `[pictures, prototypes]`; each row sums to 1.
    """
    logarithms = scores / epsilon
    for _ in range(SINKHORN_ITERATIONS):
        logarithms = log_softmax(xp, log_softmax(xp, logarithms, axis=0), axis=1)
    return xp.exp(logarithms)


def swapped_prediction(
    xp: Any, full: Sequence[Array], small: Sequence[Array], codes: Sequence[Array], *, temperature: float
) -> Array:
    """The cross-entropy of each view's prediction with the assignment of every other full crop, averaged.

    Args:
        full: scores `[pictures, prototypes]` of each full crop.
        small: those of each small crop.
        codes: the assignment of each full crop, to which no gradient shall flow.
    """
    predictions = [log_softmax(xp, scores / temperature, axis=1) for scores in (*full, *small)]
    pairs = [
        -xp.mean(xp.sum(code * prediction, axis=1))
        for crop, code in enumerate(codes)
        for view, prediction in enumerate(predictions)
        if view != crop
    ]
    return sum(pairs[1:], pairs[0]) / len(pairs)


@dataclass(frozen=True)
class SwAV:
    """SwAV's loss of a step and its queue of earlier full crops.

    Attributes:
        frozen_steps: the prototypes get a gradient from this step on.
        queue_start_step: the queues take part in the assignment from this step on; before, they fill.
    """

    temperature: float
    epsilon: float
    frozen_steps: int
    queue_start_step: int

    @classmethod
    def of(cls, options: Options) -> "SwAV":
        """SwAV as the options of a run have it."""
        assert options.loss_temperature is not None
        return cls(
            options.loss_temperature,
            options.sinkhorn_epsilon,
            options.prototypes_frozen_steps,
            options.first_queue_step,
        )

    def __call__(
        self,
        xp: Any,
        stop_gradient: Callable[[Array], Array],
        embeddings: Sequence[Array],
        prototypes: Array,
        queues: Array | None,
        step: Array | int,
    ) -> tuple[Array, Array | None]:
        """The loss of a step, and the queues after it.

        Args:
            embeddings: float32; the full crops `[pictures, 2, d]`, then any small ones `[pictures, views, d]`.
            prototypes: `[prototypes, d]`, rows of length 1.
            queues: `[2, queue size, d]`, the newest first; anything before the first step; None for no queues.
            step: counted from 1; may be traced.
        """
        prototypes = xp.where(step < self.frozen_steps, stop_gradient(prototypes), prototypes)
        by_prototype = xp.transpose(prototypes)
        crops = [[unit_rows(xp, kind[:, view]) for view in range(kind.shape[1])] for kind in embeddings]
        full, small = ([rows @ by_prototype for rows in kind] for kind in (*crops, [])[:2])
        scores = [stop_gradient(crop) for crop in full]
        codes = [assign(xp, crop, epsilon=self.epsilon) for crop in scores]
        if queues is not None:
            held = [queues[crop] for crop in range(2)]
            joint = [
                self._assign_beside(xp, crop, queue @ by_prototype)
                for crop, queue in zip(scores, held, strict=True)
            ]
            ready = step >= self.queue_start_step
            codes = [xp.where(ready, new, alone) for new, alone in zip(joint, codes, strict=True)]
            newest = [
                xp.concatenate(pair, axis=0)[: queues.shape[1]] for pair in zip(crops[0], held, strict=True)
            ]
            queues = stop_gradient(xp.stack(newest))
        codes = [stop_gradient(code) for code in codes]
        return swapped_prediction(xp, full, small, codes, temperature=self.temperature), queues

    def _assign_beside(self, xp: Any, scores: Array, queued: Array) -> Array:
        joint = assign(xp, xp.concatenate([scores, queued], axis=0), epsilon=self.epsilon)
        return joint[: scores.shape[0]]
