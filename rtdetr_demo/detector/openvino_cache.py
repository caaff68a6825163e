"""Converted networks on disk, so that a second start converts and compiles nothing anew.

Each entry is a folder: `model.xml` and `model.bin`, OpenVINO's form of a network, and beside them
`compiled`, where OpenVINO keeps what it compiled. All of it can be deleted at any time.
"""

import contextlib
import hashlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .network import StagedRTDetr

log = logging.getLogger(__name__)

FORMAT = 1
"""Version of the converted network's form: its outputs, and how they are computed."""

LIMIT_BYTES = 2_000_000_000
"""Bytes that all entries may take; the least recently used are deleted past this."""


def default_folder() -> Path:
    """The user's folder for caches: %LOCALAPPDATA%, XDG_CACHE_HOME or ~/.cache."""
    root = os.environ.get("LOCALAPPDATA" if os.name == "nt" else "XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "rtdetr-demo" / "openvino"


def fingerprint(stages: StagedRTDetr, size: tuple[int, int]) -> str:
    """A name for everything that the converted network depends on."""
    digest = hashlib.sha256()
    versions = [version(name) for name in ("openvino", "torch", "transformers")]
    settings = (FORMAT, versions, size, stages.encode.queries, stages.encode.encoder.config)
    digest.update("\n".join(map(str, settings)).encode())
    for name, tensor in sorted(stages.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().contiguous().numpy().data)
    return digest.hexdigest()[:32]


class ConvertedCache:
    """Converted networks in `folder`, which is made private to the user.

    A folder that cannot be written to, or that other users may write to, is not used: then
    nothing is kept, and nothing fails.
    """

    def __init__(self, folder: Path, limit_bytes: int = LIMIT_BYTES):
        self._folder: Path | None = folder
        self._limit_bytes = limit_bytes
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if _is_open_to_others(folder):
                log.warning("%s is not used: other users may write to it", folder)
                self._folder = None
            else:
                tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            log.info("converted networks are not kept: %s", error)
            self._folder = None

    def compiled(self, name: str) -> Path | None:
        """Where OpenVINO may keep what it compiles of an entry, if there is such an entry."""
        entry = self._folder and self._folder / name
        return entry / "compiled" if entry and entry.is_dir() else None

    def load(self, name: str, read: Callable[[Path], Any]) -> Any | None:
        """What `read` makes of an entry's `model.xml`; None where there is none, or a damaged one,
        which is deleted."""
        if self._folder is None or not (self._folder / name).is_dir():
            return None
        try:
            model = read(self._folder / name / "model.xml")
        except Exception as error:
            # Damaged files fail in any way that the reader of the format has.
            log.info("the converted network %s is damaged: %s", name, error)
            self.discard(name)
            return None
        with contextlib.suppress(OSError):
            os.utime(self._folder / name)  # the entries' times say which was used last
        return model

    def store(self, name: str, write: Callable[[Path], None]) -> bool:
        """Add an entry whose `model.xml` is what `write` writes; whether it is there now."""
        if self._folder is None:
            return False
        try:
            # Written beside it and moved: an entry is whole or absent.
            unfinished = Path(tempfile.mkdtemp(dir=self._folder))
            try:
                write(unfinished / "model.xml")
                (unfinished / "compiled").mkdir(mode=0o700)
                os.replace(unfinished, self._folder / name)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
            self._drop_excess(name)
        except (OSError, RuntimeError) as error:  # RuntimeError: OpenVINO could not write
            log.info("the converted network is not kept: %s", error)
        return (self._folder / name).is_dir()

    def discard(self, name: str) -> None:
        """Delete an entry."""
        if self._folder is not None:
            shutil.rmtree(self._folder / name, ignore_errors=True)

    def _drop_excess(self, kept: str) -> None:
        """Delete the least recently used entries other than `kept` past the limit."""
        assert self._folder is not None
        entries = [entry for entry in self._folder.iterdir() if entry.is_dir()]
        entries.sort(key=lambda one: (one.name == kept, one.stat().st_mtime), reverse=True)
        total = 0
        for entry in entries:
            total += sum(file.stat().st_size for file in entry.rglob("*") if file.is_file())
            if total > self._limit_bytes and entry.name != kept:
                shutil.rmtree(entry, ignore_errors=True)


def _is_open_to_others(folder: Path) -> bool:
    if os.name == "nt":
        return False
    status = folder.stat()
    return status.st_uid != os.getuid() or bool(status.st_mode & 0o022)
