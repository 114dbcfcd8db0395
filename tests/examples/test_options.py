"""The options: the command line, what is refused, the learning rate, and what a resumed run must share."""

from pathlib import Path

import pytest

from pretraining.options import Options, parse
from torch_s2r2.options import TorchOptions


def test_command_line_and_python_speak_alike() -> None:
    line = [
        "--method",
        "swav",
        "--views",
        "4",
        "--run-folder",
        "a/b",
        "--learning-rate",
        "0.5",
        "--amp",
        "bfloat16",
    ]
    expected = TorchOptions(method="swav", views=4, run_folder=Path("a/b"), learning_rate=0.5, amp="bfloat16")
    assert parse(TorchOptions, "", line) == expected
    assert parse(TorchOptions, "", []) == TorchOptions()
    assert parse(TorchOptions, "", ["--no-evaluation", "--no-flip"]).no_flip


def test_json_gives_the_options_back() -> None:
    options = TorchOptions(data_root=Path("x"), crop_min=0.3, compile=True)
    assert TorchOptions.from_json(options.to_json()) == options


@pytest.mark.parametrize(
    "text",
    ["[]", "{", "{}", '{"trainer": "torch"}', '{"trainer": "", "flavour": 3}', '{"trainer": "", "views": 1}'],
)
def test_json_of_something_else(text: str) -> None:
    with pytest.raises(ValueError):
        Options.from_json(text)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "byol"}, "method must be one of s2r2, simclr, swav, got 'byol'"),
        ({"encoder": "vit"}, "encoder must be one of small, resnet18, resnet50, got 'vit'"),
        (
            {"data": "mnist"},
            "data must be one of fashion-mnist, scenes, objects, stl10, coco, folder, got 'mnist'",
        ),
        ({"temperature": 0.0}, "temperature must be above 0, got 0"),
        ({"learning_rate": float("nan")}, "learning_rate must be above 0, got nan"),
        ({"learning_rate": float("inf")}, "learning_rate must be above 0, got inf"),
        ({"steps": 0}, "steps must be above 0, got 0"),
        ({"seed": -1}, "seed must be 0 or more, got -1"),
        ({"crop_min": 1.5}, "crop_min must be between 0 and 1, got 1.5"),
        ({"crop_min": 0.0}, "crop_min must be above 0, got 0"),
        ({"views_per_step": 15}, "views_per_step must be at least 16, two pictures' views, got 15"),
        ({"batch_images": 1}, "batch_images must be 2 or more, got 1"),
    ],
)
def test_wrong_options(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Options(**changes)  # type: ignore[arg-type]


def test_wrong_option_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        parse(Options, "", ["--views", "99"])
    assert "views must be between 2 and 64, got 99" in capsys.readouterr().err


@pytest.mark.parametrize(("method", "views"), [("s2r2", 8), ("simclr", 2), ("swav", 8)])
def test_methods_take_equally_many_views_a_step(method: str, views: int) -> None:
    options = Options(method=method)
    assert (options.view_count, options.image_count * views) == (views, 512)
    assert Options(method=method, batch_images=5).image_count == 5


def test_learning_rate_rises_and_falls_as_a_cosine() -> None:
    options = Options(steps=110, warmup_steps=10, learning_rate=2.0)
    assert [options.learning_rate_at(step) for step in (1, 5, 10, 11)] == pytest.approx([0.2, 1.0, 2.0, 2.0])
    assert options.learning_rate_at(61) == pytest.approx(1.0)
    assert 0 < options.learning_rate_at(110) < 0.001
    assert Options(steps=5, warmup_steps=0, learning_rate=2.0).learning_rate_at(1) == 2.0


def test_differences_are_those_that_decide_the_numbers() -> None:
    options = TorchOptions(views=8)
    same = TorchOptions(views=8, run_folder=Path("other"), workers=9, checkpoint_every=3, resume=True)
    assert options.differences(same) == []
    assert options.differences(TorchOptions(views=4, seed=3)) == ["--seed 3 (here 0)", "--views 4 (here 8)"]
