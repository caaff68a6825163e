"""What runs beside a test and below this process."""

import os
import re
import time
from collections.abc import Callable
from pathlib import Path


def wait_for(condition: Callable[[], object], seconds: float = 30) -> None:
    """Wait until a condition holds; fail the test where it does not in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


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


def seconds_of_cpu(pid: int) -> float:
    """What a process and its descendants have used so far."""
    ticks = 0
    for one in (pid, *descendants(pid)):
        fields = Path(f"/proc/{one}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def holdings(pid: int, folder: Path) -> dict[str, float]:
    """What a process holds: memory with its descendants', open files, threads, the bytes of the
    files in a folder, and descendants."""
    family = [pid, *descendants(pid)]
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    resident = 0
    for one in family:
        try:
            resident += int(Path(f"/proc/{one}/statm").read_text(encoding="utf-8").split()[1])
        except OSError:
            pass  # it has ended
    size = 0
    for path in folder.rglob("*"):
        try:
            size += path.stat().st_size if path.is_file() else 0
        except OSError:
            pass
    return {
        "memory MB": resident * os.sysconf("SC_PAGE_SIZE") / 1e6,
        "files": len(os.listdir(f"/proc/{pid}/fd")),
        "threads": int(re.findall(r"Threads:\s+(\d+)", status)[0]),
        "scratch MB": size / 1e6,
        "children": len(family) - 1,
    }


ALLOWED = {"memory MB": 30, "files": 8, "threads": 4, "scratch MB": 5, "children": 0}
"""What each may grow beside 5 percent, where 5 percent are less than one of a kind."""


def grown(before: dict[str, float], after: dict[str, float]) -> list[str]:
    """Which of `holdings` have grown by more than 5 percent."""
    return [
        name
        for name, value in after.items()
        if value > before[name] * 1.05 and value - before[name] > ALLOWED[name]
    ]
