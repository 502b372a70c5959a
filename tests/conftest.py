"""Fixtures that every test may use."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The developers' folder of golden files and real tissue; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("CVM_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    if not (folder / "golden").is_dir():
        pytest.skip(f"the developers' data folder is not at {folder} (set CVM_SHARED to where it is)")
    return folder
