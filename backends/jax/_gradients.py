"""The pass of the core as JAX differentiates it: the gradient is the closed form, made along with the loss.

The code of the closed form is plain array code, so that JAX can differentiate it in turn: forward over reverse
(`jvp` of `grad`) always, reverse over reverse where no loop has a count known at run time only.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.custom_derivatives import SymbolicZero

from rankloss._arguments import EmbeddingBatch, Reduction, ScoreBatch
from rankloss._metrics import Metric, evaluate_metric
from rankloss._passes import Evaluate, Result, embedding_pass, score_pass
from rankloss.jax._framework import JaxFramework
from rankloss.objectives import RankingObjective
from rankloss.objectives._objective import block_factor


@dataclass(frozen=True)
class Plan:
    """All of a pass that is no array; its compiled form is kept by it."""

    what: RankingObjective | Metric
    reduction: Reduction
    normalize: bool = True
    include_query: bool = False
    block_size: int | None = None
    num_blocks: int = 1

    @property
    def evaluate(self) -> Evaluate:
        """What to compute of a block. Made anew each time: methods of equal objects are not equal."""
        if isinstance(self.what, RankingObjective):
            return self.what.loss_and_gradient
        return partial(evaluate_metric, self.what)


class Variables(NamedTuple):
    """What a pass can be differentiated by: scores alone, or embeddings and a gallery."""

    queries: Array
    gallery: Array | None = None


class Constants(NamedTuple):
    """What it can't be differentiated by. `relevant` comes alone with a gallery, or with the scores."""

    labels: Array | None = None
    gallery_labels: Array | None = None
    relevant: Array | None = None
    valid: Array | None = None
    weights: Array | None = None


Run = Callable[[Plan, "tuple[bool, bool]", Variables, Constants], Result]


@partial(jax.jit, static_argnums=(0, 1))
def run_embeddings(
    plan: Plan, wanted: tuple[bool, bool], variables: Variables, constants: Constants
) -> Result:
    """The pass over embeddings, compiled once for a plan and the shapes."""
    batch = EmbeddingBatch(
        variables.queries,
        constants.labels,
        variables.gallery,
        constants.gallery_labels,
        constants.relevant,
        constants.weights,
        plan.normalize,
        plan.include_query,
        plan.reduction,
        plan.block_size,
    )
    with _full_precision():
        return embedding_pass(
            JaxFramework(), plan.evaluate, batch, plan.num_blocks, wanted, block_factor(plan.what)
        )


@partial(jax.jit, static_argnums=(0, 1))
def run_scores(plan: Plan, wanted: tuple[bool, bool], variables: Variables, constants: Constants) -> Result:
    """The pass over scores, compiled once for a plan and the shapes."""
    batch = ScoreBatch(
        variables.queries, constants.relevant, constants.valid, constants.weights, plan.reduction
    )
    with _full_precision():
        return score_pass(JaxFramework(), plan.evaluate, batch, wanted[0], block_factor(plan.what))


def _full_precision() -> AbstractContextManager[object]:
    """Matrix products of float32 as such, where the user has not said otherwise.

    By default GPUs and TPUs round the factors to 10 or 7 bits: an error of 0.001 in a similarity is a tenth of
    Smooth-AP's usual temperature.
    """
    settings: Any = jax.config  # each setting is an attribute that its type does not know
    return nullcontext() if settings.jax_default_matmul_precision else jax.default_matmul_precision("highest")


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def value(run: Run, plan: Plan, variables: Variables, constants: Constants) -> Array:
    """The value of a pass; where JAX differentiates it, the gradients are made with it."""
    loss: Array = run(plan, (False, False), variables, constants).value
    return loss


def _forward(run: Run, plan: Plan, variables: Any, constants: Any) -> tuple[Array, Any]:
    """Here each leaf says besides its value whether it is differentiated by."""
    gallery = variables.gallery
    wanted = (variables.queries.perturbed, gallery is not None and gallery.perturbed)
    variables, constants = jax.tree.map(
        lambda leaf: leaf.value, (variables, constants), is_leaf=lambda leaf: hasattr(leaf, "perturbed")
    )
    if plan.reduction == "none":  # its gradient needs the incoming one, which weighs each query
        loss = run(plan, (False, False), variables, constants).value
        marks = tuple(() if want else None for want in wanted)
        return loss, (marks, variables, constants)
    result = run(plan, wanted, variables, constants)
    # An empty array tells backward the dtype of a variable, which the residuals have no other way to.
    types = tuple(None if v is None else jnp.zeros(0, v.dtype) for v in variables)
    return result.value, (types, Variables(result.d_queries, result.d_gallery))


def _backward(run: Run, plan: Plan, residuals: Any, incoming: Any) -> tuple[Variables | None, None]:
    if isinstance(incoming, SymbolicZero):
        return None, None
    if plan.reduction == "none":
        marks, variables, constants = residuals
        weights = incoming if constants.weights is None else incoming * constants.weights
        wanted = (marks[0] is not None, marks[1] is not None)
        weighted = constants._replace(weights=weights)
        result = run(replace(plan, reduction="sum"), wanted, variables, weighted)
        types, gradients, incoming = variables, Variables(result.d_queries, result.d_gallery), 1
    else:
        types, gradients = residuals
    scaled: list[Any] = [
        None if gradient is None else (incoming * gradient).astype(like.dtype)
        for gradient, like in zip(gradients, types, strict=True)
    ]
    return Variables(*scaled), None


value.defvjp(_forward, _backward, symbolic_zeros=True)
