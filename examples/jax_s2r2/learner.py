"""What learns: encoder, head, method and optimiser; one training step; the state that a checkpoint holds."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array, random
from jax.sharding import Mesh

import rankloss.jax as rl
from jax_s2r2.devices import everywhere
from jax_s2r2.encoders import build_encoder, encoder_input, feature_size, start_keys
from jax_s2r2.methods import build_method
from jax_s2r2.networks import ProjectionHead
from jax_s2r2.optimizers import build_optimizer
from jax_s2r2.options import JaxOptions
from jax_s2r2.views import make_views
from pretraining.crops import Appearance, Crop, appearance, crops

PRECISIONS = {"off": jnp.float32, "bfloat16": jnp.bfloat16}

State = dict[str, nnx.State]


class Model(nnx.Module):
    """Encoder, head and method, which together turn views into a loss.

    The encoder's first weights depend on the seed alone, so that runs of all methods start from the same one.
    """

    def __init__(self, options: JaxOptions, image_size: int, channels: int, key: Array) -> None:
        dtype, rngs = PRECISIONS[options.amp], nnx.Rngs(key)
        self.encoder_name = options.encoder
        self.encoder = build_encoder(options, image_size, channels, dtype)
        width = feature_size(options.encoder)
        self.head = ProjectionHead(width, options.head_hidden, options.head_dim, dtype=dtype, rngs=rngs)
        self.method = build_method(options, rngs)

    def __call__(self, views: Sequence[Array], step: Array) -> tuple[Array, Array]:
        """The loss of the batch, and its embeddings `[pictures, views, d]`."""
        embeddings = [self._embed(kind).astype(jnp.float32) for kind in views]
        return self.method(embeddings, step), jnp.concatenate(embeddings, axis=1)

    def _embed(self, views: Array) -> Array:
        images = encoder_input(self.encoder_name, views.reshape(-1, *views.shape[2:]))
        return self.head(self.encoder(images)).reshape(*views.shape[:2], -1)


@dataclass(frozen=True)
class Recipe:
    """What a compiled step is made for, besides the shapes."""

    kinds: tuple[tuple[Crop, Appearance], ...]
    mesh: Mesh


@partial(jax.jit, static_argnames=("recipe", "graph"), donate_argnames="state")
def training_step(
    recipe: Recipe, graph: Any, state: State, pictures: Array, key: Array, step: Array
) -> tuple[State, Array, Array]:
    """The state after a step with uint8 pictures, the loss before it, and the embeddings.

    Pictures come in spread over the devices of the mesh, and each device makes and embeds its own pictures' views;
    batch norms and losses are those of the whole batch.
    """
    model, optimizer = _merge(graph, state)
    keys = random.split(random.fold_in(key, step), len(recipe.kinds))
    views = [make_views(pictures, k, *kind) for k, kind in zip(keys, recipe.kinds, strict=True)]
    model.method.before_step()

    def loss_of(model: Model) -> tuple[Array, Array]:
        return model(views, step)

    (loss, embeddings), gradients = nnx.value_and_grad(loss_of, has_aux=True)(model)
    optimizer.update(model, gradients)
    _, changed = _split(model, optimizer)
    return jax.lax.with_sharding_constraint(changed, everywhere(recipe.mesh)), loss, embeddings


@jax.jit
def _is_finite(state: State) -> Array:
    values = [value for value in jax.tree.leaves(state) if jnp.issubdtype(value.dtype, jnp.floating)]
    return jnp.stack([jnp.isfinite(value).all() for value in values]).all()


def _split(model: Model, optimizer: nnx.Optimizer) -> tuple[Any, State]:
    """The graph, and the state: the encoder's by itself, as it is exported, and all other."""
    graph, encoder, others = nnx.split((model, optimizer), _is_of_the_encoder, ...)
    return graph, {"encoder": encoder[0]["encoder"], "others": others}


def _is_of_the_encoder(path: tuple[Any, ...], value: Any) -> bool:
    return path[:2] == (0, "encoder")  # of the model, not of the optimizer's state


def _merge(graph: Any, state: State) -> tuple[Model, nnx.Optimizer]:
    encoder = nnx.State({0: {"encoder": state["encoder"]}})
    return nnx.merge(graph, encoder, state["others"])


class Learner:
    """A model in training."""

    def __init__(self, options: JaxOptions, image_size: int, channels: int, mesh: Mesh) -> None:
        self.mesh = mesh
        _, model_key, self._key = start_keys(options.seed)
        model = Model(options, image_size, channels, model_key)
        optimizer = nnx.Optimizer(model, build_optimizer(options), wrt=nnx.Param)
        self._graph, state = _split(model, optimizer)
        self.state = jax.device_put(state, everywhere(mesh))
        kinds = crops(options, image_size)
        looks = (appearance(options, kind.size, channels) for kind in kinds)
        self._recipe = Recipe(tuple(zip(kinds, looks, strict=True)), mesh)

    def step(self, pictures: Array, step: int) -> tuple[Array, Array]:
        """Take a step with uint8 pictures; return the loss before it and the embeddings `[b, views, d]`."""
        self.state, loss, embeddings = training_step(
            self._recipe, self._graph, self.state, pictures, self._key, jnp.int32(step)
        )
        return loss, embeddings

    def is_finite(self) -> bool:
        """Whether all weights and running statistics are finite numbers."""
        return bool(_is_finite(self.state))


def views_average_precision(embeddings: Array) -> float:
    """The exact mean average precision with which the views [pictures, views, d] find their own picture's."""
    return float(rl.embedding_metric(rl.AveragePrecision(), embeddings))
