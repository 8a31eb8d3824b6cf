/* torch_port.c - the C symbols that PyTorch's CUDAPluggableAllocator (and a MemPool over it) looks up in this shared object.
 *
 * PyTorch calls them from any thread, with the GIL or without. A hit takes no GIL. The first call for a device, and every refusal, asks
 * Python, which makes the pool or says why not. PyTorch uses whatever address it gets, NULL too, so a refusal throws (throw.c).
 */
#include <sys/types.h>

#include "native.h"

#define EXPORT __attribute__((visibility("default")))
#define MAX_DEVICES 64

/* Of each device: a MemoryPool, owned for good once it was set, so that a thread without the GIL may read it; NULL: ask Python. */
static PyObject *pools[MAX_DEVICES]; /* atomic */
static PyObject *find_pool;          /* (device, nbytes or -1) -> MemoryPool; with nbytes it raises what a refusal means */

EXPORT void *tensorcore_torch_malloc(ssize_t nbytes, int device, void *stream);
EXPORT void tensorcore_torch_free(void *address, ssize_t nbytes, int device, void *stream);
EXPORT void tensorcore_torch_record_stream(void *address, void *stream);

/* The pool after asking Python; NULL where it raised, which is reported. */
static tc_pool *ask_python(int device, ssize_t nbytes) {
  PyGILState_STATE state = PyGILState_Ensure();
  PyObject *type, *value, *traceback;
  PyErr_Fetch(&type, &value, &traceback);
  tc_pool *pool = NULL;
  PyObject *found = find_pool == NULL ? NULL : PyObject_CallFunction(find_pool, "in", device, (Py_ssize_t)nbytes);
  if (found != NULL && tci_pool_argument(found, &pool) == 0 && device >= 0 && device < MAX_DEVICES)
    __atomic_store_n(&pools[device], Py_NewRef(found), __ATOMIC_RELEASE);
  if (PyErr_Occurred()) PyErr_WriteUnraisable(find_pool);
  Py_XDECREF(found);
  PyErr_Restore(type, value, traceback);
  PyGILState_Release(state);
  return pool;
}

static tc_pool *pool_of(int device) {
  PyObject *found = device < 0 || device >= MAX_DEVICES ? NULL : __atomic_load_n(&pools[device], __ATOMIC_ACQUIRE);
  tc_pool *pool = found == NULL ? NULL : tci_pool_now(found);
  return pool != NULL ? pool : ask_python(device, -1);
}

void *tensorcore_torch_malloc(ssize_t nbytes, int device, void *stream) {
  tc_pool *pool = pool_of(device);
  void *block = pool == NULL || nbytes < 0 ? NULL : tc_pool_alloc_on(pool, (size_t)nbytes, (uintptr_t)stream);
  if (block != NULL) return block;
  if (pool != NULL) ask_python(device, nbytes); /* says why on stderr: std::bad_alloc can't */
  tci_throw_bad_alloc();
  return NULL;
}

/* PyTorch frees with the stream of the allocation; other streams were recorded. */
void tensorcore_torch_free(void *address, ssize_t nbytes, int device, void *stream) {
  (void)nbytes, (void)device, (void)stream;
  tc_free(address);
}

void tensorcore_torch_record_stream(void *address, void *stream) {
  tc_pool *pool = tc_pool_of(address);
  if (pool != NULL) tc_pool_record_stream(pool, address, (uintptr_t)stream);
}

/* torch_connect(find_pool): from now on this function is asked, for every device anew. */
PyObject *tci_torch_connect(PyObject *module, PyObject *function) {
  (void)module;
  for (int device = 0; device < MAX_DEVICES; device++) __atomic_store_n(&pools[device], NULL, __ATOMIC_RELEASE);
  PyObject *old = find_pool;
  find_pool = Py_NewRef(function);
  Py_XDECREF(old);
  return Py_NewRef(Py_None);
}
