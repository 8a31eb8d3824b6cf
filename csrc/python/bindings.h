/* bindings.h - what _core exports beside tensorcore.h: one function, through which Python gets all of the glue.
 *
 * Calls through cffi release the GIL and cost about 60 ns; what runs once per array must cost less and needs Python objects, so it lives
 * in a small module of ordinary C functions (native.c) whose module object this function returns.
 */
#ifndef TENSORCORE_BINDINGS_H
#define TENSORCORE_BINDINGS_H

/* A new reference to a module object (a PyObject *), or NULL with a Python error set. Call it with the GIL held (ctypes.PYFUNCTYPE). */
void *tci_native_module(void);

#endif /* TENSORCORE_BINDINGS_H */
