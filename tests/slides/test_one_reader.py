"""One picture by every reader: the largest of a file, extra samples and depths by what the file declares."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from cvm_monai.slides import image_header, image_size, open_image, read_image, read_picture


def both(path):
    """The picture as flat images and as slides are read, which must be one."""
    with open_image(path) as image:
        by_regions = image.read((0, 0), shape=image.shape)
    assert image_size(path) == image.shape
    np.testing.assert_array_equal(read_image(path), by_regions)
    return by_regions


def refusals(path):
    """What both ways of reading say."""
    said = []
    for read in (read_image, open_image):
        with pytest.raises(ValueError, match=r"cannot be (read|opened) as an image: ") as error:
            read(path)
        said.append(str(error.value).split(" as an image: ")[1])
    assert said[0] == said[1]
    return said[0]


def planes(pixels):
    return np.ascontiguousarray(np.moveaxis(pixels, -1, 0))


def ome(channels="", size_c=3, size=(352, 416)):
    head = '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
    sizes = f'SizeC="{size_c}" SizeT="1" SizeX="{size[1]}" SizeY="{size[0]}" SizeZ="1"'
    return (
        f'{head}<Pixels DimensionOrder="XYCZT" ID="Pixels:0" {sizes} Type="uint8" PhysicalSizeX="0.5" '
        f'PhysicalSizeY="0.5">{channels}</Pixels></Image></OME>'
    )


def save_bands(path, pixels, description, *, subifds=1, compression=None):
    """As libvips writes bands one below the other with page-height and SubIFDs."""
    with tifffile.TiffWriter(path) as writer:
        for index, band in enumerate(planes(pixels)):
            options = {"photometric": "minisblack", "metadata": None, "compression": compression, "tile": (128, 128)}
            text = description if index == 0 else None
            writer.write(band, description=text, subifds=subifds, **options)
            for _ in range(subifds):
                writer.write(np.ascontiguousarray(band[::2, ::2]), subfiletype=1, **options)
    return path


@pytest.mark.parametrize("compression", [None, "zlib", "jpeg"])
@pytest.mark.parametrize(
    "channels",
    [
        '<Channel ID="Channel:0:0" SamplesPerPixel="3"/>',
        "".join(f'<Channel ID="Channel:0:{i}" Name="{name}"/>' for i, name in enumerate(("Red", "Green", "Blue"))),
        "".join(f'<Channel ID="Channel:0:{i}" ContrastMethod="Brightfield"/>' for i in range(3)),
    ],
)
def test_bands_on_pages_of_their_own_are_rgb_where_ome_says_so(tmp_path, pixels, channels, compression):
    path = save_bands(tmp_path / "a.ome.tif", pixels, ome(channels), compression=compression)
    found = both(path).astype(int)
    assert np.abs(found - pixels).mean() < (12 if compression == "jpeg" else 1e-9)
    with open_image(path) as image:
        assert len(image.levels) == 2
        assert image.mpp.value == 0.5
        small = image.read((0, 0), shape=(176, 208), mpp=1.0)
    if compression != "jpeg":
        np.testing.assert_array_equal(small, pixels[::2, ::2])


@pytest.mark.parametrize(
    "channels",
    ["", "".join(f'<Channel ID="Channel:0:{i}" Name="{name}"/>' for i, name in enumerate(("DAPI", "FITC", "Cy5")))],
)
def test_bands_of_which_nothing_says_that_they_are_rgb_are_refused_by_every_reader(tmp_path, pixels, channels):
    said = refusals(save_bands(tmp_path / "a.ome.tif", pixels, ome(channels)))
    assert said.startswith("its channels are separate pages (3 grey pages, fluorescence?), and it does not say that")


@pytest.mark.parametrize(
    "shape, options",
    [
        ((3, 40, 50), {"imagej": True, "metadata": {"mode": "composite"}}),
        ((3, 40, 50), {"ome": True, "photometric": "minisblack", "metadata": {"axes": "CYX"}}),
        ((3, 40, 50), {"photometric": "minisblack", "metadata": {"axes": "CYX"}}),
        ((3, 40, 50), {"photometric": "minisblack"}),
        ((3, 40, 50), {"photometric": "minisblack", "planarconfig": "separate"}),
        ((40, 50, 3), {"photometric": "minisblack", "planarconfig": "contig"}),
        ((2, 40, 50), {}),
        ((4, 40, 50), {"photometric": "minisblack", "metadata": None}),
        ((40, 50, 2), {"photometric": "minisblack", "planarconfig": "contig"}),
        ((2, 40, 50, 3), {"photometric": "rgb", "metadata": {"axes": "CYXS"}}),
    ],
    ids=str,
)
@pytest.mark.parametrize("suffix", ["tif", "png"])
def test_channels_are_never_taken_for_the_picture(tmp_path, shape, options, suffix):
    tifffile.imwrite(tmp_path / "a.tif", np.random.default_rng(0).integers(0, 255, shape, np.uint8), **options)
    path = (tmp_path / "a.tif").rename(tmp_path / f"a.{suffix}")  # a TIFF under another name is one still
    said = refusals(path)
    assert "channels" in said
    assert said.endswith("save it as RGB")


def test_arrays_with_channels_first_that_say_they_are_rgb_are_rgb(tmp_path, pixels):
    options = {"photometric": "rgb", "planarconfig": "separate"}
    for name, extra in {"a.tif": {}, "b.tif": {"metadata": {"axes": "CYX"}}, "c.ome.tif": {}}.items():
        tifffile.imwrite(tmp_path / name, planes(pixels), **options, **extra)
        np.testing.assert_array_equal(both(tmp_path / name), pixels)


def test_an_rgb_stack_of_imagej_is_rgb(tmp_path, pixels):
    metadata = {"axes": "CYX", "Labels": ["Red", "Green", "Blue"]}
    tifffile.imwrite(tmp_path / "a.tif", planes(pixels), imagej=True, metadata=metadata)
    np.testing.assert_array_equal(both(tmp_path / "a.tif"), pixels)


def test_of_planes_the_first_is_read_with_a_warning(tmp_path, pixels):
    stack = np.stack([pixels, 255 - pixels])
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="rgb", metadata={"axes": "ZYXS"})
    np.testing.assert_array_equal(both(tmp_path / "a.tif"), pixels)
    (warning,) = read_picture(tmp_path / "a.tif").warnings
    assert warning.endswith("a.tif: it has 2 pages of one size; the first one is read")


@pytest.mark.parametrize("kind", ["strips", "tiles", "palette"])
def test_of_pages_of_several_sizes_the_largest_is_the_picture_and_says_its_um_per_px(tmp_path, pixels, kind):
    options = {"resolutionunit": "CENTIMETER", "metadata": None}
    options |= {"tile": (64, 64)} if kind == "tiles" else {}
    shown = pixels
    if kind == "palette":
        palette = np.repeat(np.arange(255, -1, -1, dtype=np.uint16)[None] * 257, 3, axis=0)
        options |= {"photometric": "palette", "colormap": palette}
        shown = np.repeat(255 - pixels[..., :1], 3, axis=2)
        stored = np.ascontiguousarray(pixels[..., 0])
    else:
        options |= {"photometric": "rgb"}
        stored = pixels
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(np.ascontiguousarray(stored[::5, ::5]), resolution=(4000, 4000), **options)
        writer.write(stored, resolution=(20000, 20000), **options)
    np.testing.assert_array_equal(both(tmp_path / "a.tif"), shown)
    if kind != "palette":
        assert image_header(tmp_path / "a.tif") == ((352, 416), 0.5)


def rgba():
    """Half covered by an opacity of 51 of 255, in a colour; the rest opaque."""
    pixels = np.full((64, 64, 4), (200, 100, 60, 255), np.uint8)
    pixels[:, 32:, 3] = 51
    return pixels


@pytest.mark.parametrize("options", [{}, {"tile": (16, 16)}, {"compression": "zlib"}], ids=str)
@pytest.mark.parametrize(
    "kind, stored, right",
    [
        ("unspecified", (200, 100, 60), (200, 100, 60)),
        ("unassalpha", (200, 100, 60), (244, 224, 216)),
        ("assocalpha", (40, 20, 12), (244, 224, 216)),
    ],
)
def test_a_fourth_sample_is_what_the_file_declares(tmp_path, options, kind, stored, right):
    pixels = rgba()
    pixels[:, 32:, :3] = stored
    pixels[:, 32:, 3] = 0 if kind == "unspecified" else 51
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", extrasamples=[kind], **options)
    found = both(tmp_path / "a.tif")
    assert found[0, 0].tolist() == [200, 100, 60]
    assert found[0, 40].tolist() == list(right)


@pytest.mark.parametrize("bits", [8, 16])
def test_grey_with_declared_transparency_lies_on_white(tmp_path, bits):
    grey = np.full((16, 16, 2), (0, 51), np.uint8 if bits == 8 else np.uint16) * (1 if bits == 8 else 257)
    options = {"photometric": "minisblack", "planarconfig": "contig", "extrasamples": ["unassalpha"]}
    tifffile.imwrite(tmp_path / "a.tif", grey, **options)
    assert (both(tmp_path / "a.tif") == 204).all()


@pytest.mark.parametrize("compression", ["webp", "jpeg", "jpeg2000", "zstd", "lzma", "png"])
def test_compressions_that_pillow_cannot_decode_are_read_by_all(tmp_path, pixels, compression):
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", compression=compression, tile=(64, 64))
    assert np.abs(both(tmp_path / "a.tif").astype(int) - pixels).mean() < 12


def test_a_palette_with_an_orientation_keeps_its_colours_and_its_place(tmp_path):
    indices = np.arange(6, dtype=np.uint8).reshape(2, 3)
    palette = np.zeros((3, 256), np.uint16)
    palette[0, :6], palette[2, :6] = np.arange(6) * 10 * 257, 65535
    tifffile.imwrite(
        tmp_path / "a.tif", indices, photometric="palette", colormap=palette, extratags=[(274, "H", 1, 6, True)]
    )
    np.testing.assert_array_equal(
        both(tmp_path / "a.tif"), np.stack([indices * 10, indices * 0, indices * 0 + 255], axis=-1)
    )


def test_the_field_folders_pictures_are_one_by_every_reader(shared_dir):
    folder = shared_dir / "field" / "images"
    if not folder.is_dir():
        pytest.skip("the developers' data folder has no field inputs")
    shown = {path.name: both(path) for path in sorted(folder.iterdir())}
    for name in ("imagej_cm.tif", "pages_thumb_first.tif", "rgb_extra_unspecified.tif", "vips_webp.tif"):
        assert shown[name].mean((0, 1)).round() == pytest.approx([217, 142, 186])
    assert isinstance(Image.fromarray(shown["rgba_strips_assoc.tif"]), Image.Image)
