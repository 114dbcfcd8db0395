"""What `rankloss.tensorflow` has where XLA compiles, and that it runs where XLA does not."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from numpy.testing import assert_allclose, assert_array_equal

import rankloss.tensorflow as rl
from rankloss._framework import Window
from rankloss.tensorflow._array import Array, Length
from rankloss.tensorflow._framework import (
    TensorFlowFramework,
    XlaTensorFlowFramework,
    framework_here,
)

OBJECTIVES = (rl.SmoothAP(temperature=0.01), rl.FastAP(num_bins=7), rl.SupCon(temperature=0.1))
RNG = np.random.default_rng(0)


def operations(function: Any, *arguments: Any) -> set[str]:
    """The kinds of operations of a traced function, and of the functions that it calls."""
    definition = function.get_concrete_function(*arguments).graph.as_graph_def()
    nodes = [*definition.node, *(node for one in definition.library.function for node in one.node_def)]
    return {node.op for node in nodes}


def gradient(loss: Any, embeddings: Any) -> Any:
    with tf.GradientTape() as tape:
        tape.watch(embeddings)
        total = tf.reduce_sum(loss(embeddings))
    return tape.gradient(total, embeddings)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("jit_compile", [None, True], ids=["function", "XLA"])
def test_a_function_is_called_and_differentiated_from_anywhere(
    objective: Any, reduction: str, jit_compile: bool | None
) -> None:
    """What was traced for XLA may run without it: the function of another one, or its gradient."""
    labels = tf.constant(np.repeat(np.arange(40), 4))
    embeddings = tf.constant(np.random.default_rng(2).normal(size=(160, 5)))

    def loss(embeddings: Any) -> Any:
        return rl.embedding_loss(objective, embeddings, labels, reduction=reduction, block_size=32)

    expected, expected_gradient = loss(embeddings), gradient(loss, embeddings)
    shared = tf.function(loss, jit_compile=jit_compile)
    whole = tf.function(partial(gradient, shared), jit_compile=True)
    assert operations(whole, embeddings) >= {"XlaDynamicSlice", "XlaDynamicUpdateSlice"}
    if not isinstance(objective, rl.SupCon):  # which sums one array alone
        assert "XlaVariadicReduceV2" in operations(whole, embeddings)
    tolerance = 1e-12 * np.abs(expected_gradient).max()
    for outside in (whole, partial(gradient, shared), tf.function(partial(gradient, shared))):
        assert_allclose(outside(embeddings), expected_gradient, rtol=0, atol=tolerance)
        assert_allclose(shared(embeddings), expected, rtol=1e-12)


def test_labels_keep_all_their_bits() -> None:
    """Where other integers have 32 of them."""
    embeddings = tf.constant(RNG.normal(size=(8, 5)))
    labels = np.array([1, 1 + 2**62, 1 + 2**33, 1, 1 + 2**62, 5, 5, 1 + 2**33])
    loss = tf.function(partial(rl.embedding_loss, OBJECTIVES[0]), jit_compile=True)
    few = np.unique(labels, return_inverse=True)[1]
    assert_allclose(loss(embeddings, tf.constant(labels)), loss(embeddings, tf.constant(few)), rtol=1e-12)


def test_a_graph_knows_whether_xla_compiles_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def traced(depth: int, **options: Any) -> type:
        found: list[type] = []

        def run() -> None:
            found.append(traced(depth - 1) if depth else type(framework_here()))

        tf.function(run, **options)()
        return found[0]

    assert type(framework_here()) is traced(0) is traced(1) is TensorFlowFramework
    assert traced(0, jit_compile=True) is traced(1, jit_compile=True) is XlaTensorFlowFramework
    monkeypatch.setattr("rankloss.tensorflow._framework.xla", None)
    assert traced(0, jit_compile=True) is TensorFlowFramework


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("width", [1, 127, 128, 135, 203])
def test_sums_of_several_terms(width: int, known: bool) -> None:
    array = RNG.normal(size=(3, width))

    @tf.function(jit_compile=True, input_signature=[tf.TensorSpec([3, width] if known else None, "float64")])
    def sums(array: Any) -> Any:
        array = tf.ensure_shape(array, [None, None])
        found = framework_here().sums(lambda x: [x, 2 * x, x * x, -x], Array(array))
        return [each.tensor for each in found]

    assert ("XlaVariadicReduceV2" in operations(sums)) == (not known or width >= 128)
    for found, terms in zip(sums(tf.constant(array)), [array, 2 * array, array**2, -array], strict=True):
        assert_allclose(found, terms.sum(axis=1), rtol=1e-12)


@pytest.mark.parametrize(("width", "count"), [(40, 50), (40, 3), (5, 50)])
@pytest.mark.parametrize("known", [True, False])
def test_values_are_added_at_their_places(width: int, count: int, known: bool) -> None:
    index, values = RNG.integers(0, width, size=(3, count)), RNG.normal(size=(3, count))
    shape = [3, width] if known else [None, None]

    @tf.function(jit_compile=True, input_signature=[tf.TensorSpec(shape, "float64")])
    def added(array: Any) -> Any:
        arrays = (Array(tf.constant(one)) for one in (index, values))
        return framework_here().add_at(Array(array), *arrays).tensor

    expected = [1 + np.bincount(i, v, minlength=width) for i, v in zip(index, values, strict=True)]
    assert_allclose(added(tf.ones([3, width], "float64")), expected, atol=1e-13)


@pytest.mark.parametrize("known", [True, False])
def test_vectors_are_added_and_values_taken_at_their_places(known: bool) -> None:
    index, vectors = RNG.integers(0, 40, size=(3, 50)), RNG.normal(size=(3, 50, 2))
    shape = [3, 40, 2] if known else [None, None, 2]

    @tf.function(jit_compile=True, input_signature=[tf.TensorSpec(shape, "float64")])
    def added_and_taken(array: Any) -> Any:
        framework, places = framework_here(), Array(tf.constant(index))
        added = framework.add_vectors_at(Array(array), places, Array(tf.constant(vectors)))
        return added.tensor, framework.take_along(Array(array[..., 0]), places).tensor

    array = RNG.normal(size=(3, 40, 2))
    expected = array.copy()
    np.add.at(expected, (np.arange(3)[:, None], index), vectors)
    added, taken = added_and_taken(tf.constant(array))
    assert_allclose(added, expected, atol=1e-13)
    assert_array_equal(taken, np.take_along_axis(array[..., 0], index, axis=1))


@pytest.mark.parametrize("first", [0, 3, 7])
def test_columns_are_cut_and_added_to(first: int) -> None:
    array, values = RNG.normal(size=(3, 10)), RNG.normal(size=(3, 3))

    @tf.function(jit_compile=True)
    def cut_and_added(array: Any, first: Any) -> Any:
        framework, window = framework_here(), Window(Array(first), 3)
        added = framework.add_columns(Array(array), window, Array(tf.constant(values)))
        return framework.columns(Array(array), window).tensor, added.tensor

    cut, added = cut_and_added(tf.constant(array), tf.constant(first, tf.int64))
    assert_allclose(cut, array[:, first : first + 3])
    array[:, first : first + 3] += values
    assert_allclose(added, array, rtol=1e-15)


@pytest.mark.parametrize("framework", [TensorFlowFramework, XlaTensorFlowFramework])
@pytest.mark.parametrize("items", [100, 700, 1024, 5000, 30_000])
@pytest.mark.parametrize("accelerator", [False, True])
def test_blocks_do_not_depend_on_whether_lengths_are_known(
    framework: Any, items: int, accelerator: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        tf.config, "list_logical_devices", lambda kind: ["one"] * (accelerator and kind == "GPU")
    )
    array, unknown = Array(tf.zeros([1, 1])), Length(tf.constant(items, tf.int64))
    for factor in (1, 4):
        rows = framework().rows_a_block(items, items, array, factor)
        assert rows == int(framework().rows_a_block(unknown, unknown, array, factor).tensor)
    if framework is XlaTensorFlowFramework and items == 30_000:
        assert rows == (559 if accelerator else 139)
