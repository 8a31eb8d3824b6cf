"""What the machine offers, read without ever failing: CPU, pages, NUMA nodes, limits.

Each reader returns None where the system doesn't say (macOS has no /proc, a container no cgroup files).
"""

from __future__ import annotations

import os
import platform
import re
import resource
from pathlib import Path

from tensorcore._machine import cgroup_limit, physical_memory

_CGROUP = Path("/sys/fs/cgroup")
_THP = Path("/sys/kernel/mm/transparent_hugepage")
_SIMD = (("avx512f", "AVX-512"), ("avx2", "AVX2"), ("avx", "AVX"), ("sse4_2", "SSE4.2"), ("sve", "SVE"), ("asimd", "NEON"))


def read_text(path: str | Path) -> str | None:
    """The stripped content of a small file, or None where it can't be read."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def cpu_name() -> str:
    """The processor's name as the system gives it."""
    match = re.search(r"^model name\s*:\s*(.+)$", read_text("/proc/cpuinfo") or "", re.MULTILINE)
    return match[1] if match else platform.processor() or platform.machine()


def simd_level() -> str | None:
    """The widest SIMD instructions of the CPU, e.g. 'AVX2'."""
    match = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", read_text("/proc/cpuinfo") or "", re.MULTILINE)
    if match is None:
        return "NEON" if platform.machine() == "arm64" else None
    flags = match[1].split()
    return next((name for flag, name in _SIMD if flag in flags), None)


def cores() -> dict[str, int | None]:
    """Cores in the machine, and those that this process may run on."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"present": os.cpu_count(), "usable": usable}


def huge_pages() -> dict[str, str | int | None]:
    """Transparent huge pages: the chosen word of `enabled` and `defrag`, and the page's bytes."""
    size = read_text(_THP / "hpage_pmd_size")
    return {
        "enabled": _chosen(read_text(_THP / "enabled")),
        "defrag": _chosen(read_text(_THP / "defrag")),
        "bytes": int(size) if size and size.isdigit() else None,
    }


def _chosen(text: str | None) -> str | None:
    match = re.search(r"\[(\w+)\]", text or "")
    return match[1] if match else None


def numa_nodes() -> int | None:
    """How many NUMA nodes are online."""
    text = read_text("/sys/devices/system/node/online")
    return len(_expand(text)) if text else None


def _expand(ranges: str) -> list[int]:
    """[0, 1, 2, 5] for '0-2,5'."""
    numbers: list[int] = []
    for part in ranges.split(","):
        first, _, last = part.partition("-")
        numbers += range(int(first), int(last or first) + 1)
    return numbers


def resource_limits() -> dict[str, int | None]:
    """Soft limits of this process in bytes, None where unlimited: address space and locked memory."""
    return {name: _soft_limit(name) for name in ("RLIMIT_AS", "RLIMIT_MEMLOCK") if hasattr(resource, name)}


def _soft_limit(name: str) -> int | None:
    soft, _ = resource.getrlimit(getattr(resource, name))
    return None if soft == resource.RLIM_INFINITY else soft


def cgroup_memory() -> dict[str, int | str | None]:
    """The memory cgroup of this process: its version, the lowest limit up to the root (None: none), and its use, in bytes."""
    for line in (read_text("/proc/self/cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            return {"version": "v1", "limit": _cgroup_limit(), "used": _used(_CGROUP / "memory", path, "memory.usage_in_bytes")}
    for line in (read_text("/proc/self/cgroup") or "").splitlines():
        if line.startswith("0::"):
            return {"version": "v2", "limit": _cgroup_limit(), "used": _used(_CGROUP, line[3:], "memory.current")}
    return {"version": None, "limit": None, "used": None}


def _cgroup_limit() -> int | None:
    """None where the limit is above what the machine has: version 1 says 'none' by a number next to 2**63."""
    limit = cgroup_limit()
    return limit if limit is not None and limit < physical_memory() else None


def _used(root: Path, path: str, name: str) -> int | None:
    here = root / path.lstrip("/")
    text = read_text((here if here.is_dir() else root) / name)  # inside a container the path is the host's
    return int(text) if text and text.isdigit() else None
