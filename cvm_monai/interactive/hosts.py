"""Read the headers of a request, and tell whether a host is this machine, for servers that answer it alone."""

import ipaddress
from urllib.parse import urlsplit

from starlette.types import Scope


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
