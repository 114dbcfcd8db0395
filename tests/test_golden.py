"""What published implementations computed (golden/README.md), against every face and against the oracle."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import oracle
import pytest
from faces import Face
from numpy.testing import assert_allclose

from rankloss import FastAP, SmoothAP, SupCon

FOLDER = Path(__file__).parent / "golden"
NAMES = sorted(json.loads((FOLDER / "index.json").read_text(encoding="utf-8")))


def load(name: str) -> tuple[Any, dict[str, Any]]:
    """The objective that a file is about, and the arrays in it."""
    with np.load(FOLDER / f"{name}.npz") as file:
        record = {key: file[key] for key in file.files}
    if name.startswith("smooth_ap"):
        return SmoothAP(temperature=float(record["temperature"])), record
    if name.startswith("fast_ap"):
        return FastAP(num_bins=int(record["num_bins"])), record
    return SupCon(temperature=float(record["temperature"])), record


def check(
    face: Face, objective: Any, record: dict[str, Any], loss: Any, gradient: Any, **options: Any
) -> None:
    found = face.value_and_gradient(
        "embedding_loss", objective, record["embeddings"], record["labels"], **options
    )
    assert_allclose(found[0], loss, rtol=1e-12)
    assert_allclose(found[1], gradient, rtol=1e-10, atol=1e-12 * np.abs(gradient).max())


def test_every_file_is_listed() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.npz")) == NAMES
    assert len(NAMES) == 14


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("smooth_ap_official")])
def test_smooth_ap_equals_the_authors(face: Face, name: str) -> None:
    objective, record = load(name)
    check(face, objective, record, record["loss"], record["gradient"], include_query=True, normalize=False)


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("fast_ap_official")])
def test_fast_ap_equals_the_authors_but_for_the_scale_of_their_backward(face: Face, name: str) -> None:
    objective, record = load(name)
    labels = record["labels"]
    queries_with_positive = int(np.sum(np.sum(labels[:, None] == labels[None, :], axis=1) > 1))
    gradient = record["gradient"] * 2 / queries_with_positive
    check(face, objective, record, record["loss"], gradient, normalize=False)


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("fast_ap_official")])
def test_fast_ap_equals_pytorch_metric_learning(face: Face, name: str) -> None:
    objective, record = load(name)
    check(face, objective, record, record["loss_pml"], record["gradient_pml"])


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith(tuple("012")) and "_pml_" in name])
def test_sup_con_equals_pytorch_metric_learning(face: Face, name: str) -> None:
    objective, record = load(name)
    check(face, objective, record, record["loss"], record["gradient"])


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("nt_xent")])
def test_nt_xent_over_views_equals_pytorch_metric_learning(face: Face, name: str) -> None:
    objective, record = load(name)
    order = np.argsort(record["labels"], kind="stable")
    views = record["embeddings"][order].reshape(len(order) // 2, 2, -1)
    loss, gradient = face.value_and_gradient("embedding_loss", objective, views)
    assert_allclose(loss, record["loss"], rtol=1e-12)
    assert_allclose(gradient.reshape(len(order), -1), record["gradient"][order], rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("name", NAMES)
def test_the_oracle_equals_published_values(name: str) -> None:
    objective, record = load(name)
    options = {"include_query": True, "normalize": False} if name.startswith("smooth_ap") else {}
    loss = oracle.embedding(objective, record["embeddings"], record["labels"], **options)
    assert_allclose(loss, record["loss"], rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "key", "scale", "options"),
    [
        ("smooth_ap_official_0", "gradient", 1.0, {"include_query": True, "normalize": False}),
        ("fast_ap_official_0", "gradient", 2 / 24, {"normalize": False}),
        ("fast_ap_official_0", "gradient_pml", 1.0, {}),
        ("sup_con_pml_0", "gradient", 1.0, {}),
    ],
)
def test_the_oracle_differentiates_to_published_gradients(
    name: str, key: str, scale: float, options: dict[str, Any]
) -> None:
    objective, record = load(name)
    gradient = oracle.gradient(
        lambda embeddings: oracle.embedding(objective, embeddings, record["labels"], **options),
        record["embeddings"],
    )
    assert_allclose(gradient, record[key] * scale, rtol=1e-10, atol=1e-13)
