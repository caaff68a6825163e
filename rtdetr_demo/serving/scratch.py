"""The one private folder that a running demo writes into."""

import logging
import os
import shutil
import tempfile
import threading
import time
from multiprocessing.util import Finalize
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import GOING_DOWN, DemoError, DiskFull

PREFIX = "rtdetr-demo-"
SWEEP_SECONDS = 60.0
KEEP_SECONDS = 3600.0
"""How long what nobody holds any more, such as an upload that broke off, lies there."""
SPARE_BYTES = 200 * 2**20
"""Room that stays free on the disk: less than this, and nothing more is taken."""

AFTER_MULTIPROCESSING = -200
"""Lower than the exit priority of what multiprocessing removes from this folder by itself."""

log = logging.getLogger(__name__)


class Scratch:
    """A folder that only this process's user may open, gone when the process ends.

    It lies in `base`, or among the machine's temporary files. Whoever was killed leaves theirs
    behind; the next run finds it by its lock, which the dead do not hold, and deletes it. Raises
    DemoError where nothing can be written.
    """

    def __init__(self, base: Path | None = None):
        try:
            self._base = Path(base.expanduser() if base else tempfile.gettempdir()).resolve()
            self._base.mkdir(parents=True, exist_ok=True)
            self.path, self._lock = self._claim()
        except OSError as error:
            where = "The folder for temporary files" if base is None else f"{base}"
            raise DemoError(
                f"{where} cannot be written ({error.strerror or error}). Set RTDETR_DATA_DIR to a "
                "folder that can."
            ) from None
        self._owner = os.getpid()
        self._closed = threading.Event()
        self._guard = threading.Lock()
        self._remove_leftovers()
        Finalize(None, self.close, exitpriority=AFTER_MULTIPROCESSING)
        threading.Thread(target=self._keep, name="scratch", daemon=True).start()

    def use_for_everything(self) -> None:
        """Have every library of this process, and of its children, write here alone."""
        os.environ["GRADIO_TEMP_DIR"] = str(self.uploads)
        tempfile.tempdir = os.environ["TMPDIR"] = str(self.folder("temporary"))

    @property
    def uploads(self) -> Path:
        """Where Gradio puts what visitors send."""
        return self.folder("uploads")

    def folder(self, name: str) -> Path:
        """A folder of this name inside, made anew if something has deleted it."""
        self._restore()
        folder = self.path / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def check_room(self, needed: int = 0) -> None:
        """Raises DiskFull where the disk cannot take `needed` bytes and keep some to spare."""
        self._restore()
        if shutil.disk_usage(self.path).free < needed + SPARE_BYTES:
            raise DiskFull(
                "The disk of this server is full. Try again later; its operator can free some "
                "space, or set RTDETR_DATA_DIR to a folder on another disk."
            )

    def sweep(self, older_than: float = KEEP_SECONDS) -> None:
        """Delete uploads and temporary files that nobody has touched for so many seconds.

        A socket stays: whoever listens there never touches it.
        """
        limit = time.time() - older_than
        found = [*(self.path / "uploads").rglob("*"), *(self.path / "temporary").rglob("*")]
        old = (one for one in found if _touched(one) < limit and not one.is_socket())
        for path in sorted(old, reverse=True):
            try:  # in reverse, what is inside a folder comes before it
                if path.is_dir():
                    path.rmdir()
                else:
                    path.unlink()
            except OSError:
                pass  # not empty, or gone meanwhile

    def close(self) -> None:
        """Delete everything."""
        if os.getpid() != self._owner or self._closed.is_set():
            return
        self._closed.set()
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.release()
        shutil.rmtree(self.path, ignore_errors=True)

    def _claim(self) -> tuple[Path, FileLock]:
        while True:
            path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=self._base))
            lock = FileLock(path / "lock")
            lock.acquire(timeout=10)
            if (path / "lock").exists():  # else a run that started beside us took it for dead
                return path, lock
            lock.release()

    def _remove_leftovers(self) -> None:
        for path in self._base.glob(PREFIX + "*"):
            if path == self.path:
                continue
            lock = FileLock(path / "lock")
            try:
                if not _is_ours(path):
                    continue
                if (path / "lock").exists():
                    lock.acquire(timeout=0)
                elif time.time() - path.stat().st_mtime < SWEEP_SECONDS:
                    continue  # someone is just starting
                shutil.rmtree(path, ignore_errors=True)
                log.info("removed %s, which an earlier run had left", path)
            except (Timeout, OSError):
                continue
            finally:
                lock.release()

    def _restore(self) -> None:
        with self._guard:
            if self.path.exists():
                if not _is_ours(self.path):
                    raise DemoError(f"{self.path} was taken by another user: restart this server.")
                return
            if self._closed.is_set():
                raise DemoError(GOING_DOWN)
            log.warning("%s was deleted from outside; it is made again", self.path)
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock.release()
            self._lock = FileLock(self.path / "lock")
            self._lock.acquire(timeout=10)
            for name in ("uploads", "temporary"):
                (self.path / name).mkdir(exist_ok=True)

    def _keep(self) -> None:
        while not self._closed.wait(SWEEP_SECONDS):
            try:
                self._restore()
                self.sweep()
            except (OSError, Timeout, DemoError) as error:
                log.warning("the folder for temporary files could not be swept: %s", error)


def _is_ours(path: Path) -> bool:
    return not path.is_symlink() and (os.name == "nt" or path.stat().st_uid == os.getuid())


def _touched(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except OSError:
        return time.time()


def folder_bytes(folder: Path) -> int:
    """What the files in a folder and below it take."""
    return sum(_size(path) for path in folder.rglob("*"))


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0
