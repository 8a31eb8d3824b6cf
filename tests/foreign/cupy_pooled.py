"""A pytest plugin: CuPy's own tests run with TensorCore's pools under CuPy (`-p cupy_pooled`, with this folder on the path).

`install` replaces CuPy's allocators and its default pools both. At the end the pool's metadata is walked, and what it did goes to a
file in $POOLED_REPORTS.
"""

import json
import os
from pathlib import Path

import pytest

import tensorcore as tc


def pytest_configure() -> None:
    """Install before CuPy's first test is imported."""
    tc.install(numpy=False, cupy=True)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Leave the figures of the first device's pool."""
    pool = tc.get_global_memory_pool("cuda")
    pool.check()
    report = {"tests": session.testscollected, **pool.statistics.as_dict()}
    Path(os.environ["POOLED_REPORTS"], f"{os.getpid()}.json").write_text(json.dumps(report))
