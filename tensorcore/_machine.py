"""How much memory this process may use: the machine's, or the cgroup's where that is lower (containers, batch systems).

Read once per question, from /proc and /sys; costs some tens of microseconds.
"""

from __future__ import annotations

import os
from pathlib import Path

_CGROUP_ROOT = Path("/sys/fs/cgroup")


def physical_memory() -> int:
    """Return the bytes of memory that the machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def cgroup_limit(membership: Path = Path("/proc/self/cgroup"), root: Path = _CGROUP_ROOT) -> int | None:
    """Return the lowest memory limit of this process's cgroup and its parents in bytes; None where there is none.

    Both cgroup versions are read: `memory.max` (2) and `memory.limit_in_bytes` (1).
    """
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return None
    limits: list[int] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            limits += _limits_upwards(root, path, "memory.max")
        elif "memory" in controllers.split(","):
            limits += _limits_upwards(root / "memory", path, "memory.limit_in_bytes")
    return min(limits, default=None)


def memory_limit() -> int:
    """Return the bytes that this process may use: the machine's memory, or the cgroup's limit where that is lower."""
    physical, cgroup = physical_memory(), cgroup_limit()
    return physical if cgroup is None else min(physical, cgroup)


def _limits_upwards(root: Path, path: str, name: str) -> list[int]:
    """Return the limits in the files `name` from the cgroup up to the root; 'max' and unreadable files give none."""
    group = root / path.lstrip("/")
    limits = []
    for folder in (group, *group.parents):
        if not folder.is_relative_to(root):
            break
        try:
            text = (folder / name).read_text().strip()
        except OSError:
            continue
        if text.isdigit():
            limits.append(int(text))
    return limits
