"""Many runs: one failure does not stop the others, an interruption loses what is in hand; processes and their cost."""

import json
import sys
import threading
from pathlib import Path

import pytest

from cvm_monai.experiments import execute as module
from cvm_monai.experiments.execute import (
    Outcome,
    Processes,
    RunPaths,
    cache_of,
    default_jobs,
    last_line,
    run_all,
    workers_of,
)
from cvm_monai.experiments.plan import parse_methods, plan_runs
from cvm_monai.experiments.state import Cost, open_run

PLACE = RunPaths(Path("bundle"), Path("data"), "none")
GOOD = Outcome(Cost(10.0, 2.0, 300.0))


@pytest.fixture
def runs(tmp_path):
    planned = plan_runs(parse_methods("partial_ce,cvm,full"), folds=(0, 1), seeds=1, output=tmp_path, knobs={})
    return [(run, {}) for run in planned]


class Scripted:
    """Gives outcomes by the run's name, GOOD by default; `together` lets a run end when so many others have begun."""

    def __init__(self, *, together=None, **outcomes):
        self.outcomes, self.stopped, self.most, self.now = outcomes, False, 0, 0
        self.together = None if together is None else threading.Barrier(together, timeout=300)
        self.lock = threading.Lock()

    def __call__(self, run, place):
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        if self.together is not None:
            self.together.wait()
        with self.lock:
            self.now -= 1
        outcome = self.outcomes.get(run.arm, GOOD)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def stop(self):
        self.stopped = True


def states(runs):
    return [json.loads((run.folder / "compare.json").read_text())["status"] for run, _ in runs]


def test_a_failed_run_is_reported_and_the_others_go_on(runs, capsys):
    failures = run_all(runs, PLACE, execute=Scripted(cvm=Outcome(None, "error: no")), jobs=1, finished=2)
    assert [(run.name, why) for run, why in failures] == [
        ("cvm, fold 0, seed 0", "error: no"),
        ("cvm, fold 1, seed 0", "error: no"),
    ]
    assert states(runs) == ["FINISHED", "FAILED", "FINISHED"] * 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "done   partial_ce, fold 0, seed 0: 12 s, 300 MiB (3/8 runs, 00:00 left)"
    assert lines[1].startswith("FAILED cvm, fold 0, seed 0: error: no (4/8 runs")


def test_as_many_run_at_once_as_allowed(runs):
    executor = Scripted(together=3)
    assert run_all(runs, PLACE, execute=executor, jobs=3) == []
    assert executor.most == 3


def test_an_error_of_the_file_system_fails_its_run_alone(runs):
    failures = run_all(runs, PLACE, execute=Scripted(full=OSError(28, "No space left on device", "x")), jobs=1)
    assert [why for _, why in failures] == ["x: No space left on device"] * 2


def test_an_interruption_stops_what_runs_and_leaves_it_unfinished(runs):
    executor = Scripted(cvm=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run_all(runs, PLACE, execute=executor, jobs=1)
    assert executor.stopped
    assert json.loads((runs[1][0].folder / "compare.json").read_text())["status"] == "RUNNING"
    assert not runs[-1][0].folder.exists()


def test_cores_are_shared_by_the_runs(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)))
    assert [workers_of(jobs) for jobs in (1, 3, 16)] == [8, 2, 1]
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert default_jobs() == 1
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert 1 <= default_jobs() <= 4


def test_free_memory_is_shared_by_the_runs_unless_their_knobs_say_how_much_they_hold(monkeypatch, processes, runs):
    monkeypatch.setattr(module, "free_memory", lambda: 12 * 2**30)
    assert [cache_of(jobs) for jobs in (1, 3)] == [6.0, 2.0]
    monkeypatch.setattr(module, "free_memory", lambda: None)
    assert cache_of(3) is None
    run = runs[0][0]
    for words, expected in ([["x"], ["x", "--cache", "1.500"]], [["--cache", "9"], ["--cache", "9"]]):
        execute, seen = processes("", cache=1.5), []
        monkeypatch.setattr(module, "training_words", lambda run, place, words=words: words)
        monkeypatch.setattr(module, "evaluating_words", lambda run, place, words=words: words)
        monkeypatch.setattr(module, "runnable", lambda words, seen=seen: seen.append(words) or ["true"])
        open_run(run, {})
        execute(run, PLACE)
        assert seen == [expected, expected]


@pytest.fixture
def processes(monkeypatch):
    """Executes Python code instead of the bundle: what `training_words` and `evaluating_words` are set to."""

    def make(training, evaluating="print('scored')", **options):
        monkeypatch.setattr(module, "training_words", lambda run, place: [training])
        monkeypatch.setattr(module, "evaluating_words", lambda run, place: [evaluating])
        monkeypatch.setattr(module, "runnable", lambda words: [sys.executable, "-c", *words])
        return Processes(**options)

    return make


def test_both_commands_run_with_one_thread_and_write_a_log(processes, runs):
    run = runs[0][0]
    open_run(run, {})
    outcome = processes("import os; print(os.environ['OMP_NUM_THREADS'])")(run, PLACE)
    assert (run.folder / "training.log").read_text() == "1\n"
    assert (run.folder / "evaluating.log").read_text() == "scored\n"
    assert outcome.cost.training_seconds > 0


def test_the_peak_is_the_process_s_own_even_where_it_is_below_ours(processes, runs, monkeypatch):
    run = runs[0][0]
    open_run(run, {})
    ballast = b"x" * 2**28  # ours: a child starts with this as its peak
    monkeypatch.setattr(module, "LOOK", 0.01)  # a process that holds it for a second is seen
    hold = "import time; x = b'x' * {} * 2**20; time.sleep(1)"
    small = processes(hold.format(60))(run, PLACE).cost.peak_memory_mib
    del ballast
    assert 60 < small < 160
    large = processes(hold.format(1500))(run, PLACE).cost.peak_memory_mib
    assert 1500 < large < 1600


def test_the_last_line_of_the_log_says_why_a_run_failed(processes, runs):
    run = runs[0][0]
    open_run(run, {})
    code = "import sys; print('error: no data', file=sys.stderr); print(); sys.exit(2)"
    outcome = processes(code)(run, PLACE)
    assert outcome.cost is None
    assert outcome.failure == f"training ended with code 2: error: no data ({run.folder / 'training.log'})"
    assert not (run.folder / "evaluating.log").exists()
    (run.folder / "training.log").write_text("\n")
    assert last_line(run.folder / "training.log") == "it printed nothing"


def test_stopping_ends_the_process_and_starts_no_other(processes, runs):
    run = runs[0][0]
    open_run(run, {})
    executor = processes("import time; time.sleep(600)")
    threading.Timer(1.0, executor.stop).start()
    assert "ended with code -15" in executor(run, PLACE).failure
    assert "ended with code -15" in executor(run, PLACE).failure
