"""Other allocators on this machine: where their shared libraries are, and how a process is started on one of them."""

from __future__ import annotations

import os
import sys
from ctypes.util import find_library
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_LIBRARIES = {"mimalloc": ("mimalloc",), "jemalloc": ("jemalloc",), "tcmalloc": ("tcmalloc_minimal", "tcmalloc")}
NAMES = ("glibc", *_LIBRARIES)  # glibc: the system's own malloc, whatever it is


def peer_environments(names: Sequence[str]) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    """The environments that put each peer under a process, and for each peer that can't be had the reason.

    Raises ValueError for a name that isn't in `NAMES`.
    """
    found: dict[str, dict[str, str]] = {}
    missing: dict[str, str] = {}
    for name in names:
        if name not in NAMES:
            raise ValueError(f"{name!r} is none of {', '.join(NAMES)}")
        if name == "glibc":
            found[name] = dict(os.environ)
        elif sys.platform != "linux":
            missing[name] = "peers are preloaded, which this system doesn't offer as Linux does"
        elif (library := _library(name)) is None:
            missing[name] = f"not installed (no lib{_LIBRARIES[name][0]}.so)"
        else:
            found[name] = {**os.environ, "LD_PRELOAD": library}
    return found, missing


def _library(name: str) -> str | None:
    return next((path for stem in _LIBRARIES[name] if (path := find_library(stem)) is not None), None)


def preload_failed(stderr: str) -> bool:
    """The dynamic linker says so and carries on without the library, which would then be measured as something else."""
    return "cannot be preloaded" in stderr
