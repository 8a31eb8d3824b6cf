"""Fixtures of the Python tests: a pool that must end whole, the hook taken away again, and Python in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

import tensorcore as tc

if TYPE_CHECKING:
    from pathlib import Path

RunPython = Callable[..., str]


@pytest.fixture
def pool() -> Iterator[tc.MemoryPool]:
    """A pool of its own, whose metadata is walked after the test; the global pool stays the default."""
    pool = tc.MemoryPool()
    yield pool
    if not pool.closed:
        pool.check()
    pool.close()


@pytest.fixture
def hook(pool: tc.MemoryPool) -> Iterator[None]:  # noqa: ARG001 - the hook goes before the pool that it may have installed
    """Leave NumPy as it was, whatever the test installs."""
    assert tc.installed_pool() is None
    yield
    tc.uninstall()
    tc.uninstall(scope="context")


@pytest.fixture
def run_python(tmp_path: Path) -> RunPython:
    """Run a program in a process of its own and return what it prints; it must end with status 0 and write nothing to stderr."""

    def run(program: str, *options: str) -> str:
        command = [sys.executable, *options, "-c", textwrap.dedent(program)]
        result = subprocess.run(command, cwd=tmp_path, text=True, capture_output=True, timeout=120, check=False)
        assert (result.returncode, result.stderr) == (0, "")
        return result.stdout

    return run
