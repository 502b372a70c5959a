"""Whatever is wrong with a file: the command works, or it ends with one clear sentence.

Every fourth case runs always, all of them with the mark `ci`. Another seed: `CVM_FUZZ_SEED=1 pytest -m "" tests/fuzz`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cvm_monai.cli.main import main
from cvm_monai.data.datalist import read_datalist

from .cases import SURFACES, Job, job
from .watch import Hang, Outcome, hashes, run

LONGEST = 1500
"""Characters of a sentence, paths included; several slides that are refused share one."""

STARTED = "cvm-monai: error: "


def all_cases() -> Iterator[Any]:
    """Surface and number of each case."""
    for name, (_, count) in SURFACES.items():
        for number in range(count):
            marks = () if number % 4 == 0 else pytest.mark.ci
            yield pytest.param(name, number, id=f"{name}-{number}", marks=marks)


@pytest.mark.parametrize("name, number", all_cases())
def test_a_broken_input_works_or_ends_with_one_sentence_and_is_left_as_it_was(name, number, tmp_path, training):
    asked = job(name, number, tmp_path, training)
    before, trained = hashes(asked.inputs), hashes(training)
    outcome = run(main, asked.argv)  # anything that is raised here is a traceback to the user
    assert (hashes(asked.inputs), hashes(training)) == (before, trained)
    assert outcome.asides == ()
    assert outcome.code in (0, 1, 2)
    if outcome.code == 2:
        check_sentence(asked, outcome)
        assert not (tmp_path / "out" / "datalist.json").exists()
    else:
        check_work(asked, outcome, tmp_path / "out")


def check_sentence(asked: Job, outcome: Outcome) -> None:
    """One line, not too long, that names a file or an option."""
    (line,) = outcome.err.splitlines()
    assert line.startswith(STARTED)
    assert len(line) <= LONGEST
    names = [path.name for path in asked.inputs.rglob("*")]
    assert any(name in line for name in (*names, str(asked.inputs), "--", "the class map"))
    assert "Traceback" not in line


def check_work(asked: Job, outcome: Outcome, out: Path) -> None:
    """Nothing on stderr; what was prepared can be read; what was predicted but failed says so."""
    assert outcome.err == ""
    assert outcome.out.strip()
    if asked.argv[0] in ("prepare", "camelyon16"):
        assert outcome.code == 0
        assert read_datalist(out).cases
    if outcome.code == 1:
        assert {"predict": " failed", "doctor": "FAIL  data"}[asked.argv[0]] in outcome.out
        assert not any(kind in outcome.out for kind in ("TypeError", "KeyError", "AttributeError", "IndexError"))


def test_there_are_more_than_five_hundred_cases():
    assert sum(count for _, count in SURFACES.values()) >= 500


def test_the_watch_notices_a_hang_that_the_command_would_swallow(monkeypatch):
    def hangs(argv):
        while True:
            try:
                while True:
                    pass
            except Exception:  # what a command does
                continue

    monkeypatch.setattr("signal.alarm", lambda seconds: __import__("signal").setitimer(0, 0.05 * bool(seconds)))
    with pytest.raises(Hang, match="still runs after 30 seconds"):
        run(hangs, ())


def test_the_watch_notices_memory_and_changed_files(tmp_path):
    with pytest.raises(MemoryError):
        run(lambda argv: len(bytearray(2**32)), ())
    (tmp_path / "a").write_text("one")
    before = hashes(tmp_path)
    (tmp_path / "a").write_text("two")
    assert hashes(tmp_path) != before
