"""The methods' losses, the optimisers, and what lightly's SwAV needs done to it."""

import numpy as np
import pytest
import torch
from torch.nn import functional

import rankloss.torch as rl
from pretraining.objectives import objective
from pretraining.runs import RunError
from pretraining.sampling import batches
from torch_s2r2.encoders import build_encoder, encoder_input, feature_size
from torch_s2r2.methods import Ranking, Supervised, SwAV, build_method
from torch_s2r2.optimizers import build_optimizer, set_learning_rate
from torch_s2r2.options import TorchOptions


def embeddings(pictures: int = 6, views: int = 4, dimensions: int = 8, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(pictures, 1, dimensions, generator=generator)
    return (centres + torch.randn(pictures, views, dimensions, generator=generator)).requires_grad_()


def small_swav(**changes: object) -> SwAV:
    torch.manual_seed(0)
    values = {"head_dim": 8, "prototypes": 5, "prototypes_frozen_steps": 0, "queue_size": 12}
    values |= {"queue_start_step": 1, "batch_images": 6, "views": 4}
    method = build_method(TorchOptions(method="swav", **(values | changes)))  # type: ignore[arg-type]
    assert isinstance(method, SwAV)
    return method


def test_simclr_is_nt_xent() -> None:
    views = embeddings(views=2)
    loss = build_method(TorchOptions(method="simclr", temperature=0.3))([views], 1)
    rows = functional.normalize(torch.cat([views[:, 0], views[:, 1]]), dim=1)
    scores = (rows @ rows.T / 0.3).fill_diagonal_(-torch.inf)
    expected = functional.cross_entropy(scores, (torch.arange(12) + 6) % 12)
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"temperature": 0.2}, rl.SmoothAP(temperature=0.2)),
        ({"objective": "fast_ap", "num_bins": 7}, rl.FastAP(num_bins=7)),
        ({"objective": "sup_con"}, rl.SupCon(temperature=0.1)),
        ({"temperature": 0.2, "blocks": 3}, rl.Blockwise(rl.SmoothAP(temperature=0.2), 3)),
        ({"method": "simclr", "views": 6, "blocks": 3}, rl.SupCon(temperature=0.2)),
    ],
)
def test_objectives(changes: dict[str, object], expected: object) -> None:
    options = TorchOptions(**changes)  # type: ignore[arg-type]
    assert objective(options) == expected
    views = embeddings()
    torch.testing.assert_close(build_method(options)([views], 1), rl.embedding_loss(expected, views))


def test_s2r2_can_include_the_query() -> None:
    views = embeddings()
    method = build_method(TorchOptions(include_query=True, temperature=0.1))
    expected = rl.embedding_loss(rl.SmoothAP(temperature=0.1), views, include_query=True)
    assert isinstance(method, Ranking)
    torch.testing.assert_close(method([views], 1), expected)
    assert not torch.isclose(expected, rl.embedding_loss(rl.SmoothAP(temperature=0.1), views))


def test_swav_prototypes_have_no_bias_and_unit_length() -> None:
    method = small_swav()
    assert [name for name, _ in method.prototypes.named_parameters()] == ["heads.0.weight"]
    method.before_step(1)
    weight = method.prototypes.heads[0].weight
    torch.testing.assert_close(weight.norm(dim=1), torch.ones(5))
    features = functional.normalize(torch.randn(3, 8), dim=1)
    torch.testing.assert_close(method.prototypes(features), features @ weight.T)


def test_swav_is_the_swapped_prediction_of_lightly() -> None:
    from lightly.loss import SwaVLoss

    method = small_swav(queue_size=0)
    views = embeddings()
    rows = functional.normalize(views, dim=-1)
    scores = [rows[:, view] @ method.prototypes.heads[0].weight.T for view in range(4)]
    expected = SwaVLoss(temperature=0.1, sinkhorn_epsilon=0.05)(scores[:2], scores[2:])
    loss = method([views[:, :2], views[:, 2:]], 1)
    assert loss.shape == ()
    torch.testing.assert_close(loss, expected.squeeze())
    loss.backward()
    assert views.grad is not None
    assert (views.grad.abs().sum(-1) > 0).all()


def test_swav_queue_is_used_once_it_is_full() -> None:
    with_queue, without = small_swav(), small_swav(queue_size=0)
    without.load_state_dict(with_queue.state_dict(), strict=False)
    losses = []
    for step in range(1, 5):
        views = [embeddings(views=2, seed=step), embeddings(views=2, seed=10 + step)]
        losses.append((with_queue(views, step).item(), without(views, step).item()))
    equal = [one == other for one, other in losses]
    assert equal == [True, True, False, False]  # 12 places, 6 pictures a step
    newest = functional.normalize(embeddings(views=2, seed=4)[:, 1], dim=-1)
    held = with_queue.queues[1].bank
    assert any(torch.equal(held[start : start + 6], newest) for start in (0, 6))


def test_swav_queue_is_part_of_the_state() -> None:
    method, other = small_swav(), small_swav()
    for step in (1, 2, 3):
        method([embeddings(views=2, seed=step)], step)
    other.load_state_dict(method.state_dict())
    views = [embeddings(views=2, seed=9)]
    assert other(views, 4).item() == method(views, 4).item()
    assert {"queues.0.bank", "queues.0.bank_ptr", "queues.1.bank"} <= method.state_dict().keys()


def test_swav_prototypes_are_frozen_at_first() -> None:
    method = small_swav(prototypes_frozen_steps=3)
    for step, moves in ((1, False), (2, False), (3, True)):
        method.zero_grad()
        method([embeddings(views=2)], step).backward()
        assert (method.prototypes.heads[0].weight.grad is not None) == moves


def test_swav_under_float16_does_not_overflow() -> None:
    method = small_swav(sinkhorn_epsilon=0.03)
    method.before_step(1)
    with torch.autocast("cpu", torch.float16):
        loss = method([embeddings(views=2).half()], 1)
    assert loss.dtype == torch.float32
    assert loss.isfinite()


@pytest.mark.parametrize("name", ["sgd", "lars", "adamw"])
def test_optimizer_lowers_a_loss_and_decays_no_bias(name: str) -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4))
    optimizer = build_optimizer(TorchOptions(optimizer=name, weight_decay=0.1), [model], fused=False)
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert [decays[id(p)] for p in model.parameters()] == [0.1, 0.0, 0.0, 0.0]
    x, losses = torch.randn(16, 4), []
    set_learning_rate(optimizer, 0.05)
    for _ in range(20):
        optimizer.zero_grad()
        loss = (model(x) - x).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    ("name", "size", "channels", "stem"),
    [
        ("small", 28, 1, None),
        ("small", 96, 3, None),
        ("resnet18", 32, 1, 3),
        ("resnet18", 64, 3, 7),
        ("resnet50", 32, 3, 3),
    ],
)
def test_encoders(name: str, size: int, channels: int, stem: int | None) -> None:
    encoder = build_encoder(name, size, channels).eval()
    features = encoder(encoder_input(name, torch.randn(2, channels, size, size)))
    assert features.shape == (2, feature_size(name))
    if stem is not None:
        assert encoder.conv1.kernel_size == (stem, stem)
        assert isinstance(encoder.maxpool, torch.nn.Identity) == (stem == 3)


@pytest.mark.parametrize("multi_label", [False, True])
def test_supervised_is_cross_entropy_with_the_labels_of_the_step(multi_label: bool) -> None:
    labels = np.random.default_rng(0).integers(0, 3, 40)
    labels = np.eye(3, dtype=bool)[labels] if multi_label else labels
    options = TorchOptions(method="supervised", head_dim=8, batch_images=6, views=4, seed=5)
    method = build_method(options, labels)
    assert isinstance(method, Supervised)
    views, step = embeddings(), 9  # in the second epoch: an epoch has six batches
    numbers = list(batches(40, 6, 5, 1, step))[-1]
    wanted = []
    for picture, number in enumerate(numbers):
        for view in range(4):
            logits = method.classifier(views[picture, view])
            if multi_label:
                target = torch.tensor(labels[number], dtype=torch.float32)
                wanted.append(functional.binary_cross_entropy_with_logits(logits, target))
            else:
                wanted.append(-torch.log_softmax(logits, 0)[labels[number]])
    torch.testing.assert_close(method([views[:, :1], views[:, 1:]], step), torch.stack(wanted).mean())


def test_supervised_needs_labels() -> None:
    with pytest.raises(RunError, match="--data stl10 has none"):
        build_method(TorchOptions(method="supervised", data="stl10"))


def test_the_temperature_follows_half_a_cosine() -> None:
    options = TorchOptions(temperature=0.4, final_temperature=0.1, steps=5)
    temperatures = [options.temperature_at(step) for step in range(1, 6)]
    assert temperatures == pytest.approx(
        [0.4, 0.1 + 0.3 * (2 + 2**0.5) / 4, 0.25, 0.1 + 0.3 * (2 - 2**0.5) / 4, 0.1]
    )
    views = embeddings()
    found = build_method(options)([views], 3)
    torch.testing.assert_close(found, rl.embedding_loss(rl.SmoothAP(temperature=0.25), views))
    assert TorchOptions(temperature=0.4, steps=5).temperature_at(4) == 0.4
    assert TorchOptions(objective="fast_ap").temperature_at(4) is None


@pytest.mark.parametrize("changes", [{"objective": "fast_ap"}, {"method": "swav"}, {"method": "supervised"}])
def test_a_final_temperature_needs_one_to_start_from(changes: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="final_temperature needs a loss with a temperature"):
        TorchOptions(final_temperature=0.1, **changes)  # type: ignore[arg-type]


def test_an_epsilon_whose_exponential_overflows_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"sinkhorn_epsilon must be 0\.015 or more with method swav, got 0\.01"
    ):
        TorchOptions(method="swav", sinkhorn_epsilon=0.01)
    TorchOptions(method="simclr", sinkhorn_epsilon=0.01)


def test_the_smallest_epsilon_does_not_overflow() -> None:
    from lightly.loss.swav_loss import sinkhorn

    scores = torch.eye(300).repeat(16, 1)  # as large as cosines get
    assert torch.isfinite(sinkhorn(scores, epsilon=0.015, gather_distributed=False)).all()
