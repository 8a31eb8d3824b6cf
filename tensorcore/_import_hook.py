"""Something to be done right after a module has been imported, by whomever: `when_imported`."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib.machinery import ModuleSpec
    from types import ModuleType


def when_imported(name: str, callback: Callable[[], None]) -> Callable[[], None]:
    """Call `callback()` now where a top-level module is imported already, else once, right after its import.

    An exception of the callback reaches whoever imports the module.

    Returns
    -------
    callable
        Takes the wish back; later it does nothing.
    """
    if name in sys.modules:
        import_module(name)  # waits where another thread is importing it now
        callback()
        return _do_nothing
    waiter = _Waiter(name, callback)
    sys.meta_path.insert(0, waiter)
    return waiter.step_aside


def _do_nothing() -> None: ...


class _Waiter(MetaPathFinder, Loader):
    """Stands in for the loader of one module, once."""

    def __init__(self, name: str, callback: Callable[[], None]) -> None:
        self._name = name
        self._callback = callback
        self._loader: Loader | None = None  # the module's own

    def step_aside(self) -> None:
        """Wait no longer."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        """Return the module's own spec with this object as its loader; None for every other module."""
        if name != self._name:
            return None
        self.step_aside()
        spec = find_spec(name)
        if spec is not None and spec.loader is not None:
            self._loader, spec.loader = spec.loader, self
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Do as the module's own loader does."""
        assert self._loader is not None
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Import the module, then call back."""
        assert self._loader is not None
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        # The module is whole now. The import system would say so only after this function, and until then make every other thread
        # wait that imports something of it: the callback may have such a thread.
        module.__spec__._initializing = False  # type: ignore[attr-defined]
        self._callback()
