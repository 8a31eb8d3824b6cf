"""Times NumPy statements in a process of its own and prints a JSON object: label -> [seconds, page faults] per operation.

Run as a script: ``python -P _numpy_cases.py [--pooled] [--quick]``. Without --pooled it imports nothing but NumPy, so that plain
means plain; which allocator lies below is the environment's matter. Each case runs in a forked child, so that none inherits
another's heap: how glibc treats a block depends on what was freed before.
"""

import json
import os
import resource
import statistics
import sys
import timeit

import numpy as np

KB, MB = 1000, 1000 * 1000
POOLED, QUICK = "--pooled" in sys.argv, "--quick" in sys.argv
REPETITIONS = 3 if QUICK else 7
LEAST_SECONDS = 0.002 if QUICK else 0.03
SIZES = {"8 KB": 8 * KB, "80 KB": 80 * KB, "800 KB": 800 * KB, "8 MB": 8 * MB, "64 MB": 64 * MB}


def all_cases() -> dict[str, tuple[str, int]]:
    """Label -> (statement, bytes of each of its operands)."""
    cases = {
        "np.empty(10)": ("np.empty(10)", 8),
        "np.empty(100)": ("np.empty(100)", 8),
        "a + b, 512 B": ("a + b", 512),
        "np.empty((1000, 1000))": ("np.empty((1000, 1000))", 8),
    }
    for name, nbytes in SIZES.items():
        if nbytes > 8 * KB:
            cases[f"a*b + c*d - e, {name}"] = ("a*b + c*d - e", nbytes)
        cases[f"a + b, {name}"] = ("a + b", nbytes)
        cases[f"np.add(a, b, out), {name}"] = ("np.add(a, b, out)", nbytes)
    for size in (4, 8):
        cases[f"eight live temporaries, {size} MB"] = ("t = [a + b for _ in range(8)]; del t", size * MB)
    cases["np.ones, 64 MB"] = ("np.ones(8_000_000)", 8)
    cases["np.zeros, 64 MiB, untouched"] = ("np.zeros(1 << 23)", 8)
    cases["np.zeros, 64 MiB, used"] = ("z = np.zeros(1 << 23); z[::512] = 1; del z", 8)
    return cases


def time_case(statement: str, nbytes: int) -> tuple[float, float]:
    """Seconds and page faults of one execution: the median repetition, after a warm-up that isn't counted."""
    if POOLED:
        import tensorcore

        tensorcore.install()
    names: dict[str, object] = {name: np.full(nbytes // 8, 1.5) for name in ("a", "b", "c", "d", "e", "out")}
    timer = timeit.Timer(statement, globals=names | {"np": np})
    loops = 1
    while timer.timeit(loops) < LEAST_SECONDS:
        loops *= 2
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    times = [timer.timeit(loops) / loops for _ in range(REPETITIONS)]
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
    return statistics.median(times), faults / (loops * REPETITIONS)


def time_in_child(statement: str, nbytes: int) -> tuple[float, float]:
    """`time_case` in a forked child. RuntimeError where the child fails."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.write(writer, json.dumps(time_case(statement, nbytes)).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader) as answer:
        text = answer.read()
    _, status = os.waitpid(child, 0)
    if status != 0:
        raise RuntimeError(f"{statement} on {nbytes} bytes ended with status {status}")
    seconds, faults = json.loads(text)
    return seconds, faults


if __name__ == "__main__":
    print(json.dumps({label: time_in_child(*case) for label, case in all_cases().items()}))
