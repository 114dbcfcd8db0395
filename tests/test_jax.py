"""`rankloss.jax` under JAX's transformations: jit, grad, jvp, vmap, scan, shardings; and what each computes."""

import os
import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import Case
from faces import JaxFace
from flax import nnx
from numpy.testing import assert_allclose

import rankloss
import rankloss.jax as rl
from rankloss.jax._framework import JaxFramework

OBJECTIVES = (rl.SmoothAP(temperature=0.05), rl.FastAP(num_bins=7), rl.SupCon(temperature=0.1))
EACH_OBJECTIVE = pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
RNG = np.random.default_rng(0)
LABELS = RNG.permutation(np.repeat(np.arange(6), [9, 1, 2, 5, 3, 3]))
EMBEDDINGS = RNG.normal(size=(23, 5))
GALLERY, GALLERY_LABELS = RNG.normal(size=(11, 5)), RNG.integers(0, 7, size=11)
MASK = RNG.uniform(size=(23, 11)) < 0.3
WEIGHTS = RNG.uniform(0.5, 2.0, size=23)
LAYOUTS = {
    "labels": Case(None, EMBEDDINGS, LABELS, {"weights": WEIGHTS, "block_size": 4}),
    "views": Case(None, RNG.normal(size=(6, 3, 5)), None, {"block_size": 5}),
    "many views": Case(None, RNG.normal(size=(2, 19, 5)), None, {}),
    "one block": Case(None, EMBEDDINGS, LABELS, {"include_query": True, "reduction": "sum"}),
    "gallery": Case(
        None, EMBEDDINGS, LABELS, {"gallery": GALLERY, "gallery_labels": GALLERY_LABELS, "block_size": 8}
    ),
    "relevant": Case(None, EMBEDDINGS, None, {"gallery": GALLERY, "relevant": MASK, "block_size": 8}),
    # Long enough for sums over folded rows, which are no multiple of the fold, and for several turns of positives.
    "folds": Case(None, RNG.normal(size=(203, 5)), RNG.permutation(203) % 20, {"block_size": 64}),
}
JITTED = JaxFace("jitted", jax.jit)


@pytest.fixture(autouse=True)
def _in_64_bit() -> Iterator[None]:
    with jax.enable_x64(True):
        yield


def check(objective: Any, case: Case) -> None:
    expected = rankloss.embedding_loss_and_gradient(objective, *case.arguments, **case.options)
    loss, found = JITTED.value_and_gradient("embedding_loss", objective, *case.arguments, **case.options)
    assert_allclose(loss, expected[0], rtol=1e-12)
    gradients = zip(*[g if isinstance(g, tuple) else (g,) for g in (found, expected[1])], strict=True)
    for gradient, wanted in gradients:
        assert_allclose(gradient, wanted, rtol=0, atol=1e-12 * np.abs(wanted).max())


# -- jit


@EACH_OBJECTIVE
@pytest.mark.parametrize("layout", ["labels", "folds"])
def test_traced_labels(objective: Any, layout: str) -> None:
    check(objective, LAYOUTS[layout])


@pytest.mark.parametrize("layout", ["views", "many views", "one block", "gallery", "relevant"])
def test_each_layout_traced(layout: str) -> None:
    check(OBJECTIVES[0], LAYOUTS[layout])


def test_blockwise_traced() -> None:
    check(rl.Blockwise(OBJECTIVES[0], 3), LAYOUTS["views"])


def test_one_compilation_for_a_shape_whatever_the_labels() -> None:
    step = jax.jit(jax.value_and_grad(lambda x, y: rl.embedding_loss(rl.SmoothAP(), x, y)))
    for classes in (1, 2, 23):
        step(jnp.asarray(EMBEDDINGS), jnp.arange(23) % classes)
    assert step._cache_size() == 1


def test_eager_calls_compile_once() -> None:
    from rankloss.jax._gradients import run_embeddings

    before = run_embeddings._cache_size()
    for classes in (2, 3):
        rl.embedding_loss(rl.SmoothAP(0.123), jnp.asarray(EMBEDDINGS), jnp.arange(23) % classes)
    assert run_embeddings._cache_size() == before + 1


def test_32_bit_types_alone() -> None:
    with jax.enable_x64(False):
        x, w = jnp.asarray(EMBEDDINGS, jnp.float32), jnp.asarray(WEIGHTS, jnp.float32)
        y = jnp.asarray(LABELS, jnp.int32)
        loss, gradient = jax.jit(
            jax.value_and_grad(lambda x, y, w: rl.embedding_loss(OBJECTIVES[0], x, y, weights=w))
        )(x, y, w)
    expected = rankloss.embedding_loss_and_gradient(OBJECTIVES[0], EMBEDDINGS, LABELS, weights=WEIGHTS)
    assert loss.dtype == gradient.dtype == jnp.float32
    assert_allclose(loss, expected[0], rtol=1e-5)
    assert_allclose(gradient, expected[1], atol=1e-5)


def test_bfloat16() -> None:
    x = jnp.asarray(EMBEDDINGS, jnp.bfloat16)
    loss, gradient = jax.value_and_grad(lambda x: rl.embedding_loss(OBJECTIVES[0], x, jnp.asarray(LABELS)))(x)
    expected = rankloss.embedding_loss(OBJECTIVES[0], np.asarray(x, np.float64), LABELS)
    assert (loss.dtype, gradient.dtype) == (jnp.float32, jnp.bfloat16)
    assert_allclose(loss, expected, rtol=1e-5)


# -- who gets a gradient


def test_no_gradient_is_made_where_none_is_wanted() -> None:
    """The gradient by the gallery alone is a sum that the scan carries; without it, the scan carries nothing."""
    x, g = jnp.asarray(EMBEDDINGS), jnp.asarray(GALLERY)
    arrays = {"gallery_labels": jnp.asarray(GALLERY_LABELS), "block_size": 8}

    def loss(x: Any, g: Any) -> Any:
        return rl.embedding_loss(OBJECTIVES[2], x, jnp.asarray(LABELS), gallery=g, **arrays)

    def products(function: Any) -> int:
        return str(jax.make_jaxpr(function)(x, g)).count("dot_general[")

    assert products(loss) == 1
    assert products(jax.grad(loss)) == products(jax.grad(loss, 1)) == 2
    assert products(jax.grad(loss, (0, 1))) == 3


def test_each_loss_has_its_own_incoming_gradient() -> None:
    x, y, w = jnp.asarray(EMBEDDINGS), jnp.asarray(LABELS), jnp.asarray(WEIGHTS)
    incoming = jnp.asarray(RNG.normal(size=23))
    found = jax.grad(
        lambda x: jnp.sum(incoming * rl.embedding_loss(OBJECTIVES[0], x, y, weights=w, reduction="none"))
    )(x)
    h, direction = 1e-6, RNG.normal(size=x.shape)
    ends = [
        rankloss.embedding_loss(
            OBJECTIVES[0], EMBEDDINGS + s * direction, LABELS, weights=WEIGHTS, reduction="none"
        )
        for s in (h, -h)
    ]
    assert_allclose(jnp.sum(found * direction), np.sum(incoming * (ends[0] - ends[1])) / (2 * h), rtol=1e-6)


def test_a_metric_has_no_gradient() -> None:
    y = jnp.asarray(LABELS)
    gradient = jax.grad(lambda x: rl.embedding_metric(rl.AveragePrecision(), x, y))(jnp.asarray(EMBEDDINGS))
    assert not gradient.any()


# -- second derivatives


@pytest.mark.parametrize("layout", ["labels", "views", "gallery", "folds"])
@pytest.mark.parametrize(
    "objective", [*OBJECTIVES, rl.SmoothAP(temperature=0.004), rl.SmoothAP(temperature=0.001)], ids=repr
)
def test_hessian_vector_products(objective: Any, layout: str) -> None:
    """The last two temperatures reach exponents whose squares overflow, and the sigmoid instead of the ratio."""
    if layout in ("gallery", "folds") and objective not in OBJECTIVES:
        pytest.skip("of sizes that the other layouts have, too")
    case = LAYOUTS[layout]
    x, *rest = (jnp.asarray(argument) for argument in case.arguments)
    options = {k: jnp.asarray(v) if isinstance(v, np.ndarray) else v for k, v in case.options.items()}
    gradient = jax.jit(jax.grad(lambda x: rl.embedding_loss(objective, x, *rest, **options)))
    direction, h = jnp.asarray(np.random.default_rng(1).normal(size=x.shape)), 1e-7
    found = jax.jvp(gradient, (x,), (direction,))[1]
    wanted = (gradient(x + h * direction) - gradient(x - h * direction)) / (2 * h)
    assert_allclose(found, wanted, rtol=0, atol=1e-6 * np.abs(wanted).max())


def test_a_hessian() -> None:
    scores, relevant = (
        jnp.asarray(RNG.uniform(-1, 1, size=(2, 4))),
        jnp.array([[True, False, True, False]] * 2),
    )
    gradient = jax.grad(lambda s: rl.score_loss(OBJECTIVES[0], s, relevant))
    hessian = jax.hessian(lambda s: rl.score_loss(OBJECTIVES[0], s, relevant))(scores)
    product = jax.jvp(gradient, (scores,), (scores,))[1]
    assert_allclose(jnp.tensordot(hessian, scores, 2), product, atol=1e-12)
    assert_allclose(hessian, jnp.transpose(hessian, (2, 3, 0, 1)), atol=1e-12)


def test_no_overflow_in_a_32_bit_hessian_vector_product() -> None:
    with jax.enable_x64(False):
        x = jnp.asarray(LAYOUTS["views"].embeddings, jnp.float32)
        gradient = jax.grad(lambda x: rl.embedding_loss(rl.SmoothAP(0.02), x))
        assert jnp.isfinite(jax.jvp(gradient, (x,), (jnp.ones_like(x) * x[::-1],))[1]).all()


# -- NaN


@EACH_OBJECTIVE
def test_nothing_of_a_masked_or_empty_row_is_nan_under_debug_nans(objective: Any) -> None:
    scores = jnp.asarray(RNG.uniform(-1, 1, size=(4, 7)))
    relevant = jnp.asarray(RNG.uniform(size=(4, 7)) < 0.5).at[0].set(False)
    valid = jnp.asarray(RNG.uniform(size=(4, 7)) < 0.7).at[1].set(False)
    x = jnp.asarray(EMBEDDINGS).at[3].set(0)
    with jax.debug_nans(True):
        gradient = jax.grad(lambda s: rl.score_loss(objective, s, relevant, valid=valid))
        assert jnp.isfinite(gradient(scores)).all()
        assert jnp.isfinite(jax.jvp(gradient, (scores,), (scores,))[1]).all()
        of_rows = jax.grad(lambda x: rl.embedding_loss(objective, x, jnp.asarray(LABELS), block_size=4))(x)
        assert not of_rows[3].any()


# -- other transformations


@EACH_OBJECTIVE
def test_vmap_equals_one_call_each(objective: Any) -> None:
    scores = RNG.uniform(-1, 1, size=(2, 3, 4, 7))
    relevant = RNG.uniform(size=(2, 3, 4, 7)) < 0.4

    def each(s: Any, r: Any) -> Any:
        return jax.value_and_grad(lambda s: rl.score_loss(objective, s, r))(s)

    losses, gradients = jax.vmap(jax.vmap(each))(jnp.asarray(scores), jnp.asarray(relevant))
    for i, j in np.ndindex(2, 3):
        loss, gradient = rankloss.score_loss_and_gradient(objective, scores[i, j], relevant[i, j])
        assert_allclose(losses[i, j], loss, rtol=1e-12)
        assert_allclose(gradients[i, j], gradient, atol=1e-12 * np.abs(gradient).max())


def test_vmap_of_batches_in_several_blocks_takes_one_branch_for_all() -> None:
    """Where classes lie close together the window is narrow; one batch where they don't makes it wide for all."""
    x = jnp.asarray(RNG.normal(size=(3, 24, 4)))
    labels = jnp.asarray([np.arange(24) // 2, np.arange(24) // 12, np.arange(24) % 5])
    each = jax.grad(lambda x, y: rl.embedding_loss(OBJECTIVES[0], x, y, block_size=4))
    for some in (labels, labels[:1]):
        gradients = jax.vmap(each)(x[: len(some)], some)
        for gradient, rows, classes in zip(gradients, x, some, strict=False):
            wanted = rankloss.embedding_loss_and_gradient(
                OBJECTIVES[0], np.asarray(rows), np.asarray(classes)
            )[1]
            assert_allclose(gradient, wanted, atol=1e-12 * np.abs(wanted).max())
    assert str(jax.make_jaxpr(jax.vmap(each))(x, labels)).count("cond[") == str(
        jax.make_jaxpr(each)(x[0], labels[0])
    ).count("cond[")


def test_training_in_a_scan_with_donated_parameters() -> None:
    x, y = jnp.asarray(EMBEDDINGS), jnp.asarray(LABELS)

    def turn(w: Any, _: None) -> Any:
        loss, gradient = jax.value_and_grad(lambda w: rl.embedding_loss(rl.SupCon(), x @ w, y))(w)
        return w - 0.1 * gradient, loss

    train = jax.jit(lambda w: jax.lax.scan(turn, w, None, length=20), donate_argnums=0)
    parameters = jnp.eye(5)
    _, losses = train(parameters)
    assert losses[-1] < losses[0]
    assert parameters.is_deleted()


def test_a_scan_over_batches_with_their_labels() -> None:
    """Labels that change from turn to turn, in one program."""
    batches = RNG.normal(size=(3, 8, 5)), RNG.integers(0, 3, size=(3, 8))

    def turn(_: None, batch: Any) -> Any:
        return None, jax.value_and_grad(lambda x: rl.embedding_loss(OBJECTIVES[0], x, batch[1]))(batch[0])

    _, (losses, gradients) = jax.lax.scan(turn, None, tuple(jnp.asarray(array) for array in batches))
    for x, y, loss, gradient in zip(*batches, losses, gradients, strict=True):
        wanted = rankloss.embedding_loss_and_gradient(OBJECTIVES[0], x, y)
        assert_allclose(loss, wanted[0], rtol=1e-12)
        assert_allclose(gradient, wanted[1], rtol=0, atol=1e-12 * np.abs(wanted[1]).max())


@pytest.mark.parametrize("labelled", [True, False], ids=["labels", "views"])
def test_vmap_of_embeddings(labelled: bool) -> None:
    """Several batches at once, each with labels of its own, as leading axes."""
    shape = (3, 8, 5) if labelled else (3, 4, 2, 5)
    batches, labels = RNG.normal(size=shape), RNG.integers(0, 3, size=(3, 8))

    def loss(x: Any, y: Any) -> Any:
        return rl.embedding_loss(OBJECTIVES[0], x, y if labelled else None)

    losses, gradients = jax.vmap(jax.value_and_grad(loss))(jnp.asarray(batches), jnp.asarray(labels))
    for x, y, loss_of, gradient in zip(batches, labels, losses, gradients, strict=True):
        wanted = rankloss.embedding_loss_and_gradient(OBJECTIVES[0], x, y if labelled else None)
        assert_allclose(loss_of, wanted[0], rtol=1e-12)
        assert_allclose(gradient, wanted[1], rtol=0, atol=1e-12 * np.abs(wanted[1]).max())


def test_an_objective_is_a_static_argument() -> None:
    """It is hashable, and equal ones share a program."""
    function = jax.jit(rl.embedding_loss, static_argnums=0)
    x, y = jnp.asarray(EMBEDDINGS), jnp.asarray(LABELS)
    for objective in (rl.SupCon(0.2), rl.SupCon(temperature=0.2)):
        assert_allclose(function(objective, x, y), rankloss.embedding_loss(objective, EMBEDDINGS, LABELS))
    assert function._cache_size() == 1


def test_a_flax_module_learns_by_optax() -> None:
    model = nnx.Linear(5, 4, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.adam(0.03), wrt=nnx.Param)
    x, y = jnp.asarray(EMBEDDINGS, jnp.float32), jnp.asarray(LABELS)

    @nnx.jit
    def step(model: Any, optimizer: Any) -> Any:
        loss, gradients = nnx.value_and_grad(lambda m: rl.embedding_loss(rl.SmoothAP(0.1), m(x), y))(model)
        optimizer.update(model, gradients)
        return loss

    losses = [float(step(model, optimizer)) for _ in range(20)]
    assert losses[-1] < losses[0]


# -- labels and arrays


def test_labels_of_32_bits_that_wrap_stay_apart() -> None:
    with jax.enable_x64(False):
        x, g = jnp.asarray(EMBEDDINGS[:2], jnp.float32), jnp.asarray(GALLERY[:2], jnp.float32)
        labels = jnp.array([2**32 - 1, 7], jnp.uint32)
        losses = rl.embedding_loss(
            rl.SupCon(), x, labels, gallery=g, gallery_labels=jnp.array([-1, 7], jnp.int32), reduction="none"
        )
    assert losses[0] == 0 < losses[1]


@pytest.mark.parametrize("width", [1, 127, 128, 135, 203])
def test_sums_of_several_terms(width: int) -> None:
    array = RNG.normal(size=(3, width))
    found = JaxFramework().sums(lambda x: [x, 2 * x, x**2, jnp.exp(x)], jnp.asarray(array))
    for sums, terms in zip(found, [array, 2 * array, array**2, np.exp(array)], strict=True):
        assert_allclose(sums, terms.sum(axis=1), rtol=1e-12)


def test_histograms_by_scatter_equal_those_by_sums() -> None:
    index, values = jnp.asarray(RNG.integers(0, 40, size=(3, 50))), jnp.asarray(RNG.normal(size=(3, 50)))
    found = JaxFramework().add_at(jnp.zeros((3, 40)), index, values)
    expected = [np.bincount(i, v, minlength=40) for i, v in zip(index, values, strict=True)]
    assert_allclose(found, expected, atol=1e-13)


@pytest.mark.parametrize("most", [2**31 - 1, 119])
def test_entries_are_found_by_one_index_or_by_two(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The latter where one would overflow."""
    monkeypatch.setattr(jnp, "iinfo", lambda _: SimpleNamespace(max=most))
    array, index = RNG.normal(size=(3, 40, 2)), RNG.integers(0, 40, size=(3, 50))
    vectors = RNG.normal(size=(3, 50, 2))
    expected = array.copy()
    np.add.at(expected, (np.arange(3)[:, None], index), vectors)
    framework, index = JaxFramework(), jnp.asarray(index)
    assert framework.countable(array) == (most > 119)
    assert_allclose(
        framework.add_vectors_at(jnp.asarray(array), index, jnp.asarray(vectors)), expected, atol=1e-13
    )
    found = framework.take_along(jnp.asarray(array[..., 0]), index)
    assert_allclose(found, np.take_along_axis(array[..., 0], np.asarray(index), axis=1))


@pytest.mark.parametrize(("items", "rows"), [(1024, 1024), (2048, 512), (4096, 256), (16_384, 128)])
def test_up_to_a_million_similarities_are_one_block(items: int, rows: int) -> None:
    assert JaxFramework().rows_a_block(items, items, jnp.zeros(1)) == rows


# -- devices

SHARDED = """
import re, jax, jax.numpy as jnp, numpy as np
import rankloss.jax as rl
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
assert len(jax.devices()) == 8
sharding = NamedSharding(Mesh(np.array(jax.devices()), ("batch",)), P("batch"))
x = jnp.asarray(np.random.default_rng(0).normal(size=(64, 16)), jnp.float32)
y = jnp.arange(64) * 7 % 9
views = x.reshape(16, 4, 16)
for name, arguments in (("labels", (x, y)), ("views", (views,))):
    step = jax.jit(jax.value_and_grad(lambda *a: rl.embedding_loss(rl.SmoothAP(0.1), *a, block_size=16)))
    expected = step(*arguments)
    placed = [jax.device_put(a, sharding) for a in arguments]
    found = step(*placed)
    assert abs(found[0] - expected[0]) < 1e-6, name
    assert np.abs(np.asarray(found[1]) - np.asarray(expected[1])).max() < 1e-6, name
    text = step.lower(*placed).compile().as_text()
    for line in re.findall(r"= (\\S+) (all-\\S+?|collective-\\S+?|reduce-scatter)\\(", text):
        print(name, *line)
"""


def test_eight_devices_equal_one_and_gather_no_more_than_the_gallery() -> None:
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=8",
        "JAX_PLATFORMS": "cpu",
    }
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", SHARDED],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    shapes = [line.split()[1] for line in result.stdout.splitlines()]
    assert shapes, "a batch over several devices needs collectives"
    for shape in shapes:
        for lengths in (part.split("]")[0] for part in shape.split("[")[1:]):
            assert np.prod([int(length) for length in lengths.split(",") if length]) <= 64 * 16, shape
