"""NPBench's NumPy kernels, unchanged, plain and over the pool in turn: `npbench_compare.py CHECKOUT [--kernels a,b] [--preset L]`.

Each run is a process of its own. A kernel's figure is the median over rounds of the median over a run's calls; on a busy machine
CPU time says more than wall time. It can't show a difference below the spread of its rounds (--json keeps every call). Exit
status 1 where a result differs by a bit or a kernel could not be run.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tensorcore.cli._tables import Sheet, seconds_text, show

PRESETS = ("S", "M", "L")  # ascending
WAYS = ("plain", "pooled")
FLOOR = 0.97  # a kernel that is slower by more than this is counted

Run = dict[str, Any]  # what npbench_kernel.py prints


@dataclass
class Kernel:
    """One kernel's runs."""

    name: str
    preset: str
    plain: list[Run] = field(default_factory=list)
    pooled: list[Run] = field(default_factory=list)
    error: str = ""  # why it has no runs at this preset

    def figure(self, way: str, name: str) -> float:
        """The median over the rounds; of a run's calls the median too."""
        runs: list[Run] = getattr(self, way)
        values: list[float] = [statistics.median(run[name]) if isinstance(run[name], list) else run[name] for run in runs]
        return statistics.median(values)

    def ratio(self, name: str) -> float:
        """Plain divided by pooled: above 1 the pool is ahead."""
        return self.figure("plain", name) / self.figure("pooled", name)

    @property
    def result(self) -> str:
        """'same' where every run left the same bits; 'varies' where the plain runs already disagree among themselves."""
        plain, pooled = ({run["digest"] for run in runs} for runs in (self.plain, self.pooled))
        return "varies" if len(plain) > 1 else "same" if plain == pooled else "DIFFERS"


def kernels_of(checkout: Path) -> list[str]:
    """The names of the benchmarks that have a NumPy version."""
    names = []
    for path in sorted((checkout / "bench_info").glob("*.json")):
        benchmark = json.loads(path.read_text())["benchmark"]
        folder = checkout / "npbench" / "benchmarks" / benchmark["relative_path"]
        if (folder / f"{benchmark['module_name']}_numpy.py").exists():
            names.append(path.stem)
    return names


def run_once(checkout: Path, kernel: str, preset: str, way: str, limit_s: float) -> Run:
    """One run in a process of its own; RuntimeError says why there is no result."""
    environment = {"OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"} | os.environ  # threads add noise, not allocations
    command = [sys.executable, "-P", str(Path(__file__).with_name("npbench_kernel.py")), str(checkout), kernel, preset, way]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=limit_s, check=False)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"took more than {limit_s:g} s") from None
    if done.returncode != 0:
        raise RuntimeError(f"ended with {done.returncode}: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    figures: Run = json.loads(done.stdout.splitlines()[-1])
    return figures


def compare(checkout: Path, name: str, preset: str, rounds: int, limit_s: float) -> Kernel:
    """Plain, pooled, plain, pooled ...; at a smaller preset where the first plain run fails or takes too long."""
    kernel = Kernel(name, preset)
    for number in range(rounds):
        for way in WAYS:
            limit = limit_s if number == 0 and way == "plain" else 3 * limit_s
            try:
                run = run_once(checkout, name, preset, way, limit)
            except RuntimeError as error:
                smaller = PRESETS[: PRESETS.index(preset)] if preset in PRESETS and number == 0 and way == "plain" else ()
                if not smaller:
                    kernel.error = f"{way} {error}"
                    return kernel
                say(f"{name}: {way} at preset {preset} {error}; preset {smaller[-1]} instead")
                return compare(checkout, name, smaller[-1], rounds, limit_s)
            getattr(kernel, way).append(run)
    return kernel


def say(text: str) -> None:
    """Progress goes to stderr, the table to stdout."""
    print(text, file=sys.stderr, flush=True)


def cells(kernel: Kernel) -> list[str]:
    """A kernel's row."""
    times = [seconds_text(kernel.figure(way, "wall_s")) for way in WAYS]
    faults = [f"{kernel.figure(way, 'faults'):,.0f}" for way in WAYS]
    ratios = [f"{kernel.ratio('wall_s'):.2f}", f"{kernel.ratio('cpu_s'):.2f}"]
    rss = f"{1 / kernel.ratio('peak_rss_bytes'):.2f}"
    return [kernel.name, kernel.preset, *times, *ratios, *faults, rss, kernel.result]


def sheet(kernels: list[Kernel]) -> Sheet:
    """A row a kernel; below, the geometric means and the worst."""
    columns = ["kernel", "preset", "plain", "pooled", "wall x", "CPU x", "faults a call", "pooled", "RSS pooled / plain", "result"]
    table = Sheet("NPBench, NumPy kernels: plain / pooled (above 1: pooled is faster)", columns)
    complete = [kernel for kernel in kernels if not kernel.error]
    table.rows = [cells(kernel) for kernel in complete]
    for name, words in (("wall_s", "wall time"), ("cpu_s", "CPU time")) if complete else ():
        mean = statistics.geometric_mean(kernel.ratio(name) for kernel in complete)
        worst = min(complete, key=lambda kernel: kernel.ratio(name))
        slower = sum(kernel.ratio(name) < FLOOR for kernel in complete)
        least = f"worst {worst.ratio(name):.3f} ({worst.name})"
        table.notes.append(f"{words}: geometric mean {mean:.3f}, {least}, {slower} of {len(complete)} below {FLOOR}")
    if complete:
        worst = min(complete, key=lambda kernel: kernel.ratio("peak_rss_bytes"))
        table.notes.append(f"peak RSS: worst {1 / worst.ratio('peak_rss_bytes'):.3f} ({worst.name})")
    table.notes += [f"{kernel.name}: no result, {kernel.error}" for kernel in kernels if kernel.error]
    return table


def main() -> int:
    """Compare the kernels one by one, a line on stderr after each, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", type=Path, help="a checkout of spcl/npbench")
    parser.add_argument("--kernels", default="", help="names in bench_info, with commas; all of them by default")
    parser.add_argument("--preset", default="L", choices=[*PRESETS, "paper"])
    parser.add_argument("--rounds", type=int, default=3, help="runs of each way, in turn")
    parser.add_argument("--limit", type=float, default=60.0, metavar="S", help="a longer first run falls back to a smaller preset")
    parser.add_argument("--json", type=Path, metavar="F", help="every call of every run")
    options = parser.parse_args()
    checkout = options.checkout.resolve()
    known = kernels_of(checkout)
    names = options.kernels.split(",") if options.kernels else known
    if not known:
        parser.error(f"{checkout} is no checkout of NPBench: it has no bench_info with NumPy kernels")
    if unknown := sorted(set(names) - set(known)):
        parser.error(f"{checkout} has no NumPy version of {', '.join(unknown)}")
    kernels = []
    for number, name in enumerate(names, 1):
        kernel = compare(checkout, name, options.preset, options.rounds, options.limit)
        kernels.append(kernel)
        say(f"[{number}/{len(names)}] {f'{name}: {kernel.error}' if kernel.error else '  '.join(cells(kernel))}")
        if options.json:
            options.json.write_text(json.dumps([asdict(one) for one in kernels]) + "\n")
    show([sheet(kernels)])
    return 1 if any(kernel.error or kernel.result == "DIFFERS" for kernel in kernels) else 0


if __name__ == "__main__":
    sys.exit(main())
