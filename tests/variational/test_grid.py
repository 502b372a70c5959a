"""Grids coarser than the features: cells, points, and the way back."""

import numpy as np
import pytest
import torch

from cvm_monai.variational.grid import coarser, on_full_grid, spacing_for


@pytest.mark.parametrize(
    "shape, spacing",
    [((64, 64), 1), ((256, 256), 1), ((128, 512), 1), ((300, 300), 2), ((512, 512), 2), ((1024, 1024), 4)],
)
def test_the_spacing_is_the_smallest_for_256_cells_a_side_and_at_most_4(shape, spacing):
    assert spacing_for(shape) == spacing
    assert spacing_for(shape, 3) == 3
    assert spacing_for((9000, 9000)) == 4


def test_cells_are_means_and_the_last_ones_are_cut():
    maps = torch.tensor([[[1.0, 3.0, 10.0], [5.0, 7.0, 20.0], [2.0, 4.0, 6.0]]])
    torch.testing.assert_close(coarser(maps, 2), torch.tensor([[[4.0, 15.0], [3.0, 6.0]]]))
    torch.testing.assert_close(coarser(maps.double(), 1), maps)


def test_u_is_resampled_bilinearly_and_cut_to_the_map():
    u = np.array([[0.0, 1.0]], dtype=np.float32)
    np.testing.assert_allclose(on_full_grid(u, (2, 3)), [[0.0, 0.25, 0.75]] * 2)
    classes = np.stack([u, np.full_like(u, -1)])
    assert on_full_grid(classes, (2, 4)).shape == (2, 2, 4)
    np.testing.assert_allclose(on_full_grid(classes, (2, 4))[1], -1)
    assert on_full_grid(u, (1, 2)) is u


def test_u_of_no_grid_of_that_map_is_none():
    assert on_full_grid(np.zeros((4, 6)), (2, 3)) is None
    assert on_full_grid(np.zeros((2, 4)), (8, 8)) is None
