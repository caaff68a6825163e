"""Results kept for a while, so that a visitor can download what they see."""

import dataclasses
import secrets
import shutil
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from ..errors import Expired
from ..predictions import Predictions
from .quota import past_quota
from .scratch import Scratch, folder_bytes

CAPACITY = 200


@dataclass(frozen=True)
class Result:
    """Predictions and the folder that holds the picture they are of (`original`).

    `owner`: whom it counts against, such as a visitor's address.
    """

    id: str
    folder: Path
    predictions: Predictions
    owner: str

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
        self._capacity = capacity
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, Result] = OrderedDict()

    def replace(self, name: str, predictions: Predictions) -> Result:
        """Put other predictions for the same picture in a result's place."""
        with self._lock:
            if name in self._kept:  # what was dropped stays dropped
                self._kept[name] = dataclasses.replace(self._kept[name], predictions=predictions)
        return self.get(name)

    def keep(self, content: bytes, predictions: Predictions, owner: str) -> Result:
        """Store a result with the bytes of its picture. Raises DiskFull where the disk is full."""
        self._scratch.check_room(len(content))
        name = secrets.token_urlsafe(16)
        result = Result(name, self._scratch.folder("results") / name, predictions, owner)
        result.folder.mkdir(parents=True)
        try:
            result.original.write_bytes(content)
        except OSError:
            shutil.rmtree(result.folder, ignore_errors=True)
            raise
        with self._lock:
            self._kept[name] = result
            kept = list(self._kept.values())
            held = [(one.owner, folder_bytes(one.folder)) for one in kept]
            dropped = [kept[i] for i in past_quota(held, self._max_bytes, self._capacity)]
            for old in dropped:
                del self._kept[old.id]
        for old in dropped:
            shutil.rmtree(old.folder, ignore_errors=True)
        return result

    def get(self, name: str) -> Result:
        """The result named `name`. Raises Expired if it has been deleted."""
        with self._lock:
            result = self._kept.get(name)
        if result is None:
            raise Expired("This result is no longer held here. Run the picture again.")
        return result
