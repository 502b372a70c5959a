"""Regions and clicks of a request."""

from types import SimpleNamespace

import pytest

from cvm_monai.interactive.window import Window, far_corners, working_shape
from cvm_monai.label_app.request_region import read_clicks, read_window, window_of_clicks


def test_a_region_is_cut_to_the_image():
    assert read_window({"location": [90, -5], "size": [20, 10]}, (50, 100)) == Window(90, 0, 10, 5)


def test_size_zero_reaches_to_the_border():
    assert read_window({"location": [10, 20], "size": [0, 0]}, (50, 100)) == Window(10, 20, 90, 30)


def test_no_region_is_none():
    assert read_window({}, (50, 100)) is None


@pytest.mark.parametrize(
    "request_, message",
    [
        ({"location": [200, 0], "size": [5, 5]}, "lies outside the image"),
        ({"location": "x", "size": [5, 5]}, "pairs of numbers"),
        ({"location": [float("nan"), 0], "size": [5, 5]}, "pairs of numbers"),
        ({"location": [0, 0], "size": [-1, 5]}, "from 0"),
        ({"location": [0, 1e300], "size": [1, 5]}, "pairs of numbers"),
        ({"location": [-1, -1], "size": [5, -1]}, "from 0"),
        ({"roi": [1, 2, 3]}, "roi must be"),
        ({"roi": "x"}, "roi must be"),
        ({"roi": {"x": 1}}, "roi must be"),
        ({"roi": [1, 2, 1, 5]}, "roi must have an area"),
        ({"roi": [1, 2, "x", 5]}, "pairs of numbers"),
    ],
)
def test_a_region_that_is_none_is_refused(request_, message):
    with pytest.raises(ValueError, match=message):
        read_window(request_, (50, 100))


def test_minus_one_throughout_is_the_whole_image():
    """The default of the Digital Slide Archive's client."""
    assert read_window({"location": [-1, -1], "size": [-1, -1]}, (50, 100)) is None
    assert read_window({"location": (-1.0, -1.0), "size": (-1.0, -1.0)}, (50, 100)) is None


@pytest.mark.parametrize("roi", [[10, 20, 30, 45], [30, 45, 10, 20], [30, 10, 20, 45, 0, 0], [10, 30, 45, 20, 1, 1]])
def test_a_box_is_a_region(roi):
    """As CVAT draws it, and 3D Slicer: a range for each axis."""
    assert read_window({"roi": roi}, (50, 100)) == Window(10, 20, 20, 25)
    assert read_window({"roi": []}, (50, 100)) is None


def test_corners_stand_for_a_missing_background():
    found = read_clicks({"foreground": [[40, 40]], "background": []}, Window(0, 0, 50, 50))
    assert found.background == ((0.5, 0.5), (49.5, 0.5), (0.5, 49.5))
    assert found.assumed == "background"
    assert read_clicks({"foreground": [[40, 40]], "background": [[1, 1]]}, Window(0, 0, 50, 50)).assumed is None
    assert len(far_corners([(25, 25)], Window(0, 0, 50, 50))) == 4


def test_the_middle_of_a_box_stands_for_the_target():
    request = {"foreground": [], "background": [], "roi": [10, 20, 30, 44]}
    window = read_window(request, (50, 100))
    found = read_clicks(request, window)
    assert (found.foreground, found.assumed) == (((20, 32),), "foreground")
    assert len(found.background) == 4


def test_clicks_outside_the_region_are_counted():
    window = Window(10, 10, 10, 10)
    found = read_clicks({"foreground": [[10, 10], [20, 10]], "background": "[[19.5, 19.5, 0]]"}, window)
    assert found.foreground == ((10, 10),)
    assert found.background == ((19.5, 19.5),)
    assert found.outside == 1


@pytest.mark.parametrize(
    "request_, message",
    [
        ({"background": [[1, 1]]}, "no foreground click"),
        ({}, "no foreground click"),
        ({"foreground": [[99, 1]], "background": [[1, 1]]}, r"no foreground click in the region \(1 outside\)"),
        ({"foreground": 5, "background": [[1, 1]]}, "foreground must be a list"),
        ({"foreground": [[1]], "background": [[1, 1]]}, "pairs of numbers"),
        ({"foreground": "[[1", "background": [[1, 1]]}, "foreground must be a list"),
        ({"foreground": [[1, 1]] * 101, "background": [[1, 1]]}, "at most 100"),
    ],
)
def test_clicks_that_cannot_be_used_are_refused(request_, message):
    with pytest.raises(ValueError, match=message):
        read_clicks(request_, Window(0, 0, 50, 50))


def test_a_slide_is_looked_at_around_the_clicks():
    slide = SimpleNamespace(shape=(10_000, 20_000))
    request = {"foreground": [[5000, 5000]], "background": [[5100, 5000]]}
    assert window_of_clicks(request, slide, factor=0.5) == Window(4538, 4488, 1024, 1024)
    flat = SimpleNamespace(shape=(300, 200))
    assert window_of_clicks(request, flat, factor=1.0) == Window(0, 0, 200, 300)


def test_a_large_region_is_downsampled_to_the_longest_side():
    window = Window(0, 0, 2048, 1024)
    assert working_shape(window, factor=0.5) == (512, 1024)
    assert working_shape(window, factor=0.5, longest=512) == (256, 512)
    assert working_shape(Window(0, 0, 100, 100), factor=1, longest=512) == (100, 100)
