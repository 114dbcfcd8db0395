"""TensorFlow, under XLA and in functions without it: our losses and the floor."""

from __future__ import annotations

import os
import re
from functools import partial
from pathlib import Path
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

    def run() -> Any:
        return tuple(part.numpy() for part in value_and_gradient(x, classes))

    if jit_compile:
        run.planned_bytes = planned_bytes  # type: ignore[attr-defined]
    return run


def planned_bytes() -> int:
    """What XLA wrote that it allocates beside the arguments, in the last program that it has compiled.

    It is told where to write by `--xla_dump_to` in XLA_FLAGS; TensorFlow has no function that says it.
    """
    folder = re.search(r"--xla_dump_to=(\S+)", os.environ["XLA_FLAGS"])
    assert folder is not None
    reports = Path(folder[1]).glob("*memory-usage-report.txt")
    report = max(reports, key=lambda file: file.stat().st_mtime_ns).read_text()
    total = int(re.findall(r"Total bytes used: (\d+)", report)[0])
    units = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
    arguments = re.findall(r"size ([\d.]+)([KMG]?i?B), parameter", report)
    return total - sum(int(float(size) * units[unit]) for size, unit in arguments)


FLOORS = {
    "TensorFlow XLA": partial(floor, jit_compile=True),
    "TensorFlow function": partial(floor, jit_compile=False),
}
OURS = {
    "TensorFlow XLA": partial(ours, jit_compile=True),
    "TensorFlow function": partial(ours, jit_compile=False),
}
PEERS: dict[tuple[str, str], Any] = {}
