"""How much memory this process may use: the machine's, or the cgroup's where that is lower (containers, batch systems).

Read once per question, from /proc and /sys; costs some tens of microseconds. What the system doesn't say is None.
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
    limits: list[int] = []
    for line in (read_text(membership) or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            limits += _limits_upwards(root, path, "memory.max")
        elif "memory" in controllers.split(","):
            limits += _limits_upwards(root / "memory", path, "memory.limit_in_bytes")
    return min(limits, default=None)


def cgroup_memory(
    membership: Path = Path("/proc/self/cgroup"), root: Path = _CGROUP_ROOT
) -> tuple[str | None, int | None, int | None]:
    """Return this process's memory cgroup: its version ('v1', 'v2', None where there is none), its limit and its use in bytes.

    The limit is None where it is above what the machine has: version 1 says 'none' by a number next to 2**63. The use counts all
    processes of the cgroup, and their page cache.
    """
    lines = [line.split(":", 2)[1:] for line in (read_text(membership) or "").splitlines()]
    paths = {controller: path for controllers, path in lines for controller in controllers.split(",")}
    if "memory" in paths:
        version, used = "v1", _read_bytes(_group(root / "memory", paths["memory"]) / "memory.usage_in_bytes")
    elif "" in paths:
        version, used = "v2", _read_bytes(_group(root, paths[""]) / "memory.current")
    else:
        return None, None, None
    limit = cgroup_limit(membership, root)
    return version, limit if limit is not None and limit < physical_memory() else None, used


def _group(root: Path, path: str) -> Path:
    """Return a cgroup's folder; inside a container the path is the host's, and the container's own group is the root."""
    folder = root / path.lstrip("/")
    return folder if folder.is_dir() else root


def _read_bytes(path: Path) -> int | None:
    text = read_text(path)
    return int(text) if text and text.isdigit() else None


def read_text(path: str | Path) -> str | None:
    """Return the stripped content of a small file, None where it can't be read."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


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
        limit = _read_bytes(folder / name)
        if limit is not None:
            limits.append(limit)
    return limits
