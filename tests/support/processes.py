"""What runs below this process."""

import os
from pathlib import Path


def descendants(root: int | None = None) -> dict[int, str]:
    """Command lines of all processes below `root` (this one), by their ids."""
    found: dict[int, str] = {}
    parents: dict[int, int] = {}
    commands: dict[int, str] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text()
            command = (
                (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            )
        except OSError:
            continue  # it has ended
        pid = int(folder.name)
        parents[pid] = int(stat.rpartition(")")[2].split()[1])
        commands[pid] = command
    below = {root or os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in below and pid not in below}:
        below |= more
        found |= {pid: commands[pid] for pid in more}
    return found
