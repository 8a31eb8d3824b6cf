"""Which pools are open, and which one each device uses by default. Holds references, calls nothing."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._pool import MemoryPool

pools: weakref.WeakValueDictionary[int, MemoryPool] = weakref.WeakValueDictionary()
"""Every open pool by the address of its tc_pool."""

defaults: dict[str, MemoryPool] = {}
"""The global pool of each device by the device's printed name."""


def open_pools() -> list[MemoryPool]:
    """Return the open pools in the order of their names."""
    found = [reference() for reference in pools.valuerefs()]  # a list at once: other threads make and drop pools meanwhile
    return sorted((pool for pool in found if pool is not None), key=lambda pool: pool.name)
