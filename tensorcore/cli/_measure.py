"""Runs a command in a process of its own and measures it: wall time, CPU, page faults, peak RSS.

Cost: the launcher's start, about 10 ms, outside the measured time. Limit: grandchildren count only if they were waited for.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

_LAUNCHER = str(Path(__file__).with_name("_launcher.py"))


@dataclass(frozen=True, slots=True)
class Usage:
    """What one run used."""

    exit_code: int  # as `subprocess` has it: -N for a death by signal N
    wall_s: float
    user_s: float
    system_s: float
    minor_faults: int
    major_faults: int
    peak_rss_bytes: int

    @property
    def cpu_s(self) -> float:
        """Seconds of CPU, in the program and in the kernel for it."""
        return self.user_s + self.system_s


def run_measured(
    command: Sequence[str],
    *,
    stdin: IO[Any] | int | None = None,
    stdout: IO[Any] | int | None = None,
    stderr: IO[Any] | int | None = None,
    environment: dict[str, str] | None = None,
) -> Usage:
    """Run ``command`` (its first word a path) to its end; its usage.

    KeyboardInterrupt during the run ends the command first. RuntimeError where the command could not be started.
    """
    reader, writer = os.pipe()
    try:
        launcher = subprocess.Popen(
            [sys.executable, "-I", "-S", _LAUNCHER, str(writer), *command],
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env=environment,
            pass_fds=[writer],
        )
    finally:
        os.close(writer)
    with os.fdopen(reader) as lines:
        try:
            line = lines.readline()
        except BaseException:
            launcher.terminate()  # it passes the signal on
            launcher.wait()
            raise
        launcher.wait()
    if not line:
        raise RuntimeError(f"{command[0]} could not be started")
    return Usage(**json.loads(line))


def exit_like(exit_code: int) -> int:
    """The exit code of a shell for `Usage.exit_code`: 128 + N for a death by signal N."""
    return 128 - exit_code if exit_code < 0 else exit_code
