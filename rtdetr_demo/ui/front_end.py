"""The page's own files, under an address that names their content."""

import gzip
import hashlib
import mimetypes
from collections.abc import Callable
from functools import cached_property
from pathlib import Path, PurePosixPath

import brotli
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from .joined_modules import JoinedModules, imports
from .pictures import SAMPLE_CLIP

STATIC = Path(__file__).parent / "static"
PREFIX = "page"
"""First part of the path of everything that this package serves beside Gradio."""

FOREVER = "public, max-age=31536000, immutable"
"""Cache-Control of what never changes under its address."""
_TYPES = {
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".woff2": "font/woff2",
    ".gz": "application/gzip",
    ".map": "application/json",
}
_TEXT = (".js", ".mjs", ".css", ".json", ".map", ".svg", ".html", ".txt")
MAIN, MAP, STYLES = "main.js", "main.js.map", "styles.css"
_LAYERS = "@layer tokens, base, components, state;\n"


class FrontEnd:
    """Every file of a folder of static files; `styles.css`, which is all of `styles/` in one; and
    `main.js`, which holds all that it imports as it loads (what workers import stays apart).

    They lie under `root`, "page/HASH", HASH over all that they hold. Imports between modules are
    relative, so they stay within one version. What lies in `vendor/` is large and changes only by
    version: it stands under "page/vendor/" instead, where no change of ours makes it new.
    """

    def __init__(self, folder: Path = STATIC):
        self._folder = folder
        found = sorted(path for path in folder.rglob("*") if path.is_file())
        self.files = {path.relative_to(folder).as_posix(): path for path in found}
        self.files[f"examples/{SAMPLE_CLIP.name}"] = SAMPLE_CLIP
        self._packed: dict[tuple[str, str], bytes] = {}

    @cached_property
    def names(self) -> list[str]:
        """What is served, by name."""
        inside = {*self._joined.names} - {MAIN}
        styles = [name for name in self.files if name.startswith("styles/")]
        return [*(name for name in self.files if name not in inside | {*styles}), STYLES, MAP]

    @cached_property
    def root(self) -> str:
        """Path of the files, without a slash at either end."""
        digest = hashlib.sha256()
        for name in self.names:
            digest.update(f"{name}\0".encode())
            digest.update(b"" if _is_vendored(name) else self.content(name) or b"")
        return f"{PREFIX}/{digest.hexdigest()[:12]}"

    @cached_property
    def _joined(self) -> JoinedModules:
        workers = [name for name in self.files if name.endswith("_worker.js")]
        apart, wanted = set[str](), workers
        while wanted:
            name = wanted.pop()
            if name not in apart:
                apart.add(name)
                wanted += imports(name, self._text(name))
        return JoinedModules(self._text, MAIN, frozenset(apart))

    @property
    def modules(self) -> list[str]:
        """The modules that are fetched at once: for `modulepreload`."""
        return [MAIN, *self._joined.outside]

    def content(self, name: str) -> bytes | None:
        """A file as it is served, or None where there is none of this name."""
        if name not in self.names:
            return None
        if name == STYLES:
            sheets = [self._text(one) for one in self.files if one.startswith("styles/")]
            return (_LAYERS + "\n".join(sheets)).encode()
        if name == MAIN:
            return self._joined.code.encode()
        if name == MAP:
            return self._joined.source_map.encode()
        if name.endswith(".js") and not _is_vendored(name):
            return self._joined.link(name, self._text(name)).encode()
        return self.files[name].read_bytes()

    def _text(self, name: str) -> str:
        return self.files[name].read_text(encoding="utf-8")

    def packed(self, name: str, encoding: str) -> bytes | None:
        """A file in an encoding of HTTP ("br", "gzip", "identity")."""
        if (name, encoding) not in self._packed:
            content = self.content(name)
            if content is None:
                return None
            if encoding == "br":
                content = brotli.compress(content, quality=9)
            elif encoding == "gzip":
                content = gzip.compress(content, 9, mtime=0)
            self._packed[name, encoding] = content
        return self._packed[name, encoding]

    def response(self, path: str, headers: Headers) -> Response:
        """The answer to a request for `path`, which begins after "page/"."""
        version, _, name = path.partition("/")
        if version == "vendor":
            name = path
        elif f"{PREFIX}/{version}" != self.root:
            return PlainTextResponse(
                "This version of the page is gone. Reload the page.", 404, file_headers("no-store")
            )
        suffix = PurePosixPath(name).suffix
        accepted = headers.get("accept-encoding", "") if suffix in _TEXT else ""
        encoding = next((one for one in ("br", "gzip") if one in accepted), "identity")
        body = self.packed(name, encoding)
        if body is None:
            return PlainTextResponse("There is no such file.", 404, file_headers("no-store"))
        answer = Response(body, headers=file_headers(FOREVER), media_type=media_type(name))
        answer.headers["vary"] = "accept-encoding"
        if encoding != "identity":
            answer.headers["content-encoding"] = encoding
        return answer


class FrontEndMiddleware:
    """ASGI middleware that serves a front end's files, and leaves all else to the rest.

    `beside` may answer for what stands under the same prefix.
    """

    def __init__(
        self,
        app: ASGIApp,
        front_end: FrontEnd,
        beside: Callable[[str], Response | None] = lambda _: None,
    ):
        self._app = app
        self._front_end = front_end
        self._beside = beside

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "").removeprefix(scope.get("root_path", "")).lstrip("/")
        if scope["type"] != "http" or not path.startswith(PREFIX + "/"):
            return await self._app(scope, receive, send)
        if scope["method"] not in ("GET", "HEAD"):
            answer: Response = PlainTextResponse("Only GET works here.", 405)
        else:
            name = path.removeprefix(PREFIX + "/")
            answer = self._beside(name) or self._front_end.response(name, Headers(scope=scope))
        await answer(scope, receive, send)


def media_type(name: str) -> str:
    """The content type of a file by its name; text is UTF-8."""
    suffix = PurePosixPath(name).suffix
    kind = _TYPES.get(suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
    return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind


def file_headers(cache: str) -> dict[str, str]:
    """Of every file; `cache` is its Cache-Control."""
    return {"cache-control": cache, "x-content-type-options": "nosniff"}


def _is_vendored(name: str) -> bool:
    return name.startswith("vendor/")
