"""Times NumPy statements in a process of its own and prints a JSON object: label -> [seconds, page faults] per operation.

Run as a script: ``python -P _numpy_cases.py [--pooled] [--quick]``. Without --pooled it imports nothing but NumPy, so that plain
means plain; which allocator lies below is the environment's matter. The whole list runs in one process: a case sees the heap of
those before it, as a program's statements do.
"""

import json
import resource
import statistics
import sys
import timeit

import numpy as np

KB, MB = 1000, 1000 * 1000
POOLED, QUICK = "--pooled" in sys.argv, "--quick" in sys.argv
REPETITIONS = 3 if QUICK else 7
LEAST_SECONDS = 0.002 if QUICK else 0.03
NEW_RESULT_SIZES = {"8 KB": 8 * KB, "80 KB": 80 * KB, "800 KB": 800 * KB, "8 MB": 8 * MB, "64 MB": 64 * MB}


def arrays(nbytes: int) -> dict[str, object]:
    """Five operands and a place for a result, of so many bytes each."""
    operands = {name: np.full(nbytes // 8, 1.5) for name in "abcde"}
    return {"np": np, "out": np.empty(nbytes // 8), **operands}


def time_case(statement: str, names: dict[str, object]) -> tuple[float, float]:
    """Seconds and page faults of one execution: the median repetition, after one that isn't counted."""
    timer = timeit.Timer(statement, globals=names)
    loops = 1
    while timer.timeit(loops) < LEAST_SECONDS:
        loops *= 2
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    times = [timer.timeit(loops) / loops for _ in range(REPETITIONS)]
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
    return statistics.median(times), faults / (loops * REPETITIONS)


def all_cases() -> dict[str, tuple[float, float]]:
    """Every case, small ones first."""
    found = {}
    small: dict[str, object] = {"np": np, "a": np.full(64, 1.5), "b": np.full(64, 1.5)}
    found["np.empty(10)"] = time_case("np.empty(10)", small)
    found["np.empty(100)"] = time_case("np.empty(100)", small)
    found["a + b, 512 B"] = time_case("a + b", small)
    found["np.empty((1000, 1000))"] = time_case("np.empty((1000, 1000))", small)
    for name, nbytes in NEW_RESULT_SIZES.items():
        names = arrays(nbytes)
        if nbytes > 8 * KB:
            found[f"a*b + c*d - e, {name}"] = time_case("a*b + c*d - e", names)
        found[f"a + b, {name}"] = time_case("a + b", names)
        found[f"np.add(a, b, out), {name}"] = time_case("np.add(a, b, out)", names)
    for size in (4, 8):
        names = arrays(size * MB)
        found[f"eight live temporaries, {size} MB"] = time_case("t = [a + b for _ in range(8)]; del t", names)
    nothing: dict[str, object] = {"np": np}
    found["np.ones, 64 MB"] = time_case("np.ones(8_000_000)", nothing)
    found["np.zeros, 64 MiB, untouched"] = time_case("np.zeros(1 << 23)", nothing)
    found["np.zeros, 64 MiB, used"] = time_case("z = np.zeros(1 << 23); z[::512] = 1; del z", nothing)
    return found


if __name__ == "__main__":
    if POOLED:
        import tensorcore

        tensorcore.install()
    print(json.dumps(all_cases()))
