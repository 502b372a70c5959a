"""What is said twice is the same: versions, Python versions, tools."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

from cvm_monai import __version__

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def locked(name: str) -> str:
    (version,) = re.findall(rf"^{name}==(\S+)", (ROOT / "requirements-dev.lock").read_text("utf-8"), flags=re.MULTILINE)
    return version


def test_the_version_is_the_same_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    metadata = yaml.safe_load((ROOT / "bundle" / "configs" / "metadata.json").read_text("utf-8"))
    assert citation["version"] == metadata["version"] == __version__
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_the_citation_has_what_its_format_asks_for():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["cff-version"] == "1.2.0"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", str(citation["date-released"]))
    for one in (citation, *citation["references"]):
        assert one["authors"]
        assert all(author.get("name") or author.get("family-names") for author in one["authors"])


def test_the_hooks_before_a_commit_are_the_linters_of_the_lock():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))["repos"]
    (ruff,) = [one for one in hooks if one["repo"].endswith("/ruff-pre-commit")]
    assert ruff["rev"] == f"v{locked('ruff')}"
    (own,) = [one for one in hooks if one["repo"] == "local"]
    assert all(hook["entry"].startswith(".venv/bin/") for hook in own["hooks"])


@pytest.mark.parametrize("name", ["tests", "release"])
def test_the_workflows_call_targets_that_there_are(name):
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / f"{name}.yml").read_text("utf-8"))
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), flags=re.MULTILINE))
    lines = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    called = {line.removeprefix("make ") for line in lines if line.startswith("make ")}
    assert called
    assert called <= targets


def test_every_supported_python_is_tested():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text("utf-8"))
    tested = workflow["jobs"]["tests"]["strategy"]["matrix"]["python"]
    named = [one.rpartition(" ")[2] for one in PROJECT["project"]["classifiers"] if "Python :: 3." in one]
    assert tested == named == ["3.11", "3.12", "3.13"]
    assert PROJECT["project"]["requires-python"] == ">=3.11,<3.14"


def test_a_release_is_published_without_a_token():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text("utf-8"))
    assert workflow["jobs"]["publish"]["permissions"] == {"id-token": "write"}
    assert "secrets." not in (ROOT / ".github" / "workflows" / "release.yml").read_text("utf-8")


def test_coverage_has_a_floor():
    assert PROJECT["tool"]["coverage"]["report"]["fail_under"] >= 67
