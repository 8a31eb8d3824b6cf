/* bindings.h - what _core exports beside tensorcore.h: the function through which Python gets all of the glue, and upstreams of Python's.
 *
 * Calls through cffi release the GIL and cost about 60 ns; what runs once per array must cost less and needs Python objects, so it lives
 * in a small module of ordinary C functions (native.c) whose module object this function returns.
 */
#ifndef TENSORCORE_BINDINGS_H
#define TENSORCORE_BINDINGS_H

#ifndef TC_CDEF
#include "tensorcore.h"
#endif

/* A new reference to a module object (a PyObject *), or NULL with a Python error set. Call it with the GIL held (ctypes.PYFUNCTYPE). */
void *tci_native_module(void);

/* upstream.c: set the functions of a table whose work the tensorcore_... callbacks of build_ffi.py do. */
void tci_upstream_fill(tc_upstream *upstream);
void tci_upstream_stop(void); /* the interpreter is going down: no callback is called from now on */

#endif /* TENSORCORE_BINDINGS_H */
