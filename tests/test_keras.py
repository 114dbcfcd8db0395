"""`rankloss.keras.RankingLoss` in `compile`, `fit` and `evaluate`, on the backend that Keras runs on.

test_keras_backends.py runs this file on the other two.
"""

from typing import Any

import keras
import numpy as np
import pytest
from keras_models import fitted_gradient, table_model, unchanged_model
from numpy.testing import assert_allclose

import rankloss
import rankloss.keras as rl

OBJECTIVES = (rl.SmoothAP(temperature=0.1), rl.FastAP(num_bins=7), rl.SupCon(), rl.Blockwise(rl.SupCon(), 2))
EACH_OBJECTIVE = pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
RNG = np.random.default_rng(0)
EMBEDDINGS = RNG.normal(size=(12, 4)).astype("float32")
LABELS = np.array([0, 1, 0, 1, 2, 2, 2, 0, 3, 1, 4, 0])
VIEWS = RNG.normal(size=(6, 3, 4)).astype("float32")
WEIGHTS = RNG.uniform(0.5, 2, size=12).astype("float32")


def expected(objective: Any, embeddings: Any, labels: Any = None, **options: Any) -> tuple[float, Any]:
    """Loss and gradient by the core in float64."""
    loss, gradient = rankloss.embedding_loss_and_gradient(
        objective, np.asarray(embeddings, "float64"), labels, **options
    )
    return float(loss), gradient


def check(found: tuple[float, Any], wanted: tuple[float, Any]) -> None:
    assert_allclose(found[0], wanted[0], rtol=1e-5, atol=1e-6)
    assert_allclose(found[1], wanted[1], rtol=0, atol=1e-5 * max(1, np.abs(wanted[1]).max()))


def test_the_functions_are_those_of_the_framework_that_keras_runs_on() -> None:
    for function in (rl.embedding_loss, rl.score_loss, rl.embedding_metric, rl.score_metric):
        assert function.__module__ == f"rankloss.{keras.backend.backend()}._functions"


@pytest.mark.parametrize("number", [2**31 - 1, 2**32])
def test_labels_are_never_cut_off(number: int) -> None:
    labels = np.array([0, number] * 6)
    wide = keras.backend.standardize_dtype(keras.ops.convert_to_tensor(labels).dtype) == "int64"
    if wide or number < 2**31:
        loss = float(rl.RankingLoss(OBJECTIVES[0])(labels, EMBEDDINGS))
        assert_allclose(
            loss, rankloss.embedding_loss(OBJECTIVES[0], EMBEDDINGS, np.arange(12) % 2), rtol=1e-5
        )
    else:
        with pytest.raises(ValueError, match=r"labels must fit into int32.*found 4294967296"):
            rl.RankingLoss(OBJECTIVES[0])(labels, EMBEDDINGS)


@EACH_OBJECTIVE
@pytest.mark.parametrize("jit_compile", [False, True] if keras.backend.backend() != "torch" else [False])
def test_a_last_batch_of_another_size(objective: Any, jit_compile: bool) -> None:
    """`fit` then has the number of images known at run time only in TensorFlow."""
    model = unchanged_model()
    model.compile(keras.optimizers.SGD(0.0), rl.RankingLoss(objective), jit_compile=jit_compile)
    found = model.fit(VIEWS, batch_size=4, shuffle=False, verbose=0).history["loss"][0]
    losses = [float(rankloss.embedding_loss(objective, VIEWS[part])) for part in (slice(4), slice(4, 6))]
    assert_allclose(found, np.average(losses, weights=[4, 2]), rtol=1e-5)


# -- values and gradients


@EACH_OBJECTIVE
def test_a_step_of_fit(objective: Any) -> None:
    check(
        fitted_gradient(rl.RankingLoss(objective), EMBEDDINGS, LABELS),
        expected(objective, EMBEDDINGS, LABELS),
    )


# PyTorch's compiler takes a minute.
SLOW_ON_TORCH = [pytest.mark.long] if keras.backend.backend() == "torch" else []


@pytest.mark.parametrize("jit_compile", [False, pytest.param(True, marks=SLOW_ON_TORCH)])
def test_a_compiled_step(jit_compile: bool) -> None:
    loss = rl.RankingLoss(OBJECTIVES[0], include_query=True, block_size=5)
    found = fitted_gradient(loss, EMBEDDINGS, LABELS, jit_compile=jit_compile, sample_weight=WEIGHTS)
    check(found, expected(OBJECTIVES[0], EMBEDDINGS, LABELS, include_query=True, weights=WEIGHTS))


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8"])
@pytest.mark.parametrize("column", [False, True], ids=["[n]", "[n, 1]"])
def test_labels_as_data_sets_have_them(dtype: str, column: bool) -> None:
    labels = LABELS.astype(dtype).reshape((12, 1) if column else (12,))
    found = fitted_gradient(rl.RankingLoss(OBJECTIVES[0]), EMBEDDINGS, labels)
    check(found, expected(OBJECTIVES[0], EMBEDDINGS, LABELS))


def test_neighbouring_large_labels_stay_apart() -> None:
    """As float32 they would be one class, which no negative could outrank: no loss."""
    labels = np.array([2**24, 2**24 + 1] * 6)
    wanted = expected(OBJECTIVES[0], EMBEDDINGS, labels)
    assert wanted[0] > 0.1
    loss = rl.RankingLoss(OBJECTIVES[0])
    check(fitted_gradient(loss, EMBEDDINGS, labels), wanted)
    model = table_model(EMBEDDINGS.shape)
    model.compile("sgd", loss, metrics=[rl.RankingMetric(rl.AveragePrecision())])
    results = model.evaluate(EMBEDDINGS, labels, batch_size=12, verbose=0)
    precision = rankloss.embedding_metric(rankloss.AveragePrecision(), EMBEDDINGS, labels)
    assert_allclose(results, [wanted[0], precision], rtol=1e-5)


@pytest.mark.parametrize("column", [False, True], ids=["[n]", "[n, 1]"])
def test_sample_weights_are_query_weights(column: bool) -> None:
    weights = WEIGHTS[:, None] if column else WEIGHTS
    loss = rl.RankingLoss(OBJECTIVES[0], reduction="sum", normalize=False)
    check(
        fitted_gradient(loss, EMBEDDINGS, LABELS, sample_weight=weights),
        expected(OBJECTIVES[0], EMBEDDINGS, LABELS, weights=WEIGHTS, reduction="sum", normalize=False),
    )


def test_class_weights_are_query_weights() -> None:
    by_class = {0: 1.0, 1: 2.0, 2: 0.5, 3: 1.0, 4: 3.0}
    weights = np.array([by_class[label] for label in LABELS.tolist()])
    found = fitted_gradient(rl.RankingLoss(OBJECTIVES[0]), EMBEDDINGS, LABELS, class_weight=by_class)
    check(found, expected(OBJECTIVES[0], EMBEDDINGS, LABELS, weights=weights))


def test_the_mean_is_over_queries_with_a_positive() -> None:
    """Keras' own would divide by all twelve, of which two are singletons."""
    each = keras.ops.convert_to_numpy(rl.RankingLoss(rl.SupCon(), reduction="none")(LABELS, EMBEDDINGS))
    mean = float(rl.RankingLoss(rl.SupCon())(LABELS, EMBEDDINGS))
    assert each.shape == (12,)
    assert_allclose(mean, each.sum() / 10, rtol=1e-6)
    assert_allclose(rl.RankingLoss(rl.SupCon()).call(LABELS, EMBEDDINGS), each, rtol=1e-6)


# -- views


@EACH_OBJECTIVE
def test_views_need_no_labels(objective: Any) -> None:
    check(fitted_gradient(rl.RankingLoss(objective), VIEWS, None), expected(objective, VIEWS))


@pytest.mark.parametrize("objective", [OBJECTIVES[0], rl.Blockwise(rl.FastAP(), 3)], ids=repr)
def test_images_of_one_label_are_each_others_positives(objective: Any) -> None:
    labels, weights = np.array([3, 3, 0, 1, 0, 0]), RNG.uniform(0.5, 2, size=6)
    found = fitted_gradient(rl.RankingLoss(objective), VIEWS, labels, sample_weight=weights)
    flat = expected(objective, VIEWS.reshape(18, 4), np.repeat(labels, 3), weights=np.repeat(weights, 3))
    check(found, (flat[0], flat[1].reshape(VIEWS.shape)))
    with_each_views = fitted_gradient(
        rl.RankingLoss(objective), VIEWS, np.repeat(labels[:, None], 3, axis=1), sample_weight=weights
    )
    check(with_each_views, found)


def test_losses_of_views_have_their_shape() -> None:
    loss = rl.RankingLoss(rl.SupCon(), reduction="none")
    assert tuple(loss(None, VIEWS).shape) == tuple(loss(np.arange(6), VIEWS).shape) == (6, 3)
    assert_allclose(loss(None, VIEWS), loss(np.arange(6), VIEWS), rtol=1e-5)


# -- models


def test_outputs_of_several_losses() -> None:
    def heads() -> Any:
        inputs = keras.Input(batch_shape=EMBEDDINGS.shape)
        return keras.Model(inputs, {"rank": keras.layers.Identity()(inputs), "classes": inputs * 2})

    model = heads()
    cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    losses = {"rank": rl.RankingLoss(OBJECTIVES[0]), "classes": cross_entropy}
    model.compile("sgd", losses, loss_weights={"rank": 3.0, "classes": 1.0})
    classes = LABELS % 4
    results = model.evaluate(
        EMBEDDINGS, {"rank": LABELS, "classes": classes}, batch_size=12, verbose=0, return_dict=True
    )
    rank = expected(OBJECTIVES[0], EMBEDDINGS, LABELS)[0]
    assert_allclose(results["rank_loss"], rank, rtol=1e-5)
    assert_allclose(results["loss"], 3 * rank + results["classes_loss"], rtol=1e-5)


def test_a_list_of_losses() -> None:
    inputs = keras.Input(batch_shape=EMBEDDINGS.shape)
    model = keras.Model(inputs, [keras.layers.Identity()(inputs), inputs[:, :2]])
    model.compile("sgd", [rl.RankingLoss(objective) for objective in OBJECTIVES[:2]])
    found = model.evaluate(EMBEDDINGS, [LABELS, LABELS // 2], batch_size=12, verbose=0)[0]
    wanted = expected(OBJECTIVES[0], EMBEDDINGS, LABELS)[0]
    wanted += expected(OBJECTIVES[1], EMBEDDINGS[:, :2], LABELS // 2)[0]
    assert_allclose(found, wanted, rtol=1e-5)


def test_the_function_as_a_layers_loss() -> None:
    """Made symbolically, when the layer is called for the first time, and then with numbers."""

    class Ranked(keras.layers.Layer):
        def call(self, embeddings: Any) -> Any:
            self.add_loss(rl.embedding_loss(OBJECTIVES[0], embeddings))
            return embeddings

    inputs = keras.Input(batch_shape=VIEWS.shape)
    model = keras.Model(inputs, Ranked()(inputs))
    model.compile("sgd", loss=lambda y_true, y_pred: 0 * y_pred)
    found = model.evaluate(VIEWS, VIEWS, batch_size=6, verbose=0)
    assert_allclose(found, expected(OBJECTIVES[0], VIEWS)[0], rtol=1e-5)


@EACH_OBJECTIVE
def test_training_lowers_the_loss(objective: Any) -> None:
    """From a data set whose last batch is smaller, or from arrays."""
    keras.utils.set_random_seed(1)
    rng = np.random.default_rng(1)
    labels = np.arange(40) % 4
    inputs = (rng.normal(size=(4, 6))[labels] + 0.8 * rng.normal(size=(40, 6))).astype("float32")
    model = keras.Sequential([keras.layers.Dense(16, activation="relu"), keras.layers.Dense(8)])
    model.compile(keras.optimizers.Adam(0.01), rl.RankingLoss(objective))
    history = model.fit(inputs, labels, batch_size=16, epochs=12, verbose=0).history["loss"]
    assert history[-1] < 0.8 * history[0]


# -- precision


@pytest.mark.parametrize("half", ["bfloat16", "float16"])
def test_mixed_precision(half: str) -> None:
    """Embeddings come in half precision: scores and sums are float32, and so is the loss."""
    policy = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy(f"mixed_{half}")
    try:
        found = fitted_gradient(rl.RankingLoss(OBJECTIVES[0]), EMBEDDINGS, LABELS)
    finally:
        keras.mixed_precision.set_dtype_policy(policy)
    halves = keras.ops.cast(EMBEDDINGS, half)
    wanted = expected(OBJECTIVES[0], keras.ops.convert_to_numpy(keras.ops.cast(halves, "float32")), LABELS)
    assert_allclose(found[0], wanted[0], rtol=1e-5)
    assert_allclose(found[1], wanted[1], rtol=0, atol=0.01 * np.abs(wanted[1]).max())
    loss = rl.RankingLoss(OBJECTIVES[0])(LABELS, halves)
    assert keras.backend.standardize_dtype(loss.dtype) == "float32"


def test_a_dtype_casts_the_embeddings() -> None:
    loss = rl.RankingLoss(OBJECTIVES[0], dtype="float32")(LABELS, keras.ops.cast(EMBEDDINGS, "bfloat16"))
    assert keras.backend.standardize_dtype(loss.dtype) == "float32"
    halves = rl.RankingLoss(OBJECTIVES[0], dtype=keras.DTypePolicy("mixed_bfloat16"))(LABELS, EMBEDDINGS)
    assert_allclose(halves, loss, rtol=1e-6)
    assert abs(float(halves) - expected(OBJECTIVES[0], EMBEDDINGS, LABELS)[0]) > 1e-5
    if keras.backend.backend() != "jax":  # whose 64-bit types are off
        double = rl.RankingLoss(OBJECTIVES[0])(LABELS, EMBEDDINGS.astype("float64"))
        assert_allclose(double, expected(OBJECTIVES[0], EMBEDDINGS, LABELS)[0], rtol=1e-13)


# -- bad input


def test_it_refuses_what_the_function_refuses() -> None:
    with pytest.raises(TypeError, match="objective must be an objective such as SmoothAP"):
        rl.RankingLoss("smooth_ap")
    with pytest.raises(TypeError, match=r"did you mean SmoothAP\(\)"):
        rl.RankingLoss(rl.SmoothAP)
    with pytest.raises(TypeError, match="normalise"):
        rl.RankingLoss(rl.SmoothAP(), normalise=True)
    with pytest.raises(ValueError, match="block_size"):
        rl.RankingLoss(rl.SmoothAP(), block_size=0)
    with pytest.raises(TypeError, match="positional"):
        rl.RankingLoss(rl.SmoothAP(), True)


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "mean_with_sample_weight", None])
def test_keras_own_reductions_are_refused(reduction: Any) -> None:
    with pytest.raises(ValueError, match=rf"'mean', 'sum' or 'none', found Keras' {reduction!r}.*positive"):
        rl.RankingLoss(rl.SmoothAP(), reduction=reduction)
    with pytest.raises(ValueError, match="'mean', 'sum' or 'none', found 'avg'"):
        rl.RankingLoss(rl.SmoothAP(), reduction="avg")


def test_arrays_that_do_not_fit_are_refused() -> None:
    loss = rl.RankingLoss(rl.SmoothAP())
    for labels in (LABELS.astype("float32"), LABELS > 1):
        with pytest.raises(TypeError, match="labels must be integer, found dtype"):
            loss(labels, EMBEDDINGS)
    with pytest.raises(ValueError, match=r"labels must have shape \[12\].*found shape \[5\]"):
        loss(LABELS[:5], EMBEDDINGS)
    with pytest.raises(ValueError, match=r"labels must have shape \[6\].*\[6, 3\].*found shape \[5\]"):
        loss(LABELS[:5], VIEWS)
    with pytest.raises(ValueError, match=r"weights must have shape \[6\].*\[6, 3\].*found shape \[6, 2\]"):
        loss(None, VIEWS, np.ones((6, 2)))
    with pytest.raises(ValueError, match=r"weights must have shape \[12\].*found shape \[\]"):
        loss(LABELS, EMBEDDINGS, 2.0)
    with pytest.raises(TypeError, match="labels must be numbers, found dtype"):
        loss(np.array(["a", "b"] * 6), EMBEDDINGS)
    with pytest.raises(ValueError, match="labels are needed"):
        loss(None, EMBEDDINGS)
    with pytest.raises(ValueError, match=r"embeddings must be \[n, d\] or \[images, views, d\]"):
        loss(LABELS, EMBEDDINGS[:, 0])
    with pytest.raises(TypeError, match="stacked"):
        loss(None, [VIEWS[:, 0], VIEWS[:, 1]])
    with pytest.raises(ValueError, match="num_blocks must divide the batch"):
        rl.RankingLoss(rl.Blockwise(rl.SmoothAP(), 5))(LABELS, EMBEDDINGS)
