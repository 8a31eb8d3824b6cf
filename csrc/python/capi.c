/* capi.c - the capsule of tensorcore_capi.h: the table through which other extension modules reach the pools.
 *
 * The global pool costs them one load once it is known. Limit: a pool that was ever handed out as the global one lives until Python
 * closes it, since nobody can say when the last extension has forgotten its address.
 */
#define TENSORCORE_CAPI_PROVIDER
#include "tensorcore_capi.h"

#include "native.h"

static tc_pool *global_pool;   /* atomic; NULL: ask Python */
static uint64_t replacements;  /* atomic; of the global pool in Python */
static PyObject *handed_out;   /* owned for good: a set of MemoryPool; changed with the GIL held or by one atomic call */

/* forget_global_pool(): the global pool is about to be another one, or none. */
PyObject *tci_capi_forget_global_pool(PyObject *module, PyObject *unused) {
  (void)module, (void)unused;
  __atomic_fetch_add(&replacements, 1, __ATOMIC_SEQ_CST);
  __atomic_store_n(&global_pool, NULL, __ATOMIC_SEQ_CST);
  return Py_NewRef(Py_None);
}

/* The pool of an object, with a Python error set where there is none. */
static tc_pool *pool_of_object(PyObject *object) {
  tc_pool *pool;
  if (tci_pool_argument(object, &pool) < 0) return NULL;
  if (pool == NULL) PyErr_Format(PyExc_ValueError, "%R was closed; make a new MemoryPool", object);
  return pool;
}

static tc_pool *ask_python(void) {
  PyObject *package = PyImport_ImportModule("tensorcore");
  PyObject *object = package == NULL ? NULL : PyObject_CallMethod(package, "get_global_memory_pool", NULL);
  tc_pool *pool = object == NULL ? NULL : pool_of_object(object);
  if (pool != NULL && PySet_Add(handed_out, object) < 0) pool = NULL;
  Py_XDECREF(object);
  Py_XDECREF(package);
  return pool;
}

static tc_pool *find_global_pool(void) {
  tc_pool *pool = __atomic_load_n(&global_pool, __ATOMIC_ACQUIRE);
  if (pool != NULL) return pool;
  PyGILState_STATE state = PyGILState_Ensure();
  uint64_t seen = __atomic_load_n(&replacements, __ATOMIC_SEQ_CST);
  pool = ask_python();
  if (pool == NULL) PyErr_WriteUnraisable(NULL);
  __atomic_store_n(&global_pool, pool, __ATOMIC_SEQ_CST);
  if (__atomic_load_n(&replacements, __ATOMIC_SEQ_CST) != seen) __atomic_store_n(&global_pool, NULL, __ATOMIC_SEQ_CST);
  PyGILState_Release(state);
  return pool;
}

static const tensorcore_capi table = {.table_version = TENSORCORE_CAPI_VERSION,
                                      .table_size = sizeof(tensorcore_capi),
                                      .layout = TENSORCORE_CAPI_LAYOUT,
                                      .global_pool = find_global_pool,
                                      .pool_of_object = pool_of_object,
#define ENTRY(name) .name = tc_##name,
                                      TENSORCORE_CAPI_FUNCTIONS(ENTRY)
#undef ENTRY
};

PyObject *tci_capi_setup(void) {
  handed_out = PySet_New(NULL);
  return handed_out == NULL ? NULL : PyCapsule_New((void *)&table, TENSORCORE_CAPI_NAME, NULL);
}
