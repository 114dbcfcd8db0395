"""`rankloss.torch.RankingLoss`: a module like any other, in a training step like any other."""

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import nn

import rankloss.torch as rl

OBJECTIVES = (rl.SmoothAP(temperature=0.1), rl.FastAP(), rl.SupCon(), rl.Blockwise(rl.SmoothAP(0.1), 2))
GENERATOR = torch.Generator().manual_seed(0)
EMBEDDINGS = torch.randn(8, 4, generator=GENERATOR)
LABELS = torch.tensor([0, 1, 0, 1, 2, 2, 2, 0])


@pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
def test_it_is_the_function(objective: Any) -> None:
    weights = torch.rand(8, generator=GENERATOR)
    options = {"normalize": False, "include_query": True, "reduction": "sum", "block_size": 3}
    found = rl.RankingLoss(objective, **options)(EMBEDDINGS, LABELS, weights=weights)
    assert torch.equal(found, rl.embedding_loss(objective, EMBEDDINGS, LABELS, weights=weights, **options))
    views = EMBEDDINGS.reshape(4, 2, 4)
    assert torch.equal(rl.RankingLoss(objective)(views), rl.embedding_loss(objective, views))


def test_galleries_and_masks_are_given_in_the_call() -> None:
    loss_fn = rl.RankingLoss(rl.SmoothAP())
    mask = LABELS[:3, None] == LABELS[None, :]
    by_labels = loss_fn(EMBEDDINGS[:3], LABELS[:3], gallery=EMBEDDINGS, gallery_labels=LABELS)
    by_mask = loss_fn(EMBEDDINGS[:3], gallery=EMBEDDINGS, relevant=mask)
    torch.testing.assert_close(by_labels, by_mask)
    torch.testing.assert_close(
        loss_fn((EMBEDDINGS, EMBEDDINGS + 0.1)),
        loss_fn(EMBEDDINGS[:, None] + torch.tensor([[[0.0]], [[0.1]]]).reshape(1, 2, 1)),
    )


@pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
def test_repr_names_the_objective_and_the_options(objective: Any) -> None:
    text = repr(rl.RankingLoss(objective, normalize=False, reduction="sum", block_size=64))
    assert text.startswith("RankingLoss(")
    for part in (
        repr(objective),
        "normalize=False",
        "include_query=False",
        "reduction='sum'",
        "block_size=64",
    ):
        assert part in text


@pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
def test_it_pickles_and_copies(objective: Any) -> None:
    loss_fn = rl.RankingLoss(objective, include_query=True)
    expected = loss_fn(EMBEDDINGS, LABELS)
    for other in (pickle.loads(pickle.dumps(loss_fn)), copy.deepcopy(loss_fn), copy.copy(loss_fn)):
        assert repr(other) == repr(loss_fn)
        assert torch.equal(other(EMBEDDINGS, LABELS), expected)


def test_it_has_no_state() -> None:
    loss_fn = rl.RankingLoss(rl.SmoothAP())
    assert isinstance(loss_fn, nn.Module)
    assert loss_fn.state_dict() == {}
    assert list(loss_fn.parameters()) == []
    assert list(loss_fn.buffers()) == []
    assert loss_fn.half().eval()(EMBEDDINGS, LABELS).dtype == torch.float32


def test_it_refuses_what_the_function_refuses() -> None:
    with pytest.raises(TypeError, match="objective"):
        rl.RankingLoss("smooth_ap")(EMBEDDINGS, LABELS)
    with pytest.raises(TypeError, match="normalise"):
        rl.RankingLoss(rl.SmoothAP(), normalise=True)
    with pytest.raises(ValueError, match=r"reduction.*avg|avg.*reduction"):
        rl.RankingLoss(rl.SmoothAP(), reduction="avg")(EMBEDDINGS, LABELS)
    with pytest.raises(ValueError, match="block_size"):
        rl.RankingLoss(rl.SmoothAP(), block_size=0)(EMBEDDINGS, LABELS)
    with pytest.raises(TypeError, match="positional"):
        rl.RankingLoss(rl.SmoothAP(), True)
    with pytest.raises(TypeError, match="valid"):
        rl.RankingLoss(rl.SmoothAP())(EMBEDDINGS, LABELS, valid=LABELS > 0)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)
@pytest.mark.parametrize("layout", ["labels", "views", "tuple of views"])
def test_training_lowers_the_loss(objective: Any, layout: str) -> None:
    """Noisy copies of eight points, through a network that has to learn which noise to drop."""
    generator = torch.Generator().manual_seed(1)
    points = torch.randn(8, 1, 6, generator=generator)
    inputs = points + 0.8 * torch.randn(8, 4, 6, generator=generator)
    model = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 8))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    loss_fn = rl.RankingLoss(objective)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        embeddings = model(inputs)
        if layout == "labels":
            loss = loss_fn(embeddings.flatten(0, 1), torch.arange(8).repeat_interleave(4))
        elif layout == "views":
            loss = loss_fn(embeddings)
        else:
            loss = loss_fn(embeddings.unbind(1))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]
