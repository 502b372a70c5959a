"""What stands between the network and MONAI Label: who may ask, for what, and how much may be sent.

MONAI Label 0.8.5 binds to every interface, answers every site's scripts, reads bodies of any size and serves more than
this app needs (a proxy, sessions that unpack archives, an exchange of model files).
"""

import ipaddress
import logging
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from cvm_monai.errors import CvmError

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

SERVED = ("info", "infer", "batch", "train", "activelearning", "scoring", "datastore", "logs", "static", "docs")
"""First parts of the paths that are served, beside `/`, `/openapi.json` and `/favicon.ico`."""

NOT_SERVED = ("/logs/gpu",)

JSON_BODIES = ("/train/", "/activelearning/", "/batch/infer/", "/scoring/", "/infer/wsi/")
"""Beginnings of the paths whose bodies are JSON; the others that take a body take forms."""

MIB = 2**20

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
        application: Application,
        *,
        local_only: bool = True,
        origins: Collection[str] = (),
        max_image_mib: float = 4096,
        max_body_mib: float = 128,
    ) -> None:
        self.application, self.local_only, self.origins = application, local_only, tuple(origins)
        self.max_image, self.max_body = int(max_image_mib * MIB), int(max_body_mib * MIB)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.application(scope, receive, send)
            return
        refused = self._refusal(scope)
        if refused is not None:
            log_refusal(scope["method"], scope["path"], *refused)
            await _answer(send, *refused)
            return
        limit = self._limit(scope)
        await self._limited(_with_json_type(scope), receive, send, limit)

    def _refusal(self, scope: Message) -> tuple[int, str] | None:
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

    def _limit(self, scope: Message) -> int:
        """Largest body in bytes."""
        large = scope["path"].startswith(("/datastore/image", "/infer")) or scope["path"] in (
            "/datastore",
            "/datastore/",
        )
        return self.max_image if large else self.max_body

    async def _limited(self, scope: Message, receive: Receive, send: Send, limit: int) -> None:
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
            await _answer(send, 413, sentence)


def log_refusal(method: str, path: str, status: int, sentence: str) -> None:
    """A refused request as one line of the server's log; clients ask for what is not there (404) all the time."""
    level = logging.DEBUG if status == 404 else logging.WARNING
    logger.log(level, "refused (%d) %s %.200r: %s", status, method, path, " ".join(sentence.split())[:2000])


def _with_json_type(scope: Message) -> Message:
    """The request with the Content-Type that a body of JSON has, where it names none.

    QuPath's plug-in sends JSON without one, which FastAPI refuses to read since pages of other sites can do the same;
    those are kept out by their Origin here.
    """
    untyped = not _headers(scope).get("content-type", "").strip()
    if not untyped or scope["method"] != "POST" or not scope["path"].startswith(JSON_BODIES):
        return scope
    kept = [(name, value) for name, value in scope["headers"] if name.lower() != b"content-type"]
    return {**scope, "headers": [*kept, (b"content-type", b"application/json")]}


def _headers(scope: Message) -> dict[str, str]:
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


async def _answer(send: Send, status: int, sentence: str) -> None:
    """A whole response: the sentence as MONAI Label's own errors have it."""
    import json

    body = json.dumps({"detail": sentence}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
