"""The bundle's commands on a tiny phantom, in process: what a training, an evaluation and an inference leave behind."""

import csv
import getpass
import json
import os
from collections import Counter

import mlflow
import monai
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow
from PIL import Image

from cvm_monai.networks import build_network

from .conftest import BUNDLE, EVALUATE, INFERENCE, SMALL, TRAIN


def client_of(output):
    return mlflow.MlflowClient(tracking_uri=f"sqlite:///{output}/mlruns.db")


def only_run(output):
    client = client_of(output)
    runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    assert len(runs) == 1
    return client, runs[0]


def test_the_model_is_a_plain_state_dict_of_the_network(trained):
    state = torch.load(trained.output / "models" / "model.pt", weights_only=True)
    build_network("unet", channels=SMALL["network_channels"]).load_state_dict(state)


def test_the_record_says_what_was_run(trained):
    record = json.loads((trained.output / "run.json").read_text())
    assert record["status"] == "FINISHED"
    assert record["knobs"]["network_channels"] == SMALL["network_channels"]
    assert record["knobs"]["dataset_dir"] == trained.dataset
    assert torch.__version__.startswith(record["versions"]["torch"])  # whose metadata leave "+cu130" out
    assert len(record["data_sha256"]) == 64
    assert (trained.output / "config.json").is_file()
    assert (trained.output / "figures" / "training.png").stat().st_size > 10_000


def test_the_copied_data_list_still_finds_its_files(trained):
    from cvm_monai.data.datalist import read_datalist

    assert len(read_datalist(trained.output).cases) == 8


def test_mlflow_holds_one_finished_run_with_parameters_metrics_and_artifacts(trained):
    client, run = only_run(trained.output)
    assert run.info.status == "FINISHED"
    assert run.data.params["supervision"] == "cvm"
    for name in ("train_partial_ce", "train_weighted_kl", "val_partial_ce", "pseudo_label_dice", "renewal_seconds"):
        assert name in run.data.metrics
    artifacts = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
    assert {"config.json", "model", "pseudo_labels", "training.png"} <= artifacts
    assert run.data.tags["mlflow.source.name"] == "cvm_monai"
    assert run.data.tags["mlflow.note.content"].startswith("cvm, unet, fold 0 of phantom; seed ")
    assert run.data.tags["mlflow.user"] == getpass.getuser()
    (found,) = run.inputs.dataset_inputs
    record = json.loads((trained.output / "run.json").read_text())
    assert (found.dataset.name, found.dataset.digest) == ("phantom", record["data_sha256"][:12])


def test_each_metric_has_one_value_for_each_step(trained):
    client, run = only_run(trained.output)
    assert {"train_total", "val_partial_ce", "pseudo_label_images", "epoch_seconds"} <= set(run.data.metrics)
    for name in run.data.metrics:
        steps = [entry.step for entry in client.get_metric_history(run.info.run_id, name)]
        assert len(steps) == len(set(steps)), name


def test_every_training_image_with_both_classes_has_a_pseudo_label_or_is_counted(trained):
    _, run = only_run(trained.output)
    pointer = json.loads((trained.output / "pseudo_labels" / "current.json").read_text())
    assert len(pointer["files"]) == run.data.metrics["pseudo_label_images"]
    total = run.data.metrics["pseudo_label_images"] + run.data.metrics["pseudo_label_skipped"]
    split = monai.bundle.ConfigParser()
    split["data"] = {
        "_target_": "cvm_monai.data.fold_parts.case_records",
        "dataset_dir": trained.dataset,
        "part": "train",
        "fold": 0,
        "seed": 0,
    }
    assert total == len(split.get_parsed_content("data"))


def test_evaluating_scores_the_test_fold_and_logs_into_the_training_s_run(trained):
    monai.bundle.run("evaluating", config_file=EVALUATE, output_dir=str(trained.output), device="cpu")
    folder = trained.output / "evaluation"
    with (folder / "per_case.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    datalist = json.loads((trained.output / "datalist.json").read_text())
    assert {row["case_id"] for row in rows} == {case["case_id"] for case in datalist["cases"] if case["fold"] == 0}
    assert "| Dice |" in (folder / "summary.md").read_text()
    assert (folder / "cases.png").is_file()
    _, run = only_run(trained.output)
    dice = [float(row["dice"]) for row in rows if row["dice"]]
    assert run.data.metrics["test_dice"] == pytest.approx(np.mean(dice), abs=1e-5)
    brier = [float(row["brier"]) for row in rows]
    assert run.data.metrics["test_brier"] == pytest.approx(np.mean(brier), abs=1e-5)
    assert run.data.metrics["test_brier_images"] == len(rows)
    record = json.loads((folder / "run.json").read_text())
    assert (record["kind"], record["seed"]) == ("evaluating", 0)
    assert record["configuration"]["dataset_dir"] == trained.dataset
    assert set(record["sha256"]) == {"datalist.json", "model.pt"}
    assert "## The claims in words" in (folder / "summary.md").read_text()


def test_inference_writes_a_mask_of_each_image_s_size(trained):
    monai.bundle.run(
        "inference", config_file=INFERENCE, dataset_dir=trained.dataset, output_dir=str(trained.output), device="cpu"
    )
    masks = sorted((trained.output / "prediction").glob("*_mask.png"))
    assert len(masks) == 8
    assert Image.open(masks[0]).size == (64, 64)


@pytest.mark.parametrize("where", ["repository", "bundle", "elsewhere"])
def test_the_working_directory_does_not_matter_and_is_not_written(phantom, tmp_path, monkeypatch, where):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    folder = {"repository": BUNDLE.parent, "bundle": BUNDLE, "elsewhere": elsewhere}[where]
    monkeypatch.chdir(folder)
    before = sorted(os.listdir(folder))
    output = tmp_path / "run"
    settings = SMALL | {"max_epochs": 1, "tracking_uri": "none", "supervision": "partial_ce"}
    config = os.path.relpath(TRAIN, folder)
    monai.bundle.run("training", config_file=config, dataset_dir=phantom, output_dir=str(output), **settings)
    assert (output / "models" / "model.pt").is_file()
    assert sorted(os.listdir(folder)) == before


@pytest.mark.parametrize("supervision", ["partial_ce", "full"])
@pytest.mark.parametrize("run_id", ["run", ""])
def test_any_run_id_trains_once(phantom, tmp_path, caplog, run_id, supervision):
    settings = SMALL | {"max_epochs": 1, "tracking_uri": "none", "supervision": supervision}
    with caplog.at_level("INFO"):
        monai.bundle.run(
            run_id,
            config_file=TRAIN,
            dataset_dir=phantom,
            output_dir=str(tmp_path),
            logging_file=False,
            **settings,
        )
    epochs = Counter(message.split(":")[0] for message in caplog.messages if message.startswith("epoch "))
    assert epochs == {"epoch 1/1": 1}


def test_monai_s_own_tracking_writes_into_the_same_run_once_for_each_step(phantom, tmp_path):
    monai.bundle.run(
        "training", config_file=TRAIN, dataset_dir=phantom, output_dir=str(tmp_path), tracking="mlflow", **SMALL
    )
    client, run = only_run(tmp_path)
    assert run.info.status == "FINISHED"
    assert {"train_loss", "val_partial_ce", "train_partial_ce", "pseudo_label_images"} <= set(run.data.metrics)
    for name in run.data.metrics:
        steps = [entry.step for entry in client.get_metric_history(run.info.run_id, name)]
        assert len(steps) == len(set(steps)), name


@pytest.mark.parametrize("config_file, workflow_type", [(TRAIN, "train"), (EVALUATE, "train"), (INFERENCE, "infer")])
def test_every_property_that_monai_names_is_there(trained, config_file, workflow_type):
    workflow = ConfigWorkflow(
        config_file=config_file,
        workflow_type=workflow_type,
        logging_file=False,
        dataset_dir=trained.dataset,
        output_dir=str(trained.output),
    )
    workflow.initialize()
    assert workflow.check_properties() == []


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"dataset_dir": "nowhere/data/phantom"}, "make the example data set by `cvm-monai phantom data/phantom`"),
        ({"fold": 9}, "fold 9 does not exist in"),
        (
            {"network": "vgg"},
            "--network must be one of resnet34_unet, unet, two_component, timm_unet, frozen_probe, centred_probe, "
            "frozen_two_component, got 'vgg'",
        ),
        ({"supervision": "magic"}, "--supervision must be one of partial_ce, cvm, full, .*got 'magic'"),
        ({"eta": 2}, r"--eta must be a number in \[0, 1\], got 2"),
        ({"lam": 0}, "--lam must be a number greater than 0, got 0"),
        ({"crop_size": 0}, "--crop_size 0 trains on whole images, which need --batch_size 1"),
        ({"crop_size": 50}, "crop_size must be 0 or a multiple of 1 from 64 px, got 50"),
        ({"tracking_uri": "file:///tmp/x"}, "tracking_uri 'file:///tmp/x' is a folder"),
        ({"tracking_uri": "http://127.0.0.1:9"}, "no MLflow server answers at http://127.0.0.1:9"),
        ({"optimizer#lr": 1e30}, "the loss is not finite in epoch 1, step 2"),
        ({"encoder_weights": "none.pt"}, "has no ResNet34 encoder"),
        (
            {"supervision": "frozen_cvm"},
            "a frozen extractor is needed: give its file, timm:NAME or imagenet, by --extractor_path",
        ),
        ({"network": "frozen_probe", "extractor_path": "none.pt"}, r"there is no frozen extractor at .*/none\.pt"),
        ({"scale": 1000.0}, r"needs at least .* of memory and .* are free: .* 64000 x 64000 px .*; lower --scale"),
        ({"output_dir": "/proc/nowhere"}, "the output folder /proc/nowhere cannot be written"),
    ],
)
def test_bad_input_ends_in_one_sentence_and_code_2(phantom, tmp_path, capsys, change, sentence):
    import re

    settings = SMALL | {"dataset_dir": phantom, "output_dir": str(tmp_path / "run"), "tracking_uri": "none"} | change
    with pytest.raises(SystemExit, match="2"):
        monai.bundle.run("training", config_file=TRAIN, **settings)
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert re.search(sentence, last)


def test_a_loss_that_is_not_finite_keeps_the_last_good_checkpoint(phantom, tmp_path, capsys):
    settings = SMALL | {"dataset_dir": phantom, "output_dir": str(tmp_path), "tracking_uri": "none"}
    monai.bundle.run("training", config_file=TRAIN, **(settings | {"max_epochs": 1}))
    good = (tmp_path / "models" / "model.pt").read_bytes()
    with pytest.raises(SystemExit, match="2"):
        monai.bundle.run("training", config_file=TRAIN, **(settings | {"optimizer#lr": 1e30}))
    assert "cases case_" in capsys.readouterr().err
    assert (tmp_path / "models" / "model.pt").read_bytes() == good
    assert json.loads((tmp_path / "run.json").read_text())["status"] == "FAILED"


def test_a_truncated_image_is_named(phantom, tmp_path, capsys):
    import shutil

    folder = tmp_path / "data"
    shutil.copytree(phantom, folder)
    image = next(iter(sorted((folder / "images").iterdir())))
    for file in (folder / "images").iterdir():
        file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(SystemExit, match="2"):
        monai.bundle.run(
            "training",
            config_file=TRAIN,
            dataset_dir=str(folder),
            output_dir=str(tmp_path / "run"),
            tracking_uri="none",
            **SMALL,
        )
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert str(image.parent) in last
    assert "cannot be read as an image" in last


def test_images_of_different_sizes_train_and_validate_together(tmp_path):
    from cvm_monai.cli.main import main

    rng = np.random.default_rng(0)
    folder = tmp_path / "mine"
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for index in range(8):
        height, width = 70 + 9 * index, 110 - 7 * index
        mask = np.zeros((height, width), dtype=np.uint8)
        mask[:, : width // 2] = 1
        image = rng.integers(0, 100, (height, width, 3)) + 120 * mask[..., None]
        Image.fromarray(image.astype(np.uint8)).save(folder / "images" / f"{index}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{index}.png")
    assert main(["prepare", str(folder), "--output", str(tmp_path / "data")]) == 0
    settings = SMALL | {"max_epochs": 1, "tracking_uri": "none", "seed": 1}
    output = str(tmp_path / "run")
    monai.bundle.run("training", config_file=TRAIN, dataset_dir=str(tmp_path / "data"), output_dir=output, **settings)
    monai.bundle.run("evaluating", config_file=EVALUATE, output_dir=output, device="cpu")
    assert (tmp_path / "run" / "evaluation" / "per_case.csv").is_file()


def test_the_two_component_network_trains_at_a_sixteenth_and_is_scored_at_the_image_s_own_size(phantom, tmp_path):
    settings = SMALL | {
        "network": "two_component",
        "max_epochs": 1,
        "tracking_uri": "none",
        "point_size": 1,
    }
    monai.bundle.run("training", config_file=TRAIN, dataset_dir=phantom, output_dir=str(tmp_path), **settings)
    monai.bundle.run("evaluating", config_file=EVALUATE, output_dir=str(tmp_path), device="cpu")
    with (tmp_path / "evaluation" / "per_case.csv").open() as stream:
        assert {row["n_pixels"] for row in csv.DictReader(stream)} == {"4096"}


def test_an_evaluation_without_a_training_says_so_and_makes_nothing(tmp_path, capsys):
    output = tmp_path / "nothing"
    with pytest.raises(SystemExit, match="2"):
        monai.bundle.run("evaluating", config_file=EVALUATE, output_dir=str(output), device="cpu")
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith(f"error: there is no trained network in {output} (model.pt is missing: nothing was trained")
    assert "phantom" not in last
    assert not output.exists()


def test_a_training_that_diverges_says_so_and_ends(phantom, tmp_path, capsys):
    settings = SMALL | {"supervision": "partial_ce", "learning_rate": 1000.0, "output_dir": str(tmp_path)}
    monai.bundle.run("training", config_file=TRAIN, dataset_dir=phantom, **settings)
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("warning: the training has diverged: ")
    assert last.endswith("lower --learning_rate, which is 1000, and train again")
    record = json.loads((tmp_path / "run.json").read_text())
    assert (record["status"], f"warning: {record['diverged']}"[:36]) == ("FINISHED", last[:36])
    _, run = only_run(tmp_path)
    assert run.data.tags["diverged"] == record["diverged"]


@pytest.mark.parametrize("encoder_norm", ["batch", "frozen"])
def test_a_training_recorded_before_networks_could_choose_their_normalisation_is_evaluated(
    trained, tmp_path, encoder_norm
):
    """Its record has `encoder_norm` and no `normalisation`; nothing says what weights its encoder began with."""
    record = json.loads((trained.output / "run.json").read_text())
    for name in ("normalisation", "centre", "evidence", "discriminant"):
        del record["knobs"][name]
    record["knobs"]["encoder_norm"] = encoder_norm
    record["mlflow_tracking_uri"] = "none"
    (tmp_path / "models").mkdir()
    (tmp_path / "run.json").write_text(json.dumps(record))
    network = build_network("unet", channels=SMALL["network_channels"], normalisation="batch")
    torch.save(network.state_dict(), tmp_path / "models" / "model.pt")
    monai.bundle.run("evaluating", config_file=EVALUATE, output_dir=str(tmp_path), device="cpu", tracking_uri="none")
    assert (tmp_path / "evaluation" / "per_case.csv").is_file()
