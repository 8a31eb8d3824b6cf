"""One NPBench kernel in a process of its own, called as NPBench calls it: `npbench_kernel.py CHECKOUT KERNEL PRESET plain|pooled`.

The process makes the data, gives each call fresh copies of the array arguments (not timed), and prints its figures as JSON.
"""

import gc
import hashlib
import importlib
import json
import resource
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

SECONDS = 2.0  # calls are repeated for as long, the first one not counted
MOST_CALLS = 50
LONG_CALL = 5.0  # seconds; such a call is not repeated, and counts though it is the first


def make_data(benchmark: dict[str, Any], preset: str, package: str) -> dict[str, Any]:
    """Return the preset's parameters and what the benchmark's own initialize function makes of them, by name."""
    data = dict(benchmark["parameters"][preset])
    init = benchmark.get("init")
    if init:
        initialize = getattr(importlib.import_module(package), init["func_name"])
        made = initialize(*(data[name] for name in init["input_args"]))
        names = init["output_args"]
        data.update(zip(names, made, strict=True) if len(names) > 1 else [(names[0], made)])
    return data


def measure(call: Callable[[dict[str, Any]], Any], benchmark: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    """Call the kernel several times; times and page faults of each call, the peak RSS up to the last, a digest of what it left."""
    calls: list[tuple[float, float, int]] = []
    result: Any = None
    arguments: dict[str, Any] = {}
    while True:
        result, arguments = None, {}  # before the next copies are made
        arguments = data | {name: np.copy(data[name]) for name in benchmark["array_args"]}
        gc.collect()
        gc.disable()  # as timeit does
        faults, cpu, wall = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.process_time(), time.perf_counter()
        result = call(arguments)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        calls.append((wall, cpu, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults))
        gc.enable()
        spent = sum(one[0] for one in calls)
        if calls[0][0] > LONG_CALL or len(calls) > MOST_CALLS or (len(calls) > 3 and spent - calls[0][0] > SECONDS):
            break
    counted = calls[1:] or calls
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    outputs = [arguments[name] for name in benchmark.get("output_args") or []]
    return {
        "wall_s": [one[0] for one in counted],
        "cpu_s": [one[1] for one in counted],
        "faults": [one[2] for one in counted],
        "peak_rss_bytes": int(peak.split()[1]) * 1024,
        "digest": digest([result, outputs]),
    }


def digest(value: Any) -> str:
    """A hash of every bit of arrays and numbers, in nested tuples and lists too."""
    if isinstance(value, tuple | list):
        return hashlib.blake2b("".join(map(digest, value)).encode()).hexdigest()
    array = np.ascontiguousarray(value)
    if array.dtype == object:  # None
        return repr(value)
    head = f"{array.dtype} {np.shape(value)}".encode()
    return hashlib.blake2b(array.view(np.uint8).data if array.ndim and array.size else array.tobytes(), key=head[:64]).hexdigest()


def main(checkout: str, kernel: str, preset: str, way: str) -> None:
    """Run one kernel; `install` comes before the data are made, so that they too lie in the pool."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")  # where memory runs out, this process goes and no other
    pool = None
    if way == "pooled":
        import tensorcore as tc

        tc.install()
        pool = tc.get_global_memory_pool()
    benchmark = json.loads(Path(checkout, "bench_info", f"{kernel}.json").read_text())["benchmark"]
    module = benchmark["module_name"]
    package = ".".join(["npbench.benchmarks", *benchmark["relative_path"].split("/"), module])
    sys.path.insert(0, checkout)
    data = make_data(benchmark, preset, package)
    function = getattr(importlib.import_module(f"{package}_numpy"), benchmark["func_name"])
    figures = measure(lambda values: function(*(values[name] for name in benchmark["input_args"])), benchmark, data)
    figures["pool"] = None if pool is None else pool.statistics.as_dict()
    print(json.dumps(figures))


if __name__ == "__main__":
    main(*sys.argv[1:])
