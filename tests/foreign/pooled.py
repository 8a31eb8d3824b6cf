"""A pytest plugin: the tests of another project run with the pool under NumPy (`-p pooled`, with this folder on the path).

At the end of each process it walks the pool's metadata and writes what the pool did to a file in $POOLED_REPORTS.
"""

import json
import os
from pathlib import Path

import pytest

import tensorcore as tc


def pytest_configure() -> None:
    """Install the pool before the first test is imported."""
    tc.install()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Leave the pool's figures of this process; a process of pytest-xdist that only hands out tests has few."""
    pool = tc.get_global_memory_pool()
    pool.check()
    report = {"mode": tc.hook_mode(), "tests": session.testscollected, **pool.statistics.as_dict()}
    Path(os.environ["POOLED_REPORTS"], f"{os.getpid()}.json").write_text(json.dumps(report))
