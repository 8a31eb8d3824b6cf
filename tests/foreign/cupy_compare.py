"""CuPy's own tests, plain and over TensorCore's pools, test by test: `cupy_compare.py CHECKOUT [FILES] [-- PYTEST OPTIONS]`.

CHECKOUT is a clone of CuPy at the installed version (its wheels hold no tests). Exit status 0 where every test that passes plain
passes over the pools too. Needs a GPU: it is for ci/gpu.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

import pytest
from compare import Outcomes, Report, outcome, report_outcomes

TESTS = (
    "cuda_tests/test_memory.py",
    "cuda_tests/test_pinned_memory.py",
    "core_tests",
    "creation_tests",
    "math_tests",
    "sorting_tests",
)


def run_tests(tests: Path, names: list[str], options: list[str], *, pooled: bool, folder: Path) -> tuple[Outcomes, list[Report]]:
    """Return the outcome of each test and, pooled, what the pool did."""
    folder.mkdir()
    results = folder / "results.xml"
    environment = dict(os.environ)
    plugin = []
    if pooled:
        here = str(Path(__file__).parent)
        environment |= {"PYTHONPATH": os.pathsep.join([here, os.environ.get("PYTHONPATH", "")]), "POOLED_REPORTS": str(folder)}
        plugin = ["-p", "cupy_pooled"]
    command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "--no-header", "-p", "no:cacheprovider", *plugin]
    command += ["-o", "junit_family=xunit1", f"--junitxml={results}", "-m", "not slow", *options, *names]
    status = subprocess.run(command, cwd=tests, env=environment, check=False).returncode
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise SystemExit(f"pytest ended with {status}: {' '.join(command)}")
    cases = ElementTree.parse(results).getroot().iter("testcase")
    found = {f"{case.get('classname')}::{case.get('name')}": outcome(case) for case in cases}
    return found, [json.loads(path.read_text()) for path in folder.glob("*.json")]


def copy_tests(checkout: Path, folder: Path) -> Path:
    """Copy the tests out of the checkout, whose own `cupy` folder would be imported in place of the installed one."""
    source = checkout / "tests"
    if not (source / "cupy_tests").is_dir():
        raise SystemExit(f"{checkout} is no clone of CuPy: it has no tests/cupy_tests")
    return Path(shutil.copytree(source, folder / "tests"))


def main() -> int:
    """Run the tests twice and print the counts and every difference."""
    arguments = sys.argv[1:]
    split = arguments.index("--") if "--" in arguments else len(arguments)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", type=Path, help="a clone of CuPy")
    parser.add_argument("files", nargs="*", default=TESTS, help="below tests/cupy_tests")
    options = parser.parse_args(arguments[:split])
    with tempfile.TemporaryDirectory() as name:
        tests = copy_tests(options.checkout, Path(name))
        names = [f"cupy_tests/{file}" for file in options.files]
        plain, _ = run_tests(tests, names, arguments[split + 1 :], pooled=False, folder=Path(name, "plain"))
        pooled, reports = run_tests(tests, names, arguments[split + 1 :], pooled=True, folder=Path(name, "pooled"))
    compared = report_outcomes(plain, pooled, reports)
    return 1 if not compared or any(plain[test] == "passed" != pooled.get(test) for test in plain) else 0


if __name__ == "__main__":
    sys.exit(main())
