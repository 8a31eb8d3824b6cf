"""A drop falls on water: the two-dimensional wave equation, on the CPU or a GPU, drawn as an animation.

    ∂²u/∂t² = c² ∇²u - friction ∂u/∂t        u = 0 on the edges of the basin

Finite differences on a square grid, leapfrog in time. Whole-array expressions: a step makes a dozen temporaries and drops them. The
script prints the memory it used and its speed beside plain NumPy.

    python docs/examples/wave_equation.py [--device cuda] [--picture out/wave.png]
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from support import compare, parse_options, write_png

import tensorcore as tc

COURANT = 0.5  # c * time step / cell: below 1 / sqrt(2), or the scheme is unstable
FRICTION = 2e-3  # of the speed, lost in each step
FRAMES = 40


def drop(size: int) -> NDArray[np.float64]:
    """The water's height when the drop has fallen: a bump off the middle, zero on the edges."""
    x = np.linspace(0, 1, size)
    bump = np.exp(-((x[:, None] - 0.35) ** 2 + (x[None, :] - 0.4) ** 2) / 0.002)
    bump[[0, -1], :] = bump[:, [0, -1]] = 0
    return bump


def advance(xp: Any, height: Any, before: Any) -> Any:
    """The height one step later, from the height now and one step ago."""
    middle = height[1:-1, 1:-1]
    curvature = height[:-2, 1:-1] + height[2:, 1:-1] + height[1:-1, :-2] + height[1:-1, 2:] - 4 * middle
    after = xp.zeros_like(height)
    after[1:-1, 1:-1] = middle + (1 - FRICTION) * (middle - before[1:-1, 1:-1]) + COURANT**2 * curvature
    return after


def simulate(xp: Any, start: Any, steps: int, watch: Callable[[Any], None] | None = None) -> Any:
    """The height after some steps; `watch` sees each."""
    height, before = start, start
    for _ in range(steps):
        height, before = advance(xp, height, before), height
        if watch is not None:
            watch(height)
    return height


def animate(start: NDArray[np.float64], steps: int) -> list[NDArray[np.uint8]]:
    """Some frames of the simulation, crests light and troughs dark."""
    heights: list[NDArray[np.float64]] = []
    simulate(tc, tc.asarray(start, device="cpu"), steps, lambda height: heights.append(height.numpy()))
    return [(128 + 127 * np.tanh(4 * height)).astype(np.uint8) for height in heights[:: max(1, steps // FRAMES)]]


def main() -> None:
    options = parse_options(__doc__, size=500, steps=300)
    start = drop(options.size)
    height = compare(lambda xp, make: simulate(xp, make(start), options.steps), options.device)
    print(f"highest {height.max():.6f}, lowest {height.min():.6f} after {options.steps} steps")
    if options.picture:
        small = start[:: max(1, options.size // 200), :: max(1, options.size // 200)]
        write_png(options.picture, animate(small, min(options.steps, 400)))


if __name__ == "__main__":
    main()
