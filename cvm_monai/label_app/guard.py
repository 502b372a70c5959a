"""Who may ask the server, for what, and how much may be sent; errors as one sentence, and the loopback address.

MONAI Label 0.8.5 binds to every interface, answers every site's scripts, reads bodies of any size and serves more than
this app needs (a proxy, sessions that unpack archives, an exchange of model files).

Starlette's TrustedHostMiddleware knows no peers and no address ranges and answers without a remedy; its CORSMiddleware,
which MONAI Label has already, marks the answers to other sites' pages but does not refuse their requests.
"""

import argparse
import ipaddress
import logging
import multiprocessing
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from starlette.middleware import Middleware
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cvm_monai.errors import CvmError

SERVED = ("info", "infer", "batch", "train", "activelearning", "scoring", "datastore", "logs", "static", "docs")
"""First parts of the paths that are served, beside `/`, `/openapi.json` and `/favicon.ico`."""

NOT_SERVED = ("/logs/gpu",)

JSON_BODIES = ("/train/", "/activelearning/", "/batch/infer/", "/scoring/", "/infer/wsi/")
"""Beginnings of the paths whose bodies are JSON; the others that take a body take forms."""

MIB = 2**20

LOOPBACK = "127.0.0.1"
EVERYWHERE = ("0.0.0.0", "::", "")

logger = logging.getLogger(__name__)


class Guard:
    """An ASGI application around another.

    Args:
        application: that answers.
        local_only: serve this machine alone: peers, `Host` and `Origin` must be loopback.
        origins: further origins whose pages may ask.
        max_image_mib: largest body that uploads an image or asks for a segmentation; raising it admits larger slides.
        max_body_mib: largest body otherwise, annotation files among them.
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
        """Status and sentence where a request is not served at all."""
        headers = _headers(scope)
        if self.local_only and not is_loopback((scope.get("client") or ("",))[0]):
            return 403, "this server answers its own machine alone: start it with --host to open it"
        host = _hostname(f"//{headers.get('host', '')}")
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
        name = _hostname(origin)
        if name is None:
            return False
        return origin.rstrip("/") in self.origins or urlsplit(origin).netloc == host or is_loopback(name)

    def _limit(self, scope: Scope) -> int:
        """Largest body in bytes."""
        large = scope["path"].startswith(("/datastore/image", "/infer")) or scope["path"] in (
            "/datastore",
            "/datastore/",
        )
        return self.max_image if large else self.max_body

    async def _limited(self, scope: Scope, receive: Receive, send: Send, limit: int) -> None:
        """Pass on, and stop a body that grows beyond the limit; whatever the application says then, 413 is said."""
        taken, over, begun = 0, False, False

        async def counted() -> Message:
            nonlocal taken, over
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > limit:
                over = True
                raise CvmError(f"the body is larger than {limit / MIB:g} MiB")
            return message

        async def sent(message: Message) -> None:
            nonlocal begun
            if not over or begun:
                begun = True
                await send(message)

        try:
            await self.application(scope, counted, sent)
        except Exception:
            if not over:
                raise
        if over and not begun:
            sentence = f"the body is larger than {limit / MIB:g} MiB"
            log_refusal(scope["method"], scope["path"], 413, sentence)
            await _refuse(413, sentence, scope, receive, send)


def log_refusal(method: str, path: str, status: int, sentence: str) -> None:
    """A refused request as one line of the server's log; clients ask for what is not there (404) all the time."""
    level = logging.DEBUG if status == 404 else logging.WARNING
    logger.log(level, "refused (%d) %s %.200r: %s", status, method, path, " ".join(sentence.split())[:2000])


def _with_json_type(scope: Scope) -> Scope:
    """The request with the Content-Type that a body of JSON has, where it names none.

    QuPath's plug-in sends JSON without one, which FastAPI refuses to read since pages of other sites can do the same;
    those are kept out by their Origin here.
    """
    untyped = not _headers(scope).get("content-type", "").strip()
    if not untyped or scope["method"] != "POST" or not scope["path"].startswith(JSON_BODIES):
        return scope
    kept = [(name, value) for name, value in scope["headers"] if name.lower() != b"content-type"]
    return {**scope, "headers": [*kept, (b"content-type", b"application/json")]}


def _headers(scope: Scope) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}


def _hostname(address: str) -> str | None:
    """The host in an address; None where it cannot be read."""
    try:
        return urlsplit(address).hostname or ""
    except ValueError:  # brackets that hold no IPv6 address
        return None


def is_loopback(host: str) -> bool:
    """Whether a host's name or address is this machine's own."""
    if host.lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or bool(getattr(address, "ipv4_mapped", None) and address.ipv4_mapped.is_loopback)  # type: ignore[union-attr]


def _is_served(path: str) -> bool:
    if path.rstrip("/") in NOT_SERVED:
        return False
    return path in ("/", "/openapi.json", "/favicon.ico") or path.split("/")[1] in SERVED


def given_host(arguments: Sequence[str]) -> str | None:
    """The host that a command line of `monailabel start_server` names, as its parser reads it; None: none."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("-i", "--host")
    found: str | None = parser.parse_known_args(list(arguments))[0].host
    return found


def is_local(arguments: Sequence[str]) -> bool:
    """Whether a command line asks for a server of this machine alone: no host, or one that is loopback."""
    host = given_host(arguments)
    return host is None or is_loopback(host)


def secure(application: Any, *, conf: Mapping[str, str], arguments: Sequence[str], origins: Sequence[str]) -> None:
    """Guard a FastAPI application that has just started, once; ValueError becomes status 400 and one sentence.

    Where no host, or a loopback one, was given it serves loopback alone, and the socket, which uvicorn opens after
    this, is bound there.

    Args:
        conf: of the app: `max_image_mib` and `max_label_mib`.
        arguments: the command line.
        origins: sites whose pages may ask.

    Raises:
        CvmError: a limit that is no number above 0.
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
        logger.warning("the server listens on every interface, and answers this machine alone; --host says where")


def listen_on_loopback() -> bool:
    """Let a uvicorn that was asked for every interface listen on loopback; whether it can still be done.

    uvicorn opens its socket after the application has started, on the `host` of its configuration, and hands the
    application neither of them: the attribute itself is changed, for the servers of this process. Where uvicorn shares
    one socket among worker processes, their parent has opened it already.
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
    """The errors that are the request's."""
    if "monailabel" not in sys.modules:
        return (ValueError,)
    from monailabel.interfaces.exception import MONAILabelException

    return (ValueError, MONAILabelException)


def _malformed(error: Any) -> str:
    """What is wrong with a request that FastAPI cannot read, in one sentence: its first fault."""
    first = (error.errors() or [{}])[0]
    place = ".".join(str(part) for part in first.get("loc", ())[1:])
    where = "the body of the request" if not place else f"{place!r} of the request"
    advice = ""
    if "body" in first.get("loc", ()):
        advice = " (a JSON object is sent with Content-Type: application/json, a form as multipart/form-data)"
    return f"{where} cannot be read: {first.get('msg', 'it is malformed')}{advice}"[:500]


async def _refuse(status: int, sentence: str, scope: Scope, receive: Receive, send: Send) -> None:
    """Send a whole response: the sentence as MONAI Label's own errors have it."""
    await JSONResponse({"detail": sentence}, status_code=status)(scope, receive, send)


def _number(conf: Mapping[str, str], name: str, default: float) -> float:
    try:
        value = float(conf.get(name, default))
    except ValueError:
        value = 0.0
    if not value > 0:
        raise CvmError(f"--conf {name} must be a number above 0, got {conf.get(name)!r}")
    return value
