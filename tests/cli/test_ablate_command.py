"""`cvm-monai ablate` as it is typed: options, further knobs, exit codes."""

from pathlib import Path

import pytest

from cvm_monai.cli.main import main
from cvm_monai.experiments import ablation as module
from cvm_monai.experiments.compare import Result


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """The requests that reach the library; one run failed where a path `failed` is there."""
    requests = []

    def fake(request, *, execute, say):
        requests.append(request)
        (tmp_path / "ablation.md").write_text("# Pairs")
        (tmp_path / "datalist.json").write_bytes(b"abc")
        return Result((tmp_path / "report.html",), int((tmp_path / "failed").exists()), tmp_path / "datalist.json")

    monkeypatch.setattr(module, "ablate", fake)
    return requests


def test_options_and_further_knobs_are_told_apart(asked, tmp_path, capsys):
    words = ["ablate", "DIR", "--what", "pairs", "--output", str(tmp_path), "--values", "1,2", "--folds", "2"]
    assert main([*words, "--seeds", "2", "--only", "0", "--jobs", "1", "--max_epochs", "3", "--lam=1"]) == 0
    (request,) = asked
    assert (request.folder, request.output, request.what) == (Path("DIR"), tmp_path, "pairs")
    assert (request.values, request.folds, request.seeds, request.only, request.jobs) == ("1,2", 2, 2, "0", 1)
    assert request.knobs == ("--max_epochs", "3", "--lam=1")
    assert capsys.readouterr().out == f"# Pairs\nwrote {tmp_path}/report.html\n"


def test_a_failed_run_ends_with_1(asked, tmp_path, capsys):
    (tmp_path / "failed").touch()
    assert main(["ablate", "DIR", "--what", "eta", "--output", str(tmp_path)]) == 1
    assert "1 run failed: the report says why" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, sentence",
    [
        (["--what", "lam"], "--what must be one of pairs, eta, solver, got 'lam'"),
        (["--what", "pairs", "--pairs", "3"],
         "the comparison sets --pairs itself: the ablation varies it, see --values"),
    ],
)  # fmt: skip
def test_errors_end_with_one_sentence_and_2(tmp_path, capsys, words, sentence):
    assert main(["ablate", "DIR", "--output", str(tmp_path), *words]) == 2
    assert capsys.readouterr().err == f"cvm-monai: error: {sentence}\n"


def test_what_is_varied_must_be_said(tmp_path, capsys):
    assert main(["ablate", "DIR", "--output", str(tmp_path)]) == 2
    assert "the following arguments are required: --what" in capsys.readouterr().err
