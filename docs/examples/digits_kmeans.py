"""Handwritten digits sorted without being told what they are: k-means on scikit-learn's digits, on the CPU or a GPU.

Lloyd's algorithm in whole-array expressions of the array API standard: distances by one matrix product, new centres by another.
Each round makes arrays of (samples, clusters) and drops them. The script prints how pure the clusters are, the memory it used and
its speed beside plain NumPy; the picture shows the centres.

    python docs/examples/digits_kmeans.py [--device cuda] [--picture out/digits.png]
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from support import compare, parse_options, write_png

SIDE = 8  # pixels of a digit


def load_digits() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """1,797 digits as rows of 64 grey values from 0 to 16, and what they are."""
    try:
        from sklearn.datasets import load_digits as load
    except ImportError:
        raise SystemExit("the digits are scikit-learn's, which is not installed: pip install scikit-learn") from None
    digits = load()
    return digits.data, digits.target


def distances(xp: Any, samples: Any, centres: Any) -> Any:
    """The squared distance of each sample to each centre, less the sample's own square."""
    return xp.sum(centres * centres, axis=1) - 2 * (samples @ centres.T)


def find_centres(xp: Any, samples: Any, centres: Any, rounds: int) -> Any:
    """The centres after some rounds: each is the mean of the samples that were nearest to it."""
    numbers = xp.arange(centres.shape[0])
    for _ in range(rounds):
        nearest = xp.argmin(distances(xp, samples, centres), axis=1)
        belongs = xp.astype(nearest[:, None] == numbers, samples.dtype)
        counts = xp.sum(belongs, axis=0)
        means = (belongs.T @ samples) / xp.maximum(counts, 1.0)[:, None]
        centres = xp.where(counts[:, None] > 0, means, centres)
    return centres


def purity(samples: NDArray[np.float64], labels: NDArray[np.int64], centres: NDArray[np.float64]) -> float:
    """The share of samples that are what most of their cluster are."""
    nearest = distances(np, samples, centres).argmin(axis=1)
    most = sum(np.bincount(labels[nearest == cluster]).max() for cluster in np.unique(nearest))
    return float(most / len(labels))


def main() -> None:
    options = parse_options(__doc__, clusters=40, rounds=30, copies=10)
    digits, labels = load_digits()
    generator = np.random.default_rng(1)
    samples = np.concatenate([digits + generator.normal(0, 0.5, digits.shape) for _ in range(options.copies)])
    start = samples[generator.choice(len(samples), options.clusters, replace=False)]
    centres = compare(lambda xp, make: find_centres(xp, make(samples), make(start), options.rounds), options.device)
    print(f"{len(samples):,} digits in {options.clusters} clusters, {purity(digits, labels, centres):.1%} pure")
    if options.picture:
        tiles = np.clip(centres.reshape(-1, SIDE, SIDE) * 15, 0, 255).astype(np.uint8).repeat(6, axis=1).repeat(6, axis=2)
        write_png(options.picture, [np.concatenate(list(tiles), axis=1)])


if __name__ == "__main__":
    main()
