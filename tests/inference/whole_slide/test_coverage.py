"""Every pixel of tissue gets exactly what the network says of it: no seam, no gap, nothing beside the tissue."""

import numpy as np
import pytest
import tifffile
import torch
from monai.data.utils import dense_patch_slices
from PIL import Image
from torch import nn

from cvm_monai.inference.predict import predict, predict_classes
from cvm_monai.inference.whole_slide import (
    ResultOptions,
    SlideModel,
    SlideOptions,
    TissueOnGrid,
    blending,
    make_grid,
    predict_slides,
)
from cvm_monai.inference.whole_slide.predict_map import tissue_tiles
from cvm_monai.networks import build_network
from cvm_monai.networks.centred_probe import ImageMean
from cvm_monai.slides import TissueMask, open_image

from .conftest import PLAIN, Red, pixels, write_slide

pytestmark = pytest.mark.usefixtures("no_picture")
LARGE_ONLY = ResultOptions(min_area_um2=100.0)


class Coarse(nn.Module):
    """`Red` at a sixteenth."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return Red()(nn.functional.avg_pool2d(x, 16, ceil_mode=True))


def run(model, path, out, **options):
    """The probability of a slide's foreground as it was written, (h, w) uint8."""
    settings = SlideOptions(**{"window": 128, "tissue": "none", "results": LARGE_ONLY} | options)
    report = predict_slides(model, [path], out, options=settings, bar=False)
    assert report.failed == {}
    return tifffile.imread(out / path.stem / "probability.ome.tif")


def half_mask(folder, shape):
    """A drawn mask: a disc and a thin bar, neither aligned with any tile."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    mask = (rows - 0.4 * shape[0]) ** 2 + (columns - 0.6 * shape[1]) ** 2 < (0.3 * min(shape)) ** 2
    mask[:, 3:5] = True
    Image.fromarray(mask.astype(np.uint8)).save(folder / "mask.png")
    return mask


@pytest.mark.parametrize(
    "height, width, overlap", [(300, 333, 0.25), (129, 1000, 0.0), (70, 90, 0.25), (257, 200, 0.75), (1, 300, 0.25)]
)
def test_every_pixel_of_tissue_gets_exactly_its_value_and_the_rest_zero(red, tmp_path, height, width, overlap):
    image = pixels(height, width)
    path = write_slide(tmp_path / "a.tif", image)
    mask = half_mask(tmp_path, (height, width))
    found = run(red, path, tmp_path / "out", overlap=overlap, tissue=str(tmp_path / "mask.png"), batch_size=3)
    np.testing.assert_array_equal(found, np.where(mask, image[..., 0], 0))


@pytest.mark.parametrize("ratio", [0.7, 1.3, 2.0, 3.7])
def test_at_any_um_per_px_the_tiles_are_one_read_of_the_slide(red, tmp_path, ratio):
    path = write_slide(tmp_path / "a.tif", pixels(401, 333), mpp=0.5 / ratio)
    found = run(red, path, tmp_path / "out")
    with open_image(path) as slide:
        whole = slide.read((0, 0), shape=(round(401 / ratio), round(333 / ratio)), mpp=0.5)[..., 0]
    assert found.shape == whole.shape
    assert np.abs(found.astype(int) - whole).max() <= 1  # tiles begin between pixels: rounding


def test_a_coarse_output_is_blended_there_and_resized_as_predict_does(tmp_path):
    image = pixels(320, 272)
    path = write_slide(tmp_path / "a.tif", image)
    found = run(SlideModel(Coarse().eval(), mpp=0.5, **PLAIN), path, tmp_path / "out")
    flat = predict(Coarse(), image, window=128, **PLAIN)
    assert np.abs(found - 255 * flat).max() <= 1.0  # rounded before and after it is resized


def test_a_coarse_output_is_whole_at_the_border_of_tissue_without_overlap(tmp_path):
    image = np.full((256, 256, 3), (200, 20, 20), np.uint8)
    mask = np.zeros((256, 256), np.uint8)
    mask[:128, :128] = 1  # ends where a tile ends
    Image.fromarray(mask).save(tmp_path / "mask.png")
    model = SlideModel(Coarse().eval(), mpp=0.5, **PLAIN)
    path = write_slide(tmp_path / "a.tif", image)
    found = run(model, path, tmp_path / "out", overlap=0.0, tissue=str(tmp_path / "mask.png"))
    np.testing.assert_array_equal(found, 200 * mask)


@pytest.mark.parametrize("shape", [(200, 300), (90, 121)])
def test_a_network_that_sees_its_surroundings_agrees_with_predict_of_a_flat_image(tmp_path, shape):
    torch.manual_seed(0)
    network = build_network("unet", channels=[4, 8, 8, 8, 8], normalisation="batch").eval()
    image = np.kron(pixels(-(-shape[0] // 8), -(-shape[1] // 8)), np.ones((8, 8, 1), np.uint8))[: shape[0], : shape[1]]
    found = run(SlideModel(network, mpp=0.5), write_slide(tmp_path / "a.tif", image), tmp_path / "out")
    flat = predict(network, image, window=128)
    assert flat.max() - flat.min() > 0.01
    assert np.abs(found - 255 * flat).max() <= 0.51


def test_of_more_classes_the_foreground_is_their_sum_and_each_has_its_own_pyramid(shares, tmp_path):
    image = pixels(150, 200)
    path = write_slide(tmp_path / "a.tif", image)
    found = run(shares, path, tmp_path / "out", results=ResultOptions(class_probabilities=True))
    flat = 255 * predict_classes(shares.network, image, window=128, **PLAIN)
    assert np.abs(found - flat[1:].sum(0)).max() < 1.01
    for number in (1, 2):
        own = tifffile.imread(tmp_path / "out" / "a" / f"probability_{number}.ome.tif")
        assert np.abs(own - flat[number]).max() <= 0.51


@pytest.mark.parametrize("height, width, overlap", [(1000, 700, 0.25), (97, 5000, 0.5), (1024, 256, 0.0)])
def test_tiles_lie_where_monai_places_its_windows(height, width, overlap):
    grid = make_grid((height, width), scale=1.0, window=256, overlap=overlap)
    padded = (-(-height // 32) * 32, -(-width // 32) * 32)
    steps = [round(256 * (1 - overlap))] * 2
    expected = {(part[0].start, part[1].start) for part in dense_patch_slices(padded, grid.tile, steps)}
    assert {(y, x) for y in grid.rows for x in grid.columns} == expected


def test_only_tiles_with_tissue_are_run():
    grid = make_grid((400, 400), scale=1.0, window=128, overlap=0.25)  # starts 0, 96, 192, 288
    mask = np.zeros((10, 10), bool)
    mask[0, 9] = True  # rows 0 to 39, columns 360 to 399
    tissue = TissueOnGrid(TissueMask(mask, (40.0, 40.0), "user"), grid)
    np.testing.assert_array_equal(np.argwhere(tissue_tiles(tissue, stride=1)), [[0, 3]])
    assert tissue_tiles(TissueOnGrid(None, grid), stride=1).all()


@pytest.mark.parametrize("columns", [pytest.param(1, marks=pytest.mark.ci), 50, 96, 200])
def test_columns_finished_in_blocks_give_the_same_bits(tmp_path, monkeypatch, columns):
    torch.manual_seed(0)
    model = SlideModel(build_network("unet", channels=[4, 8, 8, 8, 8], normalisation="batch").eval(), mpp=0.5)
    image = np.kron(pixels(38, 62), np.ones((8, 8, 1), np.uint8))
    path = write_slide(tmp_path / "a.tif", image)
    half_mask(tmp_path, image.shape[:2])
    options = {"tissue": str(tmp_path / "mask.png"), "overlap": 0.5, "batch_size": 2}
    whole = run(model, path, tmp_path / "whole", **options)
    monkeypatch.setattr(blending, "COLUMNS", columns)
    assert len(np.unique(whole)) > 10
    np.testing.assert_array_equal(run(model, path, tmp_path / "out", **options), whole)


def test_a_gap_between_the_tiles_would_be_noticed(red, tmp_path, monkeypatch):
    from cvm_monai.inference.whole_slide import predict_map

    monkeypatch.setattr(predict_map, "_chosen", lambda grid, needed: list(grid.columns[1:]))
    report = predict_slides(
        red,
        [write_slide(tmp_path / "a.tif", pixels(200, 300))],
        tmp_path / "out",
        options=SlideOptions(window=128, tissue="none"),
        bar=False,
    )
    assert "no tile covers the tissue at row 0, column 0" in report.failed["a"]


class AboveMean(nn.Module):
    """Target where the red is above its mean over the slide."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = ImageMean()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        red = 50 * self.mean(x[:, :1])
        return torch.cat([-red, red], dim=1)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_tiles_are_compared_with_the_mean_of_the_slide_and_not_with_their_own(tmp_path, batch_size):
    image = np.full((256, 512, 3), 60, np.uint8)
    image[:, 256:] = 180
    model = SlideModel(AboveMean().eval(), mpp=0.5, **PLAIN)
    found = run(model, write_slide(tmp_path / "a.tif", image), tmp_path / "out", overlap=0.0, batch_size=batch_size)
    assert (found[:, :256] == 0).all()
    assert (found[:, 256:] == 255).all()
    one = torch.full((1, 3, 1, 1), 0.5)
    assert (model.network(one) == 0).all()
