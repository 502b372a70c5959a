"""`benchmarks/whole_slide.py` on small slides."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "benchmarks" / "whole_slide.py"


@pytest.mark.ci
def test_it_prints_flat_memory_and_a_ratio():
    command = [sys.executable, str(SCRIPT), "--sizes", "1200", "2400", "--window", "256", "--side", "1200"]
    text = subprocess.run([*command, "--tiles", "2"], capture_output=True, text=True, check=True).stdout
    small, large = (int(found) for found in re.findall(r"\| (\d+) MiB \| \d+ s \|", text))
    assert large < 1.2 * small
    assert re.search(r"resnet34_unet, 2 tiles of 256 px of a slide of 1200 px: .* ratio \d\.\d+", text)
