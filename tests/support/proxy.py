"""The real nginx with `deploy/nginx.conf`, in front of an app."""

import re
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
from pathlib import Path

import httpx
import pytest

from tests.support.app import free_port
from tests.support.paths import REPO

HOST = "demo.example.com"

_MODULES = Path("/etc/nginx/modules-enabled")
_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def nginx() -> str:
    """The path of nginx. Skips the test where it, its stream module or openssl is missing."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    if not program:
        pytest.skip("nginx is not installed: apt-get install nginx libnginx-mod-stream")
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed, which makes the proxy's certificate")
    built_in = re.search(
        r"--with-stream(\s|$)",
        subprocess.run([program, "-V"], capture_output=True, text=True, check=True).stderr,
    )
    if not built_in and not list(_MODULES.glob("*stream.conf")):
        pytest.skip("nginx has no stream module: apt-get install libnginx-mod-stream")
    return program


class Proxy:
    """nginx on free ports of all addresses, which passes requests to `127.0.0.1:app_port`.

    Everything that it writes lies in a temporary folder. `path`: the path of the variant under a
    path, "/demo", or "" for the root.
    """

    def __init__(self, app_port: int, path: str = ""):
        program = nginx()
        # The path of a Unix socket has at most 107 characters.
        self._folder = Path(tempfile.mkdtemp(prefix="nginx-", dir="/tmp"))
        self.port = free_port()
        self.plain_port = free_port()
        self.path = path
        self.url = f"https://{HOST}:{self.port}"
        """The address as a client sees it; `connect` and `client` reach it without DNS."""
        self.socket_path = self._folder / "run" / "nginx-demo-https.sock"
        self._certify()
        config = self._folder / "nginx.conf"
        config.write_text(self._fill_in(app_port), encoding="utf-8")
        self._output = (self._folder / "output").open("wb")
        self.process = subprocess.Popen(
            [program, "-e", self._folder / "error.log", "-c", config, "-g", "daemon off;"],
            stdout=self._output,
            stderr=subprocess.STDOUT,
        )
        end = time.monotonic() + 20
        while not self._listens():
            if self.process.poll() is not None or time.monotonic() > end:
                printed = self.printed
                self.stop()
                raise AssertionError(printed)
            time.sleep(0.05)

    @property
    def printed(self) -> str:
        """What nginx printed, and its error log."""
        paths = (self._folder / "output", self._folder / "log" / "error.log")
        return "".join(one.read_text(encoding="utf-8") for one in paths if one.exists())

    def client(self, address: str = "127.0.0.1", **options: object) -> httpx.Client:
        """A client of the proxy that connects from `address`."""
        transport = httpx.HTTPTransport(verify=self.tls, local_address=address)
        return httpx.Client(
            base_url=f"https://127.0.0.1:{self.port}",
            headers={"host": f"{HOST}:{self.port}"},
            transport=_Named(transport),
            **{"timeout": 60, **options},  # type: ignore[arg-type]
        )

    def connect(self, address: str = "127.0.0.1", timeout: float = 30) -> socket.socket:
        """A TCP connection from `address`, without TLS yet."""
        return socket.create_connection(
            ("127.0.0.1", self.port), timeout=timeout, source_address=(address, 0)
        )

    def connect_tls(self, address: str = "127.0.0.1", timeout: float = 30) -> ssl.SSLSocket:
        """A connection from `address` that can send a request."""
        return self.tls.wrap_socket(self.connect(address, timeout), server_hostname=HOST)

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._output.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _certify(self) -> None:
        for name in ("run", "log", "tls", "temporary"):
            (self._folder / name).mkdir()
        self._key = self._folder / "tls" / "privkey.pem"
        self._certificate = self._folder / "tls" / "fullchain.pem"
        subprocess.run(
            [
                *"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes".split(),
                *f"-days 2 -subj /CN={HOST} -addext subjectAltName=DNS:{HOST}".split(),
                *("-keyout", self._key, "-out", self._certificate),
            ],
            check=True,
            capture_output=True,
        )
        self.tls = ssl.create_default_context(cafile=str(self._certificate))

    def _fill_in(self, app_port: int) -> str:
        text = (REPO / "deploy" / "nginx.conf").read_text(encoding="utf-8")
        temporary = "".join(
            f"    {name}_temp_path {self._folder}/temporary/{name};\n" for name in _TEMPORARY
        )
        changes = {
            # Only root may change the user; for others nginx ignores this line.
            "user www-data;": "user root;",
            "worker_processes auto;": "worker_processes 2;",
            "/run/": f"{self._folder}/run/",
            "/var/log/nginx/": f"{self._folder}/log/",
            "/etc/ssl/demo/fullchain.pem;": f"{self._certificate};",
            "/etc/ssl/demo/privkey.pem;": f"{self._key};",
            "server 127.0.0.1:7860;": f"server 127.0.0.1:{app_port};",
            "listen 443 ": f"listen 127.0.0.1:{self.port} ",
            "listen 80;": f"listen 127.0.0.1:{self.plain_port};",
            "$host;": f"$host:{self.port};",
            HOST: HOST,
            "\nhttp {\n": "\nhttp {\n" + temporary,
        }
        if self.path:
            changes["        location / {\n"] = ""
            changes["#location = /demo {"] = f"location = {self.path} {{"
            changes["$host/demo/;"] = f"$host:{self.port}{self.path}/;"
            changes["#location /demo/ {"] = f"location {self.path}/ {{"
        for placeholder, value in changes.items():
            assert placeholder in text, f"deploy/nginx.conf has no {placeholder!r}"
            text = text.replace(placeholder, value)
        # IPv6 is left out: not every machine that runs the tests has it.
        return re.sub(r"(?m)^ *listen \[::\].*\n", "", text)

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True


class _Named(httpx.BaseTransport):
    """Asks for the certificate of `HOST`, as the address of each request is 127.0.0.1."""

    def __init__(self, transport: httpx.HTTPTransport):
        self._transport = transport

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.extensions["sni_hostname"] = HOST
        return self._transport.handle_request(request)

    def close(self) -> None:
        self._transport.close()
