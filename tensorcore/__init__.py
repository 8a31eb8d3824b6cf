"""TensorCore: one memory pool under NumPy arrays and tensors of your own.

    import tensorcore as tc

    tc.install()                                   # from here on NumPy's array data comes from the pool, in every thread
    x = tc.Tensor((1000, 1000))
    with tc.PooledAllocation(1 << 20) as block:
        data = block.array("float32", (512, 512))
    print(tc.statistics())

Sizes are bytes, times are seconds, ratios lie in 0..1.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import fft as fft
    from . import linalg as linalg
    from ._api import *  # noqa: F403  # the one list of public names is _api.__all__
    from ._api import __all__ as __all__
    from ._api import __version__ as __version__
    from ._creation_like import *  # noqa: F403  # from here on the array API standard: _namespace.__all__
    from ._data_types import *  # noqa: F403
    from ._elementwise import *  # noqa: F403
    from ._elementwise_pairs import *  # noqa: F403
    from ._manipulation import *  # noqa: F403
    from ._namespace import __array_api_version__ as __array_api_version__
    from ._namespace import __array_namespace_info__ as __array_namespace_info__
    from ._reducing import *  # noqa: F403


_PRIVATE = frozenset(("__all__", "__version__", "__array_api_version__", "__array_namespace_info__", "_C_API"))


def __getattr__(name: str) -> object:
    """Import everything at the first use of a name: a program under ``tensorcore run`` may set NumPy's environment first."""
    if name.startswith("_") and name not in _PRIVATE:
        raise AttributeError(f"module 'tensorcore' has no attribute {name!r}")
    import_module("numpy")  # first: what waits for NumPy (tensorcore run) must not find this package half imported
    if name == "_C_API":  # what tensorcore_import() of tensorcore_capi.h asks for
        return import_module("._lib", __name__).C_API
    _api = import_module("._api", __name__)
    globals().update({public: getattr(_api, public) for public in _api.__all__}, __all__=_api.__all__)
    if name not in globals() and "__array_api_version__" not in globals():  # a name of the array API standard
        _namespace = import_module("._namespace", __name__)
        globals().update({public: getattr(_namespace, public) for public in _namespace.__all__})
    try:
        return globals()[name]
    except KeyError:
        raise AttributeError(f"module 'tensorcore' has no attribute {name!r}") from None


def __dir__() -> list[str]:
    modules = (import_module("._api", __name__), import_module("._namespace", __name__))
    return sorted({*globals(), *(name for module in modules for name in module.__all__)})
