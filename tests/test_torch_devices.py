"""The same code on every device, checked without one: fake CUDA tensors run the pass and refuse to be read."""

from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

import rankloss.torch as rl
from rankloss._arguments import EmbeddingBatch, check_embedding_batch
from rankloss._passes import embedding_pass
from rankloss.torch._framework import TorchFramework

OBJECTIVES = (rl.SmoothAP(), rl.FastAP(), rl.SupCon())


@pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
@pytest.mark.parametrize("include_query", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_views_on_a_gpu_wait_for_nothing(objective: Any, include_query: bool, reduction: Any) -> None:
    framework = TorchFramework()
    with FakeTensorMode(), torch.no_grad():
        views, weights = torch.empty(64, 8, 32, device="cuda"), torch.empty(64, 8, device="cuda")
        batch = check_embedding_batch(
            framework,
            "embedding_loss",
            views,
            None,
            {"weights": weights, "include_query": include_query, "reduction": reduction, "block_size": 96},
        )
        result = embedding_pass(framework, objective.loss_and_gradient, batch, gradient=(True, False))
        assert result.value.device == result.d_queries.device == views.device
        assert result.d_queries.shape == views.shape


def test_fake_tensors_notice_a_wait() -> None:
    """Smooth-AP by labels reads how large the largest class is, which the test above would have caught."""
    with FakeTensorMode(), torch.no_grad(), pytest.raises(DataDependentOutputException):
        batch = EmbeddingBatch(torch.empty(64, 32, device="cuda"), torch.zeros(64, device="cuda").long())
        embedding_pass(TorchFramework(), rl.SmoothAP().loss_and_gradient, batch)
