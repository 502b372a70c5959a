"""Overlays and the paper's figure: what is drawn where."""

import subprocess
import sys

import numpy as np
import pytest
from matplotlib.image import imread
from skimage.color import rgb2lab

from cvm_monai.figures import FigureRow, draw_case, palette, panels, paper_figure, save_figure


def _row(case_id="case_1", *, shape=(24, 32), **changes):
    rng = np.random.default_rng(0)
    truth = np.zeros(shape, dtype=np.uint8)
    truth[4:12, 6:20] = 1
    facts = {
        "image": rng.integers(0, 255, size=(*shape, 3), dtype=np.uint8),
        "points": np.array([[10.5, 6.5, 1], [2.5, 20.5, 0], [28.5, 20.5, 0]]),
        "truth": truth,
        "pseudo_label": rng.random((shape[0] // 4, shape[1] // 4)),
        "probability": np.clip(truth * 0.8 + 0.1, 0, 1),
        "dice": 0.9,
    }
    return FigureRow(case_id=case_id, **(facts | changes))


def _texts(figure):
    return [text.get_text() for text in figure.texts]


@pytest.mark.parametrize("n_rows", [1, 3])
def test_the_paper_figure_has_five_panels_a_row_and_titles_once(n_rows):
    figure = paper_figure([_row(f"case_{index}") for index in range(n_rows)])
    assert len(figure.axes) == 5 * n_rows + 1  # the colour bar
    assert all(len(axes.images) == 1 for axes in figure.axes[:-1])
    titles = ["Image and points", "Ground truth", "Pseudo-label u", "Network probability", "Errors"]
    captions = [text for index in range(n_rows) for text in (f"case_{index}", "Dice 0.900")]
    assert _texts(figure) == captions + titles


def test_missing_maps_become_grey_tiles():
    figure = paper_figure([_row(truth=None, pseudo_label=None, dice=None)])
    tiles = [[text.get_text() for text in axes.texts] for axes in figure.axes[:5]]
    assert tiles == [[], ["none"], ["none"], [], ["none"]]
    assert "Dice" not in " ".join(_texts(figure))


@pytest.mark.parametrize("shape", [(24, 96), (96, 24), (40, 40)])
def test_every_panel_keeps_the_shape_of_its_image_and_lies_in_the_figure(shape):
    figure = paper_figure([_row(shape=shape), _row()])
    width, height = figure.get_size_inches()
    for axes in figure.axes[:5]:
        box = axes.get_position()
        assert box.height * height / (box.width * width) == pytest.approx(shape[0] / shape[1])
    boxes = [axes.get_position() for axes in figure.axes]
    assert all(0 <= box.x0 < box.x1 <= 1 and 0 <= box.y0 < box.y1 <= 1 for box in boxes)
    assert not any(a.overlaps(b) for index, a in enumerate(boxes) for b in boxes[:index])


def test_points_stand_at_their_coordinates_with_a_shape_for_each_label():
    axes = paper_figure([_row()]).axes[0]
    background, target = axes.lines
    np.testing.assert_array_equal(target.get_xydata(), [[10.5, 6.5]])
    np.testing.assert_array_equal(background.get_xydata(), [[2.5, 20.5], [28.5, 20.5]])
    assert target.get_marker() != background.get_marker()
    assert target.get_markeredgecolor() == background.get_markeredgecolor() == "white"
    assert axes.images[0].get_extent() == [0, 32, 24, 0]


def test_errors_are_coloured_by_kind_and_ignored_pixels_stay_grey():
    truth = np.array([[1, 0, 1, 0, 255]])
    row = _row(
        image=np.full((1, 5, 3), 100, dtype=np.uint8), truth=truth, probability=np.array([[0.9, 0.9, 0.1, 0.1, 0.9]])
    )
    canvas = paper_figure([row]).axes[4].images[0].get_array()[0]
    grey = 0.35 + 0.65 * 100 / 255
    for pixel, colour in zip(
        canvas, (palette.TRUE_POSITIVE, palette.FALSE_POSITIVE, palette.FALSE_NEGATIVE), strict=False
    ):
        hexadecimal = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
        np.testing.assert_allclose(pixel, (1 - panels.TINT) * grey + panels.TINT * np.array(hexadecimal), atol=1e-7)
    np.testing.assert_allclose(canvas[3:], grey)


def test_ignored_truth_is_masked_and_has_a_key():
    truth = np.zeros((24, 32), dtype=np.uint8)
    truth[:5] = 255
    figure = paper_figure([_row(truth=truth)])
    assert figure.axes[1].images[0].get_array().mask.sum() == 5 * 32
    keys = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    assert keys == ["target", "background", "target", "background", "ignored", "TP", "FP", "FN"]


@pytest.mark.parametrize("soft, dice", [("probability", ["Dice 0.900"]), ("pseudo_label", [])])
def test_a_case_is_drawn_in_four_panels_with_the_map_asked_for(soft, dice):
    row = _row()
    figure = draw_case(row, soft=soft)
    assert len(figure.axes) == 5
    np.testing.assert_array_equal(figure.axes[2].images[0].get_array(), getattr(row, soft))
    assert [text for text in _texts(figure) if text.startswith("Dice")] == dice


def test_the_outline_runs_along_the_pixels_borders_in_image_coordinates():
    # rows 4..11, columns 6..19 of a map as fine as the image: the border lies at x 6..20, y 4..12
    axes = draw_case(_row()).axes[1]
    path = axes.collections[0].get_paths()[0]
    np.testing.assert_allclose(path.vertices.min(axis=0), [6, 4])
    np.testing.assert_allclose(path.vertices.max(axis=0), [20, 12])


def test_an_empty_mask_has_no_outline():
    axes = draw_case(_row(truth=np.zeros((24, 32), dtype=np.uint8))).axes[1]
    assert len(axes.collections) == 0


def test_large_arrays_are_reduced_before_they_are_drawn():
    figure = draw_case(_row(shape=(40, 2500)))
    assert figure.axes[0].images[0].get_array().shape == (14, 834, 3)
    assert figure.axes[0].images[0].get_extent() == [0, 2500, 40, 0]
    assert figure.axes[2].images[0].get_array().shape == (14, 834)


def test_a_case_without_pseudo_label_cannot_show_one():
    with pytest.raises(ValueError, match="case case_1 has no pseudo-label"):
        draw_case(_row(pseudo_label=None), soft="pseudo_label")


def test_a_figure_of_nothing_is_refused():
    with pytest.raises(ValueError, match="no case to draw"):
        paper_figure([])


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"image": np.zeros((24, 32), np.uint8)}, r"case case_1: image is uint8 of shape \(24, 32\)"),
        ({"image": np.zeros((24, 32, 3))}, "case case_1: image is float64"),
        ({"points": np.zeros((2, 2))}, r"case case_1: points has shape \(2, 2\)"),
        ({"pseudo_label": np.zeros((1, 4, 4))}, "case case_1: pseudo_label has shape"),
        ({"probability": np.zeros((12, 16))}, r"case case_1: truth has shape \(24, 32\) and probability \(12, 16\)"),
    ],
)
def test_a_row_of_wrong_shapes_is_refused_with_its_name(changes, message):
    with pytest.raises(ValueError, match=message):
        _row(**changes)


def test_a_saved_figure_is_a_whole_png_of_the_figures_size(tmp_path):
    figure = paper_figure([_row()])
    path = save_figure(figure, tmp_path / "new" / "case.png")
    width, height = (int(inches * palette.DPI) for inches in figure.get_size_inches())
    assert imread(path).shape[:2] == (height, width)
    assert [entry.name for entry in path.parent.iterdir()] == ["case.png"]


def test_another_file_type_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"does not end in \.png"):
        save_figure(paper_figure([_row()]), tmp_path / "case.pdf")


DICHROMACY = {  # Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


@pytest.mark.parametrize("kind", DICHROMACY)
@pytest.mark.parametrize(
    "colours",
    [
        (palette.TRUE_POSITIVE, palette.FALSE_POSITIVE, palette.FALSE_NEGATIVE),
        (palette.TARGET_POINT, palette.BACKGROUND_POINT),
    ],
)
def test_colours_that_stand_together_are_told_apart_without_full_colour_vision(colours, kind):
    rgb = np.array([[int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)] for colour in colours])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(DICHROMACY[kind]).T, 0, 1)
    lab = rgb2lab(np.where(seen <= 0.0031308, seen * 12.92, 1.055 * seen ** (1 / 2.4) - 0.055))
    distances = [np.linalg.norm(a - b) for index, a in enumerate(lab) for b in lab[:index]]
    assert min(distances) > 30  # 2.3 is just noticeable


def test_drawing_never_touches_matplotlibs_global_state():
    code = "import sys, cvm_monai.figures; print({'matplotlib.pyplot', 'torch', 'monai'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
