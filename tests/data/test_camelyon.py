import csv
import hashlib

import numpy as np
import pytest
import shapely
from PIL import Image

from cvm_monai.annotations import TARGET, read_annotations
from cvm_monai.data.camelyon import camelyon16
from cvm_monai.data.datalist import read_datalist
from cvm_monai.data.slide_plan import CutSettings
from cvm_monai.slides import write_pyramid

SHAPE = (900, 1200)
SETTINGS = CutSettings(mpp=0.5, tile=256, region_masks=True)
CLASSES = {"_0": 1, "_1": 1, "_2": 255, "Tumor": 1}
LESION = [(200, 200), (500.5, 220), (520, 480), (330, 560.2), (210, 400)]
HOLE = [(300, 300), (400, 300), (400, 400), (300, 400)]
OTHER = [(800, 600), (1100.4, 620), (1080, 860), (821, 840)]


def add_slide(folder, name, *, shape=SHAPE, mpp=0.243, fill=200):
    path = folder / f"{name}.tif"
    strips = [np.full((*shape, 3), fill, np.uint8)]
    write_pyramid(path, (*shape, 3), strips, mpp=mpp, ome=False, levels=2, tile=128, compression="jpeg")
    return path


def add_xml(folder, name, *annotations):
    """Annotations are (group, vertices)."""
    folder.mkdir(exist_ok=True)
    text = []
    for number, (group, ring) in enumerate(annotations):
        corners = "".join(f'<Coordinate Order="{i}" X="{x}" Y="{y}" />' for i, (x, y) in enumerate(ring))
        text.append(
            f'<Annotation Name="Annotation {number}" Type="Polygon" PartOfGroup="{group}" Color="#F4FA58">'
            f"<Coordinates>{corners}</Coordinates></Annotation>"
        )
    content = f"<ASAP_Annotations><Annotations>{''.join(text)}</Annotations></ASAP_Annotations>"
    (folder / f"{name}.xml").write_text(content)


@pytest.fixture
def folders(tmp_path):
    """Two slides, one of them in a subfolder."""
    slides, xml = tmp_path / "slides", tmp_path / "xml"
    add_slide(slides / "tumor", "tumor_001")
    add_slide(slides, "tumor_002", fill=190)
    add_xml(xml, "tumor_001", ("_0", LESION), ("_2", HOLE), ("_1", OTHER))
    add_xml(xml, "tumor_002", ("Tumor", LESION))
    return slides, xml


@pytest.fixture
def make(folders, tmp_path):
    def run(settings=SETTINGS, **options):
        return camelyon16(*folders, out=tmp_path / "out", settings=settings, folds=2, **options)

    return run


def pixels(path):
    return np.array(Image.open(path))


def manifest(out):
    with (out / "manifest.csv").open(newline="") as file:
        return {row["case_id"]: row for row in csv.DictReader(file)}


def tumour_area(file, row, size, classes):
    """Square level-0 pixels of tumour in a crop, by shapely alone."""
    regions = read_annotations(file, classes=classes).regions
    covered, left_out = (
        shapely.union_all([shapely.Polygon(r.exterior, r.holes) for r in regions if (r.label == TARGET) == wanted])
        for wanted in (True, False)
    )
    x, y, side = float(row["origin_x"]), float(row["origin_y"]), size * float(row["level0_scale"])
    return shapely.area((covered - left_out) & shapely.box(x, y, x + side, y + side))


def check_crops(report, out, xml, *, size, pairs, classes):
    rows = manifest(out)
    assert set(rows) == {case.case_id for case in report.prepared.datalist.cases}
    for case in report.prepared.datalist.cases:
        row, mask = rows[case.case_id], pixels(case.mask)
        area = tumour_area(xml / row["annotations"], row, size, classes)
        scale = float(row["level0_scale"])
        assert set(np.unique(mask).tolist()) == {0, 1}
        assert mask.sum() * scale**2 == pytest.approx(area, rel=0.01)
        assert float(row["tumour_share"]) == pytest.approx(area / (size * scale) ** 2, abs=1e-6)
        assert row["image_sha256"] == hashlib.sha256(case.image.read_bytes()).hexdigest()
        assert row["mask_sha256"] == hashlib.sha256(case.mask.read_bytes()).hexdigest()
        points = read_annotations(case.points).points
        assert [point.label for point in points] == [1] * pairs + [0] * pairs
        assert all(mask[int(point.y), int(point.x)] == point.label for point in points)
        assert case.patient_id == case.extra["slide"]
        assert case.mpp == 0.5


def test_crops_masks_points_and_manifest(make, folders, tmp_path):
    report = make()
    out = tmp_path / "out"
    assert read_datalist(out) == report.prepared.datalist
    check_crops(report, out, folders[1], size=256, pairs=3, classes=CLASSES)
    rows = manifest(out)
    assert [(row["slide"], row["lesions"]) for row in rows.values()] == [
        ("tumor_001.tif", "1"), ("tumor_001.tif", "1"), ("tumor_002.tif", "1"),
    ]  # fmt: skip
    assert float(rows[next(iter(rows))]["level0_scale"]) == pytest.approx(0.5 / 0.243)
    assert list(report.slides) == ["tumor_001", "tumor_002"]
    assert report.slides["tumor_001"].startswith("2 tumour regions, 1 exclusion region; 2 crops, ")


def test_an_exclusion_is_background(make, folders, tmp_path):
    make()
    first, *_ = manifest(tmp_path / "out").values()
    mask = pixels(tmp_path / "out" / "masks" / f"{first['case_id']}.png")
    scale = float(first["level0_scale"])
    column, row = (round((350 - float(first[f"origin_{axis}"])) / scale) for axis in "xy")
    assert mask[row, column] == 0
    assert mask[row, column - round(70 / scale)] == 1


def test_what_does_not_fit_together_is_reported_and_left_out(make, folders):
    slides, xml = folders
    add_slide(slides, "normal_001")
    add_xml(xml, "tumor_099", ("_0", LESION))
    report = make()
    assert (report.without_xml, report.without_slide) == (("normal_001",), ("tumor_099",))
    assert "left out, slides without XML: 1, normal_001\nleft out, XML without slide: 1, tumor_099\n" in str(report)


def test_a_slide_without_a_lesion_is_left_out(make, folders):
    slides, xml = folders
    add_slide(slides, "tumor_003")
    add_xml(xml, "tumor_003", ("normal", HOLE))
    report = make()
    assert report.slides["tumor_003"] == "1 exclusion region; no lesion, left out"
    assert {case.patient_id for case in report.prepared.datalist.cases} == {"tumor_001", "tumor_002"}


def test_the_number_of_crops_and_pairs(make, folders, tmp_path):
    report = make(crops_per_slide=1, pairs=2)
    assert len(report.prepared.datalist.cases) == 2
    check_crops(
        report, tmp_path / "out", folders[1], size=256, pairs=2, classes={"_0": 1, "_1": 1, "_2": 255, "Tumor": 1}
    )


def test_a_second_run_changes_nothing_and_other_settings_are_refused(make, tmp_path):
    make()
    before = {file: file.read_bytes() for file in (tmp_path / "out").rglob("*") if file.is_file()}
    make()
    assert {file: file.read_bytes() for file in (tmp_path / "out").rglob("*") if file.is_file()} == before
    with pytest.raises(
        ValueError, match="were cut with other settings: crops_per_slide was 2 and is 3; give another --output"
    ):
        make(crops_per_slide=3)


def test_annotations_of_another_slide_name_both_files(make, folders):
    add_xml(folders[1], "tumor_002", ("_0", [(9000, 9000), (9100, 9000), (9100, 9100)]))
    with pytest.raises(ValueError, match=r"1 of 2 slides .*tumor_002.xml: nothing in it lies inside .*002.tif"):
        make()


def test_unknown_groups_are_named(make, folders):
    add_xml(folders[1], "tumor_002", ("benign", LESION))
    with pytest.raises(ValueError, match=r"tumor_002.xml, annotation 1: unknown label 'benign'"):
        make()


def test_nothing_that_fits_together(make, folders):
    for file in folders[1].iterdir():
        file.rename(file.with_name(f"other_{file.name}"))
    with pytest.raises(ValueError, match=r"no slide of .*\(2\) has the name of an XML file of .*\(2\)"):
        make()


def test_two_slides_of_one_name(make, folders):
    add_slide(folders[0] / "more", "tumor_001")
    with pytest.raises(ValueError, match=r"tumor_001.tif and .*tumor_001.tif have one name; remove one"):
        make()


def test_folders_that_are_none(folders, tmp_path):
    with pytest.raises(ValueError, match="nothing is not a folder"):
        camelyon16(tmp_path / "nothing", folders[1], out=tmp_path / "out", settings=SETTINGS)
    with pytest.raises(ValueError, match="--crops_per_slide must be at least 1, got 0"):
        camelyon16(*folders, out=tmp_path / "out", settings=SETTINGS, crops_per_slide=0)


def test_pairs_are_checked_before_anything_is_cut(make, tmp_path):
    with pytest.raises(ValueError, match=r"^pairs must be at least 1, got 0$"):
        make(pairs=0)
    assert not (tmp_path / "out").exists()


def test_a_real_lesion(shared_dir, tmp_path):
    """Moved and shrunk onto a small slide; the whole of its 10,778 vertices is used."""
    found = read_annotations(shared_dir / "formats" / "asap" / "tumor_009.xml", classes={"metastasis": "target"})
    vertices = np.concatenate([np.array(region.exterior) for region in found.regions])
    low, factor = vertices.min(0), 1700 / np.ptp(vertices, axis=0).max()
    moved = [("metastasis", ((np.array(region.exterior) - low) * factor + 50).tolist()) for region in found.regions]
    for name in ("tumor_009", "tumor_010"):
        add_slide(tmp_path / "slides", name, shape=(1800, 1800), mpp=0.25, fill=180 if name == "tumor_009" else 190)
        add_xml(tmp_path / "xml", name, *moved)
    report = camelyon16(tmp_path / "slides", tmp_path / "xml", out=tmp_path / "out", settings=SETTINGS, folds=2)
    check_crops(report, tmp_path / "out", tmp_path / "xml", size=256, pairs=3, classes={"metastasis": 1})


def test_shards_cut_every_slide_once_and_the_command_without_one_prepares_what_one_process_does(make, tmp_path):
    whole = make()
    files = {path.relative_to(tmp_path / "out"): path.read_bytes() for path in (tmp_path / "out").rglob("*.png")}
    (tmp_path / "out").rename(tmp_path / "alone")
    for shard in ("2/2", "1/2", "2/2", "5/5"):
        report = make(shard=shard)
        assert report.prepared is None
        assert not (tmp_path / "out" / "datalist.json").exists()
    assert str(report).endswith("the same command without --shard prepares the data set")
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.png")}
    together = make()
    assert {path.relative_to(tmp_path / "out"): path.read_bytes() for path in stamps} == files
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.png")} == stamps
    assert together.slides == whole.slides
    assert len(read_datalist(tmp_path / "out").cases) == len(read_datalist(tmp_path / "alone").cases)


def test_a_shard_out_of_range_and_one_of_other_settings_are_refused(make):
    with pytest.raises(ValueError, match=r"--shard must be K/N with K from 1 to N, such as 3/16, got '3/2'"):
        make(shard="3/2")
    make(shard="1/2")
    with pytest.raises(
        ValueError, match="cut with other settings: crops_per_slide was 2 and is 1; give another --output"
    ):
        make(shard="2/2", crops_per_slide=1)
