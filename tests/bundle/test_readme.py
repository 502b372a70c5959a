"""What the README shows works as it stands there."""

import re
import shutil
from pathlib import Path

from PIL import Image

from cvm_monai.cli.main import main

README = Path(__file__).resolve().parents[2] / "README.md"


def test_the_python_example_writes_u(trained, tmp_path, monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    assert main(["phantom", str(tmp_path / "data" / "phantom"), "--cases", "4", "--size", "128"]) == 0
    shutil.copytree(trained.output, tmp_path / "bundle" / "eval", ignore=shutil.ignore_patterns("mlruns*"))
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    assert Image.open("u.png").size == (128, 128)


def test_every_file_that_the_readme_links_to_is_there():
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README.read_text())
    assert len(links) >= 5
    assert [link for link in links if not (README.parent / link).exists()] == []
