"""Folders, recorded knobs and the facts of a run."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow
from PIL import Image

from cvm_monai.bundle_files import read_config
from cvm_monai.engines import bundle_root, models_dir, recorded
from cvm_monai.engines.previews import point_rows, preview_figure
from cvm_monai.engines.renewal import Preview
from cvm_monai.engines.workflow import active_parser, follow_parser
from cvm_monai.files import update_json, write_json

BUNDLE = Path(__file__).resolve().parents[2] / "bundle"


def test_the_default_output_of_a_bundle_keeps_the_model_in_the_bundle(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert models_dir(bundle_root="bundle", output_dir=str(tmp_path / "bundle" / "eval")) == f"{tmp_path}/bundle/models"
    assert models_dir(bundle_root="bundle", output_dir="bundle/x/../eval") == f"{tmp_path}/bundle/models"
    assert models_dir(bundle_root="bundle", output_dir="out") == f"{tmp_path}/out/models"


def test_knobs_come_from_the_record_and_else_from_the_default(tmp_path):
    assert recorded(output_dir=str(tmp_path), key="lam", default=2.0) == 2.0
    (tmp_path / "run.json").write_text(json.dumps({"knobs": {"lam": 5.0, "mpp": None}}))
    assert recorded(output_dir=str(tmp_path), key="lam", default=2.0) == 5.0
    assert recorded(output_dir=str(tmp_path), key="mpp", default=1.0) is None
    assert recorded(output_dir=str(tmp_path), key="eta", default=0.6) == 0.6


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b"[1]", b"null", b'{"knobs": 3}', b"\xff\xfe"])
def test_a_run_json_that_is_no_record_is_one_sentence(tmp_path, content):
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"run\.json is not a record of a training \(.*\): train again, or remove it"):
        recorded(output_dir=str(tmp_path), key="lam", default=2.0)


@pytest.mark.parametrize(
    "words",
    [
        ["--config_file", "some/configs/a.json"],
        ["--lam", "1", "--config_file=some/configs/a.json", "--fold", "0"],
        ["--config-file", "['some/configs/a.json', 'other/b.yaml']"],
        ["--config_file", '["some/configs/a.json","other/b.yaml"]'],
        ["--config_file", "some/configs/a.yml,other/b.json"],
    ],
)
def test_the_bundle_root_is_that_of_the_commands_first_configuration(tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["/lib/monai/bundle/__main__.py", "run", "training", *words])
    assert bundle_root() == str(tmp_path / "some")


def test_a_folder_may_be_named_as_a_file_or_hold_commas_and_spaces(tmp_path, monkeypatch):
    file = tmp_path / "a b,c.d" / "configs" / "train.json"
    monkeypatch.setattr("sys.argv", ["/lib/monai/bundle/__main__.py", "run", "--config_file", str(file)])
    assert bundle_root() == str(tmp_path / "a b,c.d")


@pytest.mark.parametrize("words", [[], ["pytest", "--config_file", "some/configs/a.json"]])
def test_without_a_command_of_monai_the_bundle_is_the_one_beside_the_package(monkeypatch, words):
    monkeypatch.setattr("sys.argv", words)
    assert Path(bundle_root()) == BUNDLE


def workflow_of(folder, config, **typed):
    (folder / "configs").mkdir()
    path = folder / "configs" / "a.json"
    path.write_text(json.dumps(config))
    return ConfigWorkflow(config_file=str(path), workflow_type="train", logging_file=False, **typed)


def test_the_parser_is_known_while_it_resolves_an_entry_and_not_after_it(tmp_path):
    config = {
        "name": "one",
        "initialize": [{"_target_": "cvm_monai.engines.follow_parser"}],
        "run": [{"_target_": "cvm_monai.engines.workflow.active_parser"}],
    }
    workflow = workflow_of(tmp_path, config)
    workflow.initialize()
    assert workflow.run() == [workflow.parser]
    assert active_parser() is None


def test_a_parser_within_another_is_known_until_it_is_done():
    follow_parser()
    active = "cvm_monai.engines.workflow.active_parser"
    inner = ConfigParser({"who": {"_target_": active}})
    outer = ConfigParser(
        {
            "inner": {"_target_": "$@ask", "id": "who"},
            "ask": None,
            "all": ["@inner", {"_target_": active}],
        }
    )
    outer["ask"] = inner.get_parsed_content
    assert outer.get_parsed_content("all") == [inner, outer]
    with pytest.raises(KeyError, match="nowhere"):
        outer.get_parsed_content("nowhere")
    assert active_parser() is None


def test_the_parser_is_wrapped_once():
    follow_parser()
    before = ConfigParser.get_parsed_content
    follow_parser()
    assert ConfigParser.get_parsed_content is before


def test_json_is_replaced_in_one_step_and_updated(tmp_path):
    file = tmp_path / "new" / "a.json"
    write_json(file, {"a": 1, "path": Path("x")})
    update_json(file, a=2, b="ä")
    assert json.loads(file.read_text(encoding="utf-8")) == {"a": 2, "path": "x", "b": "ä"}
    assert [path.name for path in file.parent.iterdir()] == ["a.json"]


def test_points_are_drawn_at_pixel_centres():
    rows = point_rows(np.array([[2, 3]]), np.array([[0, 0], [7, 9]]))
    assert rows.tolist() == [[3.5, 2.5, 1], [0.5, 0.5, 0], [9.5, 7.5, 0]]
    nothing = np.zeros((0, 2), dtype=np.int64)
    assert point_rows(nothing, nothing).shape == (0, 3)


@pytest.mark.parametrize("known", [True, False])
def test_a_preview_of_a_coarse_map_is_drawn_at_the_maps_size(tmp_path, known, monkeypatch):
    Image.fromarray(np.full((32, 48, 3), 90, dtype=np.uint8)).save(tmp_path / "a.png")
    mask = torch.full((1, 2, 3), 255, dtype=torch.uint8)
    if known:
        mask[0, 0] = 1
    item = {"case_id": "a", "mask": mask, "in_points": np.array([[0, 1]]), "out_points": np.array([[1, 2]])}
    drawn = []
    monkeypatch.setattr("cvm_monai.engines.previews.paper_figure", drawn.extend)
    preview_figure([Preview({"image": str(tmp_path / "a.png")}, item, None, np.full((2, 3), 0.25))])
    (row,) = drawn
    assert row.image.shape == (2, 3, 3)
    assert (row.image == 90).all()
    assert (row.truth is not None) is known
    assert row.pseudo_label is None
    assert row.points.tolist() == [[1.5, 0.5, 1], [2.5, 1.5, 0]]


def test_null_on_the_command_line_is_no_value(tmp_path):
    config = {
        "mpp": 0.5,
        "encoder_weights": "some",
        "network": "unet",
        "output_dir": "x",
        "knobs": {"mpp": "@mpp", "encoder_weights": "@encoder_weights", "network": "@network", "folder": "@output_dir"},
        "initialize": [
            {"_target_": "cvm_monai.engines.follow_parser"},
            {"_target_": "cvm_monai.engines.read_nulls"},
            {"_target_": "builtins.dict", "knobs": "@knobs"},
        ],
        "run": [],
    }
    typed = {"mpp": "null", "encoder_weights": "null", "output_dir": "null"}
    workflow = workflow_of(tmp_path, config, **typed)
    workflow.initialize()
    knobs = workflow.parser.get_parsed_content("knobs")
    assert knobs == {"mpp": None, "encoder_weights": None, "network": "unet", "folder": "null"}
    assert workflow.parser.get_parsed_content("mpp") is None


@pytest.mark.parametrize(
    "name, third",
    [
        ("train", "@preflight"),
        ("multi_gpu_train", {"_target_": "cvm_monai.engines.read_nulls"}),
        ("inference", {"_target_": "scripts.inference_checks"}),
        ("inference_wsi", {"_target_": "scripts.slide_checks"}),
    ],
)
def test_nulls_are_read_before_anything_but_the_root_on_the_path(name, third):
    """The checks of each run begin with them; of several processes they are read before these meet."""
    steps = read_config(BUNDLE / "configs" / f"{name}.yaml")["initialize"]
    assert steps[1:3] == [{"_target_": "cvm_monai.engines.follow_parser"}, third]
