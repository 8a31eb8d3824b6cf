"""Check the excepted cases: each one of the file given must fail over array-api-strict too, or it is TensorCore's to mend.

Run by ci/array-api in a checkout of array-api-tests.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path


def read_cases(path: Path) -> list[str]:
    """Return the test ids of an xfails file, but those that fail only sometimes."""
    lines = path.read_text().partition("\n# sometimes:\n")[0].splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def find_passing(cases: list[str], report: Path) -> list[str]:
    """Return those of the cases that array-api-strict passes."""
    environment = os.environ | {"ARRAY_API_TESTS_MODULE": "array_api_strict", "ARRAY_API_STRICT_API_VERSION": "2025.12"}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--disable-warnings",
        "--derandomize",
        *cases,
        f"--junitxml={report}",
    ]
    subprocess.run(command, env=environment, check=False, stdout=subprocess.DEVNULL)
    results = ET.parse(report).getroot().iter("testcase")
    outcomes = {f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name')}": len(case) == 0 for case in results}
    missing = set(cases) - outcomes.keys()
    if missing:
        raise SystemExit(f"no such case in this checkout: {sorted(missing)}")
    return [case for case in cases if outcomes[case]]


def main() -> None:
    """Exit with the cases that should not be excepted."""
    cases = read_cases(Path(sys.argv[1]))
    with tempfile.TemporaryDirectory() as folder:
        passing = find_passing(cases, Path(folder, "report.xml"))
    if passing:
        raise SystemExit("array-api-strict passes what is excepted:\n" + "\n".join(passing))
    print(f"array-api-strict fails all {len(cases)} excepted cases too")


if __name__ == "__main__":
    main()
