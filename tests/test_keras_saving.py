"""Configs of `rankloss.keras`, and compiled models that are saved, loaded, evaluated and trained on."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from numpy.testing import assert_allclose

import rankloss.keras as rl

OBJECTIVES = (
    rl.SmoothAP(temperature=0.1),
    rl.FastAP(num_bins=7),
    rl.SupCon(0.2),
    rl.Blockwise(rl.SmoothAP(0.03), 2),
)
METRICS = (rl.AveragePrecision(), rl.RecallAtK(3), rl.RPrecision(), rl.AveragePrecisionAtR())
RNG = np.random.default_rng(0)
EMBEDDINGS = RNG.normal(size=(12, 4)).astype("float32")
LABELS = np.array([0, 1, 0, 1, 2, 2, 2, 0, 3, 1, 4, 0])


def reloaded(thing: Any) -> Any:
    """What Keras makes of its own serialisation, by way of JSON."""
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(thing)))
    return keras.saving.deserialize_keras_object(config)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
def test_a_loss(objective: Any) -> None:
    loss = rl.RankingLoss(
        objective, normalize=False, include_query=True, reduction="sum", block_size=5, name="mine"
    )
    again = reloaded(loss)
    assert isinstance(again, rl.RankingLoss)
    assert again.objective == objective
    assert again.get_config() == loss.get_config()
    assert float(again(LABELS, EMBEDDINGS)) == float(loss(LABELS, EMBEDDINGS))
    assert rl.RankingLoss.from_config(loss.get_config()).get_config() == loss.get_config()


@pytest.mark.parametrize("dtype", [None, "float32", "mixed_bfloat16", "policy"])
def test_dtypes(dtype: Any) -> None:
    given = keras.DTypePolicy("mixed_float16") if dtype == "policy" else dtype
    config = reloaded(rl.RankingLoss(rl.SupCon(), dtype=given)).get_config()
    assert config["dtype"] == ("mixed_float16" if dtype == "policy" else dtype)


@pytest.mark.parametrize("metric", METRICS, ids=repr)
def test_a_metric(metric: Any) -> None:
    given = rl.RankingMetric(metric, normalize=False, gallery=EMBEDDINGS, gallery_labels=LABELS, name="mine")
    again = reloaded(given)
    for one in (given, again):
        one.update_state(LABELS[:5], EMBEDDINGS[::-1][:5])
    assert again.metric == metric
    assert again.get_config() == given.get_config()
    assert float(again.result()) == float(given.result())
    assert reloaded(rl.RankingMetric(metric)).get_config() == rl.RankingMetric(metric).get_config()


@dataclass(frozen=True)
class Mine:
    """An objective that rankloss does not have."""

    factor: float = 2.0

    def loss_and_gradient(self, framework: Any, scores: Any, relevance: Any, scale: Any) -> Any:
        losses, gradient = rl.SupCon().loss_and_gradient(framework, scores, relevance, scale)
        return losses * self.factor, None if gradient is None else gradient * self.factor


def test_an_objective_of_the_user() -> None:
    loss = rl.RankingLoss(Mine())
    config = loss.get_config()
    with pytest.raises(ValueError, match=r"names 'Mine'.*register_keras_serializable"):
        rl.RankingLoss.from_config(config)
    with keras.saving.custom_object_scope({"Mine": Mine}):
        again = rl.RankingLoss.from_config(config)
    assert again.objective == loss.objective
    assert_allclose(again(LABELS, EMBEDDINGS), 2 * rl.RankingLoss(rl.SupCon())(LABELS, EMBEDDINGS), rtol=1e-6)


@pytest.mark.parametrize("objective", [OBJECTIVES[0], OBJECTIVES[3]], ids=repr)
def test_a_compiled_model(objective: Any, tmp_path: Path) -> None:
    """It evaluates to the same numbers, and trains on as the one that was saved does."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(6)])
    model.compile(
        keras.optimizers.Adam(0.01),
        rl.RankingLoss(objective, include_query=True),
        metrics=[rl.RankingMetric(rl.RecallAtK(2))],
    )
    arguments: dict[str, Any] = {"batch_size": 12, "verbose": 0}
    model.fit(EMBEDDINGS, LABELS, shuffle=False, **arguments)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.loss.get_config() == model.loss.get_config()
    assert_allclose(
        again.evaluate(EMBEDDINGS, LABELS, **arguments),
        model.evaluate(EMBEDDINGS, LABELS, **arguments),
        rtol=1e-6,
    )
    histories = [
        one.fit(EMBEDDINGS, LABELS, shuffle=False, epochs=3, **arguments).history for one in (model, again)
    ]
    assert histories[0].keys() == histories[1].keys() == {"loss", "recall_at_2"}
    for name, values in histories[0].items():
        assert_allclose(histories[1][name], values, rtol=1e-5)
