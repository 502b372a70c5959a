"""Windows: where they begin, and that they give what one pass over the whole image gives."""

import pytest
import torch
from torch.nn import functional

from cvm_monai.inference import WindowInferer


def position_image(height: int, width: int) -> torch.Tensor:
    """(1, 3, H, W): row, column, 1."""
    rows = torch.arange(height).float()[:, None].expand(height, width)
    columns = torch.arange(width).float()[None].expand(height, width)
    return torch.stack([rows, columns, torch.ones(height, width)])[None]


def mean_of_cells(x: torch.Tensor) -> torch.Tensor:
    """A network with output at 1/16, rounded up, that sees nothing beyond each 16 x 16 cell."""
    padded = functional.pad(x, [0, -x.shape[-1] % 16, 0, -x.shape[-2] % 16], mode="replicate")
    return functional.avg_pool2d(padded, 16)[:, :2]


def test_an_image_of_the_windows_size_goes_through_in_one_pass_and_unpadded():
    seen = []
    image = torch.rand(1, 3, 65, 128)
    logits = WindowInferer(window=128)(image, lambda x: seen.append(x) or x)
    assert len(seen) == 1
    assert seen[0] is image
    assert logits is image


@pytest.mark.parametrize("shape", [(300, 200), (129, 40), (128, 257), (31, 1000)])
@pytest.mark.parametrize("window, overlap", [(128, 0.25), (96, 0.25), (64, 0.5), (96, 0.0)])
def test_windows_of_a_pointwise_network_give_its_output_at_every_pixel(shape, window, overlap):
    image = position_image(*shape)
    logits = WindowInferer(window=window, overlap=overlap)(image, lambda x: 2 * x[:, :2])
    assert logits.shape == (1, 2, *shape)
    torch.testing.assert_close(logits, 2 * image[:, :2], rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("shape", [(300, 200), (135, 130), (64, 401)])
@pytest.mark.parametrize("window", [96, 128])
def test_windows_of_a_network_with_output_at_a_sixteenth_give_each_cell_its_own_value(shape, window):
    image = torch.rand(1, 3, *shape, generator=torch.Generator().manual_seed(0))
    logits = WindowInferer(window=window)(image, mean_of_cells)
    torch.testing.assert_close(logits, mean_of_cells(image), rtol=1e-5, atol=1e-6)


def test_windows_begin_at_multiples_of_32_and_overlap_by_at_least_what_was_asked():
    corners = []

    def network(x: torch.Tensor) -> torch.Tensor:
        corners.append((int(x[0, 0, 0, 0]), int(x[0, 1, 0, 0]), *x.shape[-2:]))
        return x[:, :2].clone()

    WindowInferer(window=128, overlap=0.25)(position_image(300, 100), network)  # padded to 320 x 128
    assert corners == [(0, 0, 128, 128), (96, 0, 128, 128), (192, 0, 128, 128)]
    corners.clear()
    WindowInferer(window=96, overlap=0.25)(position_image(200, 200), network)  # 72 is rounded to 64
    assert {row for row, *_ in corners} == {0, 64, 128}
    assert {column for _, column, *_ in corners} == {0, 64, 128}


def test_a_window_out_of_range_is_refused():
    with pytest.raises(ValueError, match="window must be a multiple of 32 from 64 px, got 100"):
        WindowInferer(window=100)
    with pytest.raises(ValueError, match=r"overlap must lie in \[0, 0.75\], got 1"):
        WindowInferer(overlap=1)
