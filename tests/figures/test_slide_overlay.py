"""The overlay of a slide: the bar has the length that it names, colours lie where the probability does."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from cvm_monai.figures import palette, save_figure, slide_overlay
from cvm_monai.figures.scale_bar import length_name, round_length

GREY = np.full((60, 90, 3), 200, dtype=np.uint8)


def half(shape=(6, 9)):
    probability = np.zeros(shape)
    probability[:, shape[1] // 2 + 1 :] = 1
    return probability


def texts(figure):
    return [text.get_text() for text in figure.texts]


def pixels(path, figure):
    return np.round(imread(save_figure(figure, path))[..., :3] * 255).astype(int)


@pytest.mark.parametrize("longest, expected", [(1, 1), (1.99, 1), (2, 2), (4.9, 2), (5, 5), (999, 500), (0.3, 0.2)])
def test_a_bar_is_as_long_as_the_largest_round_number_that_fits(longest, expected):
    assert round_length(longest) == pytest.approx(expected)


@pytest.mark.parametrize(
    "length, name", [(50, "50 µm"), (500, "500 µm"), (1000, "1 mm"), (5000, "5 mm"), (0.5, "0.5 µm")]
)
def test_lengths_are_named_in_micrometres_or_millimetres(length, name):
    assert length_name(length) == name


@pytest.mark.parametrize("shape, mpp", [((60, 90), 0.25), ((90, 60), 1.7), ((20, 200), 16.0), ((60, 90), 120.0)])
def test_the_bar_measures_what_it_names(tmp_path, shape, mpp):
    thumbnail = np.full((*shape, 3), 200, dtype=np.uint8)
    figure = slide_overlay(thumbnail, np.zeros(shape), mpp=mpp)
    (name,) = (text for text in texts(figure) if text.endswith("m"))
    number, unit = name.split()
    micrometres = float(number) * {"µm": 1, "mm": 1000}[unit]
    drawn = pixels(tmp_path / "a.png", figure)
    across = (drawn == 200).all(2).sum(1)  # of the thumbnail itself
    wide = across.max() / shape[1]  # pixels of the file for one of the thumbnail
    ink = (np.abs(drawn - np.round(np.multiply(to_rgb(palette.INK), 255))) < 8).all(2)
    bar = ink[np.flatnonzero(across == across.max()).max() + 1 :].sum(1).max()
    assert bar == pytest.approx(micrometres / mpp * wide, abs=2)
    assert bar > 100


def test_the_image_shows_through_where_there_is_no_probability(tmp_path):
    drawn = pixels(tmp_path / "a.png", slide_overlay(GREY, half(), opacity=0.5))
    shown = drawn[100:700]
    assert (shown[:, 100:500] == 200).all()
    yellow = np.array([253, 231, 37])  # the end of viridis
    np.testing.assert_allclose(shown[:, 900:1200].mean((0, 1)), (200 + yellow) / 2, atol=2)


@pytest.mark.parametrize("masked", [False, True])
def test_what_is_not_known_stays_as_it_is(tmp_path, masked):
    unknown = np.zeros((6, 9), dtype=bool)
    unknown[:, 6:] = True
    values = np.ma.masked_array(half(), unknown) if masked else np.where(unknown, np.nan, half())
    drawn = pixels(tmp_path / "a.png", slide_overlay(GREY, values))
    assert (drawn[100:700, 900:1200] == 200).all()


def test_eight_bits_are_drawn_as_the_numbers_they_stand_for():
    eight, floating = (slide_overlay(GREY, values) for values in ((half() * 255).astype(np.uint8), half()))
    np.testing.assert_array_equal(eight.axes[0].images[1].get_array(), floating.axes[0].images[1].get_array())


def test_each_class_has_an_outline_and_a_key_in_its_colour():
    labels = np.zeros((6, 9), dtype=np.uint8)
    labels[1:3, 1:4], labels[4:, 5:], labels[0, 8] = 1, 2, 255
    figure = slide_overlay(GREY, half(), labels=labels, names=("background", "a", "b"), colours={2: (0, 255, 0)})
    (legend,) = figure.legends
    keys = {
        text.get_text(): line.get_color() for text, line in zip(legend.get_texts(), legend.get_lines(), strict=True)
    }
    assert keys == {"a": palette.VERMILION, "b": "#00ff00"}
    assert len(figure.axes[0].collections) == 2


def test_without_a_pixel_size_there_is_no_bar_but_still_a_colour_bar():
    figure = slide_overlay(GREY, half(), title="slide_1")
    assert texts(figure) == ["slide_1"]
    assert [tick.get_text() for tick in figure.axes[1].get_xticklabels()] == ["0", "0.5", "1"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"thumbnail": GREY[..., 0]}, r"the thumbnail is uint8 of shape \(60, 90\): give uint8 \(H, W, 3\)"),
        ({"probability": np.zeros((2, 2, 2))}, r"probability has shape \(2, 2, 2\): give \(H, W\)"),
        ({"labels": np.zeros(4, np.uint8)}, r"labels has shape \(4,\): give \(H, W\)"),
        ({"opacity": 1.5}, "opacity must be between 0 and 1, got 1.5"),
        ({"mpp": 0.0}, "mpp must be above 0 micrometres per pixel, or None, got 0.0"),
    ],
)
def test_what_cannot_be_drawn_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        slide_overlay(**{"thumbnail": GREY, "probability": half(), **arguments})
