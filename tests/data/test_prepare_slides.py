import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import shapely
from PIL import Image

from cvm_monai.annotations import Annotations, Point, Region, read_annotations, write_geojson
from cvm_monai.annotations.class_map import read_class_map
from cvm_monai.data import prepare_slides as module
from cvm_monai.data.datalist import read_datalist
from cvm_monai.data.fold_parts import case_records, check_split
from cvm_monai.data.prepare_slides import prepare_slides
from cvm_monai.data.slide_plan import CutSettings
from cvm_monai.slides import SlideImage, write_pyramid

SHAPE = (500, 640)
POINTS = (Point(100, 100, 1), Point(141, 120.5, 0), Point(600.25, 480, 1), Point(596, 420, 0))
"""Two pairs, each of which fits into a tile of 64 px at 0.5 um/px: 128 px of the slide."""
HOLE = ((160, 40), (180, 40), (180, 60), (160, 60))
REGION = Region(((80, 30), (200, 30), (200, 70), (80, 70)), (HOLE,), 1)
SETTINGS = CutSettings(mpp=0.5, tile=64)
RED = (255, 0, 0)


def picture(points=POINTS, seed=0):
    """Grey-pink noise with a red square of 8 px around each point."""
    rng = np.random.default_rng(seed)
    pixels = np.full((*SHAPE, 3), (200, 150, 190), np.uint8) - rng.integers(0, 9, (*SHAPE, 1), dtype=np.uint8)
    for point in points:
        x, y = int(point.x), int(point.y)
        pixels[y - 4 : y + 4, x - 4 : x + 4] = RED
    return pixels


def add_slide(folder, name, *, points=POINTS, regions=(), mpp=0.25, seed=0, suffix="tif"):
    path = folder / "slides" / f"{name}.{suffix}"
    write_pyramid(path, (*SHAPE, 3), [picture(points, seed)], mpp=mpp, ome=False, levels=2, tile=128)
    if points or regions:
        write_geojson(folder / "points" / f"{name}.geojson", Annotations(tuple(points), tuple(regions)))
    return path


@pytest.fixture
def folder(tmp_path):
    """Two slides of 0.25 um/px with the same annotations."""
    for seed, name in enumerate("ab"):
        add_slide(tmp_path / "data", name, seed=seed)
    return tmp_path / "data"


@pytest.fixture
def cut(folder, tmp_path):
    def run(settings=SETTINGS, out="out", **options):
        return prepare_slides(folder, out=tmp_path / out, settings=settings, folds=2, **options)

    return run


def pixels(path):
    return np.array(Image.open(path))


def snapshot(folder):
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def rows(out):
    with (out / "cases.csv").open(newline="") as file:
        return {row["case_id"]: row for row in csv.DictReader(file)}


def test_points_lie_on_the_same_spot_of_their_tile(cut, tmp_path, folder):
    before = snapshot(folder)
    report = cut()
    assert snapshot(folder) == before
    out = tmp_path / "out"
    assert read_datalist(out) == report.prepared.datalist
    assert {row: (values["origin_x"], values["origin_y"]) for row, values in rows(out).items()} == {
        "a_57_46": ("57", "46"), "a_512_372": ("512", "372"), "b_57_46": ("57", "46"), "b_512_372": ("512", "372"),
    }  # fmt: skip
    labels = []
    for case in report.prepared.datalist.cases:
        image = pixels(case.image)
        assert image.shape == (64, 64, 3)
        assert (case.mpp, case.patient_id, case.extra["slide"]) == (0.5, case.case_id[0], case.case_id[0])
        assert float(case.extra["level0_scale"]) == 2.0
        points = read_annotations(case.points).points
        labels.append([point.label for point in points])
        for point in points:
            assert tuple(image[int(point.y), int(point.x)]) == RED
    assert labels == [[1, 0]] * 4
    first = read_annotations(out / "points" / "a_57_46.geojson").points
    assert first == (Point((100 - 57) / 2, (100 - 46) / 2, 1), Point((141 - 57) / 2, (120.5 - 46) / 2, 0))


def test_the_report_says_what_became_of_each_slide(cut, folder):
    far = (*POINTS, Point(5000, 1, 1))
    write_geojson(folder / "points" / "b.geojson", Annotations(far))
    text = str(cut())
    assert text.startswith(
        "a: 2 target, 2 background; 2 tiles\nb: 2 target, 2 background, 1 outside the image; 2 tiles\n"
    )
    assert "annotated   4 with both classes, 0 target only" in text


def test_a_tile_is_the_mean_of_the_slide_at_exactly_the_mpp(cut, tmp_path):
    cut(replace(SETTINGS, mpp=1.0))
    (name,) = [file for file in sorted((tmp_path / "out" / "images").iterdir()) if file.name.startswith("a_")][:1]
    _, x, y = name.stem.split("_")
    expected = picture()[int(y) : int(y) + 256, int(x) : int(x) + 256].reshape(64, 4, 64, 4, 3).mean((1, 3))
    assert np.abs(pixels(name) - expected).max() <= 1  # the level in between is rounded once more


def test_regions_are_clipped_with_their_holes_and_drawn_as_masks_where_asked(cut, folder, tmp_path):
    write_geojson(folder / "points" / "a.geojson", Annotations(POINTS, (REGION,)))
    plain = cut()
    assert plain.prepared.datalist.cases[0].mask is None
    (region,) = read_annotations(tmp_path / "out" / "points" / "a_57_46.geojson").regions
    open_hole = shapely.box(11.5, 0, 64, 12) - shapely.box(51.5, 0, 61.5, 7)
    assert shapely.Polygon(region.exterior, region.holes).equals(open_hole)
    masked = cut(replace(SETTINGS, region_masks=True), out="masked")
    by_id = {case.case_id: case for case in masked.prepared.datalist.cases}
    expected = np.zeros((64, 64), np.uint8)
    expected[0:12, 11:64] = 1  # a centre on the border belongs to what lies on its right
    expected[0:7, 51:61] = 0
    assert (pixels(by_id["a_57_46"].mask) == expected).all()
    assert by_id["b_57_46"].mask is None


def test_a_region_alone_gets_a_tile_around_its_middle(cut, folder, tmp_path):
    write_geojson(folder / "points" / "a.geojson", Annotations((), (REGION, replace(REGION, label=255))))
    report = cut()
    assert report.slides["a"] == "1 target region, 1 exclusion region; 1 tile"
    kept = read_annotations(next((tmp_path / "out" / "points").glob("a_*.geojson")))
    assert [region.label for region in kept.regions] == [1, 255]


def test_the_mask_of_a_slide_is_cut_whatever_its_size(cut, folder, tmp_path):
    (folder / "masks").mkdir()
    (folder / "novel").mkdir()
    small = np.zeros((125, 160), np.uint8)
    small[20:40, 20:40] = 3
    Image.fromarray(small).save(folder / "masks" / "a.png")
    Image.fromarray((small == 0).astype(np.uint8)).save(folder / "novel" / "a.png")
    report = cut()
    case = next(case for case in report.prepared.datalist.cases if case.case_id == "a_57_46")
    centres_x, centres_y = 57 + 2 * np.arange(64) + 1, 46 + 2 * np.arange(64) + 1
    expected = (small[centres_y // 4][:, centres_x // 4] != 0).astype(np.uint8)
    assert (pixels(case.mask) == expected).all()
    assert (pixels(case.novel_mask) == 1 - expected).all()


def test_tissue_tiles_have_masks_but_no_points(cut, folder, tmp_path):
    (folder / "masks").mkdir()
    for name in "ab":
        Image.fromarray(np.eye(125, 160, dtype=np.uint8)).save(folder / "masks" / f"{name}.png")
    report = cut(replace(SETTINGS, tissue_tiles=2))
    kinds = {case.case_id: (case.extra["tile"], case.points is None) for case in report.prepared.datalist.cases}
    assert sorted(kinds.values()) == [("points", False)] * 4 + [("tissue", True)] * 4
    assert report.slides["a"].endswith("; 4 tiles (2 on tissue without annotations)")
    tissue = read_annotations(tmp_path / "out" / "tissue" / "a.geojson", classes={"tissue": "target"}).regions
    assert len(tissue) == 1  # the whole slide is pink


def test_tissue_tiles_stay_out_of_annotated_regions(cut, folder):
    """The grid has 5 x 3 tiles of 128 px; the region reaches all but the lowest row and the last column."""
    large = Region(((0, 0), (500, 0), (500, 250), (0, 250)), (), 255)
    write_geojson(folder / "points" / "a.geojson", Annotations((POINTS[0],), (large,)))
    report = cut(replace(SETTINGS, tissue_tiles=20))
    cut_from_a = [case.extra for case in report.prepared.datalist.cases if case.extra["slide"] == "a"]
    places = [(int(extra["origin_x"]), int(extra["origin_y"])) for extra in cut_from_a if extra["tile"] == "tissue"]
    assert sorted(places) == [(0, 256), (128, 256), (256, 256), (384, 256), (512, 0), (512, 128), (512, 256)]


def test_a_slide_with_a_mask_alone_gets_sampled_points_where_tissue_was_drawn(cut, folder):
    (folder / "points" / "a.geojson").unlink()
    (folder / "masks").mkdir()
    mask = np.zeros((125, 160), np.uint8)
    mask[::8] = mask[1::8] = 1
    Image.fromarray(mask).save(folder / "masks" / "a.png")
    drawn = Region(((256, 256), (384, 256), (384, 384), (256, 384)), (), 1)
    write_geojson(folder / "tissue" / "a.geojson", Annotations((), (drawn,)), names=("background", "my tissue"))
    report = cut(replace(SETTINGS, tissue_tiles=3))
    assert report.slides["a"] == "nothing; 1 tile (1 on tissue without annotations)"
    case = next(case for case in report.prepared.datalist.cases if case.case_id == "a_256_256")
    assert case.extra["points_source"] == "sampled"
    truth = pixels(case.mask)
    points = read_annotations(case.points).points
    assert [truth[int(point.y), int(point.x)] for point in points] == [1] * 5 + [0] * 5


def test_a_slide_without_annotations_is_reported(cut, folder):
    write_geojson(folder / "points" / "b.geojson", Annotations())
    add_slide(folder, "c", seed=3)
    report = cut()
    assert report.slides["b"] == "nothing; 0 tiles"
    assert "b: no annotations, so that no tile was cut; --tissue_tiles 4 cuts four on its tissue" in report.warnings
    assert {case.patient_id for case in report.prepared.datalist.cases} == {"a", "c"}


def test_cores_become_one_image_each(folder, tmp_path):
    for file in (folder / "slides").iterdir():
        Image.fromarray(picture()).save(file.with_suffix(".png"))
        file.unlink()
    (folder / "slides").rename(folder / "images")
    (folder / "cases.csv").write_text("case_id,patient_id,mpp,stain\na,p,0.4,HE\nb,q,0.5,HE\n")
    settings = CutSettings(mpp=0.8, tile=None)
    report = prepare_slides(folder, out=tmp_path / "out", settings=settings, folds=2)
    assert report.slides["a"] == "2 target, 2 background; whole, 320 x 250 px"
    cases = {case.case_id: case for case in report.prepared.datalist.cases}
    assert [(cases[name].patient_id, cases[name].mpp, cases[name].extra["stain"]) for name in "ab"] == [
        ("p", 0.8, "HE"), ("q", 0.8, "HE"),
    ]  # fmt: skip
    assert pixels(cases["a"].image).shape == (250, 320, 3)
    assert pixels(cases["b"].image).shape == (312, 400, 3)
    for name in "ab":
        image = pixels(cases[name].image)
        assert all(image[int(p.y), int(p.x), 1] < 40 for p in read_annotations(cases[name].points).points)


def test_a_tile_larger_than_the_slide_is_white_beyond_it(cut, tmp_path):
    report = cut(replace(SETTINGS, tile=352))
    assert report.slides["a"] == "2 target, 2 background; 1 tile (1 reaches beyond the slide, white there)"
    image = pixels(tmp_path / "out" / "images" / "a_0_0.png")
    assert (image[250:] == 255).all()
    assert (image[:, 320:] == 255).all()
    assert (image[:250, :320].min(2) < 255).all()


def test_a_second_run_reads_no_pixel_and_changes_no_byte(cut, tmp_path, monkeypatch):
    cut()
    before = snapshot(tmp_path / "out")
    monkeypatch.setattr(SlideImage, "read_scaled", lambda *_, **__: pytest.fail("a tile was cut again"))
    cut()
    assert snapshot(tmp_path / "out") == before


def test_the_same_settings_give_the_same_bytes(cut, tmp_path):
    cut()
    cut(out="again")
    one, other = snapshot(tmp_path / "out"), snapshot(tmp_path / "again")
    assert {file.relative_to(tmp_path / "out"): data for file, data in one.items()} == {
        file.relative_to(tmp_path / "again"): data for file, data in other.items()
    }


def test_an_interrupted_run_goes_on_where_it_stopped(cut, tmp_path, monkeypatch):
    read, calls = SlideImage.read_scaled, []

    def third_is_interrupted(self, origin, **options):
        calls.append(origin)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return read(self, origin, **options)

    monkeypatch.setattr(SlideImage, "read_scaled", third_is_interrupted)
    with pytest.raises(KeyboardInterrupt):
        cut()
    assert len(list((tmp_path / "out" / "images").iterdir())) == 2
    cut()
    assert len(calls) == 3 + 2
    monkeypatch.undo()
    cut(out="whole")
    assert {file.name: file.read_bytes() for file in (tmp_path / "out" / "images").iterdir()} == {
        file.name: file.read_bytes() for file in (tmp_path / "whole" / "images").iterdir()
    }


def test_edited_points_of_a_tile_stay(cut, tmp_path):
    cut()
    edited = tmp_path / "out" / "points" / "a_57_46.geojson"
    write_geojson(edited, Annotations((Point(1, 2, 1),)))
    report = cut()
    case = next(case for case in report.prepared.datalist.cases if case.case_id == "a_57_46")
    assert read_annotations(case.points).points == (Point(1, 2, 1),)


@pytest.mark.parametrize(
    "settings, name, was, now",
    [
        (replace(SETTINGS, mpp=1.0), "mpp", "0.5", "1.0"),
        (replace(SETTINGS, tile=128), "tile", "64", "128"),
        (replace(SETTINGS, tile=None), "tile", "64", "nothing"),
        (replace(SETTINGS, tissue_tiles=1), "tissue_tiles", "0", "1"),
    ],
)
def test_other_settings_in_the_same_folder_are_refused(cut, settings, name, was, now, tmp_path):
    cut()
    before = snapshot(tmp_path / "out")
    with pytest.raises(
        ValueError, match=f"were cut with other settings: {name} was {was} and is {now}; give another --output"
    ):
        cut(settings)
    assert snapshot(tmp_path / "out") == before


def test_tiles_of_an_earlier_versions_rules_are_not_gone_on_with(cut, tmp_path):
    cut()
    path = tmp_path / "out" / "tiles.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"version": 1}))
    with pytest.raises(ValueError, match=r"were cut by an earlier version, by other rules: give another --output"):
        cut()


def test_points_in_the_corner_of_a_small_region_lie_on_one_tile(cut, folder, tmp_path):
    corners = (Point(300, 200, 1), Point(5, 480, 0), Point(630, 490, 1), Point(3, 2, 0))
    for name in "ab":
        write_geojson(folder / "points" / f"{name}.geojson", Annotations(corners))
    cut(replace(SETTINGS, tile=512))
    assert list(rows(tmp_path / "out")) == ["a_0_0", "b_0_0"]
    found = read_annotations(tmp_path / "out" / "points" / "a_0_0.geojson").points
    assert set(found) == {Point(point.x / 2, point.y / 2, point.label) for point in corners}


def test_other_annotations_in_the_same_folder_are_refused(cut, folder):
    cut()
    write_geojson(folder / "points" / "b.geojson", Annotations(POINTS[:2]))
    with pytest.raises(ValueError, match=r"the tiles of b in .* were cut from other files, changed: annotations; give"):
        cut()


def test_a_slide_may_be_added_but_not_taken_away(cut, folder):
    cut()
    add_slide(folder, "c", seed=5)
    assert set(cut().slides) == {"a", "b", "c"}
    (folder / "slides" / "b.tif").unlink()
    with pytest.raises(ValueError, match="holds tiles of the slide b, which no longer exists"):
        cut()


def test_images_that_are_no_tiles_are_left_alone(cut, tmp_path, folder):
    (tmp_path / "out" / "images").mkdir(parents=True)
    (tmp_path / "out" / "images" / "mine.png").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"holds images, and no tiles.json says that they are tiles: give another"):
        cut()
    with pytest.raises(ValueError, match="is your own folder"):
        prepare_slides(folder, out=folder, settings=SETTINGS)


def test_refused_slides_are_named_together_and_the_others_are_cut(cut, folder, tmp_path):
    (folder / "slides" / "broken.svs").write_bytes(b"no slide")
    write_geojson(folder / "points" / "b.geojson", Annotations((Point(9000, 9000, 1),)))
    add_slide(folder, "c", seed=7)
    with pytest.raises(ValueError, match=r"^2 of 4 slides cannot be used: ") as raised:
        cut()
    text = str(raised.value)
    assert f"{folder / 'points' / 'b.geojson'}: nothing in it lies inside {folder / 'slides' / 'b.tif'}" in text
    assert f"{folder / 'slides' / 'broken.svs'} cannot be opened" in text
    assert f"The tiles of the others stay in {tmp_path / 'out'}: correct or remove these slides, and run again" in text
    assert len(list((tmp_path / "out" / "images").glob("[ac]_*.png"))) == 4
    assert not (tmp_path / "out" / "datalist.json").exists()
    (folder / "slides" / "broken.svs").unlink()
    write_geojson(folder / "points" / "b.geojson", Annotations(POINTS))
    assert set(cut().slides) == {"a", "b", "c"}


def test_a_slide_that_cannot_be_read_leaves_no_tile(cut, folder, tmp_path, monkeypatch):
    read = SlideImage.read_scaled

    def unreadable(self, origin, **options):
        if self.path.stem == "b" and origin[0] > 500:
            raise ValueError(f"{self.path} cannot be read there")
        return read(self, origin, **options)

    monkeypatch.setattr(SlideImage, "read_scaled", unreadable)
    with pytest.raises(ValueError, match=r"1 of 2 slides cannot be used: .*b.tif cannot be read there"):
        cut()
    assert sorted(file.name for file in (tmp_path / "out" / "images").iterdir()) == ["a_512_372.png", "a_57_46.png"]
    assert not list((tmp_path / "out" / "points").glob("b_*"))


@pytest.mark.parametrize("remedy", ["removed", "replaced"])
def test_a_slide_that_could_not_be_cut_may_be_removed_or_replaced(cut, folder, tmp_path, monkeypatch, remedy):
    add_slide(folder, "c", seed=5)
    read = SlideImage.read_scaled

    def unreadable(self, origin, **options):
        if self.path.stem == "b" and options["shape"] == (64, 64):  # a tile; its tissue can be seen
            raise ValueError(f"{self.path} cannot be read there")
        return read(self, origin, **options)

    monkeypatch.setattr(SlideImage, "read_scaled", unreadable)
    settings = replace(SETTINGS, tissue_tiles=1)
    with pytest.raises(ValueError, match="correct or remove these slides, and run again"):
        cut(settings)
    assert set(json.loads((tmp_path / "out" / "tiles.json").read_text())["slides"]) == {"a", "c"}
    assert not (tmp_path / "out" / "tissue" / "b.geojson").exists()
    monkeypatch.undo()
    for file in (folder / "slides" / "b.tif", folder / "points" / "b.geojson"):
        file.unlink()
    if remedy == "replaced":
        add_slide(folder, "b", points=POINTS[:2], seed=9)
    assert set(cut(settings).slides) == ({"a", "c"} if remedy == "removed" else {"a", "b", "c"})


def test_a_slide_of_which_tiles_are_left_stays_recorded(cut, folder, tmp_path, monkeypatch):
    cut()
    (tmp_path / "out" / "images" / "b_57_46.png").unlink()
    monkeypatch.setattr(SlideImage, "read_scaled", lambda *_, **__: (_ for _ in ()).throw(ValueError("not there")))
    with pytest.raises(ValueError, match="1 of 2 slides cannot be used: not there"):
        cut()
    assert set(json.loads((tmp_path / "out" / "tiles.json").read_text())["slides"]) == {"a", "b"}


@pytest.mark.parametrize(
    "options, sentence",
    [
        ({"outside": "refuze"}, "outside must be one of drop, refuse, got 'refuze'"),
        ({"pairs": 0}, "pairs must be at least 1, got 0"),
    ],
)
def test_options_are_checked_before_anything_is_cut(cut, tmp_path, options, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        cut(**options)
    assert not (tmp_path / "out").exists()


def test_unknown_labels_of_all_slides_are_named_before_anything_is_cut(cut, folder, tmp_path):
    for name, label in (("a", "Tumor"), ("b", "Stroma")):
        write_geojson(folder / "points" / f"{name}.geojson", Annotations(POINTS), names=("background", label))
    with pytest.raises(ValueError, match=r"points \(2 files\): unknown labels 'Tumor' \(1\), 'Stroma' \(1\)"):
        cut()
    assert not (tmp_path / "out" / "images").exists()


def test_a_table_of_points_of_all_slides(cut, folder, tmp_path):
    cut()
    for file in (folder / "points").iterdir():
        file.unlink()
    lines = [f"{name},{point.x},{point.y},{point.label}" for name in "ab" for point in POINTS]
    (folder / "points.csv").write_text("\n".join(["case_id,x,y,label", *lines]))
    cut(out="table")
    for kind in ("images", "points"):
        one, other = (
            {file.name: file.read_bytes() for file in (tmp_path / out / kind).iterdir()} for out in ("out", "table")
        )
        assert one == other


def test_class_maps_and_more_than_two_classes(cut, folder):
    three = (*POINTS, Point(110, 110, 2))
    write_geojson(folder / "points" / "a.geojson", Annotations(three), names=("Stroma", "Tumor", "TIL"))
    report = cut(classes=read_class_map("Tumor=target,Stroma=background,TIL=2"))
    assert report.prepared.datalist.classes == {"background": 0, "target": 1, "til": 2}
    assert report.slides["a"] == "2 target, 1 til, 2 background; 2 tiles"
    case = next(case for case in report.prepared.datalist.cases if case.case_id == "a_57_46")
    found = read_annotations(case.points, classes=report.prepared.datalist.classes)
    assert sorted(point.label for point in found.points) == [0, 1, 2]


def test_um_per_px_of_a_slide(folder, cut, tmp_path):
    add_slide(folder, "b", seed=1, mpp=None)
    with pytest.raises(ValueError, match=r"b.tif does not state its um/px: give --image_mpp"):
        cut()
    report = cut(replace(SETTINGS, image_mpp=0.25), out="given")
    assert report.slides["b"] == "2 target, 2 background; 2 tiles"
    (folder / "cases.csv").write_text("case_id,mpp\na,0.5\nb,0.5\n")
    report = cut(out="listed")
    assert "a.tif: the file says 0.25 um/px, which is used; 0.5 was given" in report.warnings[-1]
    scales = {case.case_id[0]: float(case.extra["level0_scale"]) for case in report.prepared.datalist.cases}
    assert scales == {"a": 2.0, "b": 1.0}
    report = cut(replace(SETTINGS, force_mpp=True), out="forced")
    assert "a.tif: the file says 0.25 um/px, which is not believed; 0.5 is used" in report.warnings[-1]
    assert {case.extra["level0_scale"] for case in report.prepared.datalist.cases} == {"1.0"}


@pytest.mark.parametrize(
    "mpp, sentence",
    [
        (30, "30 um/px is not a resolution of a microscope (0.1 to 10): say the right one with --image_mpp"),
        (1.1, "has 1.1 um/px, more than 2 times coarser than --mpp 0.5: give a larger --mpp"),
    ],
)  # fmt: skip
def test_um_per_px_that_is_not_believed(folder, cut, mpp, sentence):
    add_slide(folder, "b", seed=1, mpp=mpp)
    with pytest.raises(ValueError, match="slides cannot be used") as raised:
        cut()
    assert sentence in str(raised.value)
    if mpp < 2:
        assert "4 tiles" in cut(replace(SETTINGS, force_mpp=True), out="forced").slides["b"]


def test_a_file_that_no_microscope_made_gives_way_to_what_is_listed(folder, cut):
    add_slide(folder, "b", seed=1, mpp=30)
    (folder / "cases.csv").write_text("case_id,mpp\na,\nb,0.25\n")
    report = cut()
    assert report.slides["b"] == "2 target, 2 background; 2 tiles"
    assert "b.tif: the file says 30 um/px, which is not believed; 0.25 is used" in report.warnings[-1]


def test_points_outside_are_refused_on_demand(cut, folder):
    write_geojson(folder / "points" / "b.geojson", Annotations((*POINTS, Point(5000, 1, 1))))
    with pytest.raises(
        ValueError, match=r"b.geojson: case b: target point \(5000, 1\) outside the image of 640 x 500 px"
    ):
        cut(outside="refuse")


def test_a_whole_that_is_too_large_is_refused(cut, monkeypatch):
    monkeypatch.setattr("cvm_monai.data.slide_plan.MAX_WHOLE", 79_999)
    with pytest.raises(ValueError, match="would become one image of 320 x 250 px, too large for one image: cut"):
        cut(replace(SETTINGS, tile=None))


@pytest.mark.parametrize(
    "values, message",
    [
        ({"mpp": -1}, "--mpp must be a positive number"),
        ({"mpp": 50}, "50 um/px is not a resolution of a microscope"),
        ({"tile": 100}, "--tile must be a multiple of 32 px"),
        ({"image_mpp": 0}, "--image_mpp must be a positive number"),
        ({"tissue_tiles": -1}, "--tissue_tiles must be 0 or more"),
        ({"tile": None, "tissue_tiles": 3}, "--tissue_tiles and --whole exclude each other"),
    ],
)
def test_settings_out_of_their_range(values, message):
    with pytest.raises(ValueError, match=message):
        CutSettings(**{"mpp": 0.5} | values)


def test_a_column_that_the_tiles_have_of_their_own(cut, folder):
    (folder / "cases.csv").write_text("case_id,slide\na,1\nb,2\n")
    with pytest.raises(ValueError, match=r"cases.csv, line 1: the column name 'slide' is reserved for the tiles"):
        cut()


def test_the_record_says_how_tiles_were_cut(cut, tmp_path):
    cut()
    record = json.loads((tmp_path / "out" / "tiles.json").read_text())
    assert (record["settings"]["mpp"], record["settings"]["tile"]) == (0.5, 64)
    assert sorted(record["slides"]) == ["a", "b"]
    assert tuple(rows(tmp_path / "out")["a_57_46"]) == module.COLUMNS


def test_annotations_of_a_cropped_slide_are_read_where_qupath_shows_them(partly_scanned, tmp_path):
    x, y = 40, 30
    for seed, name in enumerate("ab"):
        partly_scanned(tmp_path / "data" / "slides" / f"{name}.mrxs", picture(seed=seed), (x, y, 590, 460), mpp=0.25)
        points = tuple(replace(point, x=point.x - x, y=point.y - y) for point in POINTS)
        region = Region(
            tuple((left - x, top - y) for left, top in REGION.exterior),
            (tuple((left - x, top - y) for left, top in HOLE),),
            1,
        )
        write_geojson(tmp_path / "data" / "points" / f"{name}.geojson", Annotations(points, (region,)))
    tissue = tmp_path / "out" / "tissue" / "a.geojson"
    settings = replace(SETTINGS, origin="bounds", tissue_tiles=1)
    report = prepare_slides(tmp_path / "data", out=tmp_path / "out", settings=settings, folds=2)
    assert "coordinates count from (40, 30)" in str(report)
    for case in read_datalist(tmp_path / "out").cases:
        image = pixels(case.image)
        found = read_annotations(case.points).points if case.points else ()
        for point in found:  # each on its red square
            assert tuple(image[int(point.y), int(point.x)]) == RED
    with_points = [case for case in read_datalist(tmp_path / "out").cases if case.points]
    assert sum(len(read_annotations(case.points).points) for case in with_points) == 2 * len(POINTS)
    left, top = np.min(np.concatenate([region.exterior for region in _tissue(tissue)]), axis=0)
    assert (left, top) == (-x, -y)  # all of the picture is tissue


def _tissue(path):
    return read_annotations(path, classes={"tissue": "target"}).regions


def test_the_files_of_one_dicom_series_are_one_slide_and_one_patient(tmp_path, dicom_series):
    """Annotations may have the name of any of its files."""
    for number, name in enumerate("ab"):
        files = [f"{name}{level}" for level in range(4)]
        dicom_series(tmp_path / "data" / "slides", picture(seed=number), files, series=f"1.2.{number}")
        write_geojson(tmp_path / "data" / "points" / f"{name}3.geojson", Annotations(POINTS))
    (tmp_path / "data" / "cases.csv").write_text("case_id,patient_id\na2,p\nb0,q\n")
    settings = replace(SETTINGS, mpp=1.0)
    report = prepare_slides(tmp_path / "data", out=tmp_path / "out", settings=settings, folds=2)
    assert list(report.slides) == ["a0", "b0"]
    assert {case.patient_id for case in report.prepared.datalist.cases} == {"p", "q"}
    assert {case.extra["slide"] for case in report.prepared.datalist.cases} == {"a0", "b0"}


def test_slides_in_sub_folders_are_found_and_named_by_their_path(tmp_path):
    """As the GDC's client lays them out; annotations lie beside each other by name, or in the same sub-folders."""
    for number, name in enumerate(("0a/s", "0a/t", "2c/s")):
        add_slide(tmp_path / "data", name, seed=number, points=())
    (tmp_path / "data" / "slides" / "0a" / "logs").mkdir()
    (tmp_path / "data" / "slides" / "0a" / "logs" / "s.tif.parcel").write_text("")
    for name in ("0a/s", "2c__s", "t"):
        write_geojson(tmp_path / "data" / "points" / f"{name}.geojson", Annotations(POINTS))
    (tmp_path / "data" / "cases.csv").write_text("case_id,patient_id\n0a/s.tif,p\nt,p\n2c/s,q\n")
    report = prepare_slides(tmp_path / "data", out=tmp_path / "out", settings=SETTINGS, folds=2)
    assert list(report.slides) == ["0a__s", "0a__t", "2c__s"]
    assert all(sentence.startswith("2 target, 2 background; 2 tiles") for sentence in report.slides.values())
    patients = {case.extra["slide"]: case.patient_id for case in report.prepared.datalist.cases}
    assert patients == {"0a__s": "p", "0a__t": "p", "2c__s": "q"}


def test_slides_in_sub_folders_beside_others_are_named_in_a_warning(cut, folder):
    (folder / "slides" / "c").mkdir()
    (folder / "slides" / "b.tif").rename(folder / "slides" / "c" / "b.tif")
    add_slide(folder, "d")
    assert "slides/: skipped, in sub-folders beside images in slides/ itself: c/b.tif" in cut().warnings


@pytest.mark.parametrize("inner_first", [False, True])
def test_a_target_region_inside_background_is_the_mask_of_its_tile(tmp_path, inner_first):
    outer = Region(((20, 20), (600, 20), (600, 480), (20, 480)), (), 0)
    inner = Region(((100, 100), (300, 100), (300, 240), (100, 240)), (), 1)
    for seed, name in enumerate("ab"):
        regions = [inner, outer] if inner_first else [outer, inner]
        add_slide(tmp_path / "data", name, points=(), regions=regions, mpp=0.5, seed=seed)
    settings = CutSettings(mpp=0.5, tile=640, region_masks=True)
    report = prepare_slides(tmp_path / "data", out=tmp_path / "out", settings=settings, folds=2)
    (mask,) = (np.asarray(Image.open(path)) for path in (tmp_path / "out" / "masks").glob("a_*.png"))
    (case,) = (case for case in report.prepared.datalist.cases if case.case_id.startswith("a_"))
    left, top = int(case.extra["origin_x"]), int(case.extra["origin_y"])
    expected = np.zeros((640, 640), np.uint8)
    expected[100 - top : 240 - top, 100 - left : 300 - left] = 1
    np.testing.assert_array_equal(mask, expected)
    assert not report.warnings[1:]


def test_overlaps_of_equals_on_slides_are_warned_about_once(tmp_path):
    one, other = (Region(((x, 100), (x + 200, 100), (x + 200, 300), (x, 300)), (), x // 200) for x in (100, 200))
    for seed, name in enumerate("ab"):
        add_slide(tmp_path / "data", name, points=(), regions=(one, other), mpp=0.5, seed=seed)
    settings = CutSettings(mpp=0.5, tile=512)
    report = prepare_slides(tmp_path / "data", out=tmp_path / "out", settings=settings, folds=2)
    assert str(report).count("a: 1 pair of regions of different classes overlap") == 1
    assert "1 overlap of two classes" in report.slides["a"]
    case = report.prepared.datalist.cases[0]
    assert [region.label for region in read_annotations(case.points).regions].count(255) == 1


@pytest.mark.parametrize("tile, folds", [(640, 2), (640, 1), (64, 4), (64, 1)])
def test_one_slide_can_be_trained_on(tmp_path, tile, folds):
    corners = tuple(Point(x + 20 * label, y, label) for x in (60, 560) for y in (60, 440) for label in (0, 1))
    add_slide(tmp_path / "data", "s1", points=corners, mpp=0.5)
    settings = CutSettings(mpp=0.5, tile=tile)
    report = prepare_slides(tmp_path / "data", out=tmp_path / "out", settings=settings, folds=folds).prepared
    tested = tile == 64 and folds == 4
    assert report.datalist == read_datalist(tmp_path / "out")
    assert report.datalist.tested == tested
    assert len(report.datalist.folds) == (folds if tested else 1)
    assert ("dealt by image" if tested else "there is a training and no test") in report.warnings[0]
    for fold in report.datalist.folds:
        check_split(str(tmp_path / "out"), fold=fold, seed=0)
        assert case_records(dataset_dir=str(tmp_path / "out"), part="train", fold=fold, seed=0)
    if not tested:
        with pytest.raises(ValueError, match=r"datalist.json was prepared without a test fold"):
            case_records(dataset_dir=str(tmp_path / "out"), part="test", fold=0, seed=0)


def test_two_slides_are_said_to_be_too_few_to_train_and_test(cut):
    (sentence,) = cut().prepared.warnings
    assert sentence.startswith("folds 0 and 1 cannot be trained: training and validation need two patients beside")


def test_a_file_that_is_too_coarse_is_refused_with_what_was_given(folder, cut):
    add_slide(folder, "b", seed=1, mpp=5)
    remedies = {
        None: "give a larger --mpp; where the file is wrong, the right number by --image_mpp and",
        0.25: "give a larger --mpp, or --force_mpp to believe --image_mpp, which says 0.25, before the file",
    }
    for given, remedy in remedies.items():
        with pytest.raises(
            ValueError, match=r"b.tif has 5 um/px, more than 2 times coarser than --mpp 0.5: "
        ) as raised:
            cut(replace(SETTINGS, image_mpp=given), out=f"out{given}")
        assert remedy in str(raised.value)
    (folder / "cases.csv").write_text("case_id,mpp\na,\nb,0.25\n")
    with pytest.raises(ValueError, match=r"--force_mpp to believe cases.csv, which says 0.25, before the file"):
        cut(out="told")
    report = cut(replace(SETTINGS, force_mpp=True), out="forced")
    assert report.slides["b"] == "2 target, 2 background; 2 tiles"
    add_slide(folder, "b", seed=1, mpp=None)
    (folder / "cases.csv").write_text("case_id,mpp\na,\nb,5\n")
    with pytest.raises(
        ValueError, match=r"times coarser than --mpp 0.5: correct cases.csv if it is wrong, give a larger"
    ):
        cut(out="listed")
