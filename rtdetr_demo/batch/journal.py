"""What of a run is done, so that a killed one can go on: an SQLite database beside the output.

One table holds the run's settings, one the rows. Each row is a transaction: a killed process loses
none, a machine that loses power loses the last few, and what was torn is never read.
"""

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import BadInput
from .rows import Row, RunInfo

_TABLES = """
CREATE TABLE IF NOT EXISTS run (settings TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS rows (number INTEGER PRIMARY KEY, record TEXT NOT NULL);
"""


class Journal:
    """The rows of one run, in the order in which they were done. A context manager.

    For one thread. On disk: `path`, SQLite's own files beside it, and a lock.
    """

    def __init__(self, out: Path):
        self.path = out.with_name(out.name + ".journal")
        self.done: set[str] = set()
        """Names of the pictures whose rows are here."""
        self.failed = 0
        """How many of these could not be read."""
        self._lock = FileLock(self.path.with_name(self.path.name + ".lock"))
        self._database: sqlite3.Connection | None = None

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
            self._database = sqlite3.connect(self.path, isolation_level=None)
            # With a write-ahead log a transaction need not wait for the disk, and is whole or not
            # there. Where the file system has no room for one, SQLite goes on without.
            self._database.execute("PRAGMA journal_mode = WAL").fetchone()
            self._database.execute("PRAGMA synchronous = NORMAL")
            self._database.executescript(_TABLES)
            self._begin(run)
            for row in self.rows():
                self._count(row)
        except Timeout:
            raise BadInput(f"Another run is writing {self.path}. Wait for it to end.") from None
        except sqlite3.OperationalError as error:
            raise BadInput(f"{self.path} could not be written: {error}.") from None
        except (sqlite3.DatabaseError, ValueError, TypeError):
            raise BadInput(
                f"{self.path} is damaged, or of another version of this demo. Delete it to begin "
                "anew."
            ) from None
        except OSError as error:
            raise BadInput(f"{self.path} could not be written: {error.strerror}.") from None

    def _begin(self, run: RunInfo) -> None:
        assert self._database is not None
        begun = self._database.execute("SELECT settings FROM run").fetchone()
        if begun is None:
            settings = json.dumps(run.to_json())
            self._database.execute("INSERT INTO run VALUES (?)", (settings,))
            return
        settings = json.loads(begun[0])
        for name, value in run.to_json().items():
            if settings.get(name) != value:
                raise BadInput(
                    f"The run to resume had another {name.replace('_', ' ')}. Give the same "
                    f"options as before, or delete {self.path} to begin anew."
                )

    def _count(self, row: Row) -> None:
        self.done.add(row.picture)
        self.failed += row.error is not None

    def add(self, row: Row) -> None:
        """Keep a row. Raises BadInput where the disk is full."""
        assert self._database is not None, "opened"
        self._count(row)
        record = json.dumps(row.to_record(), separators=(",", ":"))
        try:
            self._database.execute("INSERT INTO rows (record) VALUES (?)", (record,))
        except sqlite3.Error as error:
            raise BadInput(
                f"{self.path} could not be written: {error}. Make room, and go on with --resume."
            ) from None

    def rows(self) -> Iterator[Row]:
        """All rows that are here, from the first."""
        assert self._database is not None, "opened"
        for (record,) in self._database.execute("SELECT record FROM rows ORDER BY number"):
            yield Row.from_record(json.loads(record))

    def remove(self) -> None:
        """Delete it, once the output is whole."""
        self._close()  # Windows does not delete open files
        self.path.unlink()

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self._close()
        if self._lock.is_locked:
            self._lock.release()
            # On Windows another run may have opened it by now.
            with contextlib.suppress(OSError):
                Path(self._lock.lock_file).unlink(missing_ok=True)
