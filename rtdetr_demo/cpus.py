"""How many processors this process may keep busy."""

import math
import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def cpu_quota(cgroup: Path = _CGROUP) -> int:
    """Processors that the scheduler and the quota of a container leave to this process."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        count = os.cpu_count() or 1
    for read in (_version_2, _version_1):
        try:
            return max(1, min(count, math.ceil(read(cgroup))))
        except (OSError, ValueError):
            continue  # no such version here, or no limit
    return count


def _version_2(cgroup: Path) -> float:
    quota, period = (cgroup / "cpu.max").read_text(encoding="ascii").split()
    return int(quota) / int(period)


def _version_1(cgroup: Path) -> float:
    quota = int((cgroup / "cpu/cpu.cfs_quota_us").read_text(encoding="ascii"))
    if quota <= 0:
        raise ValueError("no limit")
    return quota / int((cgroup / "cpu/cpu.cfs_period_us").read_text(encoding="ascii"))
