"""`/gradio_api/upload`: files of visitors, as Gradio's clients send them, within our limits.

Gradio's own route keeps what an upload that broke off has written, and whatever came under another
name, and takes a thousand files at once.
"""

import asyncio
import contextlib
import logging
import re
import secrets
import shutil
import threading
from collections import Counter
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import BinaryIO
from weakref import WeakValueDictionary

from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from ..errors import TooLarge, TooManyRequests
from ..serving.quota import Quota
from ..serving.scratch import Scratch, folder_bytes
from .errors import Refusal
from .limits import ClientDisconnected, drain_body

MAX_FILES = 16
MAX_UPLOADS = 32
OWN_UPLOADS = 4
"""Uploads that are taken at once, in all and of one address; the next ones wait."""
OWN_WAITING = 128
"""Uploads of one address that may wait, unread: gradio_client sends a burst's files all at once."""
WAIT_SECONDS = 60.0
"""How long an upload may wait."""
MAX_HELD = 400
"""Uploads whose files lie there at once."""

_TOO_MANY = "Too many uploads are under way. Wait for one of them to end."
_FIELD = "files"
_MARGIN = 2**20
"""Bytes of a request besides its files."""

log = logging.getLogger(__name__)


class Uploads:
    """Takes files of at most `max_bytes` a request into the scratch folder.

    An upload may stand still for `patience` seconds.

    The oldest go where they take more than `total_bytes` in all, and an address's oldest where its
    own take more than a share of that (`quota.OWN_SHARE`).
    """

    def __init__(
        self,
        scratch: Scratch,
        max_bytes: int,
        patience: float,
        total_bytes: float = float("inf"),
    ):
        self.scratch = scratch
        self._max_bytes = max_bytes
        self._patience = patience
        self._quota = Quota(total_bytes, MAX_HELD)
        self._held: dict[str, Path] = {}
        self._guard = threading.Lock()
        self._under_way: Counter[str] = Counter()
        self._all = asyncio.Semaphore(MAX_UPLOADS)
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    async def __call__(self, scope: Scope, receive: Receive, send: Send, client: str) -> None:
        """Answer one upload with the paths of its files.

        Raises DemoError, and ClientDisconnected.
        """
        headers = Headers(scope=scope)
        try:
            if not headers.get("content-type", "").lower().startswith("multipart/form-data"):
                raise Refusal(415, "Send files as multipart/form-data, in the field `files`.")
            stated = headers.get("content-length", "")
            size = int(stated) if stated.isdecimal() else 0
            if size > self._max_bytes + _MARGIN:
                raise self._too_large()
            self.scratch.check_room(2 * size)
            if self._under_way[client] >= OWN_UPLOADS + OWN_WAITING:
                raise TooManyRequests(_TOO_MANY)
        except Exception:
            await drain_body(receive, headers)
            raise
        own = self._turns.setdefault(client, asyncio.Semaphore(OWN_UPLOADS))
        self._under_way[client] += 1
        try:
            async with contextlib.AsyncExitStack() as turn:
                try:
                    async with asyncio.timeout(WAIT_SECONDS):
                        await turn.enter_async_context(own)
                        await turn.enter_async_context(self._all)
                except TimeoutError:
                    await drain_body(receive, headers)
                    raise TooManyRequests(_TOO_MANY) from None
                paths = await self._take(receive, headers, client)
        finally:
            self._under_way -= Counter([client])
        await JSONResponse(paths)(scope, receive, send)

    async def _take(self, receive: Receive, headers: Headers, client: str) -> list[str]:
        # What the parser writes are files without a name: they are gone when it is.
        parser = MultiPartParser(
            headers, self._pieces(receive, headers), max_files=MAX_FILES, max_fields=MAX_FILES
        )
        try:
            form = await parser.parse()
        except (MultiPartException, KeyError, UnicodeError) as error:
            log.info("an upload was refused: %s", error)
            raise Refusal(
                400, f"This upload cannot be read. Send up to {MAX_FILES} files in `{_FIELD}`."
            ) from None
        try:
            files = [part for part in form.getlist(_FIELD) if isinstance(part, UploadFile)]
            if not files or len(files) < len(form.multi_items()):
                raise Refusal(400, f"Send files, and nothing else, in the field `{_FIELD}`.")
            paths = await asyncio.to_thread(self._keep, files, client)
            return [str(path) for path in paths]
        finally:
            await form.close()

    async def _pieces(self, receive: Receive, headers: Headers) -> AsyncGenerator[bytes, None]:
        """The body as it comes.

        Raises DemoError for one that cannot be taken, and ClientDisconnected.
        """
        size = 0
        while True:
            try:
                async with asyncio.timeout(self._patience):
                    message = await receive()
            except TimeoutError:
                raise Refusal(408, "The upload stood still. Send it again.") from None
            if message["type"] == "http.disconnect":
                raise ClientDisconnected
            piece = message.get("body", b"")
            size += len(piece)
            if size > self._max_bytes + _MARGIN:
                await drain_body(receive, headers, begun=True)
                raise self._too_large()
            if size // 2**24 != (size - len(piece)) // 2**24:  # now and then
                self.scratch.check_room(2**25)
            yield piece
            if not message.get("more_body"):
                return

    def _keep(self, files: list[UploadFile], client: str) -> list[Path]:
        folder = self.scratch.uploads / secrets.token_hex(16)
        paths = [
            folder / str(number) / _safe_name(file.filename or "")
            for number, file in enumerate(files)
        ]
        try:
            for path, file in zip(paths, files, strict=True):
                path.parent.mkdir(parents=True)
                with path.open("wb") as copy:
                    shutil.copyfileobj(_rewound(file), copy, 2**20)
            self.scratch.check_room()
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self._hold(folder, client)
        return paths

    def _hold(self, folder: Path, client: str) -> None:
        """Count the folder of an upload, and delete those that are past the quota."""
        with self._guard:
            for name in [name for name, held in self._held.items() if not held.exists()]:
                self._quota.remove(name)
                del self._held[name]
            self._held[folder.name] = folder
            self._quota.add(folder.name, client, folder_bytes(folder))
            for name in self._quota.excess():
                shutil.rmtree(self._held.pop(name), ignore_errors=True)

    def _too_large(self) -> TooLarge:
        return TooLarge(f"Uploads end at {self._max_bytes // 2**20} MB here. Send a smaller file.")


def _rewound(file: UploadFile) -> BinaryIO:
    file.file.seek(0)
    return file.file


def _safe_name(name: str) -> str:
    """A file's own name without what could mean a path, or mean something to a file system."""
    name = re.sub(r"[^\w.\- ()]", "_", re.split(r"[/\\]", name)[-1]).strip(". ")
    return name.encode()[-120:].decode(errors="ignore").strip(". ") or "file"
