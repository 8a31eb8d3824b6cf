"""What the examples share: their options, the measurement beside plain NumPy, and pictures.

An example is a function `run(xp, make)` of a namespace of the array API standard, `tensorcore` or `numpy`, and of what turns an
array into one of that namespace's; it is carried out with both, and the results must agree.
"""

import argparse
import struct
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import tensorcore as tc

Example = Callable[[Any, Callable[[NDArray[Any]], Any]], Any]
ROUNDS = 5


def parse_options(description: str | None, **sizes: int) -> argparse.Namespace:
    """The device, which is there, the picture, and numbers with their defaults."""
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--picture", type=Path, help="where to draw the result (a PNG)")
    for name, default in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"({default})")
    options = parser.parse_args()
    try:
        tc.device(options.device)
    except tc.DeviceUnavailableError as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    return options


def compare(run: Example, device: str) -> NDArray[Any]:
    """Carry an example out with tensors and with plain arrays, print memory and times, and return the result."""
    with tc.MemoryPool(device=device, name="example") as pool, tc.default_device(device):
        result, seconds = measure(lambda: run(tc, lambda array: tc.asarray(array, device=device, copy=True)))
        statistics = pool.statistics
        found: NDArray[Any] = result.cpu().numpy().copy()
        del result
    plain, plain_seconds = measure(lambda: run(np, np.copy))
    print(f"tensorcore on {device}: {seconds:.3f} s, at most {statistics.requested.peak / 2**20:.1f} MiB in use,", end=" ")
    print(f"{statistics.reserved.peak / 2**20:.1f} MiB held; {statistics.allocation_count:,} blocks from", end=" ")
    print(f"{statistics.upstream_calls:,} calls of the system")
    print(f"plain NumPy: {plain_seconds:.3f} s, {plain_seconds / seconds:.2f} times as long")
    print(f"largest difference between the two: {np.abs(found - plain).max():.1e}")
    return found


def measure(work: Callable[[], Any]) -> tuple[Any, float]:
    """The last result of a few rounds and the seconds of the fastest; a tensor's elements have arrived by then."""
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        result = work()
        if isinstance(result, tc.Tensor) and result.size:
            float(result.reshape(-1)[-1])
        times.append(time.perf_counter() - start)
    return result, min(times)


def write_png(path: Path, frames: Sequence[NDArray[np.uint8]], milliseconds: int = 40) -> None:
    """A grey (height, width) or coloured (height, width, 3) picture; an animated PNG where there are several frames."""
    height, width = frames[0].shape[:2]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        write_chunk(file, b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2 if frames[0].ndim == 3 else 0, 0, 0, 0))
        if len(frames) > 1:
            write_chunk(file, b"acTL", struct.pack(">II", len(frames), 0))
        number = 0
        for frame in frames:
            if len(frames) > 1:
                write_chunk(file, b"fcTL", struct.pack(">IIIIIHHBB", number, width, height, 0, 0, milliseconds, 1000, 0, 0))
                number += 1
            rows = np.zeros((height, 1 + frame[0].size), np.uint8)  # each row begins with its filter, 0
            rows[:, 1:] = frame.reshape(height, -1)
            data = zlib.compress(rows.tobytes(), 6)
            if frame is frames[0]:
                write_chunk(file, b"IDAT", data)
            else:
                write_chunk(file, b"fdAT", struct.pack(">I", number) + data)
                number += 1
        write_chunk(file, b"IEND", b"")
    print(f"drawn to {path}")


def write_chunk(file: Any, kind: bytes, data: bytes) -> None:
    file.write(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)))
