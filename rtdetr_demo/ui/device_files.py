"""What a browser that detects by itself fetches beside the page's own files.

All of it stands under "page/", next to the page's hashed folder: `models/` (see
`detector.browser_export`) and `originals/`, the example pictures as they are.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .front_end import FOREVER, file_headers, media_type
from .pictures import EXAMPLES, colors, file_inside

if TYPE_CHECKING:
    from ..detector.detector import Detector


class DeviceFiles:
    """Serves models from a folder that `model_for` fills, and the examples' originals."""

    def __init__(self, folder: Path):
        self._folder = folder

    def model_for(self, detector: "Detector") -> dict[str, Any]:
        """Where a checkpoint's manifest lies, relative to the page's files, and its classes'
        colours: `DeviceModel` of `types.js`. Takes some seconds the first time. Raises
        Unprocessable for a checkpoint that browsers cannot run."""
        from ..detector.browser_export import MANIFEST, export

        made = export(detector, self._folder)
        manifest = f"../models/{made.name}/{MANIFEST}"
        return {"manifest": manifest, "colors": colors(detector.class_names)}

    def response(self, path: str) -> Response | None:
        """The answer to a request for `path`, which begins after "page/"; None if it is not ours.
        Ranges are answered: downloads that broke off go on."""
        kind, _, name = path.partition("/")
        base = {"models": self._folder, "originals": EXAMPLES}.get(kind)
        if base is None:
            return None
        file = file_inside(base, base / name)
        if file is None:
            return PlainTextResponse("There is no such file.", 404, file_headers("no-store"))
        # A manifest's address names all that its files are made of, and the files' their content.
        cache = FOREVER if kind == "models" else "public, max-age=3600"
        return FileResponse(file, headers=file_headers(cache), media_type=media_type(file.name))


class IsolationMiddleware:
    """ASGI middleware that isolates the page from other origins, without which no browser lends it
    threads. What comes from elsewhere still loads, but without a visitor's cookies there."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_isolated(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_ISOLATED]
            await send(message)

        await self._app(scope, receive, send_isolated if scope["type"] == "http" else send)


_ISOLATED = (
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-embedder-policy", b"credentialless"),
)
