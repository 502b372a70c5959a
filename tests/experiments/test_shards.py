"""A comparison as an array job: each run is in one shard, a shard may be started twice, one report at the end."""

import pytest

from cvm_monai.cli.main import main
from cvm_monai.experiments.compare import ComparisonRequest, compare
from cvm_monai.experiments.shards import lock_shard
from cvm_monai.shards import in_shard

from .conftest import FakeExecutor

QUIET = ("--tracking_uri", "none")


@pytest.fixture
def ask(phantom, tmp_path):
    """Compare three methods on two folds of the phantom; returns the names of the runs that were executed."""

    def call(shard=None, *, execute=None, **changes):
        executor = execute or FakeExecutor()
        options = {"folder": phantom, "output": tmp_path / "out", "methods": "partial_ce,cvm,full", "folds": 2}
        request = ComparisonRequest(**options | {"knobs": QUIET, "shard": shard} | changes)
        call.said = []
        call.result = compare(request, execute=executor, say=call.said.append)
        return executor.done

    return call


def test_the_shards_do_every_run_once_and_the_report_comes_at_the_end(ask, tmp_path):
    first, second = ask("1/2"), ask("2/2")
    assert (len(first), len(second)) == (3, 3)
    assert not set(first) & set(second)
    assert ask.result.files == ()
    assert not (tmp_path / "out" / "table1.md").exists()
    assert ask(report=True) == []
    assert (tmp_path / "out" / "table1.md").is_file()
    assert ask.result.failed == 0


def test_a_shard_may_be_started_again_and_does_what_failed(ask):
    done = ask("1/2", execute=FakeExecutor(fails=lambda run: run.arm == "cvm"))
    assert ask.result.failed == sum(name.startswith("cvm") for name in done) > 0
    again = ask("1/2")
    assert again == [name for name in done if name.startswith("cvm")]
    assert ask("1/2") == []
    assert "shard 1/2: 3 runs, of which 3 finished before" in ask.said


def test_a_shard_without_runs_ends_well(ask):
    assert ask("9/9") == []


def test_a_report_with_shards_missing_names_them(ask):
    ask("2/4")
    with pytest.raises(ValueError, match=r"4 of 6 runs in .* are not finished, of the shards 1/4, 3/4, 4/4: run these"):
        ask(report=True)


@pytest.mark.parametrize(
    "shard, changes, message",
    [
        ("1/3", {}, r"was divided into 2 shards, not 3: give all of them one N"),
        ("2/2", {"seeds": 2}, r"the shards in .* have other runs \(.*seed 1\): give all of them the same methods"),
        ("2/2", {"knobs": (*QUIET, "--lam", "0.3")}, r"have other settings: lam was 0\.2 and is 0\.3"),
        ("3/2", {}, r"--shard must be K/N with K from 1 to N, such as 3/16, got '3/2'"),
        ("0/2", {}, r"--shard must be K/N with K from 1 to N, such as 3/16, got '0/2'"),
        ("1/2", {"report": True}, r"--shard trains a part of the runs and --report writes about all of them"),
    ],
)
def test_a_shard_that_does_not_fit_the_others_is_refused(ask, shard, changes, message):
    ask("1/2")
    with pytest.raises(ValueError, match=message):
        ask(shard, **changes)


@pytest.mark.parametrize(
    "words, message",
    [
        (["--shard", "3/2"], "--shard must be K/N with K from 1 to N, such as 3/16, got '3/2'"),
        (["--shard", "2/2", "--lam", "0.3"], "have other settings: lam was 0.2 and is 0.3; give all of them the same"),
        (["--report"], "3 of 6 runs in "),
    ],
)
def test_as_typed_it_is_one_sentence_and_2(ask, phantom, tmp_path, capsys, words, message):
    ask("1/2")
    options = ["--output", str(tmp_path / "out"), "--methods", "partial_ce,cvm,full", "--folds", "2", *QUIET]
    capsys.readouterr()
    assert main(["compare", str(phantom), *options, *words]) == 2
    said = capsys.readouterr().err
    assert said.startswith("cvm-monai: error: ")
    assert message in said
    assert said.count("\n") == 1


def test_a_shard_that_is_worked_on_is_not_started_twice_and_not_reported_on(ask, tmp_path):
    with lock_shard(tmp_path / "out", "1/2"):
        with pytest.raises(ValueError, match=r"shard 1/2 is worked on by process \d+ on .*: wait for it, or end it"):
            ask("1/2")
        with pytest.raises(ValueError, match=r"shard 1/2 in .* is worked on by process \d+ on .*: wait for it"):
            ask(report=True)
        assert len(ask("2/2")) == 3


def test_every_item_is_in_one_shard():
    shards = [in_shard(range(7), f"{number}/3") for number in (1, 2, 3)]
    assert shards == [(0, 3, 6), (1, 4), (2, 5)]
    assert in_shard(range(2), None) == (0, 1)
