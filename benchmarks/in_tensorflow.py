"""TensorFlow, under XLA and in functions without it: our losses and the floor."""

from __future__ import annotations

from functools import partial
from typing import Any

import tensorflow as tf
from batches import Run, Setting, embeddings, labels
from machine import CORES

import rankloss.tensorflow as rl

FLOOR_BLOCK = 256
tf.config.threading.set_intra_op_parallelism_threads(CORES)
tf.config.threading.set_inter_op_parallelism_threads(CORES)


def floor(setting: Setting, jit_compile: bool) -> Run:
    """Scores, and the two products that make a gradient out of an array of their size, block by block."""
    x = tf.math.l2_normalize(tf.constant(embeddings(setting)), axis=1)
    number = setting.rows // FLOOR_BLOCK

    @tf.function(jit_compile=jit_compile)
    def products(x: tf.Tensor) -> Any:
        blocks = tf.reshape(x, [number, FLOOR_BLOCK, setting.dimensions])

        def body(index: tf.Tensor, d_gallery: tf.Tensor, d_queries: tf.TensorArray) -> Any:
            queries = blocks[index]
            scores = tf.matmul(queries, x, transpose_b=True)
            d_gallery += tf.matmul(scores, queries, transpose_a=True)
            return index + 1, d_gallery, d_queries.write(index, scores @ x)

        rows = tf.TensorArray(tf.float32, number, element_shape=blocks.shape[1:])
        _, d_gallery, rows = tf.while_loop(
            lambda index, *_: index < number, body, (0, tf.zeros_like(x), rows)
        )
        return rows.stack(), d_gallery

    return lambda: tuple(part.numpy() for part in products(x))


def ours(objective: Any, setting: Setting, jit_compile: bool) -> Run:
    """One of our losses."""
    x, classes = tf.constant(embeddings(setting)), tf.constant(labels(setting))

    @tf.function(jit_compile=jit_compile)
    def value_and_gradient(x: tf.Tensor, classes: tf.Tensor) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            if setting.layout == "labels":
                loss = rl.embedding_loss(objective, x, classes, block_size=setting.block_size)
            else:
                views = tf.reshape(x, [-1, setting.per_class, setting.dimensions])
                loss = rl.embedding_loss(objective, views, block_size=setting.block_size)
        return loss, tape.gradient(loss, x)

    return lambda: tuple(part.numpy() for part in value_and_gradient(x, classes))


FLOORS = {
    "TensorFlow XLA": partial(floor, jit_compile=True),
    "TensorFlow function": partial(floor, jit_compile=False),
}
OURS = {
    "TensorFlow XLA": partial(ours, jit_compile=True),
    "TensorFlow function": partial(ours, jit_compile=False),
}
PEERS: dict[tuple[str, str], Any] = {}
