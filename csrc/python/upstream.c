/* upstream.c - the table of an upstream that Python implements (tensorcore/_runtime_upstream.py): the core's calls, handed on with care.
 *
 * The core may call from a deallocation while a Python exception is on its way, which Python code must not run over: it is put aside and
 * back. From the end of the interpreter on nothing is handed on, and everything fails: the driver takes its memory back by itself.
 */
#include "native.h"

static int stopped; /* atomic; 1: the interpreter is going down */

/* Run a call of Python with the GIL and without a pending exception; the value that means failure where there is no interpreter any more. */
#define HAND_ON(type, failed, call)                                                      \
  if (__atomic_load_n(&stopped, __ATOMIC_ACQUIRE) || !Py_IsInitialized()) return failed; \
  PyGILState_STATE state = PyGILState_Ensure();                                          \
  PyObject *kind, *error, *trace;                                                        \
  PyErr_Fetch(&kind, &error, &trace);                                                    \
  type result = call;                                                                    \
  PyErr_Restore(kind, error, trace);                                                     \
  PyGILState_Release(state);                                                             \
  return result

static void *upstream_allocate(void *context, size_t nbytes, size_t alignment) {
  HAND_ON(void *, NULL, tensorcore_upstream_allocate(context, nbytes, alignment));
}

static void *upstream_record(void *context, uintptr_t stream) { HAND_ON(void *, NULL, tensorcore_event_record(context, stream)); }
static int upstream_query(void *context, void *event) { HAND_ON(int, -1, tensorcore_event_query(context, event)); }
static int upstream_wait(void *context, uintptr_t stream, void *event) { HAND_ON(int, -1, tensorcore_stream_wait(context, stream, event)); }
static int upstream_synchronize(void *context) { HAND_ON(int, -1, tensorcore_synchronize(context)); }

static int give_back(void *context, void *address) { HAND_ON(int, 0, tensorcore_upstream_deallocate(context, address)); }
static int forget(void *context, void *event) { HAND_ON(int, 0, tensorcore_event_destroy(context, event)); }

static void upstream_deallocate(void *context, void *address, size_t nbytes) {
  (void)nbytes;
  give_back(context, address);
}

static void upstream_destroy(void *context, void *event) { forget(context, event); }

void tci_upstream_fill(tc_upstream *upstream) {
  upstream->allocate = upstream_allocate;
  upstream->deallocate = upstream_deallocate;
  upstream->event_record = upstream_record;
  upstream->event_query = upstream_query;
  upstream->event_destroy = upstream_destroy;
  upstream->stream_wait = upstream_wait;
  upstream->synchronize = upstream_synchronize;
}

void tci_upstream_stop(void) { __atomic_store_n(&stopped, 1, __ATOMIC_RELEASE); }
