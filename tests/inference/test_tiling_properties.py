"""Every pixel of every image is in a tile, no tile begins outside, and neighbours overlap as was asked."""

from itertools import pairwise

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cvm_monai.inference import WindowInferer
from cvm_monai.inference.predict import GRID
from cvm_monai.inference.whole_slide import make_grid

WINDOWS = st.sampled_from([64, 96, 128, 1024])
OVERLAPS = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75])
SIDES = st.integers(1, 3000)


@given(SIDES, SIDES, WINDOWS, OVERLAPS, st.sampled_from([0.25, 0.7, 1.0, 1.3, 4.0]))
def test_the_tiles_of_a_slide_cover_it_without_a_gap(height, width, window, overlap, scale):
    grid = make_grid((height, width), scale=scale, window=window, overlap=overlap)
    step = WindowInferer(window=window, overlap=overlap).step
    for extent, side, starts, full in zip(
        grid.shape, grid.tile, (grid.rows, grid.columns), (height, width), strict=True
    ):
        assert abs(extent - full / scale) <= 0.5 or extent == 1
        assert side <= window
        seen = np.zeros(extent + GRID, int)
        for start in starts:
            assert 0 <= start < extent
            assert start % GRID == 0 or len(starts) == 1
            seen[start : start + side] += 1
        assert (seen[:extent] >= 1).all()
        assert starts[-1] + side < extent + GRID  # padding of at most 31 px
        assert all(0 < after - before <= step for before, after in pairwise(starts))


@given(SIDES, SIDES, WINDOWS, OVERLAPS, st.sampled_from([1, 16]))
def test_the_bands_of_a_map_follow_each_other_and_end_at_its_last_row(height, width, window, overlap, stride):
    grid = make_grid((height, width), scale=1.0, window=window, overlap=overlap)
    bands = [grid.band(row, stride) for row in range(len(grid.rows))]
    assert bands[0][0] == 0
    assert bands[-1][1] == grid.output_shape(stride)[0]
    assert all(before[1] == after[0] for before, after in pairwise(bands))


@settings(max_examples=25)
@given(st.integers(1, 200), st.integers(1, 200), st.sampled_from([64, 96]), OVERLAPS)
def test_windows_of_a_network_that_copies_give_the_image(height, width, window, overlap):
    image = torch.arange(2 * height * width, dtype=torch.float32).reshape(1, 2, height, width) / (height * width)
    found = WindowInferer(window=window, overlap=overlap)(image, lambda x: x.clone())
    torch.testing.assert_close(found, image, rtol=1e-5, atol=1e-5)
