"""What pyproject.toml cannot say: the wheel carries the MONAI bundle, as `cvm_monai/bundle`."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
CARRIED = ("configs", "scripts", "docs")


class BuildWithBundle(build_py):
    """Copies the bundle's files into the package that is built; an editable install finds them beside it."""

    def run(self) -> None:
        """Build, then copy."""
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib) / "cvm_monai" / "bundle"
        shutil.rmtree(target, ignore_errors=True)
        for name in CARRIED:
            shutil.copytree(ROOT / "bundle" / name, target / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        shutil.copy(ROOT / "bundle" / "LICENSE", target / "LICENSE")


setup(cmdclass={"build_py": BuildWithBundle})
