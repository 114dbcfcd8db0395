"""The pictures: frames say what is right, curves keep their gaps, names on a map don't cover each other."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.image import imread
from small_data import pictures

from pretraining import maps
from pretraining import pictures as drawn
from pretraining.pictures import QUERY, RIGHT, WRONG, Neighbours
from pretraining.progress import Row


def frames(figure: Figure) -> list[str]:
    return [to_hex(patch.get_edgecolor()).upper() for patch in figure.axes[0].patches]


def neighbours(right: list[list[bool]], channels: int = 1) -> Neighbours:
    flags = np.array(right)
    images = pictures(flags.size, 12, channels).reshape(*flags.shape, 12, 12, channels)
    return Neighbours(images, flags)


@pytest.mark.parametrize("channels", [1, 3])
def test_every_picture_is_framed_as_it_is_right_or_wrong(channels):
    blocks = {
        "a": neighbours([[True, True, False], [False, False, False]], channels),
        "b": neighbours([[True, True, True], [True, False, True]], channels),
        "c": neighbours([[False, True, True], [True, True, True]], channels),
    }
    figure = drawn.draw_neighbours(pictures(2, 12, channels), ["x", "y"], blocks, title="t")
    found = frames(figure)
    assert found.count(RIGHT) == 2 + 5 + 5
    assert found.count(WRONG) == 4 + 1 + 1
    assert found.count(QUERY) == 2 * 2  # beside each pair of encoders
    crosses = [line for line in figure.axes[0].lines if line.get_marker() == "X"]
    assert len(crosses) == 6  # a wrong one is marked beside its colour
    said = [text.get_text() for text in figure.axes[0].texts]
    assert {"a: 2 of 6 right", "b: 5 of 6 right", "c: 5 of 6 right", "x", "y", "t"} <= set(said)


def test_a_frame_stands_around_its_own_picture():
    blocks = {"a": neighbours([[True, False]])}
    axes = drawn.draw_neighbours(pictures(1, 12, 1), ["x"], blocks, title="t").axes[0]
    corners = {
        (round(p.get_x(), 3), round(p.get_y(), 3)): to_hex(p.get_edgecolor()).upper() for p in axes.patches
    }
    (cross,) = axes.lines
    wrong = next(corner for corner, colour in corners.items() if colour == WRONG)
    assert wrong[0] < cross.get_xdata()[0] < wrong[0] + 1
    assert wrong[1] < cross.get_ydata()[0] < wrong[1] + 1
    for image in axes.images:
        left, _, bottom, top = image.get_extent()
        assert (round(left, 3), round(min(bottom, top), 3)) in corners


def test_the_saved_picture_holds_the_colours(tmp_path):
    blocks = {"a": neighbours([[True] * 4, [False] * 4])}
    figure = drawn.draw_neighbours(pictures(2, 12, 1), ["x", "y"], blocks, title="t")
    image = (imread(drawn.save(figure, tmp_path / "deep" / "n.png"))[..., :3] * 255).round().astype(int)
    for colour in (RIGHT, WRONG):
        rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        assert (image == rgb).all(axis=-1).sum() > 500


def rows(losses: list[float], precisions: list[float | None]) -> list[Row]:
    return [
        Row(i, i, loss, p, 1.0, 0.1) for i, (loss, p) in enumerate(zip(losses, precisions, strict=True), 1)
    ]


def test_curves_leave_out_steps_that_were_not_measured():
    runs = {"a": rows([3, 2, 1], [None, 0.5, None]), "b": rows([1, 1, 1], [0.1, None, 0.3])}
    precision, loss_a, loss_b = drawn.draw_curves(runs).axes
    assert [list(line.get_xdata()) for line in precision.lines] == [[2], [2], [1, 3], [1, 3]]
    assert list(precision.lines[1].get_ydata()) == [50]
    assert list(loss_a.lines[0].get_ydata()) == [3, 2, 1]
    assert loss_b.get_title(loc="left") == "loss of b"
    assert [text.get_text() for text in precision.get_legend().get_texts()] == ["a", "b"]


def test_curves_without_any_measured_precision_still_show_the_loss():
    axes = drawn.draw_curves({"a": rows([3, 2], [None, None])}).axes
    assert len(axes[1].lines) == 2


def test_smoothing_keeps_a_straight_line_straight():
    figure = drawn.draw_curves({"a": rows(list(np.linspace(5, 1, 101)), [None] * 101)})
    raw, smooth = figure.axes[1].lines
    np.testing.assert_allclose(smooth.get_ydata()[2:-2], raw.get_ydata()[2:-2])


def test_a_map_keeps_far_groups_apart():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 30)
    features = np.eye(6)[labels] + 0.05 * rng.normal(size=(60, 6))
    points = maps.project(features, seed=0)
    assert points.shape == (60, 2)
    centres = [points[labels == label].mean(axis=0) for label in (0, 1)]
    own = [np.linalg.norm(points[labels == c] - centres[c], axis=1).mean() for c in (0, 1)]
    assert np.linalg.norm(centres[0] - centres[1]) > 2 * max(own)
    np.testing.assert_array_equal(points, maps.project(features, seed=0))
    with pytest.raises(ValueError, match="at least 4 rows for a map, got 3"):
        maps.project(features[:3], seed=0)


def test_colours_go_to_the_commonest_classes():
    labels = np.repeat(np.arange(12), [9, 9, 1, 9, 9, 9, 9, 9, 2, 9, 9, 9])
    groups, names = maps.colour_groups(labels, [f"c{i}" for i in range(12)])
    assert names == ["c0", "c1", "c3", "c4", "c5", "c6", "c7", "c9", "c10", "c11"]
    assert set(groups[labels == 2]) == set(groups[labels == 8]) == {-1}
    assert [names[group] for group in groups[labels == 10]] == ["c10"] * 9


def test_a_picture_of_several_classes_has_the_rarest_ones_colour():
    labels = np.array([[1, 0, 0], [1, 1, 0], [1, 0, 0], [0, 1, 0], [0, 0, 0]], dtype=bool)
    groups, names = maps.colour_groups(labels, ["person", "dog", "never"])
    assert names == ["person", "dog"]
    np.testing.assert_array_equal(groups, [0, 1, 0, 1, -1])


def test_names_on_a_map_do_not_cover_each_other():
    rng = np.random.default_rng(0)
    points, groups = rng.normal(size=(80, 2)), np.arange(80) % 4
    points[5:] /= 1000  # all classes in one place
    groups[:5] = -1
    figure = maps.draw_maps({"a": points, "b": points, "c": points}, groups, list("wxyz"), title="t")
    FigureCanvasAgg(figure)
    figure.draw_without_rendering()  # lays out the panels, so that the names have their places
    drawn_on = [axes for axes in figure.axes if axes.texts]
    assert [axes.get_title(loc="left") for axes in drawn_on] == ["a", "b", "c"]
    for axes in drawn_on:
        boxes = [text.get_window_extent() for text in axes.texts]
        assert len(boxes) == 4
        for first in range(4):
            for second in range(first):
                assert not boxes[first].overlaps(boxes[second])
        assert sum(len(dots.get_offsets()) for dots in axes.collections) == 80
