"""`rankloss.keras` on the two backends that this process does not run Keras on, each in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest
from faces import selected_backends

OTHERS = sorted({"torch", "jax", "tensorflow"} - {keras.backend.backend()})
FILES = [
    path.name
    for path in sorted(Path(__file__).parent.glob("test_keras*.py"))
    if path.name != Path(__file__).name
]
# A step of fit, labels as integers, weights, views, masks, metrics, saving; all else once more in `make test-all`.
CHOSEN = (
    "test_a_step_of_fit or test_neighbouring_large_labels or test_sample_weights or test_mixed_precision or "
    "test_views_that_an_image_lacks or test_evaluate_and_fit_print_it or test_other_callbacks or "
    "(test_a_compiled_model and Blockwise)"
)


def run(backend: str, *selection: str) -> None:
    environment = os.environ | {"KERAS_BACKEND": backend, "RANKLOSS_TEST_BACKENDS": "keras"}
    command = [sys.executable, "-m", "pytest", "-q", *selection, *FILES]
    result = subprocess.run(
        command, cwd=Path(__file__).parent, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout[-5000:]
    assert " passed" in result.stdout


@pytest.mark.parametrize("backend", OTHERS)
def test_the_other_backends(backend: str) -> None:
    run(backend, "-k", CHOSEN)


@pytest.mark.long
@pytest.mark.parametrize("backend", OTHERS)
def test_all_of_the_other_backends(backend: str) -> None:
    run(backend)


REPLICAS = """
import keras, numpy as np, tensorflow as tf
import rankloss, rankloss.keras as rl
device = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(device, [tf.config.LogicalDeviceConfiguration()] * 2)
rng = np.random.default_rng(0)
x, y = rng.normal(size=(12, 4)).astype("float32"), np.arange(12) % 3
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    model = keras.Sequential([keras.layers.Identity()])
    model.compile("sgd", rl.RankingLoss(rl.SupCon()), jit_compile=False)
print(model.evaluate(x, y, batch_size=12, verbose=0))
print(np.mean([rankloss.embedding_loss(rankloss.SupCon(), x[part], y[part]) for part in (slice(6), slice(6, 12))]))
"""


@pytest.mark.skipif("tensorflow" not in selected_backends(), reason="tf.distribute is TensorFlow's")
def test_replicas_are_averaged() -> None:
    """Each of two ranks its half of the batch: the mean of their losses, as of Keras' own."""
    environment = os.environ | {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", REPLICAS]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    found, wanted = (float(line) for line in result.stdout.split()[-2:])
    assert abs(found - wanted) < 1e-5
