/* pool_handle.c - PoolHandle, the base type of MemoryPool: the pool's address where C can read it at the cost of a load.
 *
 * A closed pool has no address. Whoever takes the address out (pool_close) is the one who destroys the pool, so that happens once.
 */
#include "native.h"

typedef struct pool_handle {
  PyObject ob_base;
  tc_pool *pool; /* atomic; NULL: not opened yet, or closed */
} pool_handle;

static PyTypeObject *pool_handle_type; /* owned for good */

static void pool_handle_dealloc(PyObject *self) {
  PyTypeObject *type = Py_TYPE(self);
  ((freefunc)PyType_GetSlot(type, Py_tp_free))(self); /* the subclass's finaliser has destroyed the pool */
  Py_DECREF((PyObject *)type);
}

static PyType_Slot pool_handle_slots[] = {
    {Py_tp_doc, (void *)"The address of a pool."},
    {Py_tp_dealloc, (void *)pool_handle_dealloc},
    {0, NULL},
};

static PyType_Spec pool_handle_spec = {"tensorcore._native.PoolHandle", sizeof(pool_handle), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
                                       pool_handle_slots};

PyObject *tci_pool_handle_setup(void) {
  pool_handle_type = (PyTypeObject *)PyType_FromSpec(&pool_handle_spec);
  return (PyObject *)pool_handle_type;
}

static pool_handle *as_pool_handle(PyObject *object) {
  if (PyObject_TypeCheck(object, pool_handle_type)) return (pool_handle *)object;
  PyErr_Format(PyExc_TypeError, "a MemoryPool was expected, not %R", object);
  return NULL;
}

tc_pool *tci_pool_now(PyObject *pool) { return __atomic_load_n(&((pool_handle *)pool)->pool, __ATOMIC_ACQUIRE); }

int tci_pool_check(PyObject *object) { return PyObject_TypeCheck(object, pool_handle_type); }

int tci_pool_argument(PyObject *object, tc_pool **pool) {
  if (as_pool_handle(object) == NULL) return -1;
  *pool = tci_pool_now(object);
  return 0;
}

PyObject *tci_pool_open(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
  (void)module;
  pool_handle *handle = tci_expect("pool_open", count, 2) < 0 ? NULL : as_pool_handle(arguments[0]);
  tc_pool *pool = handle == NULL ? NULL : PyLong_AsVoidPtr(arguments[1]);
  if (PyErr_Occurred()) return NULL;
  tci_fault_watch(pool);
  __atomic_store_n(&handle->pool, pool, __ATOMIC_RELEASE);
  return Py_NewRef(Py_None);
}

PyObject *tci_pool_close(PyObject *module, PyObject *object) {
  (void)module;
  pool_handle *handle = as_pool_handle(object);
  return handle == NULL ? NULL : PyLong_FromVoidPtr(__atomic_exchange_n(&handle->pool, NULL, __ATOMIC_ACQ_REL));
}

PyObject *tci_pool_address(PyObject *module, PyObject *object) {
  (void)module;
  tc_pool *pool;
  return tci_pool_argument(object, &pool) < 0 ? NULL : PyLong_FromVoidPtr(pool);
}
