"""Restrict the server's clients, paths and body sizes, shorten its errors, and bind it to loopback.

MONAI Label 0.8.5 binds to every interface, answers scripts of every site, reads bodies of any size and serves more than
this app needs (a proxy, sessions that unpack archives, an exchange of model files).

Starlette's TrustedHostMiddleware checks no peers or address ranges and its answers name no remedy; its CORSMiddleware,
which MONAI Label has already, marks the answers to other sites' pages but does not refuse their requests.
"""

import argparse
import logging
import multiprocessing
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from cvm_monai.errors import CvmError
from cvm_monai.interactive.hosts import headers_of, hostname, is_loopback, pass_limited

SERVED = ("info", "infer", "batch", "train", "activelearning", "scoring", "datastore", "logs", "static", "docs")
"""First parts of the paths that are served, beside `/`, `/openapi.json` and `/favicon.ico`."""

NOT_SERVED = ("/logs/gpu",)

JSON_BODIES = ("/train/", "/activelearning/", "/batch/infer/", "/scoring/", "/infer/wsi/")
"""Prefixes of the paths whose bodies are JSON; the others take forms."""

MIB = 2**20

LOOPBACK = "127.0.0.1"
EVERYWHERE = ("0.0.0.0", "::", "")

logger = logging.getLogger(__name__)


class Guard:
    """ASGI middleware that refuses requests by peer, host, origin, path and body size.

    Args:
        application: that answers accepted requests.
        local_only: serve only this machine: peers, `Host` and `Origin` must be loopback.
        origins: further origins whose pages may send requests.
        max_image_mib: largest body of an image upload or a segmentation request; raising it admits larger slides.
        max_body_mib: largest other body, including annotation files.
    """

    def __init__(
        self,
        application: ASGIApp,
        *,
        local_only: bool = True,
        origins: Collection[str] = (),
        max_image_mib: float = 4096,
        max_body_mib: float = 128,
    ) -> None:
        self.application, self.local_only, self.origins = application, local_only, tuple(origins)
        self.max_image, self.max_body = int(max_image_mib * MIB), int(max_body_mib * MIB)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.application(scope, receive, send)
            return
        refused = self._refusal(scope)
        if refused is not None:
            log_refusal(scope["method"], scope["path"], *refused)
            await _refuse(*refused, scope, receive, send)
            return
        limit = self._limit(scope)
        await self._limited(_with_json_type(scope), receive, send, limit)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        """Return status and message for a refused request; None for an accepted one."""
        headers = headers_of(scope)
        if self.local_only and not is_loopback((scope.get("client") or ("",))[0]):
            return 403, "this server answers its own machine alone: start it with --host to open it"
        host = hostname(f"//{headers.get('host', '')}")
        if host is None:
            return 400, "the Host of a request must be a name or an address"
        if self.local_only and not is_loopback(host):
            return 403, "the Host of a request must be this machine"
        origin = headers.get("origin")
        if origin is not None and not self._known_origin(origin, headers.get("host", "")):
            return 403, "pages of other sites may not ask: name them in MONAI_LABEL_CORS_ORIGINS"
        if not _is_served(scope["path"]):
            return 404, "this app does not serve that path"
        length = headers.get("content-length") or "0"
        if not (length.isascii() and length.isdigit()):
            return 400, "the Content-Length of a request must be a number"
        if int(length[:20]) > self._limit(scope):
            return 413, f"the body is larger than {self._limit(scope) / MIB:g} MiB"
        return None

    def _known_origin(self, origin: str, host: str) -> bool:
        name = hostname(origin)
        if name is None:
            return False
        return origin.rstrip("/") in self.origins or urlsplit(origin).netloc == host or is_loopback(name)

    def _limit(self, scope: Scope) -> int:
        """Return the largest body in bytes."""
        large = scope["path"].startswith(("/datastore/image", "/infer")) or scope["path"] in (
            "/datastore",
            "/datastore/",
        )
        return self.max_image if large else self.max_body

    async def _limited(self, scope: Scope, receive: Receive, send: Send, limit: int) -> None:
        """Pass the request on, and stop a body that exceeds the limit; the answer is then 413."""
        if await pass_limited(self.application, scope, receive, send, limit=limit):
            sentence = f"the body is larger than {limit / MIB:g} MiB"
            log_refusal(scope["method"], scope["path"], 413, sentence)
            await _refuse(413, sentence, scope, receive, send)


def log_refusal(method: str, path: str, status: int, sentence: str) -> None:
    """Log a refused request in one line, except 404, which clients cause all the time."""
    level = logging.DEBUG if status == 404 else logging.WARNING
    logger.log(level, "refused (%d) %s %.200r: %s", status, method, path, " ".join(sentence.split())[:2000])


def _with_json_type(scope: Scope) -> Scope:
    """Add the Content-Type of JSON to a request with a JSON body and none.

    QuPath's plug-in sends JSON without one. FastAPI refuses that, since pages of other sites can send it too; here
    those are refused by their Origin.
    """
    untyped = not headers_of(scope).get("content-type", "").strip()
    if not untyped or scope["method"] != "POST" or not scope["path"].startswith(JSON_BODIES):
        return scope
    kept = [(name, value) for name, value in scope["headers"] if name.lower() != b"content-type"]
    return {**scope, "headers": [*kept, (b"content-type", b"application/json")]}


def _is_served(path: str) -> bool:
    if path.rstrip("/") in NOT_SERVED:
        return False
    return path in ("/", "/openapi.json", "/favicon.ico") or path.split("/")[1] in SERVED


def given_host(arguments: Sequence[str]) -> str | None:
    """Return the host in a command line of `monailabel start_server`, as its parser reads it; None: not given."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("-i", "--host")
    found: str | None = parser.parse_known_args(list(arguments))[0].host
    return found


def is_local(arguments: Sequence[str]) -> bool:
    """Whether a command line asks for a local server: no host, or a loopback one."""
    host = given_host(arguments)
    return host is None or is_loopback(host)


def secure(application: Any, *, conf: Mapping[str, str], arguments: Sequence[str], origins: Sequence[str]) -> None:
    """Guard a FastAPI application that has just started, once; ValueError becomes status 400 with its message.

    With no host or a loopback one it serves only loopback, and the socket, which uvicorn opens after this, is bound
    there.

    Args:
        conf: settings of the app: `max_image_mib` and `max_label_mib`.
        arguments: the command line.
        origins: sites whose pages may send requests.

    Raises:
        CvmError: a limit that is not a number above 0.
    """
    from fastapi.exceptions import RequestValidationError

    if any(entry.cls is Guard for entry in application.user_middleware):
        return
    limits = {
        "max_image_mib": _number(conf, "max_image_mib", 4096.0),
        "max_body_mib": _number(conf, "max_label_mib", 128.0),
    }
    local_only = is_local(arguments)

    async def sentence(request: Any, error: Exception) -> JSONResponse:
        text = _malformed(error) if isinstance(error, RequestValidationError) else str(getattr(error, "msg", error))
        text = " ".join(text.split())
        log_refusal(request.method, request.url.path, 400, text)
        return JSONResponse({"detail": text}, status_code=400)

    for kind in (*_kinds(), RequestValidationError):
        application.add_exception_handler(kind, sentence)
    application.user_middleware.insert(0, Middleware(Guard, local_only=local_only, origins=origins, **limits))
    application.middleware_stack = application.build_middleware_stack()
    if local_only and not listen_on_loopback():
        logger.warning(
            "the server listens on every interface but answers only this machine; choose the interface by --host"
        )


def listen_on_loopback() -> bool:
    """Change a uvicorn server from every interface to loopback; returns whether that is still possible.

    uvicorn opens its socket after the application has started, on the `host` of its configuration, and passes neither
    to the application: so the attribute is changed on the servers of this process. Where uvicorn shares one socket
    among worker processes, their parent has opened it already.
    """
    uvicorn = sys.modules.get("uvicorn.config")
    if uvicorn is None or multiprocessing.parent_process() is not None:
        return False
    uvicorn.Config.host = property(_local_host, _set_host)
    return True


def _local_host(config: Any) -> str:
    host = vars(config)["host"]
    return LOOPBACK if host in EVERYWHERE else host


def _set_host(config: Any, host: str) -> None:
    vars(config)["host"] = host


def _kinds() -> tuple[type[Exception], ...]:
    """Return the exception types that are errors of the request."""
    if "monailabel" not in sys.modules:
        return (ValueError,)
    from monailabel.interfaces.exception import MONAILabelException

    return (ValueError, MONAILabelException)


def _malformed(error: Any) -> str:
    """Describe the first mistake of a request that FastAPI cannot read."""
    first = (error.errors() or [{}])[0]
    place = ".".join(str(part) for part in first.get("loc", ())[1:])
    where = "the body of the request" if not place else f"{place!r} of the request"
    advice = ""
    if "body" in first.get("loc", ()):
        advice = " (a JSON object is sent with Content-Type: application/json, a form as multipart/form-data)"
    return f"{where} cannot be read: {first.get('msg', 'it is malformed')}{advice}"[:500]


async def _refuse(status: int, sentence: str, scope: Scope, receive: Receive, send: Send) -> None:
    """Send a complete error response, in the form of MONAI Label's own errors."""
    await JSONResponse({"detail": sentence}, status_code=status)(scope, receive, send)


def _number(conf: Mapping[str, str], name: str, default: float) -> float:
    try:
        value = float(conf.get(name, default))
    except ValueError:
        value = 0.0
    if not value > 0:
        raise CvmError(f"--conf {name} must be a number above 0, got {conf.get(name)!r}")
    return value
