"""One definition in every framework: all faces on the same generated batches, to 1e-12 relative in float64."""

from typing import Any

import numpy as np
import pytest
from cases import Case, ScoreCase, embedding_cases, score_cases
from faces import CoreFace, selected_faces
from hypothesis import given, settings
from numpy.testing import assert_allclose

import rankloss

NUMPY = CoreFace("numpy", "numpy", np.asarray, np.asarray)
METRICS = (rankloss.AveragePrecision(), rankloss.RecallAtK(2))
# A score's last digit over the temperature is what no order of operations keeps: below 1e-12 from 0.05 on.
EMBEDDINGS, SCORES = embedding_cases(least_temperature=0.05), score_cases(least_temperature=0.05)


def flat(gradient: Any) -> Any:
    parts = gradient if isinstance(gradient, tuple) else (gradient,)
    return np.concatenate([np.ravel(part) for part in parts])


def agree(function: str, objective: Any, *arguments: Any, **options: Any) -> None:
    # The core stacks a tuple of views, whose gradients the frameworks give one by one.
    views = isinstance(arguments[0], tuple)
    loss, gradient = NUMPY.value_and_gradient(function, objective, *arguments, **options)
    gradient = tuple(np.moveaxis(gradient, 1, 0)) if views else gradient
    for face in selected_faces():
        found_loss, found = face.value_and_gradient(function, objective, *arguments, **options)
        if views and not isinstance(found, tuple):
            found = tuple(np.moveaxis(found, 1, 0))
        assert_allclose(found_loss, loss, rtol=1e-12, atol=1e-14, err_msg=face.name)
        tolerance = 1e-12 * max(1.0, np.abs(flat(gradient)).max(initial=0))
        assert_allclose(flat(found), flat(gradient), rtol=0, atol=tolerance, err_msg=face.name)


@settings(max_examples=2)
@given(case=EMBEDDINGS)
def test_a_few_batches_of_embeddings(case: Case) -> None:
    agree("embedding_loss", case.objective, *case.arguments, **case.options)


@settings(max_examples=1)
@given(case=SCORES)
def test_a_batch_of_scores(case: ScoreCase) -> None:
    agree("score_loss", case.objective, case.scores, case.relevant, **case.options)


@pytest.mark.long
@settings(max_examples=25)
@given(case=EMBEDDINGS)
def test_batches_of_embeddings(case: Case) -> None:
    agree("embedding_loss", case.objective, *case.arguments, **case.options)


@pytest.mark.long
@settings(max_examples=25)
@given(case=SCORES)
def test_batches_of_scores(case: ScoreCase) -> None:
    agree("score_loss", case.objective, case.scores, case.relevant, **case.options)


@pytest.mark.long
@pytest.mark.parametrize("metric", METRICS, ids=repr)
@settings(max_examples=10)
@given(case=SCORES)
def test_metrics(metric: Any, case: ScoreCase) -> None:
    expected = NUMPY.value("score_metric", metric, case.scores, case.relevant, **case.options)
    for face in selected_faces():
        found = face.value("score_metric", metric, case.scores, case.relevant, **case.options)
        assert_allclose(found, expected, rtol=1e-12, atol=1e-14, err_msg=face.name)
