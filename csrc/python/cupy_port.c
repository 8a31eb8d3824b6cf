/* cupy_port.c - CupyPort: the two C functions through which CuPy's CFunctionAllocator takes and gives back blocks of device pools.
 *
 * CuPy calls both with the GIL held. A hit costs one call of CuPy's get_current_stream beside the pool's own time. Whatever is not that
 * simple (a device seen first, another stream than the last one, memory hooks, a refusal) is left to a Python function. CuPy does not look
 * at the pointer that it gets, but declares the function `except +`: a C++ exception becomes the Python exception that is set by then.
 *
 * Limit: a port lives for ever, since CuPy's memory objects hold its address and may outlive everything else.
 */
#include "native.h"

#include <stddef.h>
#include <structmember.h>

#define MAX_DEVICES 64

/* Of one device, what `remember` was told last; kept as references, so that an address that compares equal is the same object. */
typedef struct place {
  PyObject *pool;   /* a MemoryPool; NULL: ask */
  PyObject *stream; /* the current stream as CuPy's object */
  uintptr_t handle; /* of that stream */
} place;

typedef struct port {
  PyObject ob_base;
  PyObject *current_stream; /* () -> an object that is the same for the same stream */
  PyObject *has_hooks;      /* () -> whether this thread ever had memory hooks of CuPy */
  PyObject *hooks;          /* () -> this thread's memory hooks, by their names */
  PyObject *allocate;       /* (nbytes, device) -> address, or raises */
  PyObject *freeing;        /* (address, device, is_after) -> None: the hooks of a deallocation */
  place places[MAX_DEVICES];
} port;

static PyTypeObject *port_type; /* owned for good */
static int hooks_were_used;     /* atomic; 0: no thread has entered a memory hook since the first port was made */

/* Whether a function without arguments returns something true; an exception counts as no: at a process's end it can't be answered. */
static int is_true(PyObject *function) {
  PyObject *answer = PyObject_CallNoArgs(function);
  int truth = answer == NULL ? -1 : PyObject_IsTrue(answer);
  if (truth < 0) PyErr_Clear();
  Py_XDECREF(answer);
  return truth > 0;
}

/* CuPy's own two questions, the cheap one first, and none of them (75 ns a block) where no hook was ever used. */
static int port_has_hooks(port *self) {
  return __atomic_load_n(&hooks_were_used, __ATOMIC_RELAXED) && is_true(self->has_hooks) && is_true(self->hooks);
}

static void *allocate_slowly(port *self, size_t nbytes, int device) {
  PyObject *address = PyObject_CallFunction(self->allocate, "ni", (Py_ssize_t)nbytes, device);
  void *block = address == NULL ? NULL : PyLong_AsVoidPtr(address);
  Py_XDECREF(address);
  if (block == NULL && !PyErr_Occurred()) PyErr_SetString(PyExc_MemoryError, "a device pool handed out no address");
  return block;
}

/* A block of the remembered pool for the remembered stream; NULL where something else is needed. */
static void *allocate_quickly(port *self, size_t nbytes, int device) {
#ifdef Py_GIL_DISABLED
  return (void)self, (void)nbytes, (void)device, NULL; /* what is remembered may change under us */
#else
  if (device < 0 || device >= MAX_DEVICES || self->places[device].pool == NULL || port_has_hooks(self)) return NULL;
  PyObject *stream = PyObject_CallNoArgs(self->current_stream);
  place *here = &self->places[device];
  int same = stream != NULL && stream == here->stream;
  if (stream == NULL) PyErr_Clear(); /* the slow way asks again */
  Py_XDECREF(stream);                /* `here` has a reference too where it is the same */
  tc_pool *pool = same ? tci_pool_now(here->pool) : NULL;
  return pool == NULL ? NULL : tc_pool_alloc_on(pool, nbytes, here->handle);
#endif
}

/* CuPy's malloc: throws with a Python exception set where there is no memory. */
static void *port_malloc(void *param, size_t nbytes, int device) {
  void *block = allocate_quickly(param, nbytes, device);
  if (block == NULL) block = allocate_slowly(param, nbytes, device);
  if (block == NULL) tci_throw_bad_alloc();
  return block;
}

static void call_hooks(port *self, void *address, int device, int is_after) {
  PyObject *result = PyObject_CallFunction(self->freeing, "Kii", (unsigned long long)(uintptr_t)address, device, is_after);
  if (result == NULL) PyErr_WriteUnraisable(self->freeing); /* the caller is a deallocation */
  Py_XDECREF(result);
}

/* CuPy's free: the block goes back on the stream that it was allocated on, whatever its hooks do. */
static void port_free(void *param, void *address, int device) {
  if (!__atomic_load_n(&hooks_were_used, __ATOMIC_RELAXED)) {
    tc_free(address);
    return;
  }
  PyObject *type, *value, *traceback;
  PyErr_Fetch(&type, &value, &traceback); /* objects die while exceptions are on their way */
  int hooked = port_has_hooks(param);
  if (hooked) call_hooks(param, address, device, 0);
  tc_free(address);
  if (hooked) call_hooks(param, address, device, 1);
  PyErr_Restore(type, value, traceback);
}

/* CupyPort(current_stream, has_hooks, hooks, allocate, freeing) */
static PyObject *port_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords) {
  PyObject *functions[5];
  if (keywords != NULL && PyDict_Size(keywords) > 0) return PyErr_Format(PyExc_TypeError, "CupyPort takes no keyword arguments");
  if (!PyArg_ParseTuple(arguments, "OOOOO:CupyPort", &functions[0], &functions[1], &functions[2], &functions[3], &functions[4])) return NULL;
  port *self = (port *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
  if (self == NULL) return NULL;
  self->current_stream = Py_NewRef(functions[0]);
  self->has_hooks = Py_NewRef(functions[1]);
  self->hooks = Py_NewRef(functions[2]);
  self->allocate = Py_NewRef(functions[3]);
  self->freeing = Py_NewRef(functions[4]);
  return Py_NewRef((PyObject *)self); /* one reference more than the caller's: it never dies */
}

/* remember(device, pool, stream, handle): what to do for this device without asking, as long as the current stream is that one. */
static PyObject *port_remember(PyObject *object, PyObject *arguments) {
  int device;
  PyObject *pool, *stream, *handle;
  tc_pool *opened;
  if (!PyArg_ParseTuple(arguments, "iOOO:remember", &device, &pool, &stream, &handle) || tci_pool_argument(pool, &opened) < 0) return NULL;
  uintptr_t value = (uintptr_t)PyLong_AsVoidPtr(handle);
  if (PyErr_Occurred()) return NULL;
  if (device < 0 || device >= MAX_DEVICES) return Py_NewRef(Py_None); /* the slow way serves it */
#ifndef Py_GIL_DISABLED
  place *here = &((port *)object)->places[device];
  place old = *here;
  *here = (place){Py_NewRef(pool), Py_NewRef(stream), value};
  Py_XDECREF(old.pool);
  Py_XDECREF(old.stream);
#else
  (void)object, (void)stream, (void)value;
#endif
  return Py_NewRef(Py_None);
}

/* ask_for_hooks(): from now on every port does, in every thread. */
static PyObject *port_ask_for_hooks(PyObject *object, PyObject *unused) {
  (void)object, (void)unused;
  __atomic_store_n(&hooks_were_used, 1, __ATOMIC_RELAXED);
  return Py_NewRef(Py_None);
}

static PyObject *port_address(PyObject *self, void *unused) {
  (void)unused;
  return PyLong_FromVoidPtr(self);
}
static PyObject *port_malloc_address(PyObject *self, void *unused) {
  (void)self, (void)unused;
  return PyLong_FromVoidPtr((void *)(uintptr_t)port_malloc);
}
static PyObject *port_free_address(PyObject *self, void *unused) {
  (void)self, (void)unused;
  return PyLong_FromVoidPtr((void *)(uintptr_t)port_free);
}

static PyMethodDef port_methods[] = {
    {"remember", port_remember, METH_VARARGS, "remember(device, pool, stream, handle) -> None"},
    {"ask_for_hooks", port_ask_for_hooks, METH_NOARGS, "ask_for_hooks() -> None: somebody uses CuPy's memory hooks"},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef port_properties[] = {
    {"param", port_address, NULL, "What CuPy hands to the two functions.", NULL},
    {"malloc", port_malloc_address, NULL, "The address of a void *(void *param, size_t nbytes, int device).", NULL},
    {"free", port_free_address, NULL, "The address of a void (void *param, void *address, int device).", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot port_slots[] = {
    {Py_tp_doc,
     (void *)"CupyPort(current_stream, has_hooks, hooks, allocate, freeing): device pools as C functions for CuPy's CFunctionAllocator."},
    {Py_tp_new, (void *)port_new},
    {Py_tp_methods, port_methods},
    {Py_tp_getset, port_properties},
    {0, NULL},
};

static PyType_Spec port_spec = {"tensorcore._native.CupyPort", sizeof(port), 0, Py_TPFLAGS_DEFAULT, port_slots};

PyObject *tci_cupy_port_setup(void) {
  port_type = (PyTypeObject *)PyType_FromSpec(&port_spec);
  return (PyObject *)port_type;
}
