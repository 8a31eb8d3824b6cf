"""Types of the compiled core, as far as cffi's objects have any."""

from typing import Any

ffi: Any
lib: Any
