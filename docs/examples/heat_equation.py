"""A steel plate under a burner: the two-dimensional heat equation with a conductivity that depends on temperature.

    c ∂T/∂t = ∇·(k(T) ∇T) + burner - radiation        k(T) = K0 (1 + BETA T),  radiation = SIGMA (T⁴ - AMBIENT⁴)

Finite volumes on a 720 x 720 grid, explicit Euler, insulated edges, everything in units of the plate. Whole-array expressions,
written as the formula has them: a step makes some twenty temporaries of 4 MB and drops them at its end. Prints the balance of heat,
which the scheme keeps to rounding, and a checksum of the field; draws it to a PNG (out/heat_equation.png, or the path given).

    python docs/examples/heat_equation.py [PICTURE.png]
    tensorcore run --compare docs/examples/heat_equation.py
"""

import argparse
import hashlib
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float64]

POINTS = 720  # cells along each side
STEPS = 400
TIME_STEP = 0.15  # in cells² / K0: below 0.25 / (1 + BETA T), or the scheme is unstable
BETA = 0.5  # how the conductivity grows with temperature
SIGMA = 2e-3  # radiation
AMBIENT = 0.3
BURNER = 0.02  # heat per cell and time unit in the flame's middle


def flame() -> Field:
    """Heat input of a burner with three nozzles, one value per cell."""
    x, y = np.meshgrid(np.linspace(0, 1, POINTS), np.linspace(0, 1, POINTS), indexing="ij")
    nozzles = [(0.30, 0.35), (0.62, 0.30), (0.48, 0.68)]
    return BURNER * sum((np.exp(-((x - a) ** 2 + (y - b) ** 2) / 0.03) for a, b in nozzles), start=np.zeros_like(x))


def advance(temperature: Field, burner: Field) -> float:
    """One time step, in place; the heat that came in less what was radiated."""
    conductivity = 1 + BETA * temperature
    across_x = (conductivity[1:, :] + conductivity[:-1, :]) / 2  # on the faces between cells
    across_y = (conductivity[:, 1:] + conductivity[:, :-1]) / 2
    flux_x = np.zeros((POINTS + 1, POINTS))  # nothing passes the plate's edges
    flux_y = np.zeros((POINTS, POINTS + 1))
    flux_x[1:-1, :] = across_x * (temperature[:-1, :] - temperature[1:, :])
    flux_y[:, 1:-1] = across_y * (temperature[:, :-1] - temperature[:, 1:])
    squared = temperature * temperature
    source = burner - SIGMA * (squared * squared - AMBIENT**4)
    divergence = (flux_x[1:, :] - flux_x[:-1, :]) + (flux_y[:, 1:] - flux_y[:, :-1])
    temperature += TIME_STEP * (source - divergence)
    return TIME_STEP * float(source.sum())


def simulate() -> tuple[Field, float]:
    """The temperature after STEPS steps from AMBIENT, and the heat put in, in sum."""
    temperature = np.full((POINTS, POINTS), AMBIENT)
    burner = flame()
    gained = 0.0
    for _ in range(STEPS):
        gained += advance(temperature, burner)
    return temperature, gained


def write_png(path: Path, field: Field) -> None:
    """An 8-bit colour picture, one pixel per cell, from black through red and yellow to white."""
    level = (field - field.min()) / (field.max() - field.min())
    colour = np.clip(np.stack([3 * level, 3 * level - 1, 3 * level - 2], axis=-1), 0, 1)
    rows = np.zeros((POINTS, 1 + 3 * POINTS), dtype=np.uint8)  # each row begins with its filter, 0
    rows[:, 1:] = (255 * colour).astype(np.uint8).reshape(POINTS, -1)
    header = struct.pack(">IIBBBBB", POINTS, POINTS, 8, 2, 0, 0, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 6)), (b"IEND", b"")):
            file.write(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("picture", nargs="?", type=Path, default="out/heat_equation.png", help="where to draw the result (a PNG)")
    picture = parser.parse_args().picture
    temperature, gained = simulate()
    error = temperature.sum() - AMBIENT * POINTS**2 - gained
    write_png(picture, temperature)
    print(
        f"hottest {temperature.max():.6f}, coldest {temperature.min():.6f}, heat put in {gained:.6f}, out of balance by {error:.1e}"
    )
    print(f"SHA-256 of the field {hashlib.sha256(temperature.tobytes()).hexdigest()}")
    print(f"drawn to {picture}")


if __name__ == "__main__":
    main()
