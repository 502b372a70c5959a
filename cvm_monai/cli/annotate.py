"""``cvm-monai annotate``: annotate a folder of images in the browser."""

import argparse
import os
import socket
import sys
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cvm_monai.errors import CvmError

if TYPE_CHECKING:
    from cvm_monai.annotate.project import Project

DESCRIPTION = """\
Open a folder of images or slides in the browser: click points, see the segmentation, train, correct, export.

DIR holds the images, itself or in images/. Every click is saved at once in DIR/points/NAME.geojson, which QuPath opens;
trainings and the history of edits go into DIR/.cvm-annotate/. The server answers this machine alone, and only who has
the token of the address that it prints. Ctrl-C ends it; a training goes on.
"""

FIRST_PORT, PORTS = 8000, 100
"""Without --port the first free one of these is taken."""

LOOPBACK = "127.0.0.1"
EVERYWHERE = ("0.0.0.0", "::")


def add_parser(commands: Any) -> None:
    """Add the command to the main parser's sub-parsers."""
    parser = commands.add_parser(
        "annotate",
        help="annotate images in the browser, and train on the clicks",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        renamed={"output_dir": "output"},
    )
    parser.add_argument("folder", metavar="DIR", help="folder of images or slides; annotations are saved in it")
    parser.add_argument("--port", type=int, help="port to listen on; 0: any free one (default the first from 8000)")
    parser.add_argument("--host", default=LOOPBACK, help="address to listen on (default %(default)s: this machine)")
    parser.add_argument("--no_browser", action="store_true", help="do not open the browser")
    parser.add_argument("--api_only", action="store_true", help="serve the API without the page")
    parser.add_argument("--model", metavar="RUN", help="run folder of a training whose network is used")
    parser.add_argument(
        "--classes", metavar="MAP", help="what labels mean, as in `prepare`: Tumor=target,Stroma=background"
    )
    parser.add_argument("--unclassified", metavar="CLASS", help="meaning of annotations without a label")
    parser.add_argument("--output", metavar="OUT", help="folder of trainings (default DIR/.cvm-annotate)")
    parser.add_argument("--mpp", type=float, help="um/px at which clicks are answered and networks are trained")
    parser.add_argument("--device", help="where to compute (default the first GPU, else cpu)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Serve until interrupted."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    _check_extra()
    if not Path(arguments.folder).expanduser().is_dir():  # before the imports below, which take seconds
        raise CvmError(f"{arguments.folder} is not a folder: give the one that holds your images")
    page = None if arguments.api_only else _page()
    project = _project(arguments)
    with _listening(arguments.host, arguments.port) as listener:
        return _serve(project, arguments, listener, page)


def _check_extra() -> None:
    """Refuse to start without the packages of the server.

    Raises:
        CvmError: one is missing.
    """
    from importlib.util import find_spec

    missing = [name for name in ("fastapi", "uvicorn") if find_spec(name) is None]
    if missing:
        raise CvmError(f"the package {missing[0]} is missing: pip install 'cvm-monai[annotate]'")


def _page() -> Path:
    """Find the built page.

    Raises:
        CvmError: it is not built.
    """
    from cvm_monai.annotate.server import PAGE

    if not (PAGE / "index.html").is_file():
        raise CvmError("the page is not built: run `make web` in the repository, or serve the API alone by --api_only")
    return PAGE


def _project(arguments: argparse.Namespace) -> "Project":
    """Read the folder.

    Raises:
        CvmError: no folder, no images, no permission, or a bad class map or um/px.
    """
    from cvm_monai.annotate.project import Project
    from cvm_monai.annotations import read_class_map

    if arguments.mpp is not None and not 0 < arguments.mpp < 1000:
        raise CvmError(f"--mpp must be micrometres per pixel, such as 0.5, got {arguments.mpp:g}")
    class_map = read_class_map(arguments.classes, unclassified=arguments.unclassified)
    project = Project(arguments.folder, class_map=class_map, output=arguments.output, mpp=arguments.mpp)
    for sentence in project.passed_over:
        print(f"cvm-monai: warning: {sentence}", file=sys.stderr)
    return project


def _listening(host: str, port: int | None) -> socket.socket:
    """Open the socket of the server.

    Raises:
        CvmError: the port is taken, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for tried in range(FIRST_PORT, FIRST_PORT + PORTS) if port is None else (port,):
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Accepted sockets inherit it; without it each answer in two parts waits 40 ms for an acknowledgement.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            listener.bind((host, tried))
            listener.listen(128)
            return listener
        except (OSError, OverflowError) as error:
            listener.close()
            reason = getattr(error, "strerror", None) or str(error)
    where = f"port {port}" if port is not None else f"any port from {FIRST_PORT} to {FIRST_PORT + PORTS - 1}"
    raise CvmError(f"{host} cannot be listened on at {where} ({reason}): give another --port")


def _serve(project: "Project", arguments: argparse.Namespace, listener: socket.socket, page: Path | None) -> int:
    """Lock the folder and serve it.

    Raises:
        CvmError: another server has the folder.
    """
    import uvicorn

    from cvm_monai.annotate.access import kept_token
    from cvm_monai.annotate.server import create_app
    from cvm_monai.annotate.workspace import Workspace
    from cvm_monai.files import lock_folder
    from cvm_monai.interactive.hosts import is_loopback

    with lock_folder(project.hidden, option="DIR") as holder:
        if holder is not None:
            raise CvmError(f"{project.folder} is served already by {holder}: use its page, or end it first")
        workspace = Workspace(project, device=_device(arguments.device), model=arguments.model)
        port, token = listener.getsockname()[1], kept_token(project.hidden)
        everywhere = arguments.host in EVERYWHERE
        hosts = ("*",) if everywhere else (arguments.host,)
        host = socket.gethostname() if everywhere else arguments.host
        if not is_loopback(arguments.host):
            print("cvm-monai: warning: other machines can reach this server, without encryption", file=sys.stderr)
        app = create_app(workspace, token=token, port=port, hosts=hosts, page=page)
        shown = f"[{host}]" if ":" in host else host
        address = f"http://{shown}:{port}/?token={token}"
        print(f"{len(project.images)} images of {project.folder}\n{address}", flush=True)
        if not arguments.no_browser and page is not None:
            webbrowser.open(address)
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, timeout_graceful_shutdown=3, server_header=False
        )
        uvicorn.Server(config).run(sockets=[listener])
    return 0


def _device(given: str | None) -> str:
    """Return the device to compute on, and use one thread on a CPU unless the environment says otherwise."""
    import torch

    if "OMP_NUM_THREADS" not in os.environ:  # several threads on busy cores can be twenty times slower than one
        os.environ["OMP_NUM_THREADS"] = "1"
        torch.set_num_threads(1)
    device = given or ("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise CvmError(f"--device {device[:60]} cannot be used: {str(error).splitlines()[0][:200]}") from None
    return device
