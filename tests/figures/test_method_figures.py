"""Boxes of several methods, and their heat maps side by side."""

import numpy as np
import pytest

from cvm_monai.figures import MethodMaps, method_boxes, method_maps


def _case(case_id="case_1", *, shape=(24, 32), maps=("a", "b"), **changes):
    rng = np.random.default_rng(0)
    truth = np.zeros(shape, dtype=np.uint8)
    truth[4:12, 6:20] = 1
    facts = {
        "image": rng.integers(0, 255, size=(*shape, 3), dtype=np.uint8),
        "points": np.array([[10.5, 6.5, 1], [2.5, 20.5, 0]]),
        "truth": truth,
        "maps": {name: rng.random((12, 16)) for name in maps},
        "dice": dict.fromkeys(maps, 0.5),
    }
    return MethodMaps(case_id, **(facts | changes))


def _texts(figure):
    return [text.get_text() for text in figure.texts]


def test_each_method_has_a_box_and_a_point_for_every_case():
    axes = method_boxes({"CVM": [0.4, 0.6, 0.5], "none": [], "Full": [0.8, 0.8]}, apart="Full").axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["CVM (3)", "Full (2)"]
    assert len(axes.patches) == 2
    points = [line for line in axes.lines if line.get_marker() == "o"]
    np.testing.assert_array_equal(points[0].get_xdata(), [0.4, 0.5, 0.6])
    assert len(set(points[1].get_ydata())) == 2  # equal values stand side by side
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first on top
    (border,) = [line for line in axes.lines if line.get_linestyle() == ":"]
    assert set(border.get_ydata()) == {0.5}


def test_no_score_no_boxes():
    with pytest.raises(ValueError, match="no method has a score to draw"):
        method_boxes({"CVM": []})


def test_the_maps_of_all_methods_stand_beside_image_and_truth_with_their_dice():
    figure = method_maps([_case(), _case("case_2")], methods={"a": "Method A", "b": "Method B"})
    assert len(figure.axes) == 2 * 4 + 1  # the colour bar
    texts = _texts(figure)
    assert texts[-4:] == ["Image", "Truth", "Method A", "Method B"]
    assert texts.count("Dice 0.500") == 4
    assert {"case_1", "case_2"} <= set(texts)


def test_a_method_without_a_map_is_a_grey_tile_and_an_undefined_dice_is_not_written():
    figure = method_maps([_case(maps=("a",), dice={"a": float("nan")})], methods={"a": "A", "b": "B"})
    assert [text.get_text() for text in figure.axes[3].texts] == ["none"]
    assert not any("Dice" in text for text in _texts(figure))


@pytest.mark.parametrize("count", [1, 2, 12])
def test_every_panel_and_key_lies_in_the_figure_and_none_hides_another(count):
    names = {f"m{index}": f"Method {index}" for index in range(count)}
    figure = method_maps([_case(shape=(96, 24), maps=tuple(names)), _case(maps=())], methods=names)
    boxes = [axes.get_position() for axes in figure.axes]
    assert all(0 <= box.x0 < box.x1 <= 1 and 0 <= box.y0 < box.y1 <= 1 for box in boxes)
    assert not any(a.overlaps(b) for index, a in enumerate(boxes) for b in boxes[:index])
    figure.canvas.draw()
    keys = [legend.get_window_extent() for legend in figure.legends]
    bar = figure.axes[-1].get_window_extent()
    assert not any(a.overlaps(b) for index, a in enumerate([*keys, bar]) for b in [*keys, bar][:index])


def test_no_case_no_maps():
    with pytest.raises(ValueError, match="there is no case to draw"):
        method_maps([], methods={"a": "A"})
