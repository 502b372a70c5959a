"""A bundle run that a full disk ends, goes on by `--resume auto`, and then is finished."""

import json
import os
import re
import resource

import mlflow
import monai
import pytest
import torch

from cvm_monai.engines import PointTrainer
from cvm_monai.engines.processes import sole_writer
from cvm_monai.files import lock_folder

from .conftest import SMALL, TRAIN
from .test_kill import assert_logged_once


def run(phantom, output, **settings):
    monai.bundle.run(
        "training",
        config_file=TRAIN,
        dataset_dir=phantom,
        output_dir=str(output),
        **SMALL | {"tracking_uri": "none", "resume": "auto", "checkpoint_seconds": 0} | settings,
    )


def weights(output) -> dict:
    return torch.load(output / "models" / "model.pt", weights_only=True)


def same(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_full_disk_is_one_sentence_and_the_training_goes_on_to_the_weights_of_one_that_never_stopped(
    trained, tmp_path, capsys, monkeypatch
):
    begin, (soft, hard) = PointTrainer._begin_epoch, resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(self, engine):
        if engine.state.epoch == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
        begin(self, engine)

    try:
        with monkeypatch.context() as patch:
            patch.setattr(PointTrainer, "_begin_epoch", fill)
            with pytest.raises(SystemExit, match=r"^2$"):
                run(trained.dataset, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith(f"error: {tmp_path}/")
    assert last.endswith(
        "cannot be written (File too large): make room and run again, a training with --resume auto; what was whole "
        "before is kept"
    )
    states = json.loads((tmp_path / "checkpoints" / "checkpoints.json").read_text())["checkpoints"]
    assert [state["epoch"] for state in states] == [1]
    assert weights(tmp_path)

    with pytest.raises(SystemExit, match=r"^2$"):
        run(trained.dataset, tmp_path, lam=0.7)
    assert "are of another training: lam was 0.2 and is 0.7; give the former value" in capsys.readouterr().err
    with pytest.raises(SystemExit, match=r"^2$"):
        run(trained.dataset, tmp_path, **{"optimizer#eps": 1e-6})
    assert "are of another training: optimizer#eps was nothing and is 1e-06;" in capsys.readouterr().err

    run(trained.dataset, tmp_path, num_workers=2)
    assert same(weights(tmp_path), weights(trained.output))
    record = json.loads((tmp_path / "run.json").read_text())
    assert (record["status"], record["resumed"], record["resumed_after_epochs"]) == ("FINISHED", 1, [1])

    before = (tmp_path / "run.json").read_bytes()
    capsys.readouterr()
    run(trained.dataset, tmp_path)
    sentence = f"the training in {tmp_path} is finished: nothing is left to do; --resume never trains from the start"
    assert sentence in capsys.readouterr().out.splitlines()
    assert (tmp_path / "run.json").read_bytes() == before


def test_a_finished_training_goes_on_for_more_epochs_and_its_mlflow_run_says_so(trained, tmp_path, capsys):
    uri = f"sqlite:///{tmp_path}/mlruns.db"
    run(trained.dataset, tmp_path, max_epochs=1, tracking_uri=uri)
    run(trained.dataset, tmp_path, tracking_uri=uri)
    assert same(weights(tmp_path), weights(trained.output))
    assert_logged_once(tmp_path, epochs=2)
    record = json.loads((tmp_path / "run.json").read_text())
    assert (record["knobs"]["max_epochs"], record["resumed_after_epochs"]) == (2, [1])
    data = mlflow.MlflowClient(tracking_uri=uri).get_run(record["mlflow_run_id"]).data
    assert (data.params["max_epochs"], data.tags["max_epochs"]) == ("1", "2")  # MLflow changes no parameter
    run(trained.dataset, tmp_path, tracking_uri=uri)
    assert "is finished: nothing is left to do" in capsys.readouterr().out


def test_a_second_training_in_the_folder_is_refused_and_nothing_is_changed(trained, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sole_writer.__wrapped__.__kwdefaults__, "wait", 0)
    run(trained.dataset, tmp_path, max_epochs=1)
    with lock_folder(tmp_path):
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        for rule in ("auto", "never"):
            with pytest.raises(SystemExit, match=r"^2$"):
                run(trained.dataset, tmp_path, resume=rule)
            last = capsys.readouterr().err.strip().splitlines()[-1]
            assert re.fullmatch(
                f"error: another training writes into {tmp_path} \\(process {os.getpid()} on .*\\): wait for its end, "
                "or choose another --output_dir",
                last,
            )
        assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    run(trained.dataset, tmp_path)
    assert same(weights(tmp_path), weights(trained.output))


@pytest.mark.ci
def test_four_loader_processes_give_the_weights_of_none(trained, tmp_path):
    run(trained.dataset, tmp_path, num_workers=4, resume="never")
    assert same(weights(tmp_path), weights(trained.output))


def test_an_unknown_rule_is_named(trained, tmp_path, capsys):
    with pytest.raises(SystemExit, match=r"^2$"):
        run(trained.dataset, tmp_path, resume="yes")
    assert "--resume must be one of never, auto, got 'yes'" in capsys.readouterr().err
