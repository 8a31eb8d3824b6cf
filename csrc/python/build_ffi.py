"""Write the C source of `tensorcore._core` from the preprocessed headers; called by the CMakeLists.txt beside this file.

What this file adds to the headers is only what the preprocessor takes away or C cannot say: the integer macros, whose values the C
compiler then fills in, and the callbacks that Python implements.
"""

import argparse
import re
from collections.abc import Iterable
from pathlib import Path

from cffi import FFI

CALLBACKS = """
extern "Python" int tensorcore_on_out_of_memory(tc_pool *, size_t, int, void *);
extern "Python" void tensorcore_on_watermark(tc_pool *, double, void *);
extern "Python+C" void *tensorcore_upstream_allocate(void *, size_t, size_t);
extern "Python+C" int tensorcore_upstream_deallocate(void *, void *);
extern "Python+C" void *tensorcore_event_record(void *, uintptr_t);
extern "Python+C" int tensorcore_event_query(void *, void *);
extern "Python+C" int tensorcore_event_destroy(void *, void *);
extern "Python+C" int tensorcore_stream_wait(void *, uintptr_t, void *);
extern "Python+C" int tensorcore_synchronize(void *);
"""

INTEGER_MACRO = re.compile(r"^#define (TC_[A-Z0-9_]+) +(?:0x)?[0-9]", re.MULTILINE)


def integer_macros(headers: Iterable[str]) -> str:
    """Return a cdef line for each integer macro of the headers; `...` leaves the value to the C compiler."""
    names = (name for header in headers for name in INTEGER_MACRO.findall(header))
    return "".join(f"#define {name} ...\n" for name in names)


def make_ffi(cdefs: Iterable[str], headers: Iterable[str], includes: Iterable[str]) -> FFI:
    """Return the FFI whose declarations are `cdefs`, in order, the integer macros of `headers` and the callbacks."""
    ffi = FFI()
    for cdef in cdefs:
        ffi.cdef(cdef)
    ffi.cdef(integer_macros(headers))
    ffi.cdef(CALLBACKS)
    ffi.set_source("tensorcore._core", "".join(f'#include "{name}"\n' for name in includes))
    return ffi


def main() -> None:
    """Write the module's source to the path given on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, help="the C file to write")
    parser.add_argument("--cdef", type=Path, nargs="+", required=True, help="preprocessed headers")
    parser.add_argument("--header", type=Path, nargs="+", required=True, help="the headers themselves, in the same order")
    arguments = parser.parse_args()
    cdefs = [path.read_text() for path in arguments.cdef]
    headers = [path.read_text() for path in arguments.header]
    make_ffi(cdefs, headers, [path.name for path in arguments.header]).emit_c_code(str(arguments.output))


if __name__ == "__main__":
    main()
