"""`cvm-monai doctor` as it is typed: what is printed, how it ends, knobs that are refused."""

from pathlib import Path

import pytest

from cvm_monai.cli import doctor
from cvm_monai.cli.main import main
from cvm_monai.doctor.estimate import Counts, Stage
from cvm_monai.doctor.finding import Finding
from cvm_monai.doctor.rehearsal import Rehearsal

STAGES = (Stage("training step", 0.25, "batch of 2", 900.0),)
FOUND = Rehearsal(STAGES, Counts(18, 3, 2, 40, renews=True), 100.0, 220.0, 2048.0, None, "cpu")


@pytest.mark.parametrize("status, code", [("PASS", 0), ("WARN", 0), ("FAIL", 1)])
def test_exit_code_follows_failures_only(monkeypatch, capsys, status, code):
    findings = [Finding("first", "PASS", "fine"), Finding("second", status, "so so", "mend it")]
    monkeypatch.setattr(doctor, "examine", lambda *_: iter(findings))
    assert main(["doctor"]) == code
    assert capsys.readouterr().out == f"PASS  first: fine\n{status}  second: so so\n      fix: mend it\n"


def test_a_dry_run_says_what_the_training_will_take(monkeypatch, capsys, tmp_path):
    asked = []
    monkeypatch.setattr(doctor, "examine", lambda *_: iter([]))
    monkeypatch.setattr(doctor, "rehearsal", lambda *words: asked.append(words) or FOUND)
    assert main(["doctor", str(tmp_path), "--dry_run", "--crop_size", "256", "--network=unet"]) == 0
    assert asked[0][0] == tmp_path
    assert asked[0][2] == {"crop_size": 256, "network": "unet"}
    assert capsys.readouterr().out.splitlines() == [
        "",
        "Dry run on cpu",
        "stage           seconds  for             memory",
        "training step     0.250  batch of 2     900 MiB",
        "",
        "The whole training, 40 epochs on 18 images, validated on 3: at most 3 min 40 s, at least 1 min 40 s",
        "  Pseudo-labels are renewed at each new low of the validation loss: 40 times where it falls to the end "
        "(count on 3 min 40 s), 1 where it soon stops falling (1 min 40 s)",
        "PASS  memory: the whole training takes 2.0 GiB",
    ]


def test_a_training_that_does_not_fit_the_memory_is_warned_about(monkeypatch, capsys):
    monkeypatch.setattr("cvm_monai.doctor.machine.available_memory", lambda: 2**30)
    finding = doctor.report(FOUND)
    assert (finding.status, finding.detail) == ("WARN", "the whole training takes 2.0 GiB")
    assert finding.remedy.endswith("1.0 GiB are free")


def test_no_dry_run_where_something_fails(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "examine", lambda *_: iter([Finding("torch", "FAIL", "missing", "pip install torch")]))
    monkeypatch.setattr(doctor, "rehearsal", lambda *_: pytest.fail("it ran"))
    assert main(["doctor", "--dry_run"]) == 1
    assert capsys.readouterr().out.endswith("no dry run until that is fixed\n")


@pytest.mark.parametrize(
    "words, sentence",
    [
        (["--crop_sze", "3"], "--crop_sze is neither an option of the doctor nor a knob of the training: did you mean"),
        (
            ["--dryrun"],
            "--dryrun is neither an option of the doctor nor a knob of the training: did you mean --dry_run?",
        ),
        (["--crop_size"], "--crop_size has no value: give --crop_size VALUE"),
        (["--dataset_dir", "x"], "the doctor sets --dataset_dir itself: give the data set as DIR"),
        (["--config_file", "none.json"], "--config_file none.json does not exist: give a configuration such as"),
        (
            ["--config_file", "bundle/configs/train.json"],
            "--config_file bundle/configs/train.json does not exist: give bundle/configs/train.yaml, its name now",
        ),
    ],
)
def test_wrong_words_are_one_sentence_and_2(capsys, monkeypatch, words, sentence):
    monkeypatch.chdir(Path(__file__).parents[2])
    assert main(["doctor", *words]) == 2
    said = capsys.readouterr()
    assert said.err.startswith(f"cvm-monai: error: {sentence}")
    assert said.out == ""


def test_a_dry_run_needs_a_data_set(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(doctor, "examine", lambda *_: iter([]))
    assert main(["doctor", str(tmp_path), "--dry_run"]) == 2
    assert capsys.readouterr().err.startswith("cvm-monai: error: a dry run needs a data set, and there is none in")
