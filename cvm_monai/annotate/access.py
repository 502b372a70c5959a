"""Admit only requests of this server's own page: token, Host, Origin, size of the body; and harden what is answered."""

import base64
import contextlib
import hashlib
import hmac
import html
import os
import secrets
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import MutableHeaders
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cvm_monai.files import replacing
from cvm_monai.interactive.hosts import headers_of, hostname, is_loopback, pass_limited

TOKEN_LENGTH = 32
"""Characters of a token."""

COOKIE = "cvm_annotate"
"""First part of the cookie's name; the port follows, since browsers send cookies of one host to all its ports."""

MAX_BODY = 4 * 2**20
"""Bytes of the largest body: ten thousands of edits."""

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "font-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
"""Content security policy: nothing from other servers, no inline scripts or styles."""

HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}

STYLE = (
    ":root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:34rem;margin:18vh auto;"
    "padding:0 1.5rem}h1{font-size:1.4rem}code{background:#8883;border-radius:4px;padding:1px 5px}"
)
"""Of the page that says why a browser is not admitted: it cannot load the built page's."""

REFUSAL = """\
<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>cvm-monai annotate</title><style>{style}</style>
<h1>This window is not admitted</h1><p>{sentence}.</p>
<p>The address stands in the terminal where <code>cvm-monai annotate</code> was started, and ends in
<code>?token=…</code>. It is the same after a restart. What was saved is on the disk.</p></html>
"""

SAFE = ("GET", "HEAD", "OPTIONS")
"""Methods that change nothing."""


def kept_token(folder: Path) -> str:
    """Return the folder's random token of 192 bits, made on first use: a page survives a restart of its server."""
    path = folder / "token"
    with contextlib.suppress(OSError, UnicodeError):
        token = path.read_text("ascii")
        if len(token) == TOKEN_LENGTH:
            return token
    token = secrets.token_urlsafe(24)
    with replacing(path) as temporary, open(temporary, "w", encoding="ascii", opener=_private) as file:
        file.write(token)
    return token


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


class Access:
    """ASGI middleware that refuses foreign requests and adds security headers.

    The first request brings the token in its address and gets a cookie with it; programs may send it as
    `Authorization: Bearer TOKEN`.

    Args:
        application: that answers admitted requests.
        token: that a request must bring.
        port: of the server.
        hosts: further names by which it may be called, beside those of loopback; `*`: any.
        max_body: bytes of the largest body.
    """

    def __init__(
        self,
        application: ASGIApp,
        *,
        token: str,
        port: int,
        hosts: tuple[str, ...] = (),
        max_body: int = MAX_BODY,
    ) -> None:
        self.application, self.token, self.hosts, self.max_body = application, token, hosts, max_body
        self.cookie = f"{COOKIE}_{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.application(scope, receive, send)
            return

        async def hardened(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if scope["path"].startswith("/api/") and "cache-control" not in headers:
                    headers["cache-control"] = "no-store"
            await send(message)

        refused = self._refusal(scope)
        if refused is not None:
            await _refusal_answer(scope, *refused)(scope, receive, hardened)
        elif self._brings_token(scope):
            await self._welcome()(scope, receive, hardened)
        elif not self._is_known(scope):
            sentence = "the token is missing or wrong: open the address that `cvm-monai annotate` printed"
            await _refusal_answer(scope, 401, sentence)(scope, receive, hardened)
        else:
            await self._limited(scope, receive, hardened)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        """Return status and sentence for a request that no token makes good."""
        headers = headers_of(scope)
        host = hostname(f"//{headers.get('host', '')}")
        if not host or not (is_loopback(host) or host in self.hosts or "*" in self.hosts):
            return 400, "the Host of a request must be the address that `cvm-monai annotate` printed"
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != headers.get("host"):
            return 403, "pages of other sites may not ask this server"
        if scope["method"] not in SAFE and headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return 403, "pages of other sites may not ask this server"
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()):
            return 400, "the Content-Length of a request must be a number"
        if int(length[:20]) > self.max_body:
            return 413, self._too_large()
        return None

    def _too_large(self) -> str:
        return f"the body is larger than {self.max_body / 2**20:g} MiB"

    def _brings_token(self, scope: Scope) -> bool:
        """Whether this is the page's first request, with the right token in its address."""
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        return scope["path"] == "/" and scope["method"] == "GET" and self._is_right(given)

    def _welcome(self) -> RedirectResponse:
        response = RedirectResponse("/", 303)
        response.set_cookie(self.cookie, self.token, httponly=True, samesite="strict", path="/")
        return response

    def _is_known(self, scope: Scope) -> bool:
        """Whether a request brings the token in its cookie or its header."""
        headers = headers_of(scope)
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self._is_right(given.strip()):
            return True
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(self.cookie)
        except CookieError:
            return False
        return cookie is not None and self._is_right(cookie.value)

    def _is_right(self, given: str) -> bool:
        return hmac.compare_digest(given.encode("utf-8", "replace"), self.token.encode())

    async def _limited(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; a body without a length that grows too large ends with 413."""
        if await pass_limited(self.application, scope, receive, send, limit=self.max_body):
            await JSONResponse({"detail": self._too_large()}, 413)(scope, receive, send)


def _refusal_answer(scope: Scope, status: int, sentence: str) -> Response:
    """Answer a refused request: a browser's window by a small page, all else by JSON."""
    wants_page = scope["method"] == "GET" and "text/html" in headers_of(scope).get("accept", "")
    if not wants_page or scope["path"].startswith("/api/"):
        return JSONResponse({"detail": sentence}, status)
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; frame-ancestors 'none'"
    shown = html.escape(sentence[0].upper() + sentence[1:])
    page = REFUSAL.format(
        style=STYLE, sentence=shown.replace("`cvm-monai annotate`", "<code>cvm-monai annotate</code>")
    )
    return HTMLResponse(page, status, {"content-security-policy": policy, "cache-control": "no-store"})
