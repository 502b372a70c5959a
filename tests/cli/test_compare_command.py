"""`cvm-monai compare` as it is typed: options, further knobs, exit codes."""

from pathlib import Path

import pytest

from cvm_monai.cli.main import main
from cvm_monai.experiments import compare as module
from cvm_monai.experiments.compare import Result


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """The requests that reach the library; one run failed where `failed` is set."""
    requests = []

    def fake(request, *, execute, say):
        requests.append(request)
        (tmp_path / "table1.md").write_text("# Table 1")
        (tmp_path / "datalist.json").write_bytes(b"abc")
        return Result((tmp_path / "report.html",), fake.failed, tmp_path / "datalist.json")

    fake.failed = 0
    monkeypatch.setattr(module, "compare", fake)
    requests.append(fake)
    return requests


def test_options_and_further_knobs_are_told_apart(asked, tmp_path, capsys):
    words = ["compare", "DIR", "--output", str(tmp_path), "--max_epochs", "3", "--methods", "cvm,full", "--folds", "2"]
    assert main([*words, "--seeds", "2", "--pairs", "3", "--jobs", "1", "--train#x=1", "--network", "unet"]) == 0
    request = asked[1]
    assert (request.folder, request.output) == (Path("DIR"), tmp_path)
    assert (request.methods, request.folds, request.seeds, request.jobs) == ("cvm,full", 2, 2, 1)
    assert request.knobs == ("--pairs", "3", "--max_epochs", "3", "--train#x=1", "--network", "unet")
    assert capsys.readouterr().out == f"# Table 1\nwrote {tmp_path}/report.html\n"


def test_a_setting_is_a_file_whose_pairs_count_where_none_are_typed(asked, tmp_path):
    assert main(["compare", "DIR", "--output", str(tmp_path), "--setting", "paper.yaml"]) == 0
    assert (asked[1].setting, asked[1].knobs) == (Path("paper.yaml"), ())


def test_an_option_is_not_taken_for_another_that_it_begins(asked, tmp_path):
    assert main(["compare", "DIR", "--output", str(tmp_path), "--seed", "3"]) == 0
    assert asked[1].knobs == ("--seed", "3")  # the library refuses it
    assert asked[1].seeds == 1


def test_a_failed_run_ends_with_1(asked, tmp_path, capsys):
    asked[0].failed = 2
    assert main(["compare", "DIR", "--output", str(tmp_path)]) == 1
    assert "2 runs failed: the report says why" in capsys.readouterr().err


def test_errors_end_with_one_sentence_and_2(tmp_path, capsys):
    assert main(["compare", "DIR", "--output", str(tmp_path), "--max_epoch", "3"]) == 2
    assert capsys.readouterr().err == (
        "cvm-monai: error: --max_epoch is neither an option of the comparison nor a knob of the training: did you mean "
        "--max_epochs?\n"
    )


def test_other_commands_still_refuse_what_they_do_not_know(capsys):
    assert main(["phantom", "OUT", "--max_epochs", "3"]) == 2
    assert "unrecognized arguments: --max_epochs 3" in capsys.readouterr().err
