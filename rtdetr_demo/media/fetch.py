"""From a web address to the bytes behind it: public addresses only, within limits of size and time.

Addresses are checked after names are resolved, at every redirect.
"""

import ipaddress
import socket
import threading
import time
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from urllib.parse import urljoin, urlsplit

import httpx

from ..errors import BadInput, TooLarge, Unprocessable
from .images import MAX_BYTES

MAX_SECONDS = 15.0


MAX_REDIRECTS = 5


def fetch(url: str, allowed_hosts: Collection[str] = ()) -> bytes:
    """Get the bytes behind a web address.

    Only http and https, only public addresses (each redirect is checked anew), at most `MAX_BYTES`
    and `MAX_SECONDS`. `allowed_hosts` names hosts, as `host` or `host:port`, that the operator
    exempts from the check of addresses. Raises BadInput or TooLarge.
    """
    deadline = time.monotonic() + MAX_SECONDS
    # In a thread of its own: name resolution knows no time limit, and a header that comes letter by
    # letter outlasts the limit on each read.
    fetching = _FETCHERS.submit(_follow, url.strip(), allowed_hosts, deadline)
    try:
        return fetching.result(MAX_SECONDS)
    except FutureTimeout:
        fetching.cancel()
        raise Unprocessable(_SLOW) from None


_FETCHERS = ThreadPoolExecutor(32, "fetch")


def _follow(url: str, allowed_hosts: Collection[str], deadline: float) -> bytes:
    # Proxies from the environment are not used: behind one, the address that we checked is not
    # the address that is asked.
    with httpx.Client(trust_env=False, follow_redirects=False) as client:
        hang_up = threading.Timer(deadline - time.monotonic(), client.close)
        hang_up.daemon = True
        hang_up.start()
        try:
            for _ in range(MAX_REDIRECTS + 1):
                answer = _get_once(client, url, allowed_hosts, deadline)
                if isinstance(answer, bytes):
                    return answer
                url = urljoin(url, answer)
        except (ValueError, httpx.InvalidURL):
            raise BadInput("This is not a valid web address. Check it in a browser.") from None
        finally:
            hang_up.cancel()
    raise Unprocessable(
        "This address redirects too many times. Use the address of the picture itself."
    )


def _get_once(
    client: httpx.Client, url: str, allowed_hosts: Collection[str], deadline: float
) -> bytes | str:
    """One request: the body's bytes, or the address that it redirects to."""
    scheme, host, port = _split(url)
    allowed = {host.lower() for host in allowed_hosts}
    exempt = host in allowed or f"{host}:{port}" in allowed
    address = host if exempt else _public_address(host, port)
    left = deadline - time.monotonic()
    if left <= 0:
        raise Unprocessable(_SLOW)
    target = httpx.URL(url).copy_with(scheme=scheme, host=address, port=port)
    headers = {
        "Host": httpx.URL(url).netloc.decode(),
        "Accept": "image/*",
        "Accept-Encoding": "identity",
        "User-Agent": "rtdetr-demo",
    }
    try:
        with client.stream(
            "GET",
            target,
            headers=headers,
            timeout=min(left, 10.0),
            # The certificate is checked against the name, though the socket goes to the address.
            extensions={"sni_hostname": host},
        ) as response:
            if response.is_redirect:
                return response.headers.get("location", "")
            if response.status_code != 200:
                raise Unprocessable(
                    f"The server of this address answered {response.status_code}. Check the "
                    "address in a browser, or save the picture and upload it."
                )
            return _read_body(response, deadline)
    except httpx.TimeoutException:
        raise Unprocessable(_SLOW) from None
    except (httpx.HTTPError, OSError):
        if time.monotonic() >= deadline:
            raise Unprocessable(_SLOW) from None
        raise Unprocessable(
            f"{host} could not be reached. Check the address, or save the picture and upload it."
        ) from None


_SLOW = (
    f"This address took longer than {MAX_SECONDS:.0f} seconds. Try again, "
    "or save the picture and upload it."
)


def _read_body(response: httpx.Response, deadline: float) -> bytes:
    body = bytearray()
    # Raw bytes: a compressed body could grow without end after it passed the limit.
    for chunk in response.iter_raw():
        body += chunk
        if len(body) > MAX_BYTES:
            raise TooLarge(
                f"The file behind this address is over {MAX_BYTES // 2**20} MB. Use a smaller one."
            )
        if time.monotonic() > deadline:
            raise Unprocessable(_SLOW)
    return bytes(body)


def _split(url: str) -> tuple[str, str, int]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if parts.scheme not in ("http", "https") or not host or len(url) > 4096:
        raise BadInput(
            "This is not a web address of a picture: it must start with http:// or https://."
        )
    if parts.username is not None or parts.password is not None:
        raise BadInput("Addresses with a user name or password in them are not fetched.")
    return parts.scheme, host, port or (443 if parts.scheme == "https" else 80)


def _public_address(host: str, port: int) -> str:
    """Resolve a host once; give back one of its addresses, if all of them are public."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise Unprocessable(f"There is no host named {host[:100]}. Check the address.") from None
    addresses = [str(entry[4][0]) for entry in found]
    if not addresses or not all(is_public(address) for address in addresses):
        raise BadInput(
            "This address leads into a private network, so it is not fetched. "
            "Save the picture and upload it instead."
        )
    return addresses[0]


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the open internet.

    Addresses that carry an IPv4 address inside (mapped, 6to4, NAT64) are judged by that one.
    """
    try:
        ip = ipaddress.ip_address(address.split("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour
        if ip in _NAT64:
            inner = ipaddress.IPv4Address(ip.packed[-4:])
        if inner is not None:
            return is_public(str(inner))
        if ip.teredo is not None or ip.is_site_local:
            return False
    open_to_all = ip.is_global and not ip.is_multicast and not ip.is_reserved
    return open_to_all and ip not in _CLOUD_HOSTS


_NAT64 = ipaddress.ip_network("64:ff9b::/96")


# Azure's host service: a public number that answers inside its machines only.
_CLOUD_HOSTS = (ipaddress.ip_address("168.63.129.16"),)
