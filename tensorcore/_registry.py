"""Which pools are open, and which one each device uses by default. Holds references, calls nothing."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._pool import MemoryPool

pools: weakref.WeakValueDictionary[int, MemoryPool] = weakref.WeakValueDictionary()
"""Every open pool by the address of its tc_pool."""

defaults: dict[str, MemoryPool] = {}
"""The global pool of each device by the device's printed name."""

users: list[Callable[[MemoryPool], str | None]] = []
"""Each returns the name of the library that allocates from a pool, where it does; such a pool can't be closed."""


def user_of(pool: MemoryPool) -> str | None:
    """Return a library that allocates from a pool, None where there is none."""
    return next((name for user in users if (name := user(pool)) is not None), None)


def open_pools() -> list[MemoryPool]:
    """Return the open pools in the order of their names."""
    found = [reference() for reference in pools.valuerefs()]  # a list at once: other threads make and drop pools meanwhile
    return sorted((pool for pool in found if pool is not None), key=lambda pool: pool.name)
