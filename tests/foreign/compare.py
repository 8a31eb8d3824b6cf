"""Run another project's test suite plain and over the pool, and compare test by test: `compare.py numpy._core [-- PYTEST OPTIONS]`.

Exit status 0 where every test has the same outcome in both runs.
"""

import argparse
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import pytest

Outcomes = dict[str, str]
Report = dict[str, int]


def run_suite(modules: list[str], options: list[str], *, pooled: bool, folder: Path) -> tuple[Outcomes, list[Report]]:
    """Return the outcome of each test and, pooled, what each process's pool did. The test output goes to the terminal."""
    folder.mkdir()
    results = folder / "results.xml"
    environment = {"NPY_AVAILABLE_MEM": "2 GB"} | os.environ  # NumPy's tests of huge arrays skip: several run at once here
    if pooled:
        environment |= {"PYTHONPATH": str(Path(__file__).parent), "POOLED_REPORTS": str(folder)}
    (folder / "pytest.ini").write_text("[pytest]\njunit_family = xunit1\n")  # not this project's settings
    plugin = ["-p", "pooled"] if pooled else []
    command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "--no-header", "-c", str(folder / "pytest.ini"), *plugin]
    command += [
        "-p",
        "no:cacheprovider",
        "--rootdir",
        sysconfig.get_path("purelib"),
        f"--junitxml={results}",
        "-n",
        str(os.cpu_count()),
    ]
    status = subprocess.run([*command, *options, "--pyargs", *modules], cwd=folder, env=environment, check=False).returncode
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise SystemExit(f"pytest ended with {status}: {' '.join(command)}")
    cases = ElementTree.parse(results).getroot().iter("testcase")
    return {f"{case.get('classname')}::{case.get('name')}": outcome(case) for case in cases}, [
        json.loads(path.read_text()) for path in folder.glob("*.json")
    ]


def outcome(case: ElementTree.Element) -> str:
    """Return 'passed', or the first of failure, error, skipped that pytest noted, an expected failure as 'xfailed'."""
    for kind in ("failure", "error", "skipped"):
        note = case.find(kind)
        if note is not None:
            return "xfailed" if note.get("type") == "pytest.xfail" else kind
    return "passed"


def differences(plain: Outcomes, pooled: Outcomes) -> list[str]:
    """Return a line for each test whose outcome differs or that only one of the runs knows."""
    names = sorted(plain.keys() | pooled.keys())
    return [
        f"{name}: plain {plain.get(name, 'missing')}, pooled {pooled.get(name, 'missing')}"
        for name in names
        if plain.get(name) != pooled.get(name)
    ]


def report_outcomes(plain: Outcomes, pooled: Outcomes, reports: list[Report]) -> bool:
    """Print the counts and every difference; return whether anything was compared."""
    different = differences(plain, pooled)
    served = sum(report["allocation_count"] for report in reports)
    print(f"plain:  {dict(Counter(plain.values()))}")
    print(f"pooled: {dict(Counter(pooled.values()))}, {served:,} blocks from the pool in {len(reports)} processes")
    print("\n".join(["the outcome differs:", *different]) if different else "every test has the same outcome")
    if not plain or not served:
        print("nothing was compared")
    return bool(plain and served)


def main() -> int:
    """Run the suite twice and print the counts and every difference."""
    arguments = sys.argv[1:]
    split = arguments.index("--") if "--" in arguments else len(arguments)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="+", help="packages that hold tests: numpy._core, scipy.ndimage")
    modules = parser.parse_args(arguments[:split]).modules
    with tempfile.TemporaryDirectory() as name:
        plain, _ = run_suite(modules, arguments[split + 1 :], pooled=False, folder=Path(name, "plain"))
        pooled, reports = run_suite(modules, arguments[split + 1 :], pooled=True, folder=Path(name, "pooled"))
    return 0 if report_outcomes(plain, pooled, reports) and not differences(plain, pooled) else 1


if __name__ == "__main__":
    sys.exit(main())
