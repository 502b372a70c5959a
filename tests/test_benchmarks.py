"""The benchmarks: `device.sh` calls each of them as its parser allows, for a GPU and small on the processor."""

import argparse
import importlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
SCRIPT = BENCHMARKS / "device.sh"
LIMIT = 8 * 60


def calls() -> list[list[str]]:
    """Name, seconds, script and options of each part of `device.sh`."""
    text = SCRIPT.read_text(encoding="utf-8").replace("\\\n", " ").replace('"$DEVICE"', "cuda")
    return [shlex.split(found) for found in re.findall(r"^ {4,}part (.+)$", text, re.MULTILINE)]


class Parsed(Exception):
    """The options were accepted."""


@pytest.fixture
def stop_at_parsing(monkeypatch):
    parse = argparse.ArgumentParser.parse_args

    def stop(parser, *values):
        parse(parser, *values)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield
    for name in {path.stem for path in BENCHMARKS.glob("*.py")}:
        sys.modules.pop(name, None)


@pytest.mark.parametrize("name, seconds, script, options", [(*call[:3], call[3:]) for call in calls()])
def test_each_command_line_of_the_device_script_is_accepted(
    name, seconds, script, options, monkeypatch, stop_at_parsing
):
    monkeypatch.setattr(sys, "argv", [script, *options])
    with pytest.raises(Parsed, match=r"^$"):
        importlib.import_module(Path(script).stem).main()


def test_the_limits_of_the_parts_on_a_gpu_leave_time_for_the_environment():
    seconds = {name: int(limit) for name, limit, _, *options in calls() if "cuda" in options}
    assert set(seconds) == {"training", "renewal", "renewal_aos", "solver", "kernels", "slide"}
    assert 300 < sum(seconds.values()) <= LIMIT - 45


@pytest.mark.ci
def test_a_part_that_fails_is_named_and_the_next_one_runs(tmp_path):
    settings = {"DEVICE": "cpu", "PARTS": "nothing solver", "OUT": str(tmp_path), "PYTHON": sys.executable}
    done = subprocess.run(["bash", str(SCRIPT)], capture_output=True, text=True, env=os.environ | settings, check=False)
    assert done.returncode == 1, done.stderr
    assert "no part nothing: training renewal solver kernels slide" in done.stderr
    assert "failed: nothing" in done.stdout
    assert "50 AOS steps against NumPy: largest difference" in (tmp_path / "solver.txt").read_text(encoding="utf-8")


def test_two_settings_are_compared_over_the_images_and_seeds_of_their_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    benchmark = importlib.import_module("paired_seeds")
    dice = {"a0": ["x,0.9"], "a1": ["y,0.7"], "b0": ["y,0.6", "x,0.8"]}
    for name, lines in dice.items():
        (tmp_path / name / "evaluation").mkdir(parents=True)
        (tmp_path / name / "evaluation" / "per_case.csv").write_text("\n".join(["case_id,dice", *lines]) + "\n")
    runs = [f"{tmp_path}/a0,{tmp_path}/a1", "--against", f"{tmp_path}/b0"]
    monkeypatch.setattr(sys, "argv", ["paired_seeds.py", "--runs", *runs])
    assert benchmark.main() == 0
    assert capsys.readouterr().out == "0.800 against 0.700: +0.100 (+0.100 to +0.100)\n"
    apart = benchmark.np.array([[0.0, 0.0], [1.0, 1.0]])  # means of two seeds: 0, 0.5 or 1
    assert benchmark.interval(apart) == (0.0, 1.0)


def test_runs_of_other_images_are_not_compared(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    benchmark = importlib.import_module("paired_seeds")
    for name, lines in {"a": "x,1\n", "b": "x,1\ny,1\n"}.items():
        (tmp_path / name / "evaluation").mkdir(parents=True)
        (tmp_path / name / "evaluation" / "per_case.csv").write_text(f"case_id,dice\n{lines}")
    monkeypatch.setattr(sys, "argv", ["x", "--runs", str(tmp_path / "a"), "--against", str(tmp_path / "b")])
    with pytest.raises(SystemExit, match="2"):
        benchmark.main()
    assert "(1, 1) seeds and images against (1, 2): give as many runs" in capsys.readouterr().err
