"""``tensorcore run`` does as the interpreter does: exit code, output, tracebacks, arguments, ``__main__``, signals, processes."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

RUN = [sys.executable, "-m", "tensorcore", "run"]


def execute(command: list[str], folder: Path, **options: object) -> tuple[int, str, str]:
    """Return the exit code and what was printed to stdout and stderr."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120, **options)  # type: ignore[call-overload]
    return done.returncode, done.stdout, done.stderr


def same_as_python(folder: Path, *words: str, **options: object) -> tuple[int, str, str]:
    """Return what a program does, plain; fails where it does something else under `tensorcore run`."""
    plain = execute([sys.executable, *words], folder, **options)
    pooled = execute([*RUN, "--quiet", *words], folder, **options)
    assert pooled == plain
    return plain


def write(folder: Path, text: str, name: str = "program.py") -> str:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return name


EXIT_CODES = {
    "pass": 0,
    "import sys; sys.exit()": 0,
    "import sys; sys.exit(7)": 7,
    "import sys; sys.exit('a sentence')": 1,
    "import sys; sys.exit(-1)": 255,
    "import sys; sys.exit(2.5)": 1,
    "raise SystemExit(None)": 0,
    "raise ValueError('an error')": 1,
    "import os; os._exit(9)": 9,
    "exit(3)": 3,
    "import atexit; atexit.register(print, 'at exit'); raise SystemExit(4)": 4,
    "import threading, time; threading.Thread(target=lambda: (time.sleep(.1), print('thread'))).start(); raise SystemExit(5)": 5,
}


@pytest.mark.parametrize(("text", "code"), EXIT_CODES.items())
def test_exit_code_and_output_are_the_programs_own(tmp_path: Path, text: str, code: int) -> None:
    assert same_as_python(tmp_path, write(tmp_path, text))[0] == code


FAILURES = {
    "raise": "def f(n):\n    return 1 / n\n\nf(0)\n",
    "cause": "try:\n    {}['a']\nexcept KeyError as e:\n    raise ValueError('b') from e\n",
    "context": "try:\n    {}['a']\nexcept KeyError:\n    int('b')\n",
    "group": "raise ExceptionGroup('several', [ValueError(1), TypeError(2)])\n",
    "syntax": "x = (1,\ny = 2\n",
    "indentation": "if True:\nx = 1\n",
    "memory": "raise MemoryError\n",
    "interrupt": "raise KeyboardInterrupt\n",
    "hook": "import sys\nsys.excepthook = lambda kind, error, trace: print(kind, error, trace.tb_lineno)\n1 / 0\n",
    "hook exits": "import sys\nsys.excepthook = lambda *_: sys.exit(6)\n1 / 0\n",
    "hook fails": "import sys\ndef hook(*_):\n    raise TypeError('in the hook')\nsys.excepthook = hook\n1 / 0\n",
    "atexit fails": "import atexit\natexit.register(int, 'not a number')\n",
    "thread fails": "import threading\nt = threading.Thread(target=lambda: 1 / 0, name='t')\nt.start()\nt.join()\n",
}


@pytest.mark.parametrize("text", FAILURES.values(), ids=FAILURES)
@pytest.mark.parametrize("as_module", [False, True], ids=["script", "module"])
def test_traceback_is_the_very_one_of_the_interpreter(tmp_path: Path, text: str, as_module: bool) -> None:
    write(tmp_path, text)
    same_as_python(tmp_path, *(["-m", "program"] if as_module else ["program.py"]))


@pytest.mark.parametrize(
    "words", [["missing.py"], ["folder"], ["-m", "missing"], ["-m", "folder.missing"], ["-m", "folder"]], ids=" ".join
)
def test_program_that_is_not_there_gives_the_interpreters_message_and_no_report(tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "folder").mkdir()
    code, _, message = same_as_python(tmp_path, *words)
    assert code
    assert execute([*RUN, *words], tmp_path) == (code, "", message)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable_program_gives_the_interpreters_message(tmp_path: Path) -> None:
    (tmp_path / write(tmp_path, "pass")).chmod(0)
    assert same_as_python(tmp_path, "program.py")[0] == 2


SHOW_MAIN = """
import sys
print(sys.argv, sys.path[0], __name__, __file__, __package__, __spec__ and __spec__.name, type(__loader__).__name__, __builtins__)
print(sorted(globals()), sys.modules['__main__'].__dict__ is globals())
"""


@pytest.mark.parametrize(
    "words",
    [["program.py"], ["./program.py", "--quiet", "-m", "x", "--", "--limit"], ["deep/../program.py"], ["link/alias.py"],
     ["-m", "program"], ["-m", "package.inner", "--compare", "--", "-h"], ["-m", "package"], ["package", "1"],
     ["-m", "program", "-m", "y"]],
    ids=" ".join,
)  # fmt: skip
def test_main_module_arguments_and_path_are_those_of_the_interpreter(tmp_path: Path, words: list[str]) -> None:
    write(tmp_path, SHOW_MAIN)
    write(tmp_path, "", "package/__init__.py")
    write(tmp_path, SHOW_MAIN, "package/inner.py")
    write(tmp_path, SHOW_MAIN, "package/__main__.py")
    write(tmp_path, "", "deep/file")
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "alias.py").symlink_to(tmp_path / "program.py")
    code, output, _ = same_as_python(tmp_path, *words)
    assert code == 0
    assert output


def test_standard_input_reaches_the_program(tmp_path: Path) -> None:
    name = write(tmp_path, "import sys; print(sys.stdin.read().upper())")
    assert same_as_python(tmp_path, name, input="some words")[1] == "SOME WORDS\n"


START_METHODS = """
import multiprocessing as mp, pickle, sys

class Point:
    def __init__(self, x): self.x = x

def square(point): return Point(point.x ** 2), __name__

if __name__ == '__main__':
    assert pickle.loads(pickle.dumps(Point(3))).x == 3
    with mp.get_context(sys.argv[1]).Pool(2) as pool:
        for point, name in pool.map(square, [Point(2), Point(5)]):
            print(point.x, name, type(point) is Point)
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("words", [["program.py"], ["-m", "program"]], ids=["script", "module"])
def test_multiprocessing_finds_the_programs_own_classes(tmp_path: Path, method: str, words: list[str]) -> None:
    write(tmp_path, START_METHODS)
    code, output, _ = same_as_python(tmp_path, *words, method)
    assert code == 0
    assert output.startswith("4 ")


def test_child_that_ends_as_python_does_prints_no_report(tmp_path: Path) -> None:
    name = write(tmp_path, "import os, sys\nchild = os.fork()\nif child: os.waitpid(child, 0)\nelse: sys.exit(3)\n")
    code, _, report = execute([*RUN, name], tmp_path)
    assert code == 0
    assert report.count("hit rate") == 1


READY_WHILE_SLEEPING = """
import threading, time
threading.Timer(0.3, print, ['ready'], {'flush': True}).start()
time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1], ids=lambda number: number.name)
@pytest.mark.parametrize("handled", [False, True], ids=["default", "handled"])
def test_signals_reach_the_program_and_end_it_as_they_do_plain(tmp_path: Path, number: signal.Signals, handled: bool) -> None:
    handler = f"import signal, sys; signal.signal({int(number)}, lambda *_: sys.exit(11))\n" if handled else ""
    name = write(tmp_path, handler + READY_WHILE_SLEEPING)
    codes = []
    for command in ([sys.executable, name], [*RUN, "--quiet", name]):
        with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            process.send_signal(number)
            codes.append((process.wait(timeout=60), process.communicate()[1]))
    assert codes[0] == codes[1]
    assert codes[0][0] == (11 if handled else -number)


# ---- the pool and the report ----------------------------------------------------------------------------------------------------

ARRAYS = "import numpy as np\na = np.ones(1_000_000)\nfor _ in range(20): b = a * 2 + a\nprint(b.sum(), flush=True)\n"


def test_numpy_program_runs_pooled_and_ends_with_a_report_on_stderr(tmp_path: Path) -> None:
    code, output, report = execute([*RUN, write(tmp_path, ARRAYS)], tmp_path)
    assert (code, output) == (0, "3000000.0\n")
    for words in ("requested", "allocated", "reserved", "hit rate", "page faults", "upstream", "fragmentation", "NumPy: pooled"):
        assert words in report
    assert "\x1b" not in report  # no colour outside a terminal


def test_report_comes_after_the_programs_own_atexit_handlers_and_when_it_fails(tmp_path: Path) -> None:
    text = "import atexit, sys\natexit.register(lambda: print('own', file=sys.stderr))\n1 / 0\n"
    code, _, errors = execute([*RUN, write(tmp_path, text)], tmp_path)
    assert code == 1
    assert errors.index("ZeroDivisionError") < errors.index("own") < errors.index("hit rate")


def test_json_report_holds_the_statistics_of_the_programs_arrays(tmp_path: Path) -> None:
    assert (
        execute([*RUN, "--quiet", "--report", "r.json", write(tmp_path, "import os\n" + ARRAYS + "os.chdir('/')")], tmp_path)[0]
        == 0
    )
    report = json.loads((tmp_path / "r.json").read_text())
    merged = report["statistics"]["merged"]
    assert report["program"] == ["program.py"]
    assert merged["allocation_count"] >= 20
    assert merged["requested"]["peak"] >= 16_000_000
    assert merged["reserved"]["peak"] >= merged["allocated"]["peak"] >= merged["requested"]["peak"]
    assert report["statistics"]["host"]["minor_faults"] > 0
    assert {"scopes", "gpus", "gpu_reasons"} < report["statistics"].keys()


def test_html_report_is_one_file_with_tables_and_a_picture(tmp_path: Path) -> None:
    assert execute([*RUN, "--quiet", "--report", "r.html", write(tmp_path, ARRAYS), "<&>"], tmp_path)[0] == 0
    page = (tmp_path / "r.html").read_text()
    assert page.startswith("<!doctype html>")
    assert "<table>" in page
    assert "<svg" in page
    assert "&lt;&amp;&gt;" in page
    assert "http" not in page  # nothing is loaded from elsewhere


def test_limit_is_a_memory_error_inside_the_program(tmp_path: Path) -> None:
    text = "import numpy as np\ntry:\n    np.ones(10_000_000)\nexcept MemoryError:\n    print('refused')\n"
    assert execute([*RUN, "--quiet", "--limit", "32MiB", write(tmp_path, text)], tmp_path)[:2] == (0, "refused\n")


def test_no_numpy_leaves_numpys_allocator_in_place(tmp_path: Path) -> None:
    code, _, report = execute([*RUN, "--no-numpy", write(tmp_path, ARRAYS)], tmp_path)
    assert code == 0
    assert "left alone" in report
    assert "of 0 allocations" in report


def test_program_can_set_the_environment_before_numpy_is_loaded(tmp_path: Path) -> None:
    name = write(tmp_path, "import sys; print('numpy' in sys.modules)")
    assert execute([*RUN, "--quiet", name], tmp_path)[1] == "False\n"


def test_program_may_use_tensorcore_itself_before_numpy(tmp_path: Path) -> None:
    text = "import tensorcore as tc\nt = tc.Tensor((10, 10))\nimport numpy as np\nprint(np.ones(9).sum(), tc.hook_mode())\n"
    code, output, report = execute([*RUN, write(tmp_path, text)], tmp_path)
    assert (code, output.split()[0]) == (0, "9.0")
    assert output.split()[1] != "None"
    assert "NumPy: pooled" in report


def test_numpys_loader_is_its_own_after_the_hook(tmp_path: Path) -> None:
    finders = "[type(f) for f in sys.meta_path if type(f).__module__ != 'tensorcore._import_hook']"  # one waits for CuPy
    text = f"import numpy, sys; print(type(numpy.__spec__.loader), type(numpy.__loader__), {finders})"
    same_as_python(tmp_path, write(tmp_path, text))


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--report", "r.txt", "p.py"], "must end in .html or .json"), (["--report", "no/r.json", "p.py"], "no directory"),
     (["--limit", "lots", "p.py"], "--limit lots"), ([], "which program?"), (["-m"], "which program?"),
     (["--rounds", "0", "p.py"], "positive")],
)  # fmt: skip
def test_wrong_options_are_refused_before_the_program_starts(tmp_path: Path, options: list[str], message: str) -> None:
    write(tmp_path, "print('started')", "p.py")
    code, output, errors = execute([*RUN, *options], tmp_path)
    assert (code, output) == (2, "")
    assert message in errors
