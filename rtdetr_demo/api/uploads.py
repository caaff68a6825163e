"""`/gradio_api/upload`: files of visitors, as Gradio's clients send them, within our limits.

Gradio's own route keeps what an upload that broke off has written, and whatever came under another
name, and takes a thousand files at once.
"""

import asyncio
import contextlib
import logging
import os
import re
import secrets
import shutil
import threading
from collections import Counter
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from python_multipart import create_form_parser
from python_multipart.exceptions import FormParserError
from starlette.datastructures import Headers
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
            self.scratch.check_room(size)
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
        folder = self.scratch.uploads / secrets.token_hex(16)
        folder.mkdir(parents=True)
        form = _Form(folder)
        try:
            parser = create_form_parser(
                {"Content-Type": headers["content-type"].encode("latin-1")},
                form.refuse_field,
                form.keep_file,
                config=form.config,
            )
            async for piece in self._pieces(receive, headers):
                await asyncio.to_thread(parser.write, piece)
            await asyncio.to_thread(parser.finalize)
            if not form.paths:
                raise Refusal(400, f"Send files, and nothing else, in the field `{_FIELD}`.")
            self.scratch.check_room()
        except (FormParserError, UnicodeError, ValueError) as error:
            shutil.rmtree(folder, ignore_errors=True)
            log.info("an upload was refused: %s", error)
            raise Refusal(
                400, f"This upload cannot be read. Send up to {MAX_FILES} files in `{_FIELD}`."
            ) from None
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        await asyncio.to_thread(self._hold, folder, client)
        return [str(path) for path in form.paths]

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


class _Form:
    """What a form holds. Its files are written into a folder as they arrive, and renamed at the
    end: no byte is written twice."""

    def __init__(self, folder: Path):
        self._folder = folder
        self.config = {
            "UPLOAD_DIR": str(folder),
            "UPLOAD_DELETE_TMP": False,
            "MAX_MEMORY_FILE_SIZE": 0,
        }
        self.paths: list[Path] = []

    def refuse_field(self, _: object) -> None:
        """Raises Refusal: a form has files alone."""
        raise Refusal(400, f"Send files, and nothing else, in the field `{_FIELD}`.")

    def keep_file(self, file: Any) -> None:
        """Give a file that has arrived its name. Raises Refusal for one too many, and for another
        field."""
        if file.field_name != _FIELD.encode() or len(self.paths) == MAX_FILES:
            file.close()
            raise Refusal(400, f"Send up to {MAX_FILES} files in the field `{_FIELD}`.")
        if file.in_memory:  # an empty file
            file.flush_to_disk()
        file.close()
        name = _safe_name((file.file_name or b"").decode("utf-8", "replace"))
        path = self._folder / str(len(self.paths)) / name
        path.parent.mkdir()
        self.paths.append(Path(os.fsdecode(file.actual_file_name)).replace(path))


def _safe_name(name: str) -> str:
    """A file's own name without what could mean a path, or mean something to a file system."""
    name = re.sub(r"[^\w.\- ()]", "_", re.split(r"[/\\]", name)[-1]).strip(". ")
    return name.encode()[-120:].decode(errors="ignore").strip(". ") or "file"
