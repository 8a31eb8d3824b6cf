"""Sizes as people write them: `'8GiB'` to bytes, bytes to `'8 GiB'`. Binary units count in 1024, decimal ones in 1000."""

from __future__ import annotations

import operator
import re
from typing import SupportsIndex

_BINARY = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_FACTORS = {"": 1, "B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, **_BINARY}
_FACTORS_BY_LOWER = {unit.lower(): factor for unit, factor in _FACTORS.items()}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")


def format_bytes(nbytes: float) -> str:
    """Return a size for reading: `'640 B'`, `'80,000 B'`, `'7.81 MiB'`; plain bytes below 1 MiB, three digits above."""
    if abs(nbytes) < 1 << 20:
        return f"{int(nbytes):,} B"
    unit, factor = next((u, f) for u, f in reversed(_BINARY.items()) if abs(nbytes) >= f)
    return f"{nbytes / factor:.{max(0, 3 - len(str(int(nbytes / factor))))}f} {unit}"


def parse_size(size: SupportsIndex | str, what: str = "a size") -> int:
    """Return the bytes of an integer or of a string like `'8GiB'`, `'512MB'`, `'1.5 TiB'`.

    Raises
    ------
    ValueError
        The string is not a size, or the number is negative.
    """
    if not isinstance(size, str):
        nbytes = operator.index(size)
        if nbytes < 0:
            raise ValueError(f"{what} is at least 0 bytes, not {nbytes}")
        return nbytes
    match = _SIZE.fullmatch(size)
    factor = _FACTORS_BY_LOWER.get(match[2].lower()) if match else None
    if match is None or factor is None:
        raise ValueError(f"{what} is bytes or a string like '8GiB', '512MB', '1.5TiB', not {size!r}")
    return round(float(match[1]) * factor) if "." in match[1] else int(match[1]) * factor
