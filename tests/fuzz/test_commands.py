"""Whatever is wrong with a file: the command works, or it ends with one clear sentence.

Every fourth or eighth case runs always, all of them with the mark `ci`. Another seed:
`CVM_FUZZ_SEED=1 pytest -m "" tests/fuzz`.
"""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cvm_monai.cli.main import INTERRUPTED, main
from cvm_monai.data.datalist import read_datalist
from cvm_monai.files import shown

from . import watch
from .cases import SLOW, SLOWEST, SURFACES, job, predict
from .expected import CODES, check_code
from .job import Job
from .outputs import HARM, harmful
from .watch import Hang, Outcome, hashes, run

LONGEST = 1500
"""Characters of a sentence, paths included; several slides that are refused share one."""

STARTED = ("cvm-monai: error: ", "error: ")
WARNED = "cvm-monai: warning: "
"""What lines begin with that say what was passed over before the error."""
"""Of a command, and of the bundle's own scripts where a command runs them."""

REFUSED = "MLflow rejected an entry, which is dropped: "
"""A warning that belongs there: the entry is sound, but its run, say, is not in the database."""

ODD = ("TypeError", "KeyError", "AttributeError", "IndexError")
"""What no sentence may be made of."""


def all_cases() -> Iterator[Any]:
    """Surface and number of each case."""
    for name, (_, count) in SURFACES.items():
        for number in range(count):
            always = number % (8 if name in SLOW else 4) == 0 and name not in SLOWEST
            yield pytest.param(name, number, id=f"{name}-{number}", marks=() if always else pytest.mark.ci)


@pytest.mark.parametrize("name, number", all_cases())
def test_a_broken_input_works_or_ends_with_one_sentence_and_is_left_as_it_was(name, number, tmp_path, training):
    asked = job(name, number, tmp_path, training)
    before, trained = untouched(asked), hashes(training)
    outcome = run(main, asked.argv)  # anything that is raised here is a traceback to the user
    assert not [*tmp_path.rglob(HARM)]
    assert (untouched(asked), hashes(training)) == (before, trained)
    assert [aside for aside in outcome.asides if not aside.startswith(REFUSED)] == []
    check_code(name, number, outcome)
    if outcome.code == INTERRUPTED:
        assert asked.argv[0] in ("compare", "ablate")  # where a training would have begun
    elif outcome.code == 2:
        check_sentence(asked, outcome)
        assert not (tmp_path / "out" / "datalist.json").exists()
    else:
        check_work(asked, outcome, tmp_path / "out")


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("command", ["predict", "export", "export-bundle"])
def test_a_model_that_would_run_code_runs_none(command, number, tmp_path, training):
    folder = tmp_path / "input" / "run"
    shutil.copytree(training, folder)
    harmful(np.random.default_rng(number), folder / "models" / "model.pt")
    argv = {
        "predict": predict(tmp_path, folder).argv,
        "export": ("export", str(folder), str(tmp_path / "a.onnx")),
        "export-bundle": ("export-bundle", str(tmp_path / "b.zip"), "--model", str(folder)),
    }[command]
    outcome = run(main, argv)
    assert outcome.code == 2
    assert "model.pt cannot be read as weights: it is damaged, or holds more than tensors" in outcome.err
    assert not [*tmp_path.rglob(HARM)]
    with contextlib.suppress(RuntimeError):  # a bare pickle, which torch runs and then finds to be no model
        torch.load(folder / "models" / "model.pt", weights_only=False)
    assert [*tmp_path.rglob(HARM)]  # it was not harmless


def untouched(asked: Job) -> dict[str, str]:
    """What the command has no business to change, with its hashes."""
    return {name: value for name, value in hashes(asked.inputs).items() if not name.startswith(asked.changed or "\0")}


def check_sentence(asked: Job, outcome: Outcome) -> None:
    """One line, not too long, that names a file or an option."""
    *usage, line = [text for text in outcome.err.splitlines() if not text.startswith(WARNED)]
    if usage:  # argparse shows it, and quotes all of a word
        assert usage[0].startswith(("usage: cvm-monai [-h]", f"usage: cvm-monai {asked.argv[0]} "))
        assert line.startswith((f"cvm-monai {asked.argv[0]}: error: ", "cvm-monai: error: unrecognized arguments: "))
        return
    assert line.startswith(STARTED)
    assert len(line) <= LONGEST + sum(map(len, asked.argv))  # what was typed may be said again
    names = [path.name for path in asked.inputs.rglob("*")] + [Path(word).name for word in asked.argv[1:]]
    names += [shown(str(Path(word))) for word in asked.argv[1:]]
    places = (str(asked.inputs.parent), "--", "the class map", "run.json")
    assert any(name in line for name in (*filter(None, names), *places)), line
    assert "Traceback" not in line


def check_work(asked: Job, outcome: Outcome, out: Path) -> None:
    """Nothing on stderr; what was prepared can be read; what was predicted but failed says so."""
    assert outcome.err == ""
    assert outcome.out.strip()
    if asked.argv[0] in ("prepare", "camelyon16"):
        assert outcome.code == 0
        assert read_datalist(out).cases
    if outcome.code == 1 and asked.argv[0] == "doctor":
        check_findings(outcome.out)
    elif outcome.code == 1:
        assert {"predict": " failed"}[asked.argv[0]] in outcome.out
        assert not any(kind in outcome.out for kind in ODD)


def check_findings(out: str) -> None:
    """Something is wrong with the data or with the configuration, whose file is named; what MONAI says is its own."""
    (failure,) = (line for line in out.splitlines() if line.startswith("FAIL"))
    assert failure.startswith(tuple(f"FAIL  {what}: " for what in ("data", "configuration", "MLflow store")))
    assert len(failure) <= LONGEST
    assert "configuration" in failure or not any(kind in failure for kind in ODD)


def test_there_are_more_than_five_hundred_cases_and_each_has_its_end():
    assert sum(count for _, count in SURFACES.values()) >= 500
    further = {"preflight": 80, "trainings": 100, "inferences": 30}
    assert {name: len(codes) for name, codes in CODES.items()} == further | {
        name: count for name, (_, count) in SURFACES.items()
    }


@pytest.mark.parametrize("name", [name for name in CODES if name not in ("stores", "label apps")])
def test_some_cases_of_a_surface_work_and_some_do_not(name):
    """All would be refused where what is around the broken input is wrong itself; these two are refused by design."""
    assert set(CODES[name]) & set("0t")
    assert set(CODES[name]) & set("12")


def test_the_watch_notices_a_hang_that_the_command_would_swallow(monkeypatch):
    def hangs(argv):
        while True:
            try:
                while True:
                    pass
            except Exception:  # what a command does
                continue

    monkeypatch.setattr(watch, "SECONDS", 0.05)
    with pytest.raises(Hang, match=r"still runs after 0\.05 seconds of the processor"):
        run(hangs, ())


def test_the_watch_notices_memory_and_changed_files(tmp_path):
    with pytest.raises(MemoryError):
        run(lambda argv: len(bytearray(2**32)), ())
    (tmp_path / "a").write_text("one")
    before = hashes(tmp_path)
    (tmp_path / "a").write_text("two")
    assert hashes(tmp_path) != before
