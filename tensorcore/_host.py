"""The host's side of the statistics: this process's memory, page faults and huge pages, and its cgroup's limit and use.

Costs about 1 ms, and 25 ms more for each GB that is resident in small pages: the kernel walks them to count the huge ones.
"""

from __future__ import annotations

import resource
import sys
from dataclasses import dataclass

from ._sheets import Sheet, bytes_text


@dataclass(frozen=True, slots=True)
class HostStatistics:
    """The machine and this process on it, in bytes; None where the system doesn't say, and then `reasons` has a sentence.

    `memory_bytes` is the machine's, `available_bytes` what it could give without swapping. `rss_bytes` is resident in this process
    (`peak`: ever), `swap_bytes` swapped out, `huge_page_bytes` the part of the resident memory in transparent huge pages. Faults
    are this process's, ever. The cgroup's use counts all of its processes, and their page cache. Sources: getrusage, /proc,
    /sys/fs/cgroup.
    """

    memory_bytes: int
    available_bytes: int | None
    rss_bytes: int | None
    peak_rss_bytes: int
    swap_bytes: int | None
    huge_page_bytes: int | None
    minor_faults: int
    major_faults: int
    cgroup_version: str | None
    cgroup_limit_bytes: int | None
    cgroup_used_bytes: int | None
    reasons: tuple[str, ...] = ()


def read_host() -> HostStatistics:
    """Return the figures of now."""
    from ._machine import cgroup_memory, physical_memory  # at use: it brings pathlib

    usage = resource.getrusage(resource.RUSAGE_SELF)  # first: the rest faults too
    reasons: list[str] = []
    status = _read_sizes("/proc/self/status", reasons)
    rollup = _read_sizes("/proc/self/smaps_rollup", reasons)
    version, limit, used = cgroup_memory()
    return HostStatistics(
        memory_bytes=physical_memory(),
        available_bytes=_read_sizes("/proc/meminfo", reasons).get("MemAvailable"),
        rss_bytes=status.get("VmRSS"),
        peak_rss_bytes=max(usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024), status.get("VmRSS", 0)),
        swap_bytes=status.get("VmSwap"),
        huge_page_bytes=rollup.get("AnonHugePages"),
        minor_faults=usage.ru_minflt,
        major_faults=usage.ru_majflt,
        cgroup_version=version,
        cgroup_limit_bytes=limit,
        cgroup_used_bytes=used,
        reasons=tuple(reasons),
    )


def _read_sizes(path: str, reasons: list[str]) -> dict[str, int]:
    """Return the bytes of lines like 'VmRSS:  1672 kB' of a /proc file by their names; nothing, and a reason, without the file."""
    from ._machine import read_text

    text = read_text(path)
    if text is None:
        reasons.append(f"{path} can't be read here")
        return {}
    lines = (line.split() for line in text.splitlines())
    return {words[0].rstrip(":"): int(words[1]) << 10 for words in lines if len(words) == 3 and words[2] == "kB"}


def host_sheet(host: HostStatistics) -> Sheet:
    """Return the figures as a table."""
    limit = "none" if host.cgroup_limit_bytes is None else bytes_text(host.cgroup_limit_bytes)
    return Sheet(
        "this process",
        ["what", "value"],
        [
            ["resident", f"{bytes_text(host.rss_bytes)} (peak {bytes_text(host.peak_rss_bytes)})"],
            ["in huge pages", bytes_text(host.huge_page_bytes)],
            ["swapped", bytes_text(host.swap_bytes)],
            ["page faults", f"{host.minor_faults:,} minor, {host.major_faults:,} major"],
            ["machine", f"{bytes_text(host.memory_bytes)}, {bytes_text(host.available_bytes)} available"],
            [
                "cgroup",
                f"{host.cgroup_version}: limit {limit}, used {bytes_text(host.cgroup_used_bytes)}"
                if host.cgroup_version
                else "no cgroup",
            ],
        ],
        list(host.reasons),
        numbers=False,
    )
