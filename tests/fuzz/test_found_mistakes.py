"""The mistakes that broken inputs have found, each by the smallest input that shows it."""

import gzip
import json
import struct
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile

from cvm_monai.annotations import read_annotations
from cvm_monai.annotations.class_map import read_class_map
from cvm_monai.cli.main import main
from cvm_monai.data.check import binary_mask, class_mask
from cvm_monai.data.datalist import DataList, read_datalist
from cvm_monai.doctor.project import check_config
from cvm_monai.doctor.rehearsal import rehearse
from cvm_monai.engines import recorded
from cvm_monai.experiments.heatmaps import case_maps
from cvm_monai.experiments.plan import Run, parse_only, plan_runs
from cvm_monai.experiments.scores import read_rows
from cvm_monai.experiments.state import read_cost, run_state
from cvm_monai.files import first_difference, read_json, shown
from cvm_monai.registry.trained import read_trained
from cvm_monai.runs.outbox import FILE, Outbox
from cvm_monai.runs.store import client_of, recorded_store
from cvm_monai.runs.tracking import TrackedRun
from cvm_monai.slides import image_size, open_image

from .broken_images import lying_png, noise_image
from .configurations import read as read_config
from .configurations import small_bundle
from .outputs import scores

DIGITS = "9" * 5000
"""More than Python converts to a whole number."""


@pytest.mark.parametrize("name", ["a.json", "a.json.gz"])
def test_a_number_of_thousands_of_digits_is_refused_with_its_file(tmp_path, name):
    data = f'{{"type": "Point", "coordinates": [{DIGITS}, 1]}}'.encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    sentence = rf"^{tmp_path}/{name}: not valid JSON \(a whole number of thousands of digits\)$"
    for read in (read_annotations, read_json):
        with pytest.raises(ValueError, match=sentence):
            read(tmp_path / name)


def test_a_class_map_of_thousands_of_digits_is_refused():
    with pytest.raises(ValueError, match=r"^--classes is not valid JSON"):
        read_class_map(f'{{"a": {DIGITS}}}')
    with pytest.raises(ValueError, match=r"the class map gives 'a' the meaning '999.*[.]{3}: use one of"):
        read_class_map(f'{{"a": "{DIGITS}"}}')
    with pytest.raises(ValueError, match=r"^--classes is not valid JSON \(nested too deeply\)"):
        read_class_map('{"a":' + "[" * 100_000)


def test_a_label_of_thousands_of_digits_names_no_value_of_a_mask():
    mask = np.array([[0, 1]], np.uint8)
    np.testing.assert_array_equal(binary_mask(mask, classes={DIGITS: "background"}), mask)
    np.testing.assert_array_equal(class_mask(mask, classes={DIGITS: "target", "other": 2}), mask)


def test_a_class_map_that_means_nothing_is_named_by_its_file(tmp_path):
    for content, sentence in (({"a": "cancer"}, "meaning 'cancer'"), ({"a": {"class": 1, "color": "x"}}, "colour 'x'")):
        (tmp_path / "classes.json").write_text(json.dumps(content))
        with pytest.raises(ValueError, match=rf"^{tmp_path}/classes.json: the class map gives 'a' the {sentence}: use"):
            read_class_map(str(tmp_path / "classes.json"))


def asap(inner):
    return f"<ASAP_Annotations><Annotations>{inner}</Annotations></ASAP_Annotations>"


def test_an_annotation_keeps_its_own_vertices_apart_from_those_of_one_inside_it(tmp_path):
    inner = '<Annotation PartOfGroup="background"><Coordinate X="5" Y="6"/></Annotation>'
    outer = f'<Annotation PartOfGroup="target"><Coordinates><Coordinate X="1" Y="2"/></Coordinates>{inner}</Annotation>'
    (tmp_path / "a.xml").write_text(asap(outer))
    assert [(point.x, point.y, point.label) for point in read_annotations(tmp_path / "a.xml").points] == [
        (1, 2, 1), (5, 6, 0)
    ]  # fmt: skip


def test_thousands_of_nested_annotations_take_no_time_that_grows_with_their_square(tmp_path):
    count = 50_000  # by the square: minutes
    (tmp_path / "a.xml").write_text(asap("<Annotation>" * count + "</Annotation>" * count))
    assert read_annotations(tmp_path / "a.xml").counts == {"empty Polygon": count}


def test_a_sentence_quotes_the_beginning_of_a_long_value(tmp_path):
    (tmp_path / "a.xml").write_text(
        asap(f'<Annotation PartOfGroup="{"x" * 9999}"><Coordinate X="1" Y="2"/></Annotation>')
    )
    with pytest.raises(ValueError, match="unknown label 'xxx") as refused:
        read_annotations(tmp_path / "a.xml")
    assert len(str(refused.value)) < 500
    assert shown("short") == "'short'"
    assert len(shown("x" * 61)) == 60


def test_of_many_unknown_labels_twenty_are_named_and_the_rest_is_counted(tmp_path):
    rows = "".join(f"1,1,label {number}\n" for number in range(25))
    (tmp_path / "a.csv").write_text("x,y,label\n" + rows)
    with pytest.raises(ValueError, match=r"'label 18' \(1\), 'label 19' \(1\) and 5 more; allowed"):
        read_annotations(tmp_path / "a.csv")


def test_a_header_that_claims_more_than_its_bytes_can_hold_is_refused_before_it_is_decoded(tmp_path):
    (tmp_path / "a.png").write_bytes(lying_png(noise_image(np.random.default_rng(0)), 2**14, 2**14))
    with pytest.raises(ValueError, match=r"a.png cannot .*: its \d+ bytes cannot hold the 16384 x 16384 px that it"):
        image_size(tmp_path / "a.png")


def test_the_densest_image_that_a_png_can_hold_is_read(tmp_path):
    side = 2**14  # one bit for a pixel, all of them 0: 32 MiB in 32 KiB
    parts = [(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0))]
    parts += [(b"IDAT", zlib.compress(bytes(side * (side // 8 + 1)), 9)), (b"IEND", b"")]
    chunks = (struct.pack(">I", len(d)) + name + d + struct.pack(">I", zlib.crc32(name + d)) for name, d in parts)
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    assert image_size(tmp_path / "a.png") == (side, side)


def test_an_image_without_pixels_is_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(lying_png(noise_image(np.random.default_rng(0)), 5, 0))
    with pytest.raises(ValueError, match=r"a.png cannot be read as an image: (it has no pixels|unknown or damaged)"):
        open_image(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 4), np.uint8))
    data = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        place = file.pages.first.tags["ImageLength"].valueoffset
    data[place : place + 2] = b"\0\0"
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(ValueError, match=r"a.tif cannot be (read|opened) as an image: "):
        open_image(tmp_path / "a.tif")


def test_a_large_label_image_is_refused_by_its_header(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", shape=(2**15, 2**14), dtype=np.uint8, compression=None)
    with pytest.raises(ValueError, match=r"a.tif cannot .*16384 x 32768 px are too many for a label image"):
        read_annotations(tmp_path / "a.tif")


@pytest.mark.parametrize(
    "name, value, what",
    [
        ("network", ["unet"], "one of resnet34_unet"),
        ("network_channels", [4, [], 8, 8, 8], "null or five whole numbers"),
        ("network_channels", [10**9] * 5, "null or five whole numbers from 1 to 4096"),
        ("network_channels", "abcde", "null or five whole numbers"),
        ("classes", 1e9, "a whole number from 2 to 255"),
        ("scale", "1", "a number greater than 0"),
        ("mpp", float("nan"), "null or a number greater than 0"),
        ("image_mean", ["", 0, 0], "three numbers"),
        ("image_std", [0, 1, 1], "three numbers greater than 0"),
        ("stain_normalisation", 3, "one of none, macenko, reinhard"),
        ("extractor_path", 3, "null or the path of a file, timm:NAME or imagenet"),
        ("pairs", True, "a whole number of at least 1"),
        ("contrast", ["two_sided"], "one of one_sided, two_sided"),
        ("selection", {}, "one of lowest, last"),
        ("fold", -1, "a whole number of at least 0"),
    ],
)
def test_a_recorded_setting_that_no_training_has_is_named_with_its_file(tmp_path, name, value, what):
    (tmp_path / "run.json").write_text(json.dumps({"status": "FINISHED", "knobs": {name: value}}))
    sentence = rf"^{tmp_path}/run.json: {name} must be {what}.*, found .*: train again, or restore the file$"
    with pytest.raises(ValueError, match=sentence):
        recorded(output_dir=str(tmp_path), key=name, default=None)
    with pytest.raises(ValueError, match=sentence):
        read_trained(tmp_path)


def test_a_record_that_is_nested_too_deeply_is_no_record(tmp_path):
    (tmp_path / "run.json").write_text('{"knobs": ' + "[" * 100_000)
    with pytest.raises(ValueError, match=r"run.json is not a record of a training"):
        recorded(output_dir=str(tmp_path), key="mpp", default=None)


@pytest.mark.parametrize("name", ["x" * 300, "a\0b"], ids=["long", "zero"])
def test_a_data_list_with_a_name_that_no_file_has_is_refused(tmp_path, name):
    case = {"case_id": "a", "patient_id": "a", "image": name, "points": None, "sha256": {}, "fold": 0}
    content = {"version": 1, "classes": {"background": 0, "target": 1}, "cases": [case]}
    (tmp_path / "datalist.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"datalist.json, case a: the image file .* (cannot be found|does not exist)"):
        read_datalist(tmp_path)


def test_a_tiff_whose_width_has_several_values_is_refused(tmp_path):
    options = {"extratags": [(33000, "I", 2, (5, 6), False)], "metadata": None}
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 4, 3), np.uint16), photometric="rgb", **options)
    data = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        width, pair = (file.pages.first.tags[name] for name in ("ImageWidth", 33000))
    data[width.offset + 2 : width.offset + 12] = data[pair.offset + 2 : pair.offset + 12]
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(ValueError, match=r"a.tif cannot be read as an image: its header is damaged"):
        image_size(tmp_path / "a.tif")
    with pytest.raises(ValueError, match=r"a.tif cannot be (opened|read) as an image: "):
        open_image(tmp_path / "a.tif")


def config_of(folder, **changes):
    """A bundle's quick training configuration, with some sections changed, or left out where they are None."""
    file = small_bundle(folder) / "configs" / "train.yaml"
    gone = [name for name, value in changes.items() if value is None]
    content = read_config(file) | changes
    file.write_text(json.dumps({name: value for name, value in content.items() if name not in gone}))
    return file


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"max_epochs": None}, "KeyError 'query key: max_epochs'"),
        ({"optimizer": {"_target_": "nothing.at.all"}}, "Cannot locate class or function path: 'nothing.at.all'."),
        (
            {"net": 3, "average_decay": 0.0},
            "Failed to evaluate ConfigExpression: .*: 'int' object has no attribute 'parameters'",
        ),
    ],
)
def test_a_dry_run_of_a_configuration_that_makes_no_training_is_refused_with_its_file(
    tmp_path, training, own_scripts, changes, reason
):
    file = config_of(tmp_path, **changes)
    with pytest.raises(
        ValueError,
        match=rf"^{file} does not describe a training that can be built: {reason}.*; correct the file, or the knob$",
    ):
        rehearse(file, dataset=training / "data", knobs={})


def test_the_doctor_tells_of_a_section_that_stands_there_twice(tmp_path, training, own_scripts):
    file = config_of(tmp_path)
    file.write_text('{"fold": 3, ' + file.read_text()[1:])
    finding = check_config(file, dataset=training / "data", knobs={})
    assert (finding.status, finding.detail) == ("FAIL", f"{file} cannot be read: Duplicate key: `fold`")


def test_the_doctor_says_why_an_expression_cannot_be_evaluated(tmp_path, training, own_scripts):
    file = config_of(tmp_path, seed="$1/0")
    finding = check_config(file, dataset=training / "data", knobs={})
    assert finding.detail == f"{file} cannot be read: Failed to evaluate ConfigExpression: '$1/0': division by zero"


@pytest.mark.parametrize(
    "entry, mistake",
    [
        (True, "its kind must be one of param, tag, metric, artifact, status"),
        ({"kind": "x" * 5000, "run_id": "r"}, "its kind must be one of param"),
        ({"kind": "tag", "name": "a", "value": "b"}, "it has no run_id"),
        (
            {"kind": "metric", "run_id": "r", "name": "a", "value": 1, "step": 2**63, "time": 0},
            "its step cannot be 9223",
        ),
        ({"kind": "artifact", "run_id": "r", "path": "a\0", "folder": None, "temporary": False}, "its path cannot be"),
    ],
)
def test_an_entry_that_mlflow_could_not_be_told_is_named_by_its_line(tmp_path, entry, mistake):
    (tmp_path / "mlflow_outbox.jsonl").write_text(f"\n{json.dumps(entry)}\n")
    with pytest.raises(
        ValueError, match=rf"mlflow_outbox.jsonl: line 2 is not an entry \({mistake}.*\): correct or remove"
    ):
        Outbox(tmp_path / "mlflow_outbox.jsonl").entries()


def test_an_entry_removes_no_file_but_one_that_waited_beside_it(tmp_path):
    outbox = Outbox(tmp_path / "mlflow_outbox.jsonl")
    waiting, other = outbox.files / "figures" / "a.png", tmp_path / "theirs.png"
    for file in (waiting, other):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"a figure")
        outbox.add([{"kind": "artifact", "run_id": "r", "path": str(file), "folder": None, "temporary": True}])
    sent = []
    client = SimpleNamespace(log_artifact=lambda run_id, path, artifact_path: sent.append(path))
    run = TrackedRun(tracking_uri="none", experiment="e", artifact_dir=tmp_path, outbox=tmp_path / FILE)
    run.run_id, run._client = "r", client
    assert run.settle() == 0
    assert sent == [str(waiting), str(other)]
    assert (waiting.exists(), other.exists()) == (False, True)


@pytest.mark.parametrize(
    "content, sentence",
    [
        (b"", "is not an MLflow database: restore it, or train again"),
        (
            b"not a database, but longer than a header would be" * 9,
            r"is damaged \(file is not a database\): restore it",
        ),
    ],
)
def test_a_recorded_database_that_is_none_of_mlflow_s_is_refused_and_left_as_it_is(tmp_path, content, sentence):
    file = tmp_path / "mlruns.db"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{file} {sentence}"):
        recorded_store(f"sqlite:///{file}", output_dir=tmp_path)
    assert file.read_bytes() == content
    with pytest.raises(ValueError, match=r"recorded 0.5 as its MLflow store: train again"):
        recorded_store(0.5, output_dir=tmp_path)


def test_a_database_in_no_folder_is_refused_before_mlflow_tries_for_a_minute(tmp_path):
    with pytest.raises(ValueError, match=rf"{tmp_path}/no/a.db cannot be made: there is no folder {tmp_path}/no; name"):
        client_of(f"sqlite:///{tmp_path}/no/a.db")
    with pytest.raises(ValueError, match=rf"the MLflow database {tmp_path} is a folder; name another"):
        client_of(f"sqlite:///{tmp_path}")


def run_in(folder, **marker):
    """A run of a comparison with that record."""
    folder.mkdir()
    (folder / "compare.json").write_text(json.dumps(marker))
    return Run("cvm", 0, 0, folder, {})


@pytest.mark.parametrize("cost", [None, {}, [1], {"training_seconds": "1", "evaluating_seconds": 1}])
def test_a_finished_run_that_does_not_say_what_it_took_is_named(tmp_path, cost):
    run = run_in(tmp_path / "run", state="finished", cost=cost)
    with pytest.raises(
        ValueError, match=rf"^{run.folder}/compare.json does not record the cost of the run: remove that"
    ):
        read_cost(run)


def test_a_record_of_a_run_that_is_nested_too_deeply_is_no_record(tmp_path):
    run = run_in(tmp_path / "run")
    (run.folder / "compare.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"run holds files that are not a run of a comparison: give another --output"):
        run_state(run, {})


def test_a_score_that_is_no_number_is_named_with_its_line(tmp_path):
    run = run_in(tmp_path / "run")
    (run.folder / "evaluation").mkdir()
    (run.folder / "evaluation" / "per_case.csv").write_text(scores().replace("0.5", "half", 1))
    with pytest.raises(ValueError, match=r"per_case.csv, line 2: dice must be a number or empty, got 'half'"):
        read_rows(run)


def test_configurations_that_differ_in_a_long_value_are_told_apart_in_short():
    assert len(first_difference({"a": "x" * 5000}, {"a": 1})) < 100


def test_a_scored_case_that_the_data_list_lacks_is_named():
    data = DataList({"background": 0, "target": 1}, (), Path("datalist.json"))
    with pytest.raises(ValueError, match=r"^datalist.json has no case 'a' with a mask, which a run has scored$"):
        case_maps(["a"], [], data)


def test_an_extractor_that_is_a_number_is_refused(tmp_path, capsys):
    words = ["compare", str(tmp_path), "--output", str(tmp_path / "out"), "--extractor_path", "1e999"]
    assert main(words) == 2
    sentence = "--extractor_path must be null or the path of a file, timm:NAME or imagenet, got inf"
    assert capsys.readouterr().err == f"cvm-monai: error: {sentence}\n"


def test_the_doctor_refuses_an_output_folder_and_a_store_that_are_no_texts(tmp_path, capsys):
    for name in ("output_dir", "tracking_uri"):
        assert main(["doctor", str(tmp_path), f"--{name}", "[]"]) == 2
        assert capsys.readouterr().err == f"cvm-monai: error: --{name} must be a path or an address, got []\n"


def test_a_file_that_is_no_text_is_no_app_of_ours(tmp_path, capsys):
    (tmp_path / "main.py").write_bytes(b"\xff\xfe")
    assert main(["label-app", "--output", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"cvm-monai: error: {tmp_path}/main.py is another file: give another --output\n"


def test_more_folds_or_seeds_than_anybody_trains_are_refused_before_they_are_counted():
    with pytest.raises(ValueError, match=r"^--folds must be at most 10000, got 2147483648$"):
        parse_only(None, folds=2**31)
    with pytest.raises(ValueError, match=r"^--seeds must be at most 10000, got 2147483648$"):
        plan_runs([], folds=[], seeds=2**31, output=Path("out"), knobs={})
