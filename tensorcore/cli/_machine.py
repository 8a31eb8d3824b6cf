"""What the machine offers, read without ever failing: CPU, pages, NUMA nodes, limits.

Each reader returns None where the system doesn't say (macOS has no /proc).
"""

from __future__ import annotations

import os
import platform
import re
import resource
from pathlib import Path

from tensorcore._machine import read_text

_THP = Path("/sys/kernel/mm/transparent_hugepage")
_SIMD = (("avx512f", "AVX-512"), ("avx2", "AVX2"), ("avx", "AVX"), ("sse4_2", "SSE4.2"), ("sve", "SVE"), ("asimd", "NEON"))


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
