"""``tensorcore bench simd``: `tensorcore.simd` beside NumPy, numexpr and the machine's limit, on the same arrays in one process.

The limit is a STREAM-like add in C (csrc/bench/bench_stream.c), measured in turn with the others, A B A B. What it can't show: what
a result that went past the cache costs whoever reads it next; what other programs on the machine take.
"""

from __future__ import annotations

import ctypes
import time
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

import tensorcore
from tensorcore import simd
from tensorcore._lib import lib
from tensorcore._machine import read_text
from tensorcore.cli._bench_host import find_driver
from tensorcore.cli._bench_results import Row, Section
from tensorcore.cli._progress import Steps

if TYPE_CHECKING:
    from collections.abc import Callable

    Call = Callable[[], object]

_LIBRARY = "_bench_stream"
_KB, _MB = 1000, 1_000_000
_SIZES = {"8 KB": 8 * _KB, "80 KB": 80 * _KB, "800 KB": 800 * _KB, "8 MB": 8 * _MB, "64 MB": 64 * _MB}
_SEVERAL_FROM = 8 * _MB  # below, a second thread is not woken
_TURNS, _MOST_TURNS, _PATIENCE_MS = 8, 24, 5
_EXPRESSION = "a*b + c*d - e"
_NAMES = ("a", "b", "c", "d", "e", "out")
_AIMS = {  # by the columns compared: the least ratio by the row's label, or by its last words
    ("limit", "simd"): {"64 MB, 1 thread": 0.95, "64 MB, 2 threads": 0.95},
    ("np.add(out)", "simd"): {"8 KB, 1 thread": 1.0, "800 KB, 1 thread": 1.0, "64 MB, 1 thread": 1.25, "64 MB, 2 threads": 1.5},
    ("a + b", "simd"): {"64 MB, 1 thread": 2.0, "64 MB, 2 threads": 2.0},
    ("a + b", "of tensors"): {"8 KB, 1 thread": 1.0, "800 KB, 1 thread": 1.0, "64 MB, 1 thread": 2.0, "64 MB, 2 threads": 2.0},
    ("numpy", "evaluate"): {"64 MB, 1 thread": 2.0, "64 MB, 2 threads": 2.0},
    ("numexpr", "evaluate"): {"64 MB, 1 thread": 1.0, "64 MB, 2 threads": 1.0},
}


def bench_simd(rounds: int, quick: bool) -> list[Section]:
    """Tables of an addition, a fused expression and the other operations. FileNotFoundError: no library of the limit."""
    limit = _load_limit()
    numexpr = import_module("numexpr") if find_spec("numexpr") is not None else None
    most = simd.get_num_threads()
    add = Section("simd add", "c = a + b, float64, bytes of each array", ["limit", "simd", "np.add(out)", "a + b", "of tensors"])
    fused = Section(
        "simd fused", f"{_EXPRESSION}, float64, bytes of each array", ["numpy", *["numexpr"] * bool(numexpr), "evaluate"]
    )
    others = Section(
        "simd others", "other operations, float64, one thread", ["numpy", "simd", "of tensors"], ratio=("numpy", "simd")
    )
    steps_of_a_round = [(label, nbytes, threads) for label, nbytes in _SIZES.items() for threads in _thread_counts(nbytes, most)]
    with Steps(rounds * len(steps_of_a_round)) as steps:
        for _ in range(rounds):
            for label, nbytes, threads in steps_of_a_round:
                row = f"{label}, {threads} thread{'s' * (threads > 1)}"
                steps.begin(row)
                simd.set_num_threads(threads)
                tensors = _tensors(nbytes)
                arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
                _measure(add.row(row), _add_calls(arrays, tensors, limit, threads), quick)
                _measure(fused.row(row), _fused_calls(arrays, numexpr, threads), quick)
                if threads == 1 and label in ("8 KB", "800 KB", "64 MB"):
                    for name, calls in _other_calls(arrays, tensors).items():
                        _measure(others.row(f"{name}, {label}"), calls, quick)
                steps.end(row)
    simd.set_num_threads(most)
    add.notes.append(
        f"{simd.get_instruction_set()}; limit: a loop in C without any call from Python, its stores past the cache as simd's"
    )
    if numexpr is None:
        fused.notes.append("numexpr left out: not installed")
    return [*_compared(add), *_compared(fused), others]


def _thread_counts(nbytes: int, most: int) -> list[int]:
    return sorted({1, min(2, most), most}) if nbytes >= _SEVERAL_FROM else [1]


def _tensors(nbytes: int) -> dict[str, tensorcore.Tensor]:
    """Tensors of the pool: the same memory for everyone, 64-byte aligned and not all at the same offset of a page."""
    random = np.random.default_rng(1)
    tensors = {name: tensorcore.Tensor((nbytes // 8,)) for name in _NAMES}
    for tensor in tensors.values():
        random.random(out=tensor.numpy())
    return tensors


# ---- what is measured -----------------------------------------------------------------------------------------------------------


def _add_calls(arrays: dict[str, Any], tensors: dict[str, tensorcore.Tensor], limit: Any, threads: int) -> dict[str, Call]:
    a, b, out = arrays["a"], arrays["b"], arrays["out"]
    x, y = tensors["a"], tensors["b"]
    return {
        "limit": _limit_call(limit, arrays, threads),
        "simd": lambda: simd.vectorized_add(a, b, out),
        "np.add(out)": lambda: np.add(a, b, out),
        "a + b": lambda: a + b,
        "of tensors": lambda: x + y,
    }


def _fused_calls(arrays: dict[str, Any], numexpr: Any, threads: int) -> dict[str, Call]:
    a, b, c, d, e, out = (arrays[name] for name in _NAMES)
    calls: dict[str, Call] = {
        "numpy": lambda: a * b + c * d - e,
        "evaluate": lambda: simd.evaluate(_EXPRESSION, out=out, a=a, b=b, c=c, d=d, e=e),
    }
    if numexpr is not None:
        numexpr.set_num_threads(threads)
        names = {name: arrays[name] for name in _NAMES[:-1]}
        calls["numexpr"] = lambda: numexpr.evaluate(_EXPRESSION, local_dict=names, out=out)
    return calls


def _other_calls(arrays: dict[str, Any], tensors: dict[str, tensorcore.Tensor]) -> dict[str, dict[str, Call]]:
    a, b, out = arrays["a"], arrays["b"], arrays["out"]
    x, y = tensors["a"], tensors["b"]
    return {
        "sum": {"numpy": a.sum, "simd": lambda: simd.vectorized_sum(a), "of tensors": x.sum},
        "mean": {"numpy": a.mean, "of tensors": x.mean},
        "dot": {"numpy": lambda: a.dot(b), "simd": lambda: simd.vectorized_dot(a, b)},
        "min": {"numpy": a.min, "simd": lambda: simd.vectorized_min(a), "of tensors": x.min},
        "copy": {"numpy": lambda: np.copyto(out, a), "simd": lambda: simd.vectorized_copy(a, out)},
        "fill": {"numpy": lambda: out.fill(1.5), "simd": lambda: simd.vectorized_fill(out, 1.5)},
        "divide": {
            "numpy": lambda: np.true_divide(a, b, out),
            "simd": lambda: simd.vectorized_divide(a, b, out),
            "of tensors": lambda: x / y,
        },
        "scale": {
            "numpy": lambda: np.multiply(a, 1.5, out),
            "simd": lambda: simd.vectorized_scale(1.5, a, out),
            "of tensors": lambda: 1.5 * x,
        },
    }


def _limit_call(function: Any, arrays: dict[str, Any], threads: int) -> Call:
    """Return a call of the loop in C, which gives the seconds that it took without starting its threads."""
    a, b, out = (arrays[name].ctypes.data for name in ("a", "b", "out"))
    nbytes = arrays["out"].nbytes
    past_cache = int(nbytes >= lib.tc_simd_stream_from())
    return lambda: function(out, a, b, nbytes // 8, threads, past_cache)


def _load_limit() -> Any:
    function = ctypes.CDLL(str(find_driver(_LIBRARY))).tensorcore_stream_add
    function.argtypes = [ctypes.c_void_p] * 3 + [ctypes.c_size_t, ctypes.c_int, ctypes.c_int]
    function.restype = ctypes.c_double
    return function


# ---- how it is measured ---------------------------------------------------------------------------------------------------------


def _measure(row: Row, calls: dict[str, Call], quick: bool) -> None:
    """Add to each call's column the median of its turns, which it takes with the others; a turn is one call of a large array.

    Each turn begins with another column: a call finds in the cache what the one before it has left there.
    """
    nbytes = next(nbytes for label, nbytes in _SIZES.items() if label in row.label.split(", "))
    loops = max(1, (_MB if quick else 10 * _MB) // nbytes)
    alone: dict[str, list[float]] = {column: [] for column in calls}
    disturbed: dict[str, list[float]] = {column: [] for column in calls}
    for call in calls.values():
        call()
    for turn in range(1 if quick else _MOST_TURNS):
        if turn >= _TURNS and all(len(times) >= _TURNS for times in alone.values()):
            break
        for column, call in _rotated(list(calls.items()), turn):
            if len(alone[column]) < _TURNS:
                before = _wait_for_quiet()
                seconds = _seconds(call, loops)
                (alone if before and _nothing_else_runs() else disturbed)[column].append(seconds)
    for column in calls:
        row.add(column, float(np.median(alone[column] if len(alone[column]) >= 3 else alone[column] + disturbed[column])))


def _rotated(columns: list[tuple[str, Call]], turn: int) -> list[tuple[str, Call]]:
    first = turn % len(columns)
    return columns[first:] + columns[:first]


def _wait_for_quiet() -> bool:
    """Wait for a moment in which nothing else runs, not for long; return whether it came."""
    for _ in range(_PATIENCE_MS):
        if _nothing_else_runs():
            return True
        time.sleep(0.001)
    return False


def _nothing_else_runs() -> bool:
    """Return whether the system says that no other thread is running: a turn beside another program measures the scheduler."""
    running = (read_text("/proc/loadavg") or "0 0 0 1/1").split()[3].split("/")[0]
    return int(running) <= 1


def _seconds(call: Call, loops: int) -> float:
    """Return the time of a call; what gives its own time as a float is believed."""
    own = 0.0
    start = time.perf_counter()
    for _ in range(loops):
        result = call()
        if type(result) is float:
            own += result
        del result
    return (own or time.perf_counter() - start) / loops


def _compared(measured: Section) -> list[Section]:
    """Return a table for each pair of columns that has an aim."""
    sections = []
    for pair, aims in _AIMS.items():
        if not set(pair) <= set(measured.columns):
            continue
        section = Section(f"{measured.name}, {pair[0]}", measured.title, list(pair), ratio=pair, notes=list(measured.notes))
        for row in measured.rows:
            figures = {column: row.seconds[column] for column in pair}
            section.rows.append(
                Row(row.label, figures, {column: row.faults[column] for column in pair}, target=aims.get(row.label))
            )
        sections.append(section)
    return sections
