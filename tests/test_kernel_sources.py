"""Every kernel of cuda/ compiles for every GPU that NVRTC knows, without a GPU, and moves its data in 16 bytes.

NVRTC and its Python face come from PyPI (`pip install --group nvrtc`); without them these tests skip. ci/cuda installs them and
sets TENSORCORE_NEEDS_NVRTC so that they fail instead.
"""

from __future__ import annotations

import functools
import importlib
import os
import re
from typing import Any

import pytest

from tensorcore import _kernels
from tensorcore._kernel_expression import write_expression
from tensorcore._simd_expression import compile_expression

OLDEST = 75  # the oldest compute capability that CuPy's wheels serve
LEAST = {75, 80, 86, 89, 90}  # what every NVRTC since CUDA 12 knows


def find_nvrtc() -> Any:
    """Return cuda.bindings.nvrtc, None where it or the library is missing."""
    try:
        nvrtc = importlib.import_module("cuda.bindings.nvrtc")
        nvrtc.nvrtcVersion()
    except (ImportError, RuntimeError) as problem:
        if os.environ.get("TENSORCORE_NEEDS_NVRTC"):
            raise RuntimeError("NVRTC is missing: pip install --group nvrtc") from problem
        return None
    return nvrtc


NVRTC = find_nvrtc()
pytestmark = pytest.mark.skipif(NVRTC is None, reason="NVRTC is not installed: pip install --group nvrtc")


def checked(result: tuple[Any, ...]) -> Any:
    """Return what a call of the bindings gave, or fail with its error."""
    error, *values = result
    assert error == NVRTC.nvrtcResult.NVRTC_SUCCESS, error
    return values[0] if values else None


def architectures() -> list[int]:
    """Return the compute capabilities to compile for, as 90 for sm_90."""
    return [] if NVRTC is None else [arch for arch in checked(NVRTC.nvrtcGetSupportedArchs()) if arch >= OLDEST]


EXPRESSIONS = {
    "an expression of f32": ("a*b + c*d - e/2", "abcde", "f32"),
    "an expression of f64": ("a*b + c*d - e/2", "abcde", "f64"),
    "an expression of f16": ("a*b + c*d - e/2", "abcde", "f16"),
    "an expression of bf16": ("-(a*a + 1.5)", "a", "bf16"),
    **{f"32 arrays of {suffix}": ("+".join(f"x{i}*x{i}" for i in range(32)), [f"x{i}" for i in range(32)], suffix)
       for suffix in ("f16", "bf16", "f32", "f64")},
}  # fmt: skip
"""What evaluate.cu is compiled for here: an expression, its arrays, the suffix of their dtype."""

WHAT = [*_kernels.KERNELS, *EXPRESSIONS]


def read_source(what: str) -> str:
    """Return the text of a file of kernels, or of evaluate.cu with an expression."""
    if what not in EXPRESSIONS:
        return _kernels.read_source(what)
    text, arrays, suffix = EXPRESSIONS[what]
    return _kernels.complete_source(write_expression(compile_expression(text), tuple(arrays), suffix))


def compiled(what: str, architecture: str) -> tuple[Any, str]:
    """Compile kernels; return NVRTC's program and the log, which holds ptxas's words for sm_ architectures."""
    program = checked(NVRTC.nvrtcCreateProgram(read_source(what).encode(), f"{what}.cu".encode(), 0, [], []))
    options = _kernels.EXPRESSION_OPTIONS if what in EXPRESSIONS else _kernels.OPTIONS
    options = (f"--gpu-architecture={architecture}", *options, "--ptxas-options=-v", "-Werror", "all-warnings")
    (result,) = NVRTC.nvrtcCompileProgram(program, len(options), [option.encode() for option in options])
    log = bytearray(checked(NVRTC.nvrtcGetProgramLogSize(program)))
    checked(NVRTC.nvrtcGetProgramLog(program, log))
    text = log.decode().strip("\0")
    assert result == NVRTC.nvrtcResult.NVRTC_SUCCESS, text
    return program, text


@functools.cache
def ptx(what: str) -> dict[str, str]:
    """Return the PTX of each kernel by its name, for the oldest architecture that is compiled for."""
    program, _ = compiled(what, f"compute_{OLDEST}")
    text = bytearray(checked(NVRTC.nvrtcGetPTXSize(program)))
    checked(NVRTC.nvrtcGetPTX(program, text))
    return dict(re.findall(r"\.visible \.entry (\w+)\((.*?\n\})\n", text.decode().strip("\0"), re.DOTALL))


def test_every_gpu_from_turing_on_is_compiled_for() -> None:
    """sm_75 to sm_90 always, and newer ones where NVRTC knows them."""
    assert set(architectures()) >= LEAST


@pytest.mark.parametrize("architecture", architectures(), ids=lambda architecture: f"sm_{architecture}")
@pytest.mark.parametrize("what", WHAT)
def test_every_kernel_compiles_without_a_warning_and_without_spilling_registers(what: str, architecture: int) -> None:
    """To machine code; ptxas reports each kernel's registers and spills."""
    program, log = compiled(what, f"sm_{architecture}")
    assert checked(NVRTC.nvrtcGetCUBINSize(program)) > 1000
    spills = re.findall(r"(\d+) bytes (?:stack frame|spill stores|spill loads)", log)
    assert set(spills) <= {"0"}
    registers = [int(count) for count in re.findall(r"Used (\d+) registers", log)]
    most = 80 if not what.startswith("32") else 255  # three blocks of 256 threads on a multiprocessor; one
    assert max(registers, default=0) <= most


@pytest.mark.parametrize("file", _kernels.KERNELS)
def test_python_names_the_kernels_that_are_there(file: str) -> None:
    """No more, no fewer."""
    assert set(ptx(file)) == set(_kernels.KERNELS[file])


@pytest.mark.parametrize("what", EXPRESSIONS)
def test_an_expression_s_kernel_fuses_nothing_and_reads_each_array_once(what: str) -> None:
    """No fma in the PTX, products rounded by themselves; a load of 16 bytes for each array, one store, nothing in local memory."""
    code = ptx(what)["evaluate"]
    text, arrays, suffix = EXPRESSIONS[what]
    assert not re.search(r"\bfma\b|\bmad\.(?:rn\.)?f|\.local", code)
    assert re.search(r"\bmul\.rn\.f64" if suffix == "f64" else r"\bmul\.rn\.f32", code)
    assert ("div.rn" in code) == ("/" in text)
    assert (len(WIDE_LOAD.findall(code)), len(WIDE_STORE.findall(code))) == (len(arrays), 1)


WIDE_LOAD = re.compile(r"ld\.global\.(?:v4\.[usfb]32|v2\.[usfb]64)")
WIDE_STORE = re.compile(r"st\.global\.(?:v4\.[usfb]32|v2\.[usfb]64)")


@pytest.mark.parametrize(
    ("kernel", "loads", "stores"),
    [
        *((f"{name}_{suffix}", inputs, 1)
          for name, inputs in (("add", 2), ("subtract", 2), ("multiply", 2), ("divide", 2), ("fma", 3), ("scale", 1), ("axpy", 2))
          for suffix in ("f16", "bf16", "f32", "f64")),
        *((f"{name}_{suffix}", inputs, 0)
          for name, inputs in (("sum", 1), ("min", 1), ("max", 1), ("dot", 2))
          for suffix in ("f16", "bf16", "f32", "f64")),
        ("fill_pattern", 0, 1), ("check_pattern", 1, 0), ("copy_bytes", 1, 1), ("copy_rows_16", 1, 1), ("copy_elements_16", 1, 1),
    ],
)  # fmt: skip
def test_a_kernel_reads_each_input_and_writes_its_output_in_16_bytes(kernel: str, loads: int, stores: int) -> None:
    """As the PTX has it."""
    code = ptx(_kernels.FILE_OF[kernel])[kernel]
    assert len(WIDE_LOAD.findall(code)) >= loads
    assert len(WIDE_STORE.findall(code)) >= stores
