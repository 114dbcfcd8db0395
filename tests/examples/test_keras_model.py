"""The Keras trainer's networks, optimisers and methods give the numbers of the PyTorch trainer's."""

from itertools import count
from typing import Any

import keras
import numpy as np
import pytest
import torch
from keras import ops

import rankloss.torch
from keras_s2r2.encoders import build_encoder, projection_head
from keras_s2r2.methods import build_method
from keras_s2r2.model import Pretraining
from keras_s2r2.optimizers import build_optimizer
from keras_s2r2.options import KerasOptions
from pretraining.objectives import objective
from torch_s2r2 import encoders as torch_encoders
from torch_s2r2.learner import projection_head as torch_head
from torch_s2r2.methods import build_method as build_torch_method
from torch_s2r2.optimizers import build_optimizer as build_torch_optimizer
from torch_s2r2.optimizers import set_learning_rate
from torch_s2r2.options import TorchOptions
from torch_s2r2.views import whole_pictures

STEPS = 5


def fill(encoder: keras.Model, model: torch.nn.Module) -> None:
    """Give the Keras model PyTorch's weights and statistics, convolution by convolution in order of creation."""
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    convolutions = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d)]
    named = {layer.name: layer for layer in encoder.layers}
    names = [v.path.split("/")[0] for v in encoder.variables if v.path.endswith("_conv/kernel")]
    assert len(names) == len(convolutions) == len(norms)
    for name, convolution, norm in zip(names_in_torch_order(names), convolutions, norms, strict=True):
        kernel = convolution.weight.detach().permute(2, 3, 1, 0).numpy()
        named[name].set_weights([kernel])
        statistics = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
        named[name.replace("_conv", "_norm")].set_weights([s.detach().numpy() for s in statistics])


def names_in_torch_order(names: list[str]) -> list[str]:
    """A block's shortcut comes last in PyTorch; the stem or first block first."""
    parts = {name: name.removesuffix("_conv").replace("_shortcut", "z") for name in names}
    return sorted(names, key=lambda name: (not parts[name].startswith("stem"), parts[name]))


@pytest.mark.parametrize(
    ("name", "size", "channels"),
    [("small", 28, 1), ("small", 31, 3), ("resnet18", 64, 3), ("resnet18", 28, 1), ("resnet50", 64, 3)],
)
def test_encoder_is_the_pytorch_trainers(name: str, size: int, channels: int) -> None:
    torch.manual_seed(0)
    model = torch_encoders.build_encoder(name, size, channels)
    for norm in (m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        torch.nn.init.uniform_(norm.running_mean, -0.1, 0.1)
        torch.nn.init.uniform_(norm.running_var, 0.5, 2)
        torch.nn.init.uniform_(norm.bias, -0.1, 0.1)
    encoder = build_encoder(name, size, channels, count())
    fill(encoder, model)
    pictures = np.random.default_rng(0).integers(0, 256, (2, size, size, channels), np.uint8)
    with torch.no_grad():
        images = whole_pictures(pictures, size, torch.device("cpu"))
        expected = model.eval()(torch_encoders.encoder_input(name, images)).numpy()
    found = ops.convert_to_numpy(encoder(pictures.astype(np.float32), training=False))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize(("name", "size"), [("small", 28), ("resnet18", 28)])
def test_first_weights_are_drawn_as_pytorchs(name: str, size: int) -> None:
    encoder = build_encoder(name, size, 1, count(7))
    model = torch_encoders.build_encoder(name, size, 1)
    kernels = [ops.convert_to_numpy(v) for v in encoder.trainable_variables if len(v.shape) == 4]
    weights = [p.detach().numpy() for p in model.parameters() if p.ndim == 4]
    assert sorted(k.size for k in kernels) == sorted(w.size for w in weights)
    for kernel, weight in zip(sorted(kernels, key=np.size), sorted(weights, key=np.size), strict=True):
        few = 4 / np.sqrt(kernel.size)
        np.testing.assert_allclose(kernel.std(), weight.std(), rtol=few)
        np.testing.assert_allclose(np.abs(kernel).max(), np.abs(weight).max(), rtol=0.25)
    assert len({kernel.flat[0] for kernel in kernels}) == len(kernels)


def test_head_is_the_pytorch_trainers() -> None:
    head, model = projection_head(12, 16, 8, count()), torch_head(12, 16, 8)
    first, norm, _, last = model
    bound = 1 / np.sqrt(16)
    assert np.abs(ops.convert_to_numpy(head.weights[-1])).max() <= bound
    arrays = (
        first.weight.T,
        norm.weight,
        norm.bias,
        norm.running_mean,
        norm.running_var,
        last.weight.T,
        last.bias,
    )
    head.set_weights([array.detach().numpy() for array in arrays])
    x = np.random.default_rng(0).normal(size=(32, 12)).astype(np.float32)
    found = ops.convert_to_numpy(head(x, training=True))
    np.testing.assert_allclose(found, model(torch.from_numpy(x)).detach().numpy(), atol=1e-5)
    mean = ops.convert_to_numpy(head.layers[1].moving_mean)
    np.testing.assert_allclose(mean, norm.running_mean.numpy(), atol=1e-6)


@pytest.mark.parametrize("name", ["adamw", "sgd", "lars"])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_optimizer_is_the_pytorch_trainers(name: str, weight_decay: float) -> None:
    changes: dict[str, Any] = {
        "optimizer": name,
        "weight_decay": weight_decay,
        "steps": STEPS,
        "warmup_steps": 2,
    }
    rng = np.random.default_rng(0)
    starts = [rng.normal(size=shape).astype(np.float32) for shape in ((4, 3), (3,), (2, 2))]
    starts.append(np.zeros((2, 3), np.float32))  # which LARS leaves as it is
    module = torch.nn.Module()
    for number, start in enumerate(starts):
        module.register_parameter(str(number), torch.nn.Parameter(torch.tensor(start)))
    theirs = build_torch_optimizer(TorchOptions(**changes), [module], fused=False)
    variables = [keras.Variable(start, name=f"v{number}") for number, start in enumerate(starts)]
    ours = build_optimizer(KerasOptions(**changes), variables)
    for step in range(1, STEPS + 1):
        gradients = [rng.normal(size=start.shape).astype(np.float32) for start in starts]
        for parameter, gradient in zip(module.parameters(), gradients, strict=True):
            parameter.grad = torch.tensor(gradient)
        set_learning_rate(theirs, TorchOptions(**changes).learning_rate_at(step))
        theirs.step()
        ours.apply([ops.convert_to_tensor(g) for g in gradients], variables)
    for variable, parameter, start in zip(variables, module.parameters(), starts, strict=True):
        moved = ops.convert_to_numpy(variable) - start
        np.testing.assert_allclose(moved, parameter.detach().numpy() - start, rtol=2e-3, atol=1e-6)


def embeddings(pictures: int = 6, views: int = 4, dimensions: int = 8, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(pictures, 1, dimensions))
    return (centres + rng.normal(size=(pictures, views, dimensions))).astype(np.float32)


@pytest.mark.parametrize(
    "changes",
    [
        {"temperature": 0.2},
        {"objective": "fast_ap", "num_bins": 7},
        {"objective": "sup_con", "blocks": 3},
        {"include_query": True},
        {"method": "simclr"},
    ],
)
def test_ranking_is_the_objective(changes: dict[str, Any]) -> None:
    options, views = KerasOptions(**changes), embeddings()
    loss = build_method(options, count())([ops.convert_to_tensor(views)], ops.convert_to_tensor(1))
    expected = rankloss.torch.embedding_loss(
        objective(options), torch.from_numpy(views), include_query=options.include_query
    )
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("queue_size", [0, 12])
def test_swav_is_the_pytorch_trainers(queue_size: int) -> None:
    changes: dict[str, Any] = {
        "method": "swav", "head_dim": 8, "prototypes": 5, "prototypes_frozen_steps": 0, "queue_size": queue_size,
        "queue_start_step": 1, "batch_images": 6, "views": 4,
    }  # fmt: skip
    theirs = build_torch_method(TorchOptions(**changes))
    theirs.before_step(1)
    ours = build_method(KerasOptions(**changes), count())
    lengths = np.linalg.norm(ops.convert_to_numpy(ours.prototypes), axis=1)
    np.testing.assert_allclose(lengths, 1, rtol=1e-5)
    ours.prototypes.assign(theirs.prototypes.heads[0].weight.detach().numpy())
    for step in range(1, 5):  # the queue, of 2 batches, is used from the third step on
        views = [embeddings(views=2, seed=step), embeddings(views=2, seed=10 + step)]
        expected = theirs([torch.from_numpy(kind) for kind in views], step)
        loss = ours([ops.convert_to_tensor(kind) for kind in views], ops.convert_to_tensor(np.int32(step)))
        assert ops.convert_to_numpy(loss) == pytest.approx(expected.item(), rel=1e-5)


def small_options(**changes: Any) -> KerasOptions:
    values: dict[str, Any] = {"views": 4, "batch_images": 8, "head_hidden": 16, "head_dim": 8}
    return KerasOptions(**values | {"warmup_steps": 0, "prototypes": 6, "queue_size": 16} | changes)


def test_all_methods_start_from_one_encoder_that_the_seed_decides() -> None:
    def start(**changes: Any) -> list[np.ndarray]:
        model = Pretraining(small_options(**changes), 16, 1)
        return [ops.convert_to_numpy(v) for v in model.encoder.variables]

    first = start()
    for changes in ({"method": "simclr"}, {"method": "swav"}, {"head_dim": 5}):
        assert all(map(np.array_equal, first, start(**changes)))
    assert not all(map(np.array_equal, first, start(seed=1)))


def test_prototypes_stay_on_the_unit_sphere_and_frozen_at_first() -> None:
    options = small_options(method="swav", steps=4, prototypes_frozen_steps=3)
    model, seen = Pretraining(options, 16, 1), []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            seen.append(ops.convert_to_numpy(self.model.method.prototypes))

    rng, start = np.random.default_rng(0), ops.convert_to_numpy(model.method.prototypes)
    pictures = rng.integers(0, 256, (4 * 8, 16, 16, 1), np.uint8)

    class Batches(keras.utils.PyDataset):
        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> Any:
            numbers = {name: np.array([index + 1], np.int32) for name in ("seed", "step")}
            return ({"pictures": pictures[8 * index : 8 * index + 8]} | numbers,)

    model.fit(Batches(), verbose=0, shuffle=False, callbacks=[Watch()])
    for prototypes in seen:
        np.testing.assert_allclose(np.linalg.norm(prototypes, axis=1), 1, rtol=1e-5)
    moved = [np.abs(prototypes - start).max() for prototypes in seen]
    assert max(moved[:2]) < 1e-6 and moved[2] > 1e-4
