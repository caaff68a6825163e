"""Results kept for a while, so that a visitor can download what they see."""

import dataclasses
import os
import secrets
import shutil
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from ..errors import Expired
from ..predictions import Predictions
from .owners import owned_folder
from .quota import Quota
from .scratch import Scratch

CAPACITY = 200


@dataclass(frozen=True)
class Result:
    """Predictions and the folder that holds the picture they are of (`original`).

    `owner`: whom it counts against, such as a visitor's address. `visitor`: who may use it.
    """

    id: str
    folder: Path
    predictions: Predictions
    owner: str
    visitor: str = ""

    @property
    def original(self) -> Path:
        return self.folder / "original"


class ResultStore:
    """The last `CAPACITY` results, under names that nobody can guess; older ones are deleted.

    So are the oldest of those where their files, downloads included, take more than `max_bytes`,
    and an owner's oldest where theirs are more than a share of either (`quota.OWN_SHARE`).
    """

    def __init__(self, scratch: Scratch, capacity: int = CAPACITY, max_bytes: float = float("inf")):
        self._scratch = scratch
        self._quota = Quota(max_bytes, capacity)
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, Result] = OrderedDict()

    def replace(self, name: str, predictions: Predictions, visitor: str = "") -> Result:
        """Put other predictions for the same picture in a result's place. Raises Expired."""
        self.get(name, visitor)
        with self._lock:
            if name in self._kept:  # what was dropped stays dropped
                self._kept[name] = dataclasses.replace(self._kept[name], predictions=predictions)
        return self.get(name, visitor)

    def keep(
        self, picture: bytes | Path, predictions: Predictions, owner: str, visitor: str = ""
    ) -> Result:
        """Store a result with its picture: the bytes of a file, or a file, which is linked.

        Raises DiskFull where the disk is full.
        """
        size = len(picture) if isinstance(picture, bytes) else picture.stat().st_size
        self._scratch.check_room(size)
        name = secrets.token_urlsafe(16)
        folder = owned_folder(self._scratch.folder("results"), visitor)
        result = Result(name, folder, predictions, owner, visitor)
        result.folder.mkdir(parents=True)
        try:
            if isinstance(picture, bytes):
                result.original.write_bytes(picture)
            else:
                _link(picture, result.original)
        except OSError:
            shutil.rmtree(result.folder, ignore_errors=True)
            raise
        with self._lock:
            self._kept[name] = result
            self._quota.add(name, owner, size)
            dropped = [self._kept.pop(other) for other in self._quota.excess()]
        for old in dropped:
            shutil.rmtree(old.folder, ignore_errors=True)
        return result

    def add_file(self, result: Result, name: str, content: bytes) -> Path:
        """Write a further file of a result, and count it. Raises DiskFull, Expired."""
        self._scratch.check_room(len(content))
        self.get(result.id, result.visitor)
        part = result.folder / f"{secrets.token_hex(8)}.part"
        part.write_bytes(content)
        file = part.replace(result.folder / name)  # never seen half written
        with self._lock:
            self._quota.grow(result.id, len(content))
        return file

    def get(self, name: str, visitor: str = "") -> Result:
        """The result named `name`. Raises Expired if it is deleted or another visitor's."""
        with self._lock:
            result = self._kept.get(name)
        if result is None or result.visitor != visitor:
            raise Expired("This result has expired. Open the picture again.")
        return result


def _link(source: Path, target: Path) -> None:
    """Give a file a second name; copy it where the file system has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
