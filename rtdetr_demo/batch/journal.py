"""What of a run is done, so that a killed one can go on: JSON lines beside the output.

The first line holds the run's settings, each later one a row. A line that a kill tore is cut off
when the journal is opened again: its picture is done anew, and no other.
"""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import BadInput
from .rows import Row, RunInfo

SYNC_SECONDS = 5.0
"""A machine that loses power loses rows of so many seconds; a killed process loses none."""


class Journal:
    """The rows of one run, in the order in which they were done. A context manager."""

    def __init__(self, out: Path):
        self.path = out.with_name(out.name + ".journal")
        self.done: set[str] = set()
        """Names of the pictures whose rows are here."""
        self.failed = 0
        """How many of these could not be read."""
        self._lock = FileLock(self.path.with_name(self.path.name + ".lock"))
        self._synced = time.monotonic()

    def open(self, run: RunInfo, resume: bool) -> None:
        """Begin, or go on where `resume`. Raises BadInput where that would lose or mix rows."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
            if not resume and self.path.exists():
                raise BadInput(
                    f"{self.path} holds the rows of a run that did not end. Go on with --resume, "
                    "or delete it to begin anew."
                )
            self._file = self.path.open("r+b" if self.path.exists() else "w+b")
            self._cut_and_count(run)
        except Timeout:
            raise BadInput(f"Another run is writing {self.path}. Wait for it to end.") from None
        except OSError as error:
            raise BadInput(f"{self.path} could not be written: {error.strerror}.") from None

    def _cut_and_count(self, run: RunInfo) -> None:
        whole = 0
        header = self._file.readline()
        if header.endswith(b"\n"):
            begun = json.loads(header)
            for name, value in run.to_json().items():
                if begun.get(name) != value:
                    raise BadInput(
                        f"The run to resume had another {name.replace('_', ' ')}. Give the same "
                        f"options as before, or delete {self.path} to begin anew."
                    )
            whole = len(header)
            for line in self._file:
                if not line.endswith(b"\n"):
                    break
                try:
                    self._count(Row.from_record(json.loads(line)))
                except ValueError:
                    break  # power was lost: what follows is not to be trusted
                whole += len(line)
        self._file.truncate(whole)
        self._file.seek(whole)
        if not whole:
            self._write(run.to_json())

    def _count(self, row: Row) -> None:
        self.done.add(row.picture)
        self.failed += row.error is not None

    def add(self, row: Row) -> None:
        """Keep a row. Raises BadInput where the disk is full."""
        self._count(row)
        try:
            self._write(row.to_record())
            if time.monotonic() - self._synced > SYNC_SECONDS:
                os.fsync(self._file.fileno())
                self._synced = time.monotonic()
        except OSError as error:
            raise BadInput(
                f"{self.path} could not be written: {error.strerror}. Make room, and go on with "
                "--resume."
            ) from None

    def _write(self, content: dict | list) -> None:
        self._file.write(json.dumps(content, separators=(",", ":")).encode() + b"\n")
        self._file.flush()

    def rows(self) -> Iterator[Row]:
        """All rows that are here, from the first."""
        with self.path.open("rb") as file:
            file.readline()
            for line in file:
                yield Row.from_record(json.loads(line))

    def remove(self) -> None:
        """The output is whole: forget."""
        self.path.unlink()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        if file := getattr(self, "_file", None):
            file.close()
        if self._lock.is_locked:
            self._lock.release()
            Path(self._lock.lock_file).unlink(missing_ok=True)
