"""`rankloss.tensorflow` in graphs: functions, XLA, lengths known at run time only; tapes and who gets a gradient."""

from collections.abc import Callable
from typing import Any

import numpy as np
import oracle
import pytest
import tensorflow as tf
from cases import Case, embedding_cases
from faces import TensorFlowFace
from hypothesis import given, settings
from numpy.testing import assert_allclose

import rankloss
import rankloss.tensorflow as rl
from rankloss.tensorflow._framework import TensorFlowFramework

OBJECTIVES = (rl.SmoothAP(temperature=0.01), rl.FastAP(num_bins=7), rl.SupCon(temperature=0.1))
EACH_OBJECTIVE = pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
RNG = np.random.default_rng(0)
LABELS = RNG.permutation(np.repeat(np.arange(6), [9, 1, 2, 5, 3, 3]))
EMBEDDINGS = RNG.normal(size=(23, 5))
GALLERY, GALLERY_LABELS = RNG.normal(size=(11, 5)), RNG.integers(0, 7, size=11)
MASK = RNG.uniform(size=(23, 11)) < 0.3
WEIGHTS = RNG.uniform(0.5, 2.0, size=23)


def with_unknown_lengths(**options: Any) -> Callable[[Any], Any]:
    """Compile a face's call with None for every length but d, the last of floating-point arrays."""

    def specification(tensor: Any) -> Any:
        known = [None] * (len(tensor.shape) - 1) + [tensor.shape[-1] if tensor.shape[-1:] == [5] else None]
        return tf.TensorSpec(known, tensor.dtype)

    def compiled(call: Any) -> Any:
        def run(*arguments: Any) -> Any:
            signature = tf.nest.map_structure(specification, arguments)
            return tf.function(call, **options).get_concrete_function(*signature)(*arguments)

        return run

    return compiled


FUNCTION = TensorFlowFace("function", lambda call: tf.function(call))
XLA = TensorFlowFace("XLA", lambda call: tf.function(call, jit_compile=True))
UNKNOWN = TensorFlowFace("unknown lengths", with_unknown_lengths())
UNKNOWN_XLA = TensorFlowFace("unknown lengths, XLA", with_unknown_lengths(jit_compile=True))
GRAPHS = (FUNCTION, XLA, UNKNOWN)

LAYOUTS = {
    "labels": Case(None, EMBEDDINGS, LABELS, {"weights": WEIGHTS, "block_size": 4}),
    "views": Case(None, RNG.normal(size=(6, 3, 5)), None, {"block_size": 5}),
    "one block": Case(None, EMBEDDINGS, LABELS, {"include_query": True, "reduction": "sum"}),
    "gallery": Case(
        None, EMBEDDINGS, LABELS, {"gallery": GALLERY, "gallery_labels": GALLERY_LABELS, "block_size": 8}
    ),
    "relevant": Case(None, EMBEDDINGS, None, {"gallery": GALLERY, "relevant": MASK, "block_size": 8}),
}


def check(face: TensorFlowFace, objective: Any, case: Case) -> None:
    expected = rankloss.embedding_loss_and_gradient(objective, *case.arguments, **case.options)
    loss, found = face.value_and_gradient("embedding_loss", objective, *case.arguments, **case.options)
    assert_allclose(loss, expected[0], rtol=1e-12)
    gradients = zip(*[g if isinstance(g, tuple) else (g,) for g in (found, expected[1])], strict=True)
    for gradient, wanted in gradients:
        assert_allclose(gradient, wanted, rtol=0, atol=1e-12 * np.abs(wanted).max())


# -- graphs


@EACH_OBJECTIVE
@pytest.mark.parametrize("face", GRAPHS, ids=lambda face: face.name)
def test_graphs_equal_the_core(face: TensorFlowFace, objective: Any) -> None:
    check(face, objective, LAYOUTS["labels"])


@pytest.mark.parametrize("layout", ["views", "one block", "gallery", "relevant"])
@pytest.mark.parametrize("face", GRAPHS, ids=lambda face: face.name)
def test_graphs_of_each_layout(face: TensorFlowFace, layout: str) -> None:
    check(face, OBJECTIVES[0], LAYOUTS[layout])


@pytest.mark.parametrize("layout", ["labels", "relevant"])
def test_unknown_lengths_compiled_by_xla(layout: str) -> None:
    check(UNKNOWN_XLA, OBJECTIVES[0], LAYOUTS[layout])


@pytest.mark.parametrize("face", GRAPHS, ids=lambda face: face.name)
def test_graphs_of_scores(face: TensorFlowFace) -> None:
    """Positives spread over more than one centre can hold, and a mask."""
    scores = RNG.uniform(-1, 1, size=(7, 11))
    options = {"valid": RNG.uniform(size=(7, 11)) < 0.8, "reduction": "sum"}
    objective, relevant = rl.SmoothAP(temperature=0.001), MASK[:7]
    expected = rankloss.score_loss_and_gradient(objective, scores, relevant, **options)
    found = face.value_and_gradient("score_loss", objective, scores, relevant, **options)
    assert_allclose(found[0], expected[0], rtol=1e-12)
    assert_allclose(found[1], expected[1], rtol=0, atol=1e-12 * np.abs(expected[1]).max())


@pytest.mark.parametrize("face", GRAPHS, ids=lambda face: face.name)
@pytest.mark.parametrize("metric", [rl.AveragePrecision(), rl.AveragePrecisionAtR()], ids=repr)
def test_graphs_of_metrics(face: TensorFlowFace, metric: Any) -> None:
    """With ties, a long run of them."""
    scores = RNG.integers(0, 3, size=(23, 11)) / 2
    scores[3] = 0.5
    expected = rankloss.score_metric(metric, scores, MASK, reduction="none")
    found = face.value("score_metric", metric, scores, MASK, reduction="none")
    assert_allclose(found, expected, rtol=1e-12)
    options = {"block_size": 4}
    mean = rankloss.embedding_metric(metric, EMBEDDINGS, LABELS, **options)
    assert_allclose(face.value("embedding_metric", metric, EMBEDDINGS, LABELS, **options), mean, rtol=1e-12)


@settings(max_examples=6)
@given(case=embedding_cases())
def test_a_function_of_any_case_equals_the_oracle(case: Case) -> None:
    loss = FUNCTION.value("embedding_loss", case.objective, *case.arguments, **case.options)
    expected = oracle.embedding(case.objective, *case.arguments, **case.options)
    assert_allclose(loss, expected, rtol=1e-10, atol=1e-10)


@settings(max_examples=6)
@given(case=embedding_cases())
def test_unknown_lengths_of_any_case_equal_the_oracle(case: Case) -> None:
    loss = UNKNOWN.value("embedding_loss", case.objective, *case.arguments, **case.options)
    expected = oracle.embedding(case.objective, *case.arguments, **case.options)
    assert_allclose(loss, expected, rtol=1e-10, atol=1e-10)


def step_of_unknown_batches(objective: Any, **options: Any) -> Any:
    @tf.function(input_signature=[tf.TensorSpec([None, 5], tf.float64), tf.TensorSpec([None], tf.int64)])
    def step(embeddings: Any, labels: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(embeddings)
            loss = rl.embedding_loss(objective, embeddings, labels, **options)
        return loss, tape.gradient(loss, embeddings)

    return step


@EACH_OBJECTIVE
def test_one_graph_serves_every_batch(objective: Any) -> None:
    """Batches of any length, classes of any size, none with a positive, and an empty one."""
    step = step_of_unknown_batches(objective, block_size=4)
    for rows, labels in (
        (23, LABELS),
        (8, LABELS[:8]),
        (23, LABELS // 3),
        (3, np.arange(3)),
        (0, LABELS[:0]),
    ):
        loss, gradient = step(tf.constant(EMBEDDINGS[:rows]), tf.constant(labels))
        if rows < 4:
            assert float(loss) == 0
            assert np.all(gradient.numpy() == 0)
            continue
        expected = rankloss.embedding_loss_and_gradient(objective, EMBEDDINGS[:rows], labels)
        assert_allclose(loss, expected[0], rtol=1e-12)
        assert_allclose(gradient, expected[1], rtol=0, atol=1e-12)
    assert step.experimental_get_tracing_count() == 1


@EACH_OBJECTIVE
@pytest.mark.parametrize("block_size", [None, 4])
def test_one_graph_serves_any_number_of_images_of_known_views(objective: Any, block_size: int | None) -> None:
    views = np.random.default_rng(0).normal(size=(7, 3, 5))

    @tf.function(input_signature=[tf.TensorSpec([None, 3, 5], tf.float64)])
    def step(embeddings: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(embeddings)
            loss = rl.embedding_loss(objective, embeddings, block_size=block_size)
        return loss, tape.gradient(loss, embeddings)

    for images in (7, 2):
        loss, gradient = step(tf.constant(views[:images]))
        expected = rankloss.embedding_loss_and_gradient(objective, views[:images])
        assert_allclose(loss, expected[0], rtol=1e-12)
        assert_allclose(gradient, expected[1], rtol=0, atol=1e-12)


@EACH_OBJECTIVE
def test_one_graph_serves_any_number_of_views(objective: Any) -> None:
    @tf.function(input_signature=[tf.TensorSpec([None, None, 5], tf.float32)])
    def step(embeddings: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(embeddings)
            loss = rl.embedding_loss(objective, embeddings)
        return loss, tape.gradient(loss, embeddings)

    for shape in ((7, 3, 5), (2, 4, 5)):
        views = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        loss, gradient = step(tf.constant(views))
        expected = rankloss.embedding_loss_and_gradient(objective, views.astype(np.float64))
        assert_allclose(loss, expected[0], rtol=1e-5)
        assert_allclose(gradient, expected[1], rtol=0, atol=1e-5 * np.abs(expected[1]).max())


def test_lengths_that_do_not_fit_are_refused_when_the_graph_runs() -> None:
    step = step_of_unknown_batches(OBJECTIVES[2])
    with pytest.raises(tf.errors.InvalidArgumentError, match="labels"):
        step(tf.constant(EMBEDDINGS), tf.constant(LABELS[:5]))
    step = step_of_unknown_batches(rl.Blockwise(OBJECTIVES[2], 4))
    with pytest.raises(tf.errors.InvalidArgumentError, match="num_blocks must divide the batch"):
        step(tf.constant(EMBEDDINGS), tf.constant(LABELS))


def test_known_lengths_that_do_not_fit_are_refused_while_the_graph_is_made() -> None:
    with pytest.raises(ValueError, match=r"labels must have shape \[23\].*found shape \[22\]"):
        FUNCTION.value("embedding_loss", OBJECTIVES[0], EMBEDDINGS, LABELS[:22])

    @tf.function(input_signature=[tf.TensorSpec(None, tf.float64)])
    def of_unknown_rank(embeddings: Any) -> Any:
        return rl.embedding_loss(OBJECTIVES[0], embeddings)

    with pytest.raises(ValueError, match=r"embeddings must have a known number of axes.*ensure_shape"):
        of_unknown_rank.get_concrete_function()


# -- tapes


@EACH_OBJECTIVE
@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("inside", [True, False], ids=["function", "eager"])
def test_a_persistent_tape_around_the_loss(objective: Any, reduction: str, inside: bool) -> None:
    """The gradient may be asked for twice, scaled and not, and from outside a function."""

    def loss_of(embeddings: Any) -> Any:
        return rl.embedding_loss(objective, embeddings, tf.constant(LABELS), reduction=reduction)

    embeddings = tf.Variable(EMBEDDINGS)
    with tf.GradientTape(persistent=True) as tape:
        loss = tf.reduce_sum((tf.function(loss_of) if inside else loss_of)(embeddings))
        scaled = -3 * loss
    whole = "sum" if reduction == "none" else reduction
    _, expected = rankloss.embedding_loss_and_gradient(objective, EMBEDDINGS, LABELS, reduction=whole)
    for factor, value in ((1, loss), (-3, scaled), (1, loss)):
        assert_allclose(tape.gradient(value, embeddings), factor * expected, rtol=0, atol=1e-11)


@EACH_OBJECTIVE
def test_each_querys_incoming_gradient_counts(objective: Any) -> None:
    incoming = RNG.normal(size=23)
    embeddings = tf.constant(EMBEDDINGS)
    with tf.GradientTape() as tape:
        tape.watch(embeddings)
        losses = rl.embedding_loss(
            objective, embeddings, tf.constant(LABELS), weights=tf.constant(WEIGHTS), reduction="none"
        )
    found = tape.gradient(losses, embeddings, output_gradients=tf.constant(incoming))

    def total(moved: Any) -> Any:
        return np.sum(
            incoming * oracle.embedding(objective, moved, LABELS, weights=WEIGHTS, reduction="none")
        )

    expected = oracle.gradient(total, EMBEDDINGS)
    assert_allclose(found, expected, rtol=0, atol=1e-10 * np.abs(expected).max())


def products(monkeypatch: pytest.MonkeyPatch, run: Callable[[], Any]) -> int:
    """How many products for gradients by the gallery `run` makes."""
    calls, add_product = [], TensorFlowFramework.add_product

    def counted(*arguments: Any) -> Any:
        calls.append(1)
        return add_product(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(TensorFlowFramework, "add_product", counted)
        run()
    return len(calls)


def test_a_gradient_is_computed_only_where_one_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    queries, gallery = tf.constant(EMBEDDINGS), tf.constant(GALLERY)
    options = {"gallery_labels": tf.constant(GALLERY_LABELS)}

    def loss() -> Any:
        return rl.embedding_loss(OBJECTIVES[0], queries, tf.constant(LABELS), gallery=gallery, **options)

    def of(*watched: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(watched)
            value = loss()
        return tape.gradient(value, [queries, gallery])

    both = of(queries, gallery)
    assert products(monkeypatch, loss) == 0
    assert products(monkeypatch, lambda: of(queries)) == 0
    assert products(monkeypatch, lambda: of(gallery)) == 1
    for watched, found in (((queries,), of(queries)), ((gallery,), of(gallery))):
        for array, gradient, expected in zip((queries, gallery), found, both, strict=True):
            if any(array is one for one in watched):
                assert_allclose(gradient, expected, rtol=1e-13)
            else:
                assert gradient is None


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_a_second_derivative_is_refused(reduction: str) -> None:
    embeddings = tf.Variable(EMBEDDINGS)
    with tf.GradientTape() as outer:
        with tf.GradientTape() as tape:
            loss = rl.embedding_loss(OBJECTIVES[0], embeddings, tf.constant(LABELS), reduction=reduction)
        gradient = tape.gradient(loss, embeddings)
        square = tf.reduce_sum(gradient * gradient)
    with pytest.raises(RuntimeError, match="first derivatives only"):
        outer.gradient(square, embeddings)


# -- types, data, versions


@EACH_OBJECTIVE
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("compiled", [None, True], ids=["eager", "XLA"])
def test_half_precision_goes_through_float32(objective: Any, dtype: str, compiled: bool | None) -> None:
    embeddings = tf.cast(EMBEDDINGS, dtype)

    def step(embeddings: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(embeddings)
            loss = rl.embedding_loss(objective, embeddings, tf.constant(LABELS))
        return loss, tape.gradient(loss, embeddings)

    loss, gradient = (tf.function(step, jit_compile=True) if compiled else step)(embeddings)
    wide = tf.cast(embeddings, "float32")
    expected, wide_gradient = step(wide)
    assert (loss.dtype, gradient.dtype) == (tf.float32, embeddings.dtype)
    assert_allclose(loss, expected, rtol=1e-5)
    tolerance = 0.01 * np.abs(wide_gradient).max()
    assert_allclose(tf.cast(gradient, "float32"), wide_gradient, rtol=0, atol=tolerance)


@pytest.mark.parametrize("jit_compile", [None, True], ids=["function", "XLA"])
def test_training_from_tf_data(jit_compile: bool | None) -> None:
    """A last batch smaller than the others, and parameters before the loss."""
    rng = np.random.default_rng(1)
    labels = np.arange(40) % 4
    inputs = (rng.normal(size=(4, 5))[labels] + rng.normal(size=(40, 5))).astype("float32")
    data = tf.data.Dataset.from_tensor_slices((inputs, labels)).batch(16)
    weights = tf.Variable(rng.normal(size=(5, 5)).astype("float32"))

    @tf.function(jit_compile=jit_compile, reduce_retracing=True)
    def step(inputs: Any, labels: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = rl.embedding_loss(rl.SmoothAP(0.1), inputs @ weights, labels)
        weights.assign_sub(0.5 * tape.gradient(loss, weights))
        return loss

    losses = [float(sum(step(*batch) for batch in data)) for _ in range(10)]
    assert losses[-1] < 0.8 * losses[0]
