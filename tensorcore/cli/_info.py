"""``tensorcore info``: what this machine and this installation offer, for a bug report or before a long run."""

from __future__ import annotations

import json
import mmap
import platform
import sys
from importlib import metadata
from typing import TYPE_CHECKING, Any

import tensorcore as tc
from tensorcore._backend import find_backend, why_unavailable
from tensorcore.cli import _machine
from tensorcore.cli._tables import Sheet, bytes_text, show

if TYPE_CHECKING:
    import argparse


def info_command(options: argparse.Namespace) -> int:
    """Print the facts as tables, or as JSON with ``--json``; always 0."""
    statistics = tc.statistics()
    facts = collect(statistics)
    if options.json:
        print(json.dumps(facts, indent=1))
    else:
        show([*_sheets(facts), *statistics.machine_sheets()])
    return 0


def collect(statistics: tc.Statistics | None = None) -> dict[str, Any]:
    """Every fact, by name, ready for JSON; None where the system doesn't say. Sizes in bytes."""
    return {
        "tensorcore": tc.__version__,
        "python": {
            "version": platform.python_version(),
            "executable": sys.executable,
            "free_threaded": not getattr(sys, "_is_gil_enabled", lambda: True)(),
        },
        "packages": {name: _version(*names) for name, names in _PACKAGES.items()},
        "backends": _backends(),
        "hook": _hook(),
        "system": f"{platform.system()} {platform.release()}",
        "cpu": {"name": _machine.cpu_name(), "simd": _machine.simd_level(), **_machine.cores()},
        "page_bytes": mmap.PAGESIZE,
        "huge_pages": _machine.huge_pages(),
        "numa_nodes": _machine.numa_nodes(),
        "limits": _machine.resource_limits(),
        "statistics": (statistics or tc.statistics()).as_dict(),
    }


_PACKAGES = {
    "numpy": ("numpy",),
    "cupy": ("cupy", "cupy-cuda13x", "cupy-cuda12x"),
    "cffi": ("cffi",),
    "nvidia-ml-py": ("nvidia-ml-py",),
    "matplotlib": ("matplotlib",),
}


def _version(*names: str) -> str | None:
    """Of the first distribution that is installed; nothing is imported."""
    for name in names:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def _backends() -> dict[str, str]:
    """The number of devices of each kind, or why there are none."""
    states = {}
    for kind in ("cpu", "cuda"):
        reason = why_unavailable(kind)
        states[kind] = f"{find_backend(kind).device_count()} device(s)" if reason is None else f"missing: {reason}"
    return states


def _hook() -> str:
    """The way `tensorcore.install` would take, found by its self-test."""
    try:
        with tc.installed():
            return str(tc.hook_mode())
    except tc.TensorCoreError as error:
        return f"none: {error}"


def _sheets(facts: dict[str, Any]) -> list[Sheet]:
    python, cpu, huge = facts["python"], facts["cpu"], facts["huge_pages"]
    versions = [[name, version or "not installed"] for name, version in facts["packages"].items()]
    threaded = " (free-threaded)" if python["free_threaded"] else ""
    installation = Sheet(
        "installation",
        ["what", "value"],
        [["tensorcore", facts["tensorcore"]], ["Python", f"{python['version']}{threaded}, {python['executable']}"], *versions]
        + [[f"backend {name}", state] for name, state in facts["backends"].items()]
        + [["NumPy hook", facts["hook"]]],
        numbers=False,
    )
    machine = Sheet(
        "machine",
        ["what", "value"],
        [
            ["system", facts["system"]],
            ["CPU", cpu["name"]],
            ["cores", f"{cpu['usable']} usable of {cpu['present']}"],
            ["SIMD", cpu["simd"] or "unknown"],
            ["page", bytes_text(facts["page_bytes"])],
            ["huge page", _huge_text(huge)],
            ["NUMA nodes", str(facts["numa_nodes"] or "unknown")],
            *([name, "unlimited" if value is None else bytes_text(value)] for name, value in facts["limits"].items()),
        ],
        numbers=False,
    )
    return [installation, machine]


def _huge_text(huge: dict[str, Any]) -> str:
    if huge["enabled"] is None:
        return "not offered by this system"
    return f"{bytes_text(huge['bytes'])}, enabled: {huge['enabled']}, defrag: {huge['defrag']}"
