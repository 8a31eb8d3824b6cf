/* ordered.c - blocks of stream-ordered pools: allocate and deallocate on a stream at the cost of one call, and Block, their owner.
 *
 * The GIL stays held: a miss calls the upstream, which takes it again where it is Python's. A Block gives its memory back with its last
 * reference, on the stream that it was allocated on; it never raises and never waits, so garbage collection may run it anywhere.
 */
#include "native.h"

#include <stddef.h>
#include <structmember.h>

typedef struct block {
  PyObject ob_base;
  void *address;
  Py_ssize_t nbytes; /* of the request */
  PyObject *pool;    /* owned: the MemoryPool */
} block;

static PyTypeObject *block_type; /* owned for good */

/* A stream's handle; 0 or -1 with a Python error set. */
static int stream_argument(PyObject *object, uintptr_t *stream) {
  *stream = (uintptr_t)PyLong_AsVoidPtr(object);
  return *stream == 0 && PyErr_Occurred() ? -1 : 0;
}

/* The block that `function(pool, nbytes, stream)` asks for, NULL where the pool is closed or refused; 0, or -1 with a Python error set. */
static int allocate(const char *function, PyObject *const *arguments, Py_ssize_t count, void **address, Py_ssize_t *nbytes) {
  tc_pool *pool;
  uintptr_t stream;
  if (tci_expect(function, count, 3) < 0 || tci_pool_argument(arguments[0], &pool) < 0) return -1;
  if ((*nbytes = tci_size_argument(arguments[1])) < 0 || stream_argument(arguments[2], &stream) < 0) return -1;
  tci_call_begin(0);
  *address = pool == NULL ? NULL : tc_pool_alloc_on(pool, (size_t)*nbytes, stream);
  tci_call_end();
  return 0;
}

/* allocate_on(pool, nbytes, stream): an address, 0 where the pool refused. */
PyObject *tci_allocate_on(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
  (void)module;
  void *address;
  Py_ssize_t nbytes;
  return allocate("allocate_on", arguments, count, &address, &nbytes) < 0 ? NULL : PyLong_FromVoidPtr(address);
}

/* deallocate_on(pool, address, nbytes or None, stream): a tc_status. */
PyObject *tci_deallocate_on(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
  (void)module;
  tc_pool *pool;
  uintptr_t stream;
  if (tci_expect("deallocate_on", count, 4) < 0 || tci_pool_argument(arguments[0], &pool) < 0) return NULL;
  void *address = PyLong_AsVoidPtr(arguments[1]);
  if ((address == NULL && PyErr_Occurred()) || stream_argument(arguments[3], &stream) < 0) return NULL;
  if (pool == NULL) return PyLong_FromLong(TC_CLOSED);
  int sized = arguments[2] != Py_None;
  Py_ssize_t nbytes = sized ? tci_size_argument(arguments[2]) : 0;
  if (nbytes < 0) return NULL;
  tci_call_begin(0);
  tc_status status = sized ? tc_pool_free_sized_on(pool, address, (size_t)nbytes, stream) : tc_pool_free_on(pool, address, stream);
  tci_call_end();
  return PyLong_FromLong(status);
}

/* block(pool, nbytes, stream): a Block, None where the pool refused. */
PyObject *tci_block_make(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
  (void)module;
  void *address;
  Py_ssize_t nbytes;
  if (allocate("block", arguments, count, &address, &nbytes) < 0) return NULL;
  if (address == NULL) return Py_NewRef(Py_None);
  block *self = (block *)((allocfunc)PyType_GetSlot(block_type, Py_tp_alloc))(block_type, 0);
  if (self == NULL) {
    tc_free(address);
    return NULL;
  }
  self->address = address;
  self->nbytes = nbytes;
  self->pool = Py_NewRef(arguments[0]);
  return (PyObject *)self;
}

/* The pool's object stays until its block went back: it keeps the upstream's Python side. */
static void block_dealloc(PyObject *self) {
  PyTypeObject *type = Py_TYPE(self);
  tc_free(((block *)self)->address); /* refused in a forked child, where the memory is the parent's */
  Py_XDECREF(((block *)self)->pool);
  ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
  Py_DECREF((PyObject *)type);
}

static PyObject *block_ptr(PyObject *self, void *unused) {
  (void)unused;
  return PyLong_FromVoidPtr(((block *)self)->address);
}

static PyGetSetDef block_properties[] = {
    {"ptr", block_ptr, NULL, "The address of the block.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef block_members[] = {
    {"nbytes", T_PYSSIZET, offsetof(block, nbytes), READONLY, "The size of the request in bytes."},
    {"pool", T_OBJECT_EX, offsetof(block, pool), READONLY, "The pool that the block belongs to."},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot block_slots[] = {
    {Py_tp_doc, (void *)"Owns a block of a stream-ordered pool, and gives it back with the last reference."},
    {Py_tp_dealloc, (void *)block_dealloc},
    {Py_tp_getset, block_properties},
    {Py_tp_members, block_members},
    {0, NULL},
};

static PyType_Spec block_spec = {"tensorcore._native.Block", sizeof(block), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
                                 block_slots};

PyObject *tci_block_setup(void) {
  block_type = (PyTypeObject *)PyType_FromSpec(&block_spec);
  return (PyObject *)block_type;
}
