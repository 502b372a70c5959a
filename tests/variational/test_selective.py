"""Distances from points against maps written out, the discrete equation itself, and fast marching with a heap."""

import heapq

import numpy as np
import pytest

from cvm_monai.variational.selective import euclidean_distance, geodesic_distance

CONSTANT = {"edge_strength": 0.0, "floor": 1.0, "euclidean_weight": 0.0}
"""phi = 1 everywhere."""


def slowness(z, points, *, edge_strength, floor, euclidean_weight):
    """phi of the docstring, with the Gaussian, the differences and the Euclidean distance written out."""
    kernel = np.exp(-(np.arange(-2, 3) ** 2) / 2)
    kernel /= kernel.sum()
    smooth = np.pad(z, 2, mode="edge")
    smooth = sum(weight * smooth[k : k + z.shape[0]] for k, weight in enumerate(kernel))
    smooth = sum(weight * smooth[:, k : k + z.shape[1]] for k, weight in enumerate(kernel))
    rows, columns = np.indices(z.shape)
    euclidean = np.min([np.hypot(rows - i, columns - j) for i, j in points], axis=0)
    phi = floor + euclidean_weight * euclidean / euclidean.max()
    for i, j in np.ndindex(z.shape):
        for axis, at in enumerate((i, j)):
            line = smooth[:, j] if axis == 0 else smooth[i]
            low, high = max(at - 1, 0), min(at + 1, len(line) - 1)
            phi[i, j] += edge_strength * ((line[high] - line[low]) / max(high - low, 1)) ** 2
    return phi


def neighbour_minima(distance):
    """The lower neighbour of each pixel within its column, and within its row."""
    padded = np.pad(distance, 1, constant_values=np.inf)
    vertical = np.minimum(padded[:-2, 1:-1], padded[2:, 1:-1])
    horizontal = np.minimum(padded[1:-1, :-2], padded[1:-1, 2:])
    return vertical, horizontal


def fast_marching(phi, points):
    """Sethian's method: accept pixels in the order of their distance, each from accepted neighbours only."""
    height, width = phi.shape
    accepted = np.full((height + 2, width + 2), np.inf)  # with a border
    heap = [(0.0, int(i) + 1, int(j) + 1) for i, j in points]
    while heap:
        value, i, j = heapq.heappop(heap)
        if accepted[i, j] < np.inf:
            continue
        accepted[i, j] = value
        for m, n in ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)):
            if 1 <= m <= height and 1 <= n <= width and accepted[m, n] == np.inf:
                low, high = sorted(
                    (min(accepted[m - 1, n], accepted[m + 1, n]), min(accepted[m, n - 1], accepted[m, n + 1]))
                )
                h = phi[m - 1, n - 1]
                root = low + h if low + h <= high else (low + high + (2 * h**2 - (high - low) ** 2) ** 0.5) / 2
                heapq.heappush(heap, (root, m, n))
    return accepted[1:-1, 1:-1]


def test_euclidean_distance_to_one_point_is_written_out():
    expected = np.sqrt([[0, 1, 4, 9], [1, 2, 5, 10], [4, 5, 8, 13]]) / np.sqrt(13)
    found = euclidean_distance(np.array([[0, 0]]), shape=(3, 4))
    np.testing.assert_allclose(found, expected, rtol=1e-15)
    assert found.dtype == np.float64


def test_euclidean_distance_is_to_the_nearest_of_several_points():
    expected = np.sqrt([[0, 1, 2, 1], [1, 2, 1, 0]]) / np.sqrt(2)
    np.testing.assert_allclose(euclidean_distance(np.array([[0, 0], [1, 3]]), shape=(2, 4)), expected, rtol=1e-15)


@pytest.mark.parametrize("shape", [(1, 1), (1, 3), (2, 2)])
def test_both_distances_are_zero_where_every_pixel_is_a_point(shape):
    points = np.argwhere(np.ones(shape))
    np.testing.assert_array_equal(euclidean_distance(points, shape=shape), np.zeros(shape))
    np.testing.assert_array_equal(geodesic_distance(np.ones(shape), points), np.zeros(shape))


@pytest.mark.parametrize("transpose", [False, True])
def test_geodesic_distance_on_a_line_at_constant_cost_counts_the_pixels(transpose):
    expected, points = np.array([[2, 1, 0, 1, 1, 0, 1, 2, 3]]) / 3, np.array([[0, 2], [0, 5]])
    if transpose:
        expected, points = expected.T, points[:, ::-1]
    found = geodesic_distance(np.zeros(expected.shape), points, **CONSTANT)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.float64


def test_the_euclidean_weight_makes_each_step_dearer_the_farther_it_lies_from_the_point():
    # D_E = 0, 1/3, 2/3, 1, so that phi = 1, 2, 3, 4 and D = 0, 2, 2 + 3, 5 + 4
    found = geodesic_distance(np.zeros((1, 4)), np.array([[0, 0]]), edge_strength=0.0, floor=1.0, euclidean_weight=3.0)
    np.testing.assert_allclose(found, np.array([[0, 2, 5, 9]]) / 9, rtol=1e-15)


def test_geodesic_distance_at_constant_cost_is_the_upwind_one_written_out():
    diagonal = 1 + np.sqrt(1 / 2)  # (D - 1)^2 + (D - 1)^2 = 1
    knight = (2 + diagonal + np.sqrt(2 - (2 - diagonal) ** 2)) / 2  # (D - 2)^2 + (D - diagonal)^2 = 1
    corner = knight + np.sqrt(1 / 2)  # (D - knight)^2 + (D - knight)^2 = 1
    expected = np.array([[0, 1, 2], [1, diagonal, knight], [2, knight, corner]]) / corner
    found = geodesic_distance(np.zeros((3, 3)), np.array([[0, 0]]), **CONSTANT)
    np.testing.assert_allclose(found, expected, rtol=1e-15)


def test_a_pixel_between_points_that_touch_at_a_corner_is_nearer_than_one_pixel():
    near = np.sqrt(1 / 2)  # D^2 + D^2 = 1
    last = (1 + near + np.sqrt(2 - (1 - near) ** 2)) / 2  # (D - 1)^2 + (D - near)^2 = 1
    found = geodesic_distance(np.zeros((2, 3)), np.array([[0, 1], [1, 0]]), **CONSTANT)
    np.testing.assert_allclose(found, np.array([[near, 0, 1], [0, near, last]]) / last, rtol=1e-15)


@pytest.mark.parametrize("size", [5, 17, 65])
def test_geodesic_distance_at_constant_cost_exceeds_the_euclidean_by_a_logarithm_and_by_nothing_on_the_axes(size):
    point = np.array([[size // 2, size // 2]])
    found = geodesic_distance(np.zeros((size, size)), point, **CONSTANT)
    pixels = found / found[size // 2, size // 2 + 1]  # the step along an axis is one pixel
    rows, columns = np.indices(found.shape) - size // 2
    excess = pixels - np.hypot(rows, columns)
    np.testing.assert_allclose(excess[(rows == 0) | (columns == 0)], 0, atol=1e-12)
    assert excess.min() > -1e-12
    assert (excess <= np.log1p(np.hypot(rows, columns)) / 3 + 1e-12).all()


def test_the_far_side_of_a_bright_line_is_farther_than_a_point_as_near_on_this_side():
    z = np.zeros((9, 17))
    z[:, 11] = 1.0  # a wall from border to border, three pixels to the right of the point
    point, here, beyond = np.array([[4, 8]]), (4, 3), (4, 13)
    found = geodesic_distance(z, point)
    assert found[beyond] > 10 * found[here]
    without_edges = geodesic_distance(z, point, edge_strength=0.0)
    assert without_edges[beyond] == without_edges[here]


def test_the_way_round_a_wall_with_a_gap_is_taken():
    z = np.zeros((15, 17))
    z[:, 11] = 1.0
    closed = geodesic_distance(z, np.array([[2, 8]]))
    z[8:, 11] = 0.0
    opened = geodesic_distance(z, np.array([[2, 8]]))
    behind, before = (12, 14), (12, 5)  # behind the wall near the gap, and as far from the point on this side
    assert closed[behind] > 5 * closed[before]
    assert opened[behind] < 2 * opened[before]


@pytest.mark.parametrize("shape", [(12, 9), (1, 20), (20, 1), (2, 7)])
@pytest.mark.parametrize("edge_strength", [0.0, 10.0, 1000.0])
def test_every_pixel_but_the_points_satisfies_the_upwind_equation(shape, edge_strength):
    rng = np.random.default_rng(0)
    z, points = rng.random(shape), np.argwhere(np.ones(shape))[[3, 11]]
    weights = {"edge_strength": edge_strength, "floor": 1e-3, "euclidean_weight": 0.1}
    found = geodesic_distance(z, points, **weights)
    phi = slowness(z, points, **weights)
    squared = sum(np.maximum(found - low, 0) ** 2 for low in neighbour_minima(found))
    rate = np.sqrt(squared) / phi  # 1 over the maximum that the map was divided by, at each pixel
    others = euclidean_distance(points, shape=shape) > 0
    np.testing.assert_allclose(rate[others], rate[others][0], rtol=1e-9)
    np.testing.assert_array_equal(found[~others], 0)
    assert found.max() == 1


@pytest.mark.parametrize("seed", range(5))
def test_geodesic_distance_equals_fast_marching(seed):
    rng = np.random.default_rng(seed)
    z, points = rng.random((12, 9)), np.column_stack([rng.integers(0, 12, 3), rng.integers(0, 9, 3)])
    weights = {"edge_strength": 1000.0, "floor": 1e-3, "euclidean_weight": 0.1}
    expected = fast_marching(slowness(z, points, **weights), points)
    np.testing.assert_allclose(geodesic_distance(z, points), expected / expected.max(), rtol=1e-10)


@pytest.mark.parametrize("scale", [1e-200, 3.0, 1e200])
def test_only_the_ratios_of_the_weights_matter(scale):
    z, point = np.random.default_rng(2).random((6, 5)), np.array([[1, 2]])
    found = geodesic_distance(z, point, edge_strength=1000.0 * scale, floor=1e-3 * scale, euclidean_weight=0.1 * scale)
    np.testing.assert_allclose(found, geodesic_distance(z, point), rtol=1e-12)


def test_a_binary_map_may_be_boolean_or_integer_and_is_not_changed():
    z, points = np.random.default_rng(3).random((7, 8)) > 0.5, np.array([[3, 3], [3, 3]])
    kept = z.copy(), points.copy()
    expected = geodesic_distance(z.astype(np.float64), points)
    np.testing.assert_array_equal(geodesic_distance(z, points), expected)
    np.testing.assert_array_equal(geodesic_distance(z.astype(np.uint8), points), expected)
    np.testing.assert_array_equal(z, kept[0])
    np.testing.assert_array_equal(points, kept[1])


@pytest.mark.parametrize(
    "change, message",
    [
        ({"shape": (1, 3, 4)}, r"shape must be \(H, W\), got \(1, 3, 4\)"),
        ({"points": np.empty((0, 2), dtype=int)}, r"points must be a non-empty \(N, 2\) array"),
        ({"points": np.array([[0.5, 0.5]])}, "points must hold integers"),
        ({"points": np.array([[3, 0]])}, r"points lie outside the 3x4 map: \[\[3, 0\]\]"),
    ],
)
def test_bad_input_to_the_euclidean_distance_is_named(change, message):
    arguments = {"points": np.array([[0, 0]]), "shape": (3, 4)} | change
    with pytest.raises(ValueError, match=message):
        euclidean_distance(**arguments)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"z": np.zeros(4)}, r"z must have shape \(H, W\), got \(4,\)"),
        ({"z": np.array([[0, np.nan], [np.inf, 0]])}, "z must be finite, got 2 values that are not"),
        ({"points": np.array([[0, 4]])}, r"points lie outside the 3x4 map: \[\[0, 4\]\]"),
        (
            {"points": np.array([0, 1])},
            r"points must be a non-empty \(N, 2\) array of \(row, column\), got shape \(2,\)",
        ),
        ({"edge_strength": -1.0}, "edge_strength must be finite and at least 0, got -1.0"),
        ({"edge_strength": np.inf}, "edge_strength must be finite and at least 0, got inf"),
        ({"euclidean_weight": np.nan}, "euclidean_weight must be finite and at least 0, got nan"),
        ({"floor": 0.0}, "floor must be finite and above 0, got 0.0"),
        ({"floor": np.inf}, "floor must be finite and above 0, got inf"),
    ],
)
def test_bad_input_to_the_geodesic_distance_is_named(change, message):
    arguments = {"z": np.zeros((3, 4)), "points": np.array([[0, 0]])} | change
    with pytest.raises(ValueError, match=message):
        geodesic_distance(**arguments)
