"""The JAX trainer's networks and optimisers beside PyTorch's: the same numbers from the same weights."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
import torchvision
from flax import nnx
from harness_jax import HARNESS
from numpy.typing import NDArray
from torchvision.models import resnet

from jax_s2r2.encoders import build_encoder, encoder_input, feature_size
from jax_s2r2.networks import BasicBlock, Bottleneck, ProjectionHead, ResNet, ResNet18, ResNet50, SmallEncoder
from jax_s2r2.optimizers import build_optimizer
from jax_s2r2.options import JaxOptions
from torch_s2r2.encoders import SmallEncoder as TorchSmallEncoder
from torch_s2r2.learner import projection_head
from torch_s2r2.optimizers import build_optimizer as build_torch_optimizer
from torch_s2r2.optimizers import set_learning_rate
from torch_s2r2.options import TorchOptions

LAYERS = {nnx.Conv: torch.nn.Conv2d, nnx.Linear: torch.nn.Linear}


@pytest.fixture(autouse=True)
def harness() -> Any:
    """JAX's alone."""
    with HARNESS.prepared():
        yield HARNESS


def take_over(model: nnx.Module, source: torch.nn.Module) -> None:
    """Give the model PyTorch's weights: each kind of layer comes in the same order, but for the ResNets' first."""
    layers = sorted(nnx.iter_modules(model), key=lambda found: found[0][:1] == ("blocks",))
    for kind, theirs in (*LAYERS.items(), (nnx.BatchNorm, torch.nn.modules.batchnorm._BatchNorm)):
        targets = [layer for _, layer in layers if type(layer) is kind]
        sources = [layer for layer in source.modules() if isinstance(layer, theirs)]
        for target, given in zip(targets, sources, strict=True):
            weight = given.weight.detach().numpy()
            if kind is nnx.BatchNorm:
                target.scale[...] = jnp.asarray(weight)
            else:
                target.kernel[...] = jnp.asarray(
                    weight.transpose(2, 3, 1, 0) if weight.ndim == 4 else weight.T
                )
            if given.bias is not None:
                target.bias[...] = jnp.asarray(given.bias.detach().numpy())


def stirred(module: torch.nn.Module) -> torch.nn.Module:
    """PyTorch's module with batch norms that do something."""
    torch.manual_seed(0)
    for parameter in module.parameters():
        if parameter.ndim == 1:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    return module


def outputs_of(model: nnx.Module, images: NDArray[np.float32]) -> tuple[Any, Any]:
    """What it gives in training, and then, with the statistics of that, in use."""

    @nnx.jit
    def call(model: nnx.Module, images: jax.Array) -> jax.Array:
        return model(images)

    first = call(model, images)
    model.eval()
    return first, call(model, images)


@pytest.mark.parametrize(
    ("model", "source", "size"),
    [
        pytest.param(lambda rngs: SmallEncoder(3, rngs=rngs), lambda: TorchSmallEncoder(3), 20, id="small"),
        pytest.param(
            lambda rngs: ResNet(BasicBlock, (2, 1, 1, 1), rngs=rngs),
            lambda: resnet.ResNet(resnet.BasicBlock, [2, 1, 1, 1]),
            33,
            id="basic-blocks",
        ),
        pytest.param(
            lambda rngs: ResNet(Bottleneck, (1, 1, 1, 1), rngs=rngs),
            lambda: resnet.ResNet(resnet.Bottleneck, [1, 1, 1, 1]),
            33,
            id="bottlenecks",
        ),
    ],
)
def test_an_encoder_gives_what_pytorchs_gives(
    model: Callable[[nnx.Rngs], nnx.Module], source: Callable[[], torch.nn.Module], size: int
) -> None:
    theirs, ours = stirred(source()), model(nnx.Rngs(0))
    theirs.fc = torch.nn.Identity()
    take_over(ours, theirs)
    images = np.random.default_rng(0).normal(size=(8, size, size, 3)).astype(np.float32)
    channels_first = torch.from_numpy(images.transpose(0, 3, 1, 2))
    in_training, in_use = outputs_of(ours, images)
    scale = float(in_training.std())
    with torch.no_grad():
        np.testing.assert_allclose(in_training, theirs(channels_first), atol=1e-3 * scale)
        # PyTorch's running variance has one less in its denominator: with few values in a channel it is larger.
        found, expected = np.asarray(in_use).ravel(), theirs.eval()(channels_first).numpy().ravel()
    assert np.corrcoef(found, expected)[0, 1] > 0.99


def test_the_head_gives_what_pytorchs_gives() -> None:
    theirs, ours = stirred(projection_head(6, 8, 4)), ProjectionHead(6, 8, 4, rngs=nnx.Rngs(0))
    take_over(ours, theirs)
    features = np.random.default_rng(0).normal(size=(16, 6)).astype(np.float32)
    np.testing.assert_allclose(
        ours(features), theirs(torch.from_numpy(features)).detach(), rtol=1e-4, atol=1e-5
    )


def test_first_weights_are_distributed_as_pytorchs() -> None:
    theirs, ours = TorchSmallEncoder(1), SmallEncoder(1, rngs=nnx.Rngs(0))
    convolutions = [layer for layer in theirs.modules() if isinstance(layer, torch.nn.Conv2d)]
    for one, other in zip(ours.convolutions, convolutions, strict=True):
        reach = 1 / np.sqrt(other.weight[0].numel())
        for weights in (np.asarray(one.kernel[...]), other.weight.detach().numpy()):
            assert 0.95 * reach < np.abs(weights).max() <= reach
            assert abs(weights.std() / reach - 3**-0.5) < 0.05
    head, torch_head = ProjectionHead(128, 256, 64, rngs=nnx.Rngs(0)), projection_head(128, 256, 64)
    for bias in (np.asarray(head.output.bias[...]), torch_head[3].bias.detach().numpy()):
        assert 0.9 / 16 < np.abs(bias).max() <= 1 / 16


@pytest.mark.parametrize(
    ("ours", "theirs"), [(ResNet18, torchvision.models.resnet18), (ResNet50, torchvision.models.resnet50)]
)
def test_resnets_have_torchvisions_parameters(ours: Any, theirs: Any) -> None:
    state = nnx.eval_shape(lambda: nnx.state(ours(rngs=nnx.Rngs(0)), nnx.Param))
    model = theirs()
    count = sum(p.numel() for name, p in model.named_parameters() if not name.startswith("fc."))
    assert sum(leaf.size for leaf in jax.tree.leaves(state)) == count


def test_a_resnet_sees_grey_pictures_three_times(small_options: Callable[..., JaxOptions]) -> None:
    options = small_options(encoder="resnet18")
    images = encoder_input("resnet18", jnp.ones((2, 32, 32, 1)))
    assert images.shape == (2, 32, 32, 3)
    model = nnx.eval_shape(lambda: build_encoder(options, 32, 1))
    assert model.small_images
    assert nnx.eval_shape(lambda m: m(images), model).shape == (2, feature_size("resnet18"))


@pytest.mark.parametrize("name", ["adamw", "sgd", "lars"])
def test_an_optimiser_takes_pytorchs_steps(name: str) -> None:
    # LARS: lightly adds the norms of gradient and decay, optax takes the norm of their sum.
    rate, decay = (10.0, 1e-3) if name == "lars" else (0.1, 0.1)
    shared = {"optimizer": name, "learning_rate": rate, "weight_decay": decay, "steps": 4, "warmup_steps": 2}
    rng = np.random.default_rng(0)
    start = {"matrix": rng.normal(size=(4, 3)), "vector": rng.normal(size=3)}
    start = {key: value.astype(np.float32) for key, value in start.items()}
    gradients = [
        {key: rng.normal(size=value.shape).astype(np.float32) for key, value in start.items()}
        for _ in range(4)
    ]

    ours, parameters = build_optimizer(JaxOptions(**shared)), jax.tree.map(jnp.asarray, start)
    state = ours.init(parameters)
    for gradient in gradients:
        updates, state = ours.update(gradient, state, parameters)
        parameters = optax.apply_updates(parameters, updates)

    module, options = torch.nn.Module(), TorchOptions(**shared)
    for key, value in start.items():
        module.register_parameter(key, torch.nn.Parameter(torch.tensor(value)))
    theirs = build_torch_optimizer(options, [module], fused=False)
    for step, gradient in enumerate(gradients, 1):
        set_learning_rate(theirs, options.learning_rate_at(step))
        for key, value in gradient.items():
            getattr(module, key).grad = torch.tensor(value)
        theirs.step()

    for key, value in parameters.items():
        moved = getattr(module, key).detach().numpy() - start[key]
        assert np.abs(moved).max() > 0.01
        np.testing.assert_allclose(value - start[key], moved, atol=5e-3 * np.abs(moved).max())


def test_equal_options_have_one_optimiser(small_options: Callable[..., JaxOptions]) -> None:
    """By which JAX knows a step that it has compiled."""
    assert build_optimizer(small_options()) is build_optimizer(small_options(checkpoint_every=9))
    assert build_optimizer(small_options()) is not build_optimizer(small_options(learning_rate=1.0))
