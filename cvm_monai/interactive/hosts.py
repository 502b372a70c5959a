"""Read the headers of a request, and tell whether a host is this machine, for servers that answer it alone."""

import ipaddress
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cvm_monai.errors import CvmError


def headers_of(scope: Scope) -> dict[str, str]:
    """Return the headers of a request by name, in lower case."""
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}


def hostname(address: str) -> str | None:
    """Return the host of an address; None for a malformed one."""
    try:
        return urlsplit(address).hostname or ""
    except ValueError:  # brackets without an IPv6 address
        return None


def is_loopback(host: str) -> bool:
    """Whether a host name or address is loopback."""
    if host.lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or bool(getattr(address, "ipv4_mapped", None) and address.ipv4_mapped.is_loopback)  # type: ignore[union-attr]


async def pass_limited(application: ASGIApp, scope: Scope, receive: Receive, send: Send, *, limit: int) -> bool:
    """Pass a request on, and stop a body, of whatever announced length, that exceeds `limit` bytes.

    Returns:
        Whether the body was too large and nothing has been answered yet: the caller then refuses it (413).
    """
    taken, over, begun = 0, False, False

    async def counted() -> Message:
        nonlocal taken, over
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > limit:
            over = True
            raise CvmError(f"the body is larger than {limit / 2**20:g} MiB")
        return message

    async def sent(message: Message) -> None:
        nonlocal begun
        if not over or begun:
            begun = True
            await send(message)

    try:
        await application(scope, counted, sent)
    except Exception:
        if not over:
            raise
    return over and not begun
