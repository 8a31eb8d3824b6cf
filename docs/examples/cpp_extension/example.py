"""Compiles moving_average.cpp, smooths a year of noisy hourly temperatures with it, and shows its memory among Python's figures.

Needs a C++17 compiler: ``c++``, or what the environment variable CXX names.
"""

import importlib
import math
import os
import shlex
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from types import ModuleType

import numpy as np

import tensorcore as tc

HOURS = 365 * 24


def build(source: Path, folder: Path) -> ModuleType:
    """Compile an extension into a folder and import it: one command, no link with libtensorcore."""
    target = folder / (source.stem + sysconfig.get_config_var("EXT_SUFFIX"))
    command = [*shlex.split(os.environ.get("CXX", "c++")), "-std=c++17", "-O2", "-fPIC", "-shared"]
    if sys.platform == "darwin":
        command += ["-undefined", "dynamic_lookup"]  # Python's own functions are found at import
    command += [f"-I{sysconfig.get_path('include')}", f"-I{tc.get_include()}", str(source), "-o", str(target)]
    subprocess.run(command, check=True)
    sys.path.insert(0, str(folder))
    return importlib.import_module(source.stem)


def main() -> None:
    pool = tc.get_global_memory_pool()
    with tempfile.TemporaryDirectory() as folder:
        extension = build(Path(__file__).with_name("moving_average.cpp"), Path(folder))
        random = np.random.default_rng(1)
        truth = 10 - 8 * np.cos(2 * math.pi * np.arange(HOURS) / HOURS)
        measured = truth + random.normal(0, 3, HOURS)
        before = pool.allocation_count
        smoothed = np.asarray(extension.moving_average(measured, 120))
        print(f"error, root mean square: {rms(measured - truth):.2f} K measured, {rms(smoothed - truth):.2f} K smoothed")
        print(f"blocks that the extension took from Python's pool: {pool.allocation_count - before}")
        print(f"bytes of them still alive: {pool.statistics.requested.current}, the array's: {smoothed.nbytes}")


def rms(difference: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float:
    return float(np.sqrt(np.mean(difference**2)))


if __name__ == "__main__":
    main()
