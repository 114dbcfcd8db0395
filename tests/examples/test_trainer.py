"""The PyTorch trainer from end to end on 64 pictures: repeated, refused, evaluated, exported."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pretrain_torch
import pytest
import torch
import torchvision
from runs import MakeOptions, differing, run

from pretraining.datasets import PretrainingData
from pretraining.progress import read_curves
from pretraining.runs import RunError, read_options
from torch_s2r2.checkpoints import CHECKPOINT
from torch_s2r2.encoders import ENCODER_FILE, SmallEncoder, load_encoder
from torch_s2r2.learner import Learner
from torch_s2r2.options import TorchOptions
from torch_s2r2.training import train


def test_seed_gives_the_same_run_and_another_does_not(
    small_options: MakeOptions, small_data: PretrainingData, tmp_path: Path
) -> None:
    first = run(small_options(), small_data)
    torch.rand(3)  # what else the program draws must not matter
    again = run(small_options(run_folder=tmp_path / "again"), small_data)
    other = run(small_options(run_folder=tmp_path / "other", seed=1), small_data)
    assert differing(first, again) == []
    assert differing(first["encoder"], other["encoder"])


def test_learns_to_find_views_of_the_same_picture(
    small_options: MakeOptions, small_data: PretrainingData
) -> None:
    options = small_options(steps=40, batch_images=32, head_dim=32, crop_min=0.6, no_flip=True, jitter=0.1)
    result = train(options, data=small_data, show_progress=False)
    rows = read_curves(result.run_folder)
    assert np.mean([row.loss for row in rows[-5:]]) < 0.8 * np.mean([row.loss for row in rows[:3]])
    assert result.map is not None and rows[0].map is not None
    assert result.map > rows[0].map + 0.1
    assert (result.step, result.loss, result.seconds) == (40, rows[-1].loss, rows[-1].seconds)


def test_runs_of_all_methods_start_from_one_encoder(small_options: MakeOptions) -> None:
    starts = [
        Learner(small_options(method=method), 16, 1, torch.device("cpu")).encoder.state_dict()
        for method in ("s2r2", "simclr", "swav")
    ]
    assert differing(starts[0], starts[1]) == differing(starts[0], starts[2]) == []


def test_error_is_one_sentence_and_status_1(
    fashion_mnist: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pretrain_torch.main(["--data", "folder", "--data-root", str(tmp_path / "nothing")]) == 1
    message = capsys.readouterr().err
    assert message.startswith("error: --data folder needs a --data-root")
    assert message.count("\n") == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_images": 65}, "a batch takes 65 pictures and the data set has 64: give a smaller"),
        ({"limit_images": 7}, "a batch takes 8 pictures and the data set has 7"),
        ({"blocks": 3}, "--blocks 3 does not divide a batch of 8 pictures"),
        ({"device": "nonsense"}, "--device nonsense is not there"),
    ],
)
def test_runs_that_can_not_start(
    small_options: MakeOptions, small_data: PretrainingData, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(RunError, match=message):
        run(small_options(**changes), small_data)


def test_folder_of_something_else(
    small_options: MakeOptions, small_data: PretrainingData, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "diary.txt").write_text("dear")
    with pytest.raises(RunError, match="is not empty: give --resume to go on with its run"):
        run(small_options(), small_data)
    with pytest.raises(RunError, match=r"holds no run to resume: it has no options\.json"):
        run(small_options(resume=True), small_data)
    with pytest.raises(RunError, match="is a file"):
        run(small_options(run_folder=tmp_path / "run" / "diary.txt"), small_data)
    with pytest.raises(RunError, match="holds no run of this trainer"):
        read_options(tmp_path / "run", TorchOptions)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["diary.txt"]


def test_resuming_with_other_options_or_data(
    small_options: MakeOptions, small_data: PretrainingData, tmp_path: Path
) -> None:
    run(small_options(), small_data)
    with pytest.raises(RunError, match=r"other options: --views 4 \(here 3\)"):
        run(small_options(views=3, resume=True), small_data)
    (small_options().folder / CHECKPOINT).rename(tmp_path / CHECKPOINT)  # killed before the first checkpoint
    with pytest.raises(RunError, match=r"has other options: --views 4 \(here 3\)"):
        run(small_options(views=3, resume=True), small_data)
    (tmp_path / CHECKPOINT).rename(small_options().folder / CHECKPOINT)
    others = PretrainingData("small", 255 - np.asarray(small_data.images), None, 16)
    with pytest.raises(RunError, match="was made with other data"):
        run(small_options(resume=True), others)


def test_evaluation_at_the_end(small_options: MakeOptions, small_data: PretrainingData) -> None:
    options = small_options(no_evaluation=False)
    result = train(options, data=small_data, show_progress=False)
    assert result.results is not None
    assert (options.folder / "results.json").is_file()
    again = train(small_options(no_evaluation=False, resume=True), data=small_data, show_progress=False)
    assert again.results == result.results


def test_exported_small_encoder_is_what_was_trained(
    small_options: MakeOptions, small_data: PretrainingData
) -> None:
    result = train(small_options(), data=small_data, show_progress=False)
    encoder = SmallEncoder(channels=1)
    encoder.load_state_dict(torch.load(result.run_folder / ENCODER_FILE, weights_only=True))
    features = result.encode(np.asarray(small_data.images[:5]))
    assert (features.shape, features.dtype) == ((5, 128), np.float32)
    options = read_options(result.run_folder, TorchOptions)
    assert options == small_options()
    loaded = load_encoder(result.run_folder, options, 16, 1, torch.device("cpu"))
    np.testing.assert_array_equal(loaded(np.asarray(small_data.images[:5])), features)


def test_exported_resnet_is_torchvisions(small_options: MakeOptions, folder_data: Path) -> None:
    options = small_options(
        encoder="resnet18", data="folder", data_root=folder_data, image_size=64, batch_images=4, views=2,
        steps=2, workers=1,
    )  # fmt: skip
    train(options, show_progress=False)
    model = torchvision.models.resnet18()
    model.fc = torch.nn.Identity()
    model.load_state_dict(torch.load(options.folder / ENCODER_FILE, weights_only=True))
    assert torch.load(options.folder / CHECKPOINT, weights_only=True)["state"]["encoder"].keys() == (
        model.state_dict().keys()
    )


def test_exported_resnet_for_small_pictures(small_options: MakeOptions, small_data: PretrainingData) -> None:
    options = small_options(encoder="resnet18", steps=1, views=2, batch_images=2)
    train(options, data=small_data, show_progress=False)
    model = torchvision.models.resnet18()
    model.fc = torch.nn.Identity()
    model.conv1 = torch.nn.Conv2d(3, 64, 3, padding=1, bias=False)
    model.maxpool = torch.nn.Identity()
    model.load_state_dict(torch.load(options.folder / ENCODER_FILE, weights_only=True))


def test_progress_bar_shows_loss_map_and_speed(
    small_options: MakeOptions, small_data: PretrainingData, capfd: pytest.CaptureFixture[str]
) -> None:
    train(small_options(), data=small_data)
    shown = capfd.readouterr().err
    assert re.search(r"S2R2: 100%.* 6/6 .*loss=0\.\d+, views/s=[\d,]+, mAP=0\.\d+", shown)
