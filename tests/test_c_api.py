"""Extensions in C, C++ and Cython share Python's pools through the capsule, and what docs/c-api.md shows compiles and runs.

Each extension is compiled by one compiler call and runs in a process of its own. tests/cpp has the face linked with libtensorcore.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterable
from pathlib import Path
from textwrap import dedent

import pytest

import tensorcore as tc

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/c-api.md"
EXAMPLE = ROOT / "docs/examples/cpp_extension"
HEADERS = {
    "tensorcore.h": ROOT / "csrc/include/tensorcore.h",
    "tensorcore_capi.h": ROOT / "csrc/python/tensorcore_capi.h",
    "tensorcore/memory_pool.hpp": ROOT / "csrc/include/tensorcore/memory_pool.hpp",
}
SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")
STRICT = ("-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O1", "-fPIC", "-shared")
EXPECTED = re.compile(r"// prints: (.*)$|^std::cout <<.*; +// (.*)$", re.MULTILINE)

RunPython = Callable[..., str]


def snippets(language: str) -> list[str]:
    """Return the snippets of the page that are written in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def compiler(variable: str, *candidates: str) -> list[str]:
    """Return the command of a compiler; skips the test where there is none."""
    if variable in os.environ:
        return shlex.split(os.environ[variable])
    found = next(filter(None, map(shutil.which, candidates)), None)
    if found is None:
        pytest.skip(f"no compiler: tried {', '.join(candidates)}; {variable} may name another")
    return [found]


def compile_extension(name: str, folder: Path, command: list[str], *options: str) -> None:
    """Compile and link an extension module into a folder; warnings are errors."""
    if sys.platform == "darwin":
        command = [*command, "-undefined", "dynamic_lookup"]
    includes = ["-isystem", sysconfig.get_path("include"), f"-I{tc.get_include()}"]
    output = ["-o", str(folder / f"{name}{SUFFIX}")]
    result = subprocess.run([*command, *STRICT, *includes, *options, *output], text=True, capture_output=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


def compile_c(name: str, folder: Path, source: str) -> None:
    """Compile a C source into an extension module."""
    (folder / f"{name}.c").write_text(source)
    compile_extension(name, folder, [*compiler("CC", "cc", "gcc", "clang"), "-std=c11"], str(folder / f"{name}.c"))


def compile_cpp(name: str, folder: Path, sources: Iterable[Path], *options: str) -> None:
    """Compile C++ sources into an extension module."""
    command = [*compiler("CXX", "c++", "g++", "clang++"), "-std=c++17"]
    compile_extension(name, folder, command, *options, *map(str, sources))


@pytest.fixture(scope="module")
def median(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page's C extension; the line that makes it importable."""
    folder = tmp_path_factory.mktemp("median")
    (source,) = snippets("c")
    compile_c("median", folder, source)
    return f"import sys; sys.path.insert(0, {str(folder)!r})\n"


# ---- the headers -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("header", HEADERS)
def test_the_include_folder_holds_each_header_as_it_is_in_the_source(header: str) -> None:
    assert (Path(tc.get_include()) / header).read_text() == HEADERS[header].read_text()


def test_the_table_reaches_every_public_function_but_those_for_tests_and_probes() -> None:
    """A function that is added to tensorcore.h is added to the table too, or named here."""
    left_out = re.compile(r"(?:upstream_)?fake_\w+|page_size|huge_page_size|has_membarrier")
    text = HEADERS["tensorcore_capi.h"].read_text()
    listed = re.findall(r"^  FUNCTION\((\w+)\)", text, re.MULTILINE)
    public = re.findall(r"^TC_API [^(]*?\btc_(\w+)\(", HEADERS["tensorcore.h"].read_text(), re.MULTILINE)
    assert set(listed) == {name for name in public if not left_out.fullmatch(name)}
    assert re.findall(r"^#define tc_(\w+) \(tensorcore_api->\1\)$", text, re.MULTILINE) == listed


# ---- C ---------------------------------------------------------------------------------------------------------------------------


def test_an_extension_in_c_allocates_from_pythons_global_pool(median: str, run_python: RunPython) -> None:
    """Its blocks are counted by the pool of get_global_memory_pool, and all are given back."""
    program = """
        import median, tensorcore as tc
        pool = tc.get_global_memory_pool()
        before = pool.allocation_count
        print(median.median(b"hello"), median.median(b"hello", pool), pool.allocation_count - before, pool.total_allocated)
    """
    assert run_python(median + dedent(program)).split() == [str(ord("l")), str(ord("l")), "2", "0"]


def test_an_extension_imported_first_makes_the_global_pool(median: str, run_python: RunPython) -> None:
    """It imports the package itself, and Python then finds the same pool."""
    program = """
        import median
        median.median(b"abc")
        import tensorcore as tc
        print(tc.get_global_memory_pool().allocation_count, tc.statistics().pools[0].name)
    """
    assert run_python(median + dedent(program)).split() == ["1", "cpu"]


def test_an_extension_follows_the_global_pool_when_python_replaces_or_closes_it(median: str, run_python: RunPython) -> None:
    """A replaced pool stays open, since the extension may hold its address; after a close the next one is made."""
    program = """
        import gc, median, tensorcore as tc
        median.median(b"abc")
        tc.set_global_memory_pool(tc.MemoryPool(name="second"))
        gc.collect()
        median.median(b"abc")
        print(sorted((pool.name, pool.memory.allocation_count) for pool in tc.statistics().pools))
        tc.get_global_memory_pool().close()
        median.median(b"abc")
        print(tc.get_global_memory_pool().name, tc.get_global_memory_pool().allocation_count)
    """
    assert run_python(median + dedent(program)).splitlines() == ["[('cpu', 1), ('second', 1)]", "cpu 1"]


def test_an_object_that_is_no_open_pool_is_refused(median: str, run_python: RunPython) -> None:
    program = """
        import median, tensorcore as tc
        closed = tc.MemoryPool()
        closed.close()
        for wrong in ("a pool", closed):
            try:
                median.median(b"abc", wrong)
            except (TypeError, ValueError) as error:
                print(type(error).__name__, "|", error)
    """
    kinds = [line.split(" | ") for line in run_python(median + dedent(program)).splitlines()]
    assert [kind for kind, _ in kinds] == ["TypeError", "ValueError"]
    assert "a MemoryPool was expected, not 'a pool'" in kinds[0][1]
    assert "closed; make a new MemoryPool" in kinds[1][1]


def test_running_out_in_an_extension_is_a_refusal_and_not_a_crash(median: str, run_python: RunPython) -> None:
    program = """
        import median, tensorcore as tc
        with tc.MemoryPool(limit="1MiB") as pool:
            try:
                median.median(bytes(8 << 20), pool)
            except MemoryError:
                print("refused", pool.total_allocated)
    """
    assert run_python(median + dedent(program)) == "refused 0\n"


@pytest.mark.parametrize(
    ("offset", "ctype", "change", "fits"),
    [(0, "c_uint32", 1, False), (4, "c_uint32", -8, False), (8, "c_uint64", 1, False), (4, "c_uint32", 8, True)],
    ids=["another version", "fewer functions", "other structs", "more functions"],
)
def test_an_extension_compiled_for_another_table_is_refused_at_import(
    median: str, run_python: RunPython, offset: int, ctype: str, change: int, fits: bool
) -> None:
    """The table is changed at one of its first three fields: version, size, layout. One that only grew is accepted."""
    program = f"""
        import ctypes, tensorcore as tc
        pointer, capsule = ctypes.pythonapi.PyCapsule_GetPointer, ctypes.pythonapi.PyCapsule_New
        pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
        capsule.restype, capsule.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
        name = ctypes.create_string_buffer(b"tensorcore._C_API")
        table = pointer(tc._C_API, name)
        size = ctypes.c_uint32.from_address(table + 4).value
        copy = ctypes.create_string_buffer(ctypes.string_at(table, size), size)
        ctypes.{ctype}.from_buffer(copy, {offset}).value += {change}
        tc._C_API = capsule(ctypes.addressof(copy), name, None)
        try:
            import median
            print("imported", median.median(b"abc"))
        except ImportError as error:
            print(error)
    """
    printed = run_python(median + dedent(program))
    assert printed == f"imported {ord('b')}\n" if fits else "compile the extension again" in printed


def test_without_the_package_an_extension_raises_an_import_error(median: str, run_python: RunPython) -> None:
    program = """
        sys.modules["tensorcore"] = None
        try:
            import median
        except ImportError as error:
            print("tensorcore" in str(error))
    """
    assert run_python(median + dedent(program)) == "True\n"


# ---- C++ -------------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cpp_tests(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The tests of the C++ face as an extension, the same file that ctest runs; the line that makes it importable."""
    folder = tmp_path_factory.mktemp("cpp")
    compile_cpp("test_memory_pool", folder, (ROOT / "tests/cpp").glob("*.cpp"), "-DTENSORCORE_USE_CAPI")
    return f"import sys; sys.path.insert(0, {str(folder)!r})\n"


def test_the_cpp_face_passes_its_tests_inside_an_extension(cpp_tests: str, run_python: RunPython) -> None:
    """Its global pool is Python's, and both of its files share it after one import."""
    program = """
        import test_memory_pool, tensorcore as tc
        address = test_memory_pool.run()
        print(address == tc.get_global_memory_pool()._address, [pool.name for pool in tc.statistics().pools])
    """
    assert run_python(cpp_tests + dedent(program)).splitlines()[-1] == "True ['cpu']"


def test_threads_without_the_gil_allocate_while_python_replaces_the_global_pool(cpp_tests: str, run_python: RunPython) -> None:
    """No block is lost, whichever of the pools it came from, and each pool's metadata stays whole."""
    program = """
        import threading, test_memory_pool, tensorcore as tc
        pools = [tc.MemoryPool(name=str(number)) for number in range(4)]
        test_memory_pool.run()
        before = tc.statistics().merged.allocation_count
        worker = threading.Thread(target=test_memory_pool.allocate, args=(200_000,))
        worker.start()
        while worker.is_alive():
            for pool in pools:
                tc.set_global_memory_pool(pool)
        worker.join()
        print(tc.statistics().merged.allocation_count - before, [pool.total_allocated for pool in pools])
        for pool in pools:
            pool.check()
    """
    assert run_python(cpp_tests + dedent(program)).splitlines()[-1] == "400000 [0, 0, 0, 0]"


def test_every_cpp_snippet_of_the_page_runs_and_prints_what_its_comments_say(tmp_path: Path, run_python: RunPython) -> None:
    """Each becomes a function of one extension, whose headers the first snippet includes."""
    headers, *bodies = snippets("cpp")
    functions = "".join(f'static void snippet_{i}() {{\n{body}\nstd::cout << "\\n";\n}}\n' for i, body in enumerate(bodies))
    calls = "".join(f"  snippet_{i}();\n" for i in range(len(bodies)))
    (tmp_path / "page.cpp").write_text(
        f"{headers}#include <iostream>\n#include <vector>\n{functions}"
        "PyMODINIT_FUNC PyInit_page() {\n  if (tensorcore_import() < 0) return nullptr;\n"
        f"{calls}  std::cout << std::flush;\n"
        '  static PyModuleDef module = {PyModuleDef_HEAD_INIT, "page", nullptr, -1, nullptr, nullptr, nullptr, nullptr, nullptr};\n'
        "  return PyModule_Create(&module);\n}\n"
    )
    compile_cpp("page", tmp_path, [tmp_path / "page.cpp"])
    printed = run_python(f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import page").splitlines()
    expected = [comment or prints for body in bodies for prints, comment in EXPECTED.findall(body)]
    assert len(expected) == sum(body.count("// ") for body in bodies) >= 6
    assert [line for line in printed if line in expected] == expected
    assert any(line.startswith("utilization ratio: ") for line in printed)


def test_the_example_extension_smooths_its_data_on_the_pools_memory() -> None:
    """Scratch and result: two blocks of Python's pool, of which the result's stays alive."""
    compiler("CXX", "c++", "g++", "clang++")
    program = [sys.executable, str(EXAMPLE / "example.py")]
    lines = subprocess.run(program, capture_output=True, text=True, check=True, timeout=120).stdout.splitlines()
    measured, smoothed = (float(number) for number in re.findall(r"([\d.]+) K", lines[0]))
    assert smoothed < measured / 10
    assert lines[1].endswith(": 2")
    assert re.fullmatch(r".*alive: (\d+), the array's: \1", lines[2])


def test_the_example_computes_what_numpy_computes(tmp_path: Path, run_python: RunPython) -> None:
    """On one thread and on four at once, at the edges, on no data, and with a refusal of what it can't take."""
    compile_cpp("moving_average", tmp_path, [EXAMPLE / "moving_average.cpp"])
    program = f"""
        import sys; sys.path.insert(0, {str(tmp_path)!r})
        from concurrent.futures import ThreadPoolExecutor
        import numpy as np, moving_average, tensorcore as tc
        values = np.random.default_rng(2).random(1000)
        padded = np.array([values[max(0, i - 7):i + 8].mean() for i in range(1000)])
        def close(_):
            return np.allclose(np.asarray(moving_average.moving_average(values, 7)), padded)
        print(close(0), all(ThreadPoolExecutor(4).map(close, range(200))))
        print(np.abs(np.asarray(moving_average.moving_average(values[:3], 10**9)) - values[:3].mean()) < 1e-12)
        print(np.asarray(moving_average.moving_average(values[:0], 1)).shape)
        for arguments in ((b"123", 1), (values, -1)):
            try:
                moving_average.moving_average(*arguments)
            except ValueError:
                print("refused")
        print(tc.get_global_memory_pool().total_allocated)
    """
    lines = run_python(program).splitlines()
    assert lines == ["True True", "[ True  True  True]", "(0,)", "refused", "refused", "0"]


# ---- Cython ----------------------------------------------------------------------------------------------------------------------


def test_the_cython_snippet_of_the_page_computes_on_the_pools_memory(tmp_path: Path, run_python: RunPython) -> None:
    pytest.importorskip("Cython", reason="Cython is not installed")
    (source,) = snippets("cython")
    (tmp_path / "squares.pyx").write_text(source)
    subprocess.run([sys.executable, "-m", "cython", "squares.pyx"], cwd=tmp_path, check=True)
    command = [*compiler("CC", "cc", "gcc", "clang"), "-w"]  # generated code: its warnings are Cython's
    compile_extension("squares", tmp_path, command, str(tmp_path / "squares.c"), "-Wno-pedantic", "-Wno-error")
    program = f"""
        import sys; sys.path.insert(0, {str(tmp_path)!r})
        import squares, tensorcore as tc
        pool = tc.get_global_memory_pool()
        print(squares.sum_of_squares(4), pool.allocation_count, pool.total_allocated)
    """
    assert run_python(program) == "14.0 1 0\n"
