"""The journal of a batch run that another process is writing."""

import sqlite3
from pathlib import Path


def rows_in_journal(path: Path) -> int:
    """How many rows it holds so far; 0 before it exists."""
    try:
        database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    except sqlite3.OperationalError:
        return 0
    try:
        return database.execute("SELECT count(*) FROM rows").fetchone()[0]
    except sqlite3.OperationalError:
        return 0
    finally:
        database.close()
