"""The project's frame: one version, a cdef made from the header, scripts that say what is missing, links that lead somewhere."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import tensorcore
from tensorcore import _lib

ROOT = Path(__file__).parent.parent
HEADER = ROOT / "csrc/include/tensorcore.h"
C_FILES = sorted((*ROOT.glob("csrc/**/*.[ch]"), *ROOT.glob("tests/c/*.[ch]")))
SCRIPTS = sorted((ROOT / "ci").iterdir())
PAGES = sorted(path for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")))


# ---- package ---------------------------------------------------------------------------------------------------------------------


def test_the_version_stands_in_the_header_alone() -> None:
    """The header, the compiled core, the package and its metadata agree."""
    (header,) = re.findall(r'^#define TC_VERSION "(.+)"$', HEADER.read_text(), re.MULTILINE)
    compiled = _lib.ffi.string(_lib.lib.tc_version()).decode()
    assert {header, compiled, tensorcore.__version__} == {importlib.metadata.version("tensorcore")}


def test_every_public_function_of_the_header_can_be_called_from_python() -> None:
    """The cdef is made from the header, so nothing that it exports is missing."""
    exported = set(re.findall(r"^TC_API [^(;]*?\b(tc_\w+)\(", HEADER.read_text(), re.MULTILINE))
    assert exported
    assert exported - set(dir(_lib.lib)) == set()


def test_integer_macros_of_the_header_have_their_value_in_python() -> None:
    """The preprocessor drops macros; build_ffi.py puts them back and the C compiler fills in the value."""
    macros = dict(re.findall(r"^#define (TC_\w+) (\d+)\b", HEADER.read_text(), re.MULTILINE))
    assert macros
    assert {name: getattr(_lib.lib, name) for name in macros} == {name: int(value) for name, value in macros.items()}


def test_hard_dependencies_are_few() -> None:
    """A plain install brings no other package, so it needs no GPU and no plot library."""
    required = importlib.metadata.requires("tensorcore") or []
    plain = {re.split(r"[^\w-]", line)[0] for line in required if "extra ==" not in line}
    assert plain == {"array-api-compat", "cffi", "numpy", "rich"}


def test_the_package_is_typed_and_ships_its_c_header() -> None:
    """`py.typed` lies in the package, and get_include() is a folder that holds tensorcore.h as it was compiled."""
    assert (ROOT / "tensorcore/py.typed").exists()
    assert Path(tensorcore.get_include(), "tensorcore.h").read_text() == HEADER.read_text()


@pytest.mark.parametrize("path", C_FILES, ids=lambda path: path.name)
def test_a_c_file_begins_with_its_name_and_its_single_job(path: Path) -> None:
    """The first line is `/* name.c - what it does`."""
    assert path.read_text().startswith(f"/* {path.name} - ")


# ---- scripts ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", [*SCRIPTS, ROOT / ".ci/run"], ids=lambda script: script.name)
def test_a_script_says_its_job_stops_at_errors_and_finds_the_project_itself(script: Path) -> None:
    """Executable bash, a first comment, `set -euo pipefail`, and a `cd` to the project from whatever directory it is called in."""
    lines = script.read_text().splitlines()
    assert os.access(script, os.X_OK)
    assert lines[0] == "#!/usr/bin/env bash"
    assert lines[1].startswith("# ")
    assert "set -euo pipefail" in lines
    assert 'cd "$(dirname "${BASH_SOURCE[0]}")/.."' in lines
    subprocess.run(["bash", "-n", script], check=True)


def run_setup(project: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a copy of ci/setup in an otherwise empty project."""
    (project / "ci").mkdir()
    copy = shutil.copy(ROOT / "ci/setup", project / "ci/setup")
    return subprocess.run([copy], env={**os.environ, **environment}, text=True, capture_output=True, check=False)


@pytest.mark.parametrize(
    ("environment", "missing", "fix"),
    [
        ({"CC": "no-such-compiler"}, "no C compiler: tried no-such-compiler", "apt install build-essential"),
        ({"CC": "true", "PYTHON": "false"}, "no Python 3.11 or later: tried false", "apt install python3 "),
    ],
    ids=["compiler", "python"],
)
def test_setup_names_what_is_missing_and_the_fix(environment: dict[str, str], missing: str, fix: str, tmp_path: Path) -> None:
    """Without a compiler or a recent Python it stops at once, before anything is made."""
    result = run_setup(tmp_path, **environment)
    assert result.returncode == 1
    assert missing in result.stderr
    assert f"fix: {fix}" in result.stderr
    assert not (tmp_path / ".venv").exists()


def test_the_workflow_only_calls_scripts() -> None:
    """What runs in CI can be run on a desk: each `run:` of the workflow is one script of ci/ that exists."""
    commands = re.findall(r"^\s*-? ?run: *(.*)$", (ROOT / ".github/workflows/ci.yml").read_text(), re.MULTILINE)
    assert commands
    assert set(commands) <= {f"ci/{script.name}" for script in SCRIPTS}


def test_the_gpu_job_says_that_it_skips_where_there_is_no_gpu(tmp_path: Path) -> None:
    """Without a usable nvidia-smi it succeeds, with the reason, and installs nothing."""
    fake = tmp_path / "nvidia-smi"
    fake.write_text("#!/bin/sh\nexit 9\n")
    fake.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    result = subprocess.run([ROOT / "ci/gpu"], env={**os.environ, "PATH": path}, text=True, capture_output=True, check=True)
    assert result.stdout == "ci/gpu: skipped, nvidia-smi finds no GPU on this machine\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--nonsense"], "ci/gpu: --nonsense is none of --wheels, --download, --cupy, --array-api, --quick, --dry-run\n"),
        (["--wheels", "/no/such/folder"], "ci/gpu: there is no directory /no/such/folder\n"),
    ],
)
def test_the_gpu_job_names_a_wrong_argument(words: list[str], message: str) -> None:
    """Before anything else."""
    result = subprocess.run([ROOT / "ci/gpu", *words], text=True, capture_output=True, check=False)
    assert (result.returncode, result.stderr) == (1, message)


def test_cupys_tests_are_asked_for_in_a_clone_of_cupy(tmp_path: Path) -> None:
    """Another folder is named."""
    command = [sys.executable, str(ROOT / "tests/foreign/cupy_compare.py"), str(tmp_path)]
    result = subprocess.run(command, text=True, capture_output=True, check=False)
    assert (result.returncode, result.stderr) == (1, f"{tmp_path} is no clone of CuPy: it has no tests/cupy_tests\n")


# ---- documents -------------------------------------------------------------------------------------------------------------------


def test_the_read_mes_program_runs() -> None:
    """Each Python block of README.md runs as it stands, in a process of its own."""
    programs = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert programs
    for program in programs:
        assert "reserved" in subprocess.run([sys.executable, "-c", program], text=True, capture_output=True, check=True).stdout


def local_links(page: Path) -> dict[str, Path]:
    """Return the links of a page that name a file, with the path each leads to."""
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
    return {link: (page.parent / link).resolve() for link in links if "://" not in link}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files(page: Path) -> None:
    """No page links to a file that does not exist."""
    assert [link for link, target in local_links(page).items() if not target.exists()] == []


def test_every_page_is_reached_from_the_read_me() -> None:
    """Following links from README.md finds every page."""
    reached: set[Path] = set()
    pending = [ROOT / "README.md"]
    while pending:
        page = pending.pop()
        if page.suffix == ".md" and page not in reached and page.exists():
            reached.add(page)
            pending.extend(local_links(page).values())
    assert {str(page.relative_to(ROOT)) for page in set(PAGES) - reached} == set()
