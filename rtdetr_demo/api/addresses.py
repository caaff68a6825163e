"""Addresses and names of hosts."""

import ipaddress
import re

_NETLOC = re.compile(r"(\[[0-9a-f:.]+\]|[\w.-]+)(?::\d{1,5})?", re.ASCII)


def is_loopback(address: str) -> bool:
    """Whether the address of a peer is one of this machine's own."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)
    return (mapped or parsed).is_loopback


def is_loopback_name(host: str) -> bool:
    """Whether a host in a URL is exactly `localhost`, `::1` or an IPv4 address in 127.0.0.0/8."""
    if host in ("localhost", "::1"):
        return True
    return host.startswith("127.") and is_loopback(host)


def host_of(netloc: str) -> str:
    """The lower-case host in `name`, `name:port`, `[address]` or `[address]:port`.

    "" for anything else, such as a value with a path or user information.
    """
    match = _NETLOC.fullmatch(netloc.strip().lower())
    return match[1].strip("[]") if match else ""
