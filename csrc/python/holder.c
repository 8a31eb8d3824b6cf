/* holder.c - ArrayHolder, the base type of Tensor: an array, its pool, the array's buffer, and the common constructor at C speed.
 *
 * `Type(shape)` and `Type(shape, dtype)` on the default pool are made here; every other call goes to the subclass's `_make(*args,
 * **kwargs)`, which alone defines what the arguments mean, and a refusal of the pool to its `_refuse(pool, shape, dtype)`, which raises.
 * Limit: no short way on free-threaded Python, where reading the default pool would need a lock.
 */
#include "native.h"

#include <stddef.h>
#include <structmember.h>

typedef struct holder {
  PyObject ob_base;
  PyObject *array; /* owned */
  PyObject *pool;  /* owned */
} holder;

static PyTypeObject *holder_type; /* owned for good */
static PyObject *default_pool;  /* owned, or NULL; read and written with the GIL held */
static PyObject *default_dtype; /* owned for good: float64 */
static PyObject *make_name;     /* owned for good: "_make" */
static PyObject *refuse_name;   /* owned for good: "_refuse" */
static PyObject *protocol_name; /* owned for good: "__array_ufunc__" */

/* set_default_pool(pool or None): what Type(shape) allocates from; None: ask _make. */
PyObject *tci_holder_set_default_pool(PyObject *module, PyObject *pool) {
  (void)module;
  PyObject *old = default_pool;
  default_pool = pool == Py_None ? NULL : Py_NewRef(pool);
  Py_XDECREF(old);
  return Py_NewRef(Py_None);
}

PyObject *tci_holder_of(PyTypeObject *type, PyObject *array, PyObject *pool) {
  holder *self = (holder *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
  if (self == NULL) {
    Py_DECREF(array);
    return NULL;
  }
  self->array = array;
  self->pool = Py_NewRef(pool);
  return (PyObject *)self;
}

#ifdef Py_GIL_DISABLED
static const int short_way = 0;
#else
static const int short_way = 1;
#endif

PyObject *tci_holder_default_pool(void) { return short_way ? default_pool : NULL; }

static PyObject *holder_default(PyTypeObject *type, PyObject *pool, PyObject *shape, PyObject *dtype) {
  PyObject *array = tci_array_make(pool, shape, dtype, 0);
  if (array != Py_None) return array == NULL ? NULL : tci_holder_of(type, array, pool);
  Py_DECREF(array);
  return PyObject_CallMethodObjArgs((PyObject *)type, refuse_name, pool, shape, dtype, NULL);
}

static PyObject *holder_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
  Py_ssize_t count = PyTuple_Size(args);
  PyObject *self;
  if (short_way && default_pool != NULL && kwargs == NULL && (count == 1 || count == 2)) {
    PyObject *pool = Py_NewRef(default_pool); /* code behind the shape or the dtype may replace the default meanwhile */
    self = holder_default(type, pool, PyTuple_GetItem(args, 0), count == 2 ? PyTuple_GetItem(args, 1) : default_dtype);
    Py_DECREF(pool);
    return self;
  }
  PyObject *make = PyObject_GetAttr((PyObject *)type, make_name);
  self = make == NULL ? NULL : PyObject_Call(make, args, kwargs);
  Py_XDECREF(make);
  return self;
}

/* holder(type, array, pool): an instance around an array that exists. */
PyObject *tci_holder_wrap(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
  (void)module;
  if (tci_expect("holder", count, 3) < 0) return NULL;
  return tci_holder_of((PyTypeObject *)arguments[0], Py_NewRef(arguments[1]), arguments[2]);
}

int tci_holder_check(PyObject *object) { return PyObject_TypeCheck(object, holder_type); }

int tci_holder_overrides(PyObject *object) {
  static PyTypeObject *plain; /* owned: a class that was found to have none, most often Tensor */
  PyTypeObject *type = Py_TYPE(object);
  if (!PyType_IsSubtype(type, holder_type) || type == plain) return 0;
  PyObject *protocol = PyObject_GetAttr((PyObject *)type, protocol_name), *ours = PyObject_GetAttr((PyObject *)holder_type, protocol_name);
  int overrides = protocol == NULL || ours == NULL ? 0 : protocol == Py_None ? 2 : protocol != ours;
  PyErr_Clear();
  Py_XDECREF(protocol);
  Py_XDECREF(ours);
  if (!short_way || overrides) return overrides;
  PyObject *old = (PyObject *)plain;
  plain = (PyTypeObject *)Py_NewRef((PyObject *)type);
  Py_XDECREF(old);
  return 0;
}

PyObject *tci_holder_array(PyObject *object) { return ((holder *)object)->array; }

PyObject *tci_holder_pool(PyObject *object) { return ((holder *)object)->pool; }

static int holder_traverse(PyObject *self, visitproc visit, void *arg) {
  Py_VISIT(Py_TYPE(self));
  Py_VISIT(((holder *)self)->array);
  Py_VISIT(((holder *)self)->pool);
  return 0;
}

static int holder_clear(PyObject *self) {
  Py_CLEAR(((holder *)self)->array);
  Py_CLEAR(((holder *)self)->pool);
  return 0;
}

static void holder_dealloc(PyObject *self) {
  PyTypeObject *type = Py_TYPE(self);
  PyObject_GC_UnTrack(self);
  holder_clear(self);
  ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
  Py_DECREF((PyObject *)type);
}

static int holder_getbuffer(PyObject *self, Py_buffer *view, int flags) {
  PyObject *array = ((holder *)self)->array;
  if (array != NULL && PyObject_CheckBuffer(array)) return PyObject_GetBuffer(array, view, flags); /* the array releases the view */
  view->obj = NULL;
  PyErr_SetString(PyExc_BufferError, array == NULL ? "this object holds no array"
                                                   : "this tensor's memory is on a device, where the CPU can't read it: copy it with cpu()");
  return -1;
}

static PyMethodDef holder_methods[] = {
    {"__array_ufunc__", (PyCFunction)(void (*)(void))tci_ufunc_protocol, METH_FASTCALL | METH_KEYWORDS,
     "Carry out a ufunc of NumPy, or one of its methods, with the result in the pool."},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef holder_members[] = {
    {"_array", T_OBJECT_EX, offsetof(holder, array), READONLY, NULL},
    {"_pool", T_OBJECT_EX, offsetof(holder, pool), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

#define SLOTS 64 /* room for both */

static const PyType_Slot holder_slots[] = {
    {Py_tp_doc, (void *)"An array, the pool it came from, and the array's buffer."},
    {Py_tp_new, (void *)holder_new},
    {Py_tp_traverse, (void *)holder_traverse},
    {Py_tp_clear, (void *)holder_clear},
    {Py_tp_dealloc, (void *)holder_dealloc},
    {Py_tp_members, holder_members},
    {Py_tp_methods, holder_methods},
    {Py_bf_getbuffer, (void *)holder_getbuffer},
    {0, NULL},
};

/* The type's own slots and the operators'. */
static PyType_Slot *all_slots(PyType_Slot *slots) {
  size_t count = 0;
  for (const PyType_Slot *slot = holder_slots; slot->slot != 0; slot++) slots[count++] = *slot;
  for (const PyType_Slot *slot = tci_operator_slots; slot->slot != 0; slot++) slots[count++] = *slot;
  slots[count] = (PyType_Slot){0, NULL};
  return slots;
}

PyObject *tci_holder_setup(void) {
  PyType_Slot slots[SLOTS];
  default_dtype = tci_numpy_descr((PyObject *)&PyFloat_Type);
  make_name = PyUnicode_InternFromString("_make");
  refuse_name = PyUnicode_InternFromString("_refuse");
  protocol_name = PyUnicode_InternFromString("__array_ufunc__");
  if (default_dtype == NULL || make_name == NULL || refuse_name == NULL || protocol_name == NULL) return NULL;
  PyType_Spec spec = {"tensorcore._native.ArrayHolder", sizeof(holder), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
                      all_slots(slots)};
  holder_type = (PyTypeObject *)PyType_FromSpec(&spec);
  return Py_XNewRef((PyObject *)holder_type);
}
