import numpy as np
import pytest
from scipy.spatial.distance import cdist

from cvm_monai.data.sampling import sample_points

MASK = np.zeros((30, 40), dtype=np.uint8)
MASK[5:20, 10:30] = 1


def test_points_are_pixel_centres_of_their_class_away_from_borders():
    points = sample_points(MASK, case_id="a", pairs=30, min_distance=4)
    assert [point.label for point in points] == [1] * 30 + [0] * 30
    assert len({(point.x, point.y) for point in points}) == 60
    pixels = np.argwhere(np.ones_like(MASK))
    for point in points:
        assert point.x % 1 == point.y % 1 == 0.5
        row, column = int(point.y), int(point.x)
        assert MASK[row, column] == point.label
        others = pixels[MASK.ravel() != point.label]
        assert cdist([[row, column]], others).min() >= 4


def test_more_pairs_go_on_where_fewer_stopped():
    few, many = (sample_points(MASK, case_id="a", pairs=pairs) for pairs in (3, 7))
    assert few == many[:3] + many[7:10]


def test_draw_depends_on_seed_and_case_id_alone():
    points = sample_points(MASK, case_id="a", seed=1)
    assert points == sample_points(MASK.copy(), case_id="a", seed=1)
    assert points != sample_points(MASK, case_id="b", seed=1)
    assert points != sample_points(MASK, case_id="a", seed=2)


def test_classes_are_drawn_independently():
    points = sample_points(MASK, case_id="a")
    inverted = sample_points(np.where(MASK == 1, 7, MASK), case_id="a")
    assert [point for point in points if point.label == 0] == list(inverted)


def test_thin_class_is_drawn_from_as_a_whole():
    mask = np.zeros((9, 9), dtype=np.uint8)
    mask[4, 2:5] = 1
    points = sample_points(mask, case_id="a", pairs=5)
    assert {(point.x, point.y) for point in points if point.label == 1} == {(2.5, 4.5), (3.5, 4.5), (4.5, 4.5)}
    assert sum(point.label == 0 for point in points) == 5


def test_few_deep_pixels_come_before_the_others():
    mask = np.zeros((5, 9), dtype=np.uint8)
    mask[1:4, 1:4] = 1  # one pixel lies 2 from the border, its eight neighbours lie 1
    points = sample_points(mask, case_id="a", pairs=4, min_distance=2)
    assert (points[0].x, points[0].y) == (2.5, 2.5)
    assert len({(point.x, point.y) for point in points if point.label == 1}) == 4


def test_class_that_fills_the_image_has_no_border():
    points = sample_points(np.ones((2, 2), dtype=np.uint8), case_id="a", pairs=9)
    assert {(point.x, point.y, point.label) for point in points} == {
        (0.5, 0.5, 1), (1.5, 0.5, 1), (0.5, 1.5, 1), (1.5, 1.5, 1)
    }  # fmt: skip


def test_other_labels_are_left_alone():
    assert sample_points(np.full((4, 4), 255), case_id="a") == ()


def test_pairs_below_one_are_refused():
    with pytest.raises(ValueError, match="pairs must be at least 1, got 0"):
        sample_points(MASK, case_id="a", pairs=0)
