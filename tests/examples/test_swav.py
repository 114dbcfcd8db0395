"""SwAV in any framework's arrays against lightly's, in PyTorch: loss, assignments, gradients, queues."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from lightly.loss import SwaVLoss
from lightly.loss.swav_loss import sinkhorn
from torch.nn import functional

from pretraining.options import Options
from pretraining.swav import SwAV, assign, swapped_prediction, unit_rows

PICTURES, DIMENSIONS, PROTOTYPES = 6, 8, 5


def rows(*shape: int, seed: int = 0, dtype: Any = np.float64) -> np.ndarray:
    """Rows of length 1."""
    return unit_rows(np, np.random.default_rng(seed).normal(size=shape)).astype(dtype)


def keras_ops() -> Any:
    import keras

    return keras.ops


NAMESPACES = [
    pytest.param(lambda: (np, lambda array: array), id="numpy"),
    pytest.param(lambda: (jnp, jax.lax.stop_gradient), id="jax"),
    pytest.param(lambda: (ops := keras_ops(), ops.stop_gradient), id="keras"),
]


@pytest.mark.parametrize("epsilon", [0.05, 0.5])
def test_assignment_is_lightlys(epsilon: float) -> None:
    scores = rows(9, DIMENSIONS) @ rows(PROTOTYPES, DIMENSIONS, seed=1).T
    expected = sinkhorn(torch.from_numpy(scores), iterations=3, epsilon=epsilon).numpy()
    np.testing.assert_allclose(assign(np, scores, epsilon=epsilon), expected, rtol=1e-12)


def test_assignment_uses_all_prototypes_and_survives_a_small_epsilon() -> None:
    scores = (rows(400, DIMENSIONS) @ rows(PROTOTYPES, DIMENSIONS, seed=1).T).astype(np.float32)
    codes = assign(np, scores, epsilon=0.002)  # exp(1 / 0.002) is infinite, even in float64
    assert np.isfinite(codes).all()
    np.testing.assert_allclose(codes.sum(1), 1, rtol=1e-5)
    used = codes.sum(0) / len(codes)
    assert used.min() > 0.1 and used.max() < 0.3  # 5 prototypes; by the nearest alone they are used unevenly


@pytest.mark.parametrize("small", [0, 3], ids=["full", "full-and-small"])
@pytest.mark.parametrize("queue", [0, 7], ids=["no-queue", "queue"])
def test_loss_is_lightlys(small: int, queue: int) -> None:
    prototypes = rows(PROTOTYPES, DIMENSIONS, seed=9)
    views = [rows(PICTURES, DIMENSIONS, seed=view) @ prototypes.T for view in range(2 + small)]
    queued = [rows(queue, DIMENSIONS, seed=20 + crop) @ prototypes.T for crop in range(2)]
    lightly = SwaVLoss(temperature=0.1, sinkhorn_epsilon=0.05)
    tensors = [torch.from_numpy(view) for view in views]
    queues = [torch.from_numpy(part) for part in queued] if queue else None
    expected = lightly(tensors[:2], tensors[2:], queues).item()
    joint = [np.concatenate(pair) for pair in zip(views, queued, strict=False)]
    codes = [assign(np, scores, epsilon=0.05)[:PICTURES] for scores in joint]
    loss = swapped_prediction(np, views[:2], views[2:], codes, temperature=0.1)
    assert loss == pytest.approx(expected, rel=1e-12)


def lightly_step(
    embeddings: list[np.ndarray], prototypes: np.ndarray, queues: np.ndarray | None
) -> tuple[float, list[np.ndarray]]:
    """The loss in PyTorch, and its gradients by embeddings and prototypes."""
    kinds = [torch.tensor(kind, requires_grad=True) for kind in embeddings]
    weight = torch.tensor(prototypes, requires_grad=True)
    scores = [[view @ weight.T for view in functional.normalize(kind, dim=-1).unbind(1)] for kind in kinds]
    queued = None if queues is None else [torch.tensor(queue) @ weight.T for queue in queues]
    loss = SwaVLoss(temperature=0.2, sinkhorn_epsilon=0.05)(*(*scores, [])[:2], queued).squeeze()
    loss.backward()
    return loss.item(), [tensor.grad.numpy() for tensor in (*kinds, weight) if tensor.grad is not None]


def kinds_of_crops(small: int) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    return [rng.normal(size=(PICTURES, n, DIMENSIONS)).astype(np.float32) for n in (2, small) if n]


@pytest.mark.parametrize("namespace", NAMESPACES)
@pytest.mark.parametrize("small", [0, 3], ids=["full", "full-and-small"])
@pytest.mark.parametrize("queue", [0, 7], ids=["no-queue", "queue"])
def test_step_is_lightlys_in_every_namespace(namespace: Any, small: int, queue: int) -> None:
    xp, stop_gradient = namespace()
    embeddings, prototypes = kinds_of_crops(small), rows(PROTOTYPES, DIMENSIONS, seed=9, dtype=np.float32)
    queues = rows(2, queue, DIMENSIONS, seed=5, dtype=np.float32) if queue else None
    swav = SwAV(temperature=0.2, epsilon=0.05, frozen_steps=0, queue_start_step=1)
    convert = xp.asarray if xp in (np, jnp) else xp.convert_to_tensor
    held = None if queues is None else convert(queues)
    loss, after = swav(xp, stop_gradient, [*map(convert, embeddings)], convert(prototypes), held, 1)
    assert float(loss) == pytest.approx(lightly_step(embeddings, prototypes, queues)[0], rel=1e-5)
    assert (after is None) == (queues is None)


@pytest.mark.parametrize("queue", [0, 7], ids=["no-queue", "queue"])
def test_gradients_are_lightlys_under_jit(queue: int) -> None:
    embeddings, prototypes = kinds_of_crops(3), rows(PROTOTYPES, DIMENSIONS, seed=9, dtype=np.float32)
    queues = rows(2, queue, DIMENSIONS, seed=5, dtype=np.float32) if queue else None
    swav = SwAV(temperature=0.2, epsilon=0.05, frozen_steps=2, queue_start_step=2)

    @jax.jit
    def gradients(embeddings: list[jax.Array], prototypes: jax.Array, step: jax.Array) -> Any:
        def loss(embeddings: list[jax.Array], prototypes: jax.Array) -> jax.Array:
            held = None if queues is None else jnp.asarray(queues)
            return swav(jnp, jax.lax.stop_gradient, embeddings, prototypes, held, step)[0]

        return jax.grad(loss, (0, 1))(embeddings, prototypes)

    by_embeddings, by_prototypes = gradients([jnp.asarray(kind) for kind in embeddings], prototypes, 2)
    expected = lightly_step(embeddings, prototypes, queues)[1]
    for found, right in zip((*by_embeddings, by_prototypes), expected, strict=True):
        np.testing.assert_allclose(found, right, atol=1e-5 * np.abs(right).max())
    frozen = gradients([jnp.asarray(kind) for kind in embeddings], prototypes, 1)[1]
    assert not frozen.any()


def test_queue_is_first_in_first_out_and_used_once_it_is_full() -> None:
    options = Options(
        method="swav", batch_images=PICTURES, queue_size=13, queue_start_step=2, prototypes_frozen_steps=0
    )
    swav = SwAV.of(options)
    assert swav.queue_start_step == 4  # 13 places, 6 pictures a step
    prototypes, queues = rows(PROTOTYPES, DIMENSIONS, seed=9), np.zeros((2, 13, DIMENSIONS))
    equal, seen = [], []
    for step in range(1, 6):
        embeddings = [np.random.default_rng(step).normal(size=(PICTURES, 2, DIMENSIONS)).astype(np.float32)]
        seen.insert(0, unit_rows(np, embeddings[0]).swapaxes(0, 1))
        without, _ = swav(np, lambda array: array, embeddings, prototypes, None, step)
        loss, queues = swav(np, lambda array: array, embeddings, prototypes, queues, step)
        equal.append(bool(loss == without))
        if step > 2:
            np.testing.assert_array_equal(queues, np.concatenate(seen, axis=1)[:, :13])
    assert equal == [True, True, True, False, False]


def test_options_decide() -> None:
    options = Options(method="swav", views=2, views_per_step=512, queue_size=512, queue_start_step=100)
    assert SwAV.of(options) == SwAV(0.1, 0.05, frozen_steps=20, queue_start_step=100)


def test_zero_row_has_a_finite_gradient() -> None:
    gradient = jax.grad(lambda x: unit_rows(jnp, x).sum())(jnp.zeros((2, 3)))
    assert jnp.isfinite(gradient).all()
