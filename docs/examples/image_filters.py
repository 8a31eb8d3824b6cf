"""A noisy photograph made clear: an image pipeline of blur, sharpening, edges and tone, on the CPU or a GPU.

Each stage is a few whole-array expressions over a coloured picture: a Gaussian blur along both axes, an unsharp mask, Sobel edges,
a tone curve. Every stage makes temporaries of the picture's size and drops them, as such pipelines do. The script prints the memory
it used and its speed beside plain NumPy; the picture shows before and after.

    python docs/examples/image_filters.py [--device cuda] [--picture out/filters.png]
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from support import compare, parse_options, write_png

RADIUS = 3  # pixels that the blur reaches to either side
SIGMA = 1.2  # its width in pixels
AMOUNT = 1.5  # of the sharpening
GAMMA = 0.8


def photograph(size: int) -> NDArray[np.float64]:
    """A made-up scene with noise: a sky, hills and a sun; (size, size, 3), 0 to 1."""
    y, x = np.meshgrid(np.linspace(0, 1, size), np.linspace(0, 1, size), indexing="ij")
    sky = np.stack([0.4 + 0.4 * y, 0.5 + 0.3 * y, 0.9 - 0.2 * y], axis=-1)
    hills = y > 0.65 + 0.1 * np.sin(9 * x) + 0.04 * np.sin(31 * x)
    sun = (x - 0.7) ** 2 + (y - 0.25) ** 2 < 0.01
    scene = np.where(hills[..., None], [0.15, 0.45, 0.2], np.where(sun[..., None], [1.0, 0.9, 0.5], sky))
    return np.clip(scene + np.random.default_rng(0).normal(0, 0.06, scene.shape), 0, 1)


def blur(xp: Any, picture: Any) -> Any:
    """The Gaussian mean of each pixel's neighbourhood; rows and columns beyond the edge come in from the other side."""
    weights = [math.exp(-0.5 * (offset / SIGMA) ** 2) for offset in range(-RADIUS, RADIUS + 1)]
    for axis in (0, 1):
        shifted = (xp.roll(picture, offset, axis=axis) for offset in range(-RADIUS, RADIUS + 1))
        picture = sum((weight / sum(weights)) * part for weight, part in zip(weights, shifted, strict=True))
    return picture


def edges(xp: Any, picture: Any) -> Any:
    """How steep the brightness is, by Sobel's differences; (height, width, 1)."""
    grey = xp.mean(picture, axis=2, keepdims=True)
    steep = []
    for along, across in ((0, 1), (1, 0)):
        smooth = xp.roll(grey, 1, axis=across) + 2 * grey + xp.roll(grey, -1, axis=across)
        steep.append((xp.roll(smooth, 1, axis=along) - xp.roll(smooth, -1, axis=along)) / 8)
    return xp.sqrt(steep[0] ** 2 + steep[1] ** 2)


def develop(xp: Any, picture: Any) -> Any:
    """The whole pipeline: smooth where it is flat, sharp where there are edges, then the tone curve."""
    smooth = blur(xp, picture)
    sharp = smooth + AMOUNT * (smooth - blur(xp, smooth))
    strength = xp.clip(8 * edges(xp, smooth), 0.0, 1.0)
    mixed = strength * sharp + (1 - strength) * blur(xp, smooth)
    return xp.clip(mixed, 0.0, 1.0) ** GAMMA


def main() -> None:
    options = parse_options(__doc__, size=800)
    picture = photograph(options.size)
    result = compare(lambda xp, make: develop(xp, make(picture)), options.device)
    rough, clear = (np.abs(np.diff(image, axis=1)).mean() for image in (picture, result))
    print(f"mean step from pixel to pixel: {rough:.4f} before, {clear:.4f} after")
    if options.picture:
        both = np.concatenate([picture, result], axis=1)
        write_png(options.picture, [(255 * both).astype(np.uint8)])


if __name__ == "__main__":
    main()
