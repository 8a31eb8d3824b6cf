"""Types of the compiled core, as far as cffi's objects have any."""

from typing import Any

__file__: str
ffi: Any
lib: Any
