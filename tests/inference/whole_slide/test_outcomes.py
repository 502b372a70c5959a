"""How a run of many slides ends: what is finished, what failed and why, what is refused before any work."""

import errno
import json
import resource
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from cvm_monai.annotations.spool import CornerSpool
from cvm_monai.files import lock_folder
from cvm_monai.inference.whole_slide import SlideModel, SlideOptions, load_slide_model, predict_slides
from cvm_monai.inference.whole_slide.find import fingerprint, mask_file, shard_of_slides
from cvm_monai.slides.files import ImageFile

from .conftest import PLAIN, Red, pixels, write_slide

pytestmark = pytest.mark.usefixtures("no_picture")
WHOLE = SlideOptions(window=128, tissue="none")


def predict(model, slides, out, options=WHOLE):
    lines = []
    return predict_slides(model, slides, out, options=options, say=lines.append, bar=False), lines


def smooth(height=64, width=64):
    return np.full((height, width, 3), (200, 40, 90), np.uint8)


def test_a_slide_that_cannot_be_read_is_recorded_and_the_next_one_is_done(red, tmp_path, shared_dir):
    good = write_slide(tmp_path / "good.tif", smooth())
    bad = shared_dir / "formats" / "bad" / "unreadable.svs"
    report, lines = predict(red, [bad, good], tmp_path / "out")
    assert (report.finished, list(report.failed), report.exit_code) == (["good"], ["unreadable"], 1)
    assert "cannot be read at (0, 0)" in report.failed["unreadable"]
    record = json.loads((tmp_path / "out" / "unreadable" / "run.json").read_text())
    assert record["status"] == "FAILED"
    assert record["attempts"][0]["error"] == report.failed["unreadable"]
    assert lines[-1] == f"slides: 1 predicted, 1 failed; results are in {tmp_path / 'out'}"
    again, _ = predict(red, [bad, good], tmp_path / "out")
    assert (again.skipped, list(again.failed)) == (["good"], ["unreadable"])


def test_a_file_that_is_no_slide_fails_beside_others_and_is_refused_alone(red, tmp_path):
    bad = tmp_path / "slides" / "bad.tif"
    write_slide(tmp_path / "slides" / "good.tif", smooth())
    bad.write_bytes(b"II*\0" + b"x" * 100)
    report, _ = predict(red, [tmp_path / "slides"], tmp_path / "out")
    assert (report.finished, list(report.failed), report.exit_code) == (["good"], ["bad"], 1)
    with pytest.raises(ValueError, match=r"bad\.tif cannot be"):
        predict(red, [bad], tmp_path / "out")


def test_a_truncated_slide_fails_where_it_ends_and_keeps_what_was_done(red, tmp_path):
    path = write_slide(tmp_path / "cut.tif", pixels(1024, 256))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 3 // 4] + b"\0" * (len(whole) - len(whole) * 3 // 4))
    report, _ = predict(red, [path], tmp_path / "out")
    assert "cut.tif cannot be read at" in report.failed["cut"]
    progress = json.loads((tmp_path / "out" / "cut" / ".partial" / "progress.json").read_text())
    assert len(progress["bands"]) >= 1


def test_a_slide_without_tissue_gives_an_empty_result_and_says_so(red, tmp_path):
    glass = write_slide(tmp_path / "glass.tif", np.full((300, 300, 3), 240, np.uint8))
    report, lines = predict(red, [glass], tmp_path / "out", SlideOptions(window=128))
    assert (report.finished, report.empty, report.exit_code) == (["glass"], ["glass"], 0)
    assert "glass: no tissue was found, the result is empty; --tissue none predicts all of it" in lines
    folder = tmp_path / "out" / "glass"
    assert json.loads((folder / "regions.geojson").read_text())["features"] == []
    assert (folder / "classes.csv").read_text().splitlines()[1] == "target,0,0.00,,"


def test_another_image_of_the_same_name_and_size_is_not_passed_over(red, tmp_path):
    path = tmp_path / "a.bmp"
    options = SlideOptions(window=128, tissue="none", mpp=0.5)
    Image.new("RGB", (64, 64), (200, 40, 90)).save(path)
    predict(red, [path], tmp_path / "out", options)
    assert predict(red, [path], tmp_path / "out", options)[0].skipped == ["a"]
    Image.new("RGB", (64, 64), (20, 40, 90)).save(path)
    with pytest.raises(ValueError, match=r"made with other settings: slide_fingerprint was .* --overwrite"):
        predict(red, [path], tmp_path / "out", options)


def test_the_fingerprint_sees_the_ends_of_a_large_file_and_blocks_between(tmp_path):
    path, size = tmp_path / "a.svs", 40 * 2**20
    found = set()
    for place in (None, 0, 2**20 - 1, size - 2**20, size - 1, (size - 2**20) // 15 * 4 + 2**19):
        with path.open("wb") as stream:
            stream.truncate(size)
            if place is not None:
                stream.seek(place)
                stream.write(b"x")
        found.add(fingerprint(path))
    assert len(found) == 6
    small = tmp_path / "b.mrxs"
    small.write_bytes(b"same")
    before = fingerprint(small)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "Slidedat.ini").write_text("SLIDE_ID = 1")
    assert fingerprint(small) != before


def test_a_folder_of_one_slide_that_cannot_be_written_does_not_end_the_others(red, tmp_path):
    slides = [write_slide(tmp_path / f"{name}.tif", smooth()) for name in "ab"]
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").write_text("a file in the way")
    report, lines = predict(red, slides, tmp_path / "out")
    assert (report.finished, list(report.failed), report.exit_code) == (["b"], ["a"], 1)
    assert "a cannot be written (File exists): choose another --output" in report.failed["a"]
    assert f"failed: {report.failed['a']}" in lines


def test_a_disk_that_is_full_when_regions_are_made_is_a_sentence_and_the_next_run_needs_the_results_only(
    red, tmp_path, monkeypatch
):
    """Noise of single pixels has some thousand corners, which are kept in a file from the first byte."""
    slide, other = write_slide(tmp_path / "a.tif", pixels(64, 64)), write_slide(tmp_path / "b.tif", smooth())
    monkeypatch.setattr("cvm_monai.annotations.spool.IN_MEMORY", 1)
    rows, (soft, hard) = CornerSpool.append, resource.getrlimit(resource.RLIMIT_FSIZE)

    def full(spool, corners):
        """The disk is full for corners alone."""
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
        try:
            rows(spool, corners)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    with monkeypatch.context() as patch:
        patch.setattr(CornerSpool, "append", full)
        report, lines = predict(red, [slide, other], tmp_path / "out")
    place = tmp_path / "out" / "a"
    assert (report.finished, report.exit_code) == (["b"], 1)
    assert report.failed["a"].startswith(f"{place} cannot be written (File too large): make room and run again")
    assert f"failed: {report.failed['a']}" in lines
    assert json.loads((place / "run.json").read_text())["attempts"][0]["error"] == report.failed["a"]
    left = {path.name for path in place.iterdir()}
    assert left == {".lock", ".partial", "run.json", "probability.ome.tif", "tissue.geojson"}
    again, lines = predict(red, [slide, other], tmp_path / "out")
    assert (again.finished, again.skipped) == (["a"], ["b"])
    assert "a.tif: goes on after 1 of 1 rows of tiles" in lines


def test_results_that_cannot_be_written_or_locked_are_refused_before_any_work(red, tmp_path, monkeypatch):
    path = write_slide(tmp_path / "a.tif", smooth())
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"file cannot be written \(File exists\): choose another --output"):
        predict(red, [path], tmp_path / "file")

    def flock(stream, how):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.raises(ValueError, match=r"out cannot be locked \(No locks available\): its file system has no locks"):
        predict(red, [path], tmp_path / "out")
    with pytest.raises(ValueError, match=r"a cannot be locked .* choose another --output"), lock_folder(tmp_path / "a"):
        pass


def test_um_per_px_are_asked_for_before_any_work(red, tmp_path):
    known = write_slide(tmp_path / "a.tif", smooth())
    unknown = write_slide(tmp_path / "b.tif", smooth(), mpp=None)
    with pytest.raises(ValueError, match=r"b.tif does not state its um/px: give --mpp"):
        predict(red, [known, unknown], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    report, _ = predict(red, [unknown], tmp_path / "out", SlideOptions(window=128, tissue="none", mpp=0.5))
    assert report.finished == ["b"]


@pytest.mark.parametrize("count", range(1, 8))
def test_every_slide_is_in_exactly_one_share_whatever_the_order_they_are_given_in(count):
    paths = [ImageFile(Path(f"{name}.tif"), name, (Path(f"{name}.tif"),)) for name in "dbeac"]
    shards = [shard_of_slides(paths, f"{number}/{count}") for number in range(1, count + 1)]
    assert sorted(slide.name for shard in shards for slide in shard) == list("abcde")
    assert shards == [shard_of_slides(paths[::-1], f"{number}/{count}") for number in range(1, count + 1)]
    assert [len(shard) for shard in shards] == [len(range(number, 5, count)) for number in range(count)]


def test_a_share_is_predicted_once_and_one_without_slides_is_no_error(red, tmp_path):
    slides = [write_slide(tmp_path / f"{name}.tif", smooth()) for name in "ab"]
    settings = {"options": WHOLE, "bar": False, "say": (lines := []).append}
    assert predict_slides(red, slides, tmp_path / "out", shard="2/3", **settings).finished == ["b"]
    again = predict_slides(red, slides, tmp_path / "out", shard="2/3", **settings)
    assert (again.finished, again.skipped) == ([], ["b"])
    assert predict_slides(red, slides, tmp_path / "out", shard="3/3", **settings).exit_code == 0
    assert lines[-1] == "there are 2 slides, and none of them is in the shard 3/3"
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_dir()) == ["b"]


@pytest.mark.parametrize("shard", ["0/3", "4/3", "1", "a/b", "1/2/3", "-1/3", "1/0", "1.5/3"])
def test_a_shard_that_is_none_is_refused(red, tmp_path, shard):
    with pytest.raises(ValueError, match=rf"--shard must be K/N with K from 1 to N, such as 3/16, got '{shard}'"):
        predict_slides(red, [write_slide(tmp_path / "a.tif", smooth())], tmp_path / "out", shard=shard)


def test_a_slide_much_coarser_than_the_models_images_is_refused_and_a_finer_one_is_not(red, tmp_path):
    coarse = write_slide(tmp_path / "coarse.tif", smooth(), mpp=1.1)
    with pytest.raises(ValueError, match=r"coarse.tif: the image has 1\.1 um/px, more than 2 times .* --force_mpp"):
        predict(red, [coarse], tmp_path / "out")
    fine = write_slide(tmp_path / "fine.tif", smooth(), mpp=0.12)
    assert predict(red, [fine], tmp_path / "out")[0].finished == ["fine"]
    forced = SlideOptions(window=128, tissue="none", force_mpp=True)
    assert predict(red, [coarse], tmp_path / "out", forced)[0].finished == ["coarse"]


def test_a_model_without_um_per_px_reads_level_0_at_its_scale_and_says_so(tmp_path):
    model = SlideModel(Red().eval(), mpp=None, scale=0.5, **PLAIN)
    report, lines = predict(model, [write_slide(tmp_path / "a.tif", smooth(100, 80))], tmp_path / "out")
    assert report.finished == ["a"]
    assert any("without um/px" in line and "read at 0.5 times the size of their level 0" in line for line in lines)
    record = json.loads((tmp_path / "out" / "a" / "run.json").read_text())
    assert record["settings"]["prediction"]["scale"] == 2.0


@pytest.mark.parametrize(
    "names, text",
    [
        (["missing.tif"], "missing.tif does not exist"),
        (["empty"], "there is no image or slide in .*empty"),
        (["a.tif", "other/a.tif"], "would both be written into a"),
    ],
)
def test_slides_that_are_none_or_ambiguous_are_refused(red, tmp_path, names, text):
    for name in ("a.tif", "other/a.tif"):
        write_slide(tmp_path / name, smooth())
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=text):
        predict(red, [tmp_path / name for name in names], tmp_path / "out")


def test_masks_of_tissue_in_a_folder_belong_to_the_slide_of_their_name(red, tmp_path):
    path = write_slide(tmp_path / "a.tif", smooth())
    (tmp_path / "masks").mkdir()
    options = SlideOptions(window=128, tissue=str(tmp_path / "masks"))
    with pytest.raises(ValueError, match=r"masks has no mask of tissue for a\.tif, such as a\.geojson"):
        predict(red, [path], tmp_path / "out", options)
    mask = np.zeros((64, 64), np.uint8)
    mask[:32] = 1
    Image.fromarray(mask).save(tmp_path / "masks" / "a.tif.png")
    assert predict(red, [path], tmp_path / "out", options)[0].finished == ["a"]
    assert json.loads((tmp_path / "out" / "a" / "run.json").read_text())["tissue"]["fraction"] == 0.5


def test_a_network_that_is_not_finite_fails_with_a_sentence(tmp_path):
    class Broken(nn.Module):
        def forward(self, x):
            return torch.full((len(x), 2, *x.shape[-2:]), torch.nan)

    report, _ = predict(
        SlideModel(Broken(), mpp=0.5, **PLAIN), [write_slide(tmp_path / "a.tif", smooth())], tmp_path / "out"
    )
    assert "the network's output is not finite" in report.failed["a"]


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"there is no folder .*none: give the --output_dir of a training"):
        load_slide_model(tmp_path / "none")
    with pytest.raises(ValueError, match=r"there is no trained network at .*model\.pt"):
        load_slide_model(tmp_path)


def test_the_files_of_one_dicom_series_are_predicted_once(red, tmp_path, dicom_series):
    folder = dicom_series(tmp_path / "data", smooth(), ("c", "a", "b"))
    report, _ = predict(red, [folder], tmp_path / "out")
    assert report.finished == ["a"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_dir()) == ["a"]
    report, _ = predict(red, sorted(folder.iterdir()), tmp_path / "out")
    assert (report.finished, report.skipped) == ([], ["a"])


def test_slides_in_sub_folders_are_named_by_their_path_and_results_are_none(red, tmp_path):
    folder = tmp_path / "data"
    for name in ("p1/s.tif", "p2/deeper/s.tif", ".hidden/s.tif"):
        write_slide(folder / name, smooth())
    report, _ = predict(red, [folder], folder / "out")
    assert report.finished == ["p1__s", "p2__deeper__s"]
    report, _ = predict(red, [folder], folder / "out")
    assert report.skipped == ["p1__s", "p2__deeper__s"]
    assert report.finished == []


def test_drawn_tissue_of_a_slide_in_a_sub_folder_has_its_name_or_its_files(tmp_path):
    for name in ("p1__s.geojson", "s.png"):
        (tmp_path / name).write_text("")
    assert mask_file(tmp_path, Path("p1/s.tif"), "p1__s").name == "p1__s.geojson"
    assert mask_file(tmp_path, Path("p2/s.tif"), "p2__s").name == "s.png"
    (tmp_path / "p3__t.png").write_text("")
    assert mask_file(tmp_path, Path("p3/t.ome.tif"), "p3__t.ome").name == "p3__t.png"
