"""Fixtures that every test may use."""

import os
from pathlib import Path

import pytest

try:
    from hypothesis import settings
except ModuleNotFoundError:  # the label app's own environment, whose tests need none
    pass
else:  # the same examples each time, so that no test fails by chance; nothing is kept between runs
    settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=60)
    settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The developers' folder of golden files and real tissue; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("CVM_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    if not (folder / "golden").is_dir():
        pytest.skip(f"the developers' data folder is not at {folder} (set CVM_SHARED to where it is)")
    return folder
