/* array.c - NumPy arrays that own a block of a pool: no Python finaliser, the array's own deallocation gives the block back.
 *
 * The array is made around a placeholder (NumPy checks shape and dtype), then given the block, the ownership flag and a memory handler whose
 * `free` is the hook's. Cost: one PyArray_NewFromDescr and one pool allocation. Limit: a dtype with Python objects inside is refused.
 */
#include <dlfcn.h>

#include "native.h"

#define TRACEMALLOC_DOMAIN 389047 /* NPY_TRACE_DOMAIN: NumPy untracks the data there when it frees it */

typedef int (*tracemalloc_track)(unsigned int domain, uintptr_t ptr, size_t nbytes);

static char placeholder[64] __attribute__((aligned(64)));
static PyObject *block_handler; /* a capsule; never freed: arrays may die after everything else */
static tracemalloc_track track; /* outside the limited API: NULL where this Python does not export it */

/* Only free and realloc are ever reached: new arrays ask the handler of their context. NumPy demands all four. */
static tci_handler block_functions = {"tensorcore", 1, {NULL, tci_hook_malloc, tci_hook_calloc, tci_hook_realloc, tci_hook_free}};

int tci_array_setup(void) {
  *(void **)&track = dlsym(RTLD_DEFAULT, "PyTraceMalloc_Track");
  block_handler = PyCapsule_New(&block_functions, TCI_HANDLER_CAPSULE, NULL);
  return block_handler == NULL ? -1 : 0;
}

/* Writes the dimensions of a sequence of integers; their count, or -1 with a Python error set. */
static int read_dimensions(PyObject *shape, Py_ssize_t *dimensions) {
  PyObject *items = PySequence_Tuple(shape); /* the same object where it is a tuple */
  if (items == NULL) return -1;
  Py_ssize_t count = PyTuple_Size(items);
  if (count > TCI_MAX_DIMENSIONS) PyErr_Format(PyExc_ValueError, "a shape has at most %d dimensions, not %zd", TCI_MAX_DIMENSIONS, count);
  for (Py_ssize_t i = 0; i < count && !PyErr_Occurred(); i++)
    dimensions[i] = PyNumber_AsSsize_t(PyTuple_GetItem(items, i), PyExc_OverflowError);
  Py_DECREF(items);
  return PyErr_Occurred() ? -1 : (int)count;
}

/* The same of an integer too. Arrays look like both: those of no dimensions refuse to be a sequence. */
static int read_shape(PyObject *shape, Py_ssize_t *dimensions) {
  if (PyTuple_Check(shape) || !PyIndex_Check(shape)) return read_dimensions(shape, dimensions);
  if (!PyLong_Check(shape) && PySequence_Check(shape)) {
    int count = read_dimensions(shape, dimensions);
    if (count >= 0 || !PyErr_ExceptionMatches(PyExc_TypeError)) return count;
    PyErr_Clear();
  }
  dimensions[0] = PyNumber_AsSsize_t(shape, PyExc_OverflowError);
  return dimensions[0] == -1 && PyErr_Occurred() ? -1 : 1;
}

/* 0, or -1 with a TypeError set: raw memory can't hold references. */
static int refuse_objects(PyObject *descr) {
  if (tci_type_is_number(((tci_descr *)descr)->type_number)) return 0;
  PyObject *has_object = PyObject_GetAttrString(descr, "hasobject");
  int refused = has_object == NULL ? -1 : PyObject_IsTrue(has_object);
  Py_XDECREF(has_object);
  if (refused == 1)
    PyErr_Format(PyExc_TypeError, "pool memory holds plain data, not the Python objects of %R: use numpy.empty for those", descr);
  return refused == 0 ? 0 : -1;
}

static Py_ssize_t array_nbytes(tci_array *array) {
  Py_ssize_t nbytes = -1;
  if (array->dimension_count > 0) {
    for (int i = 0; i < array->dimension_count; i++)
      if (array->dimensions[i] == 0) return 0;
    return array->dimensions[0] * array->strides[0];
  }
  PyObject *object = PyObject_GetAttrString((PyObject *)array, "nbytes");
  if (object != NULL) nbytes = PyLong_AsSsize_t(object);
  Py_XDECREF(object);
  return nbytes;
}

/* The array with a block of the pool as its own, or None where the pool refused. */
static PyObject *array_adopt(tci_array *array, tc_pool *pool, int zeroed) {
  Py_ssize_t nbytes = array_nbytes(array);
  void *block = NULL;
  tci_call_begin(1);
  if (nbytes >= 0 && pool != NULL) block = zeroed ? tc_pool_alloc_zeroed(pool, (size_t)nbytes) : tc_pool_alloc(pool, (size_t)nbytes);
  int failed = tci_call_end() < 0 || nbytes < 0;
  if (failed && block != NULL) tc_pool_free(pool, block);
  if (block == NULL || failed) {
    Py_DECREF((PyObject *)array);
    return failed ? NULL : Py_NewRef(Py_None);
  }
  if (track != NULL) track(TRACEMALLOC_DOMAIN, (uintptr_t)block, (size_t)nbytes);
  array->data = block;
  array->mem_handler = Py_NewRef(block_handler);
  array->flags |= TCI_ARRAY_OWNDATA;
  return (PyObject *)array;
}

PyObject *tci_array_make(PyObject *pool_object, PyObject *shape, PyObject *dtype, int zeroed) {
  tc_pool *pool;
  Py_ssize_t dimensions[TCI_MAX_DIMENSIONS];
  int dimension_count;
  if (tci_pool_argument(pool_object, &pool) < 0 || (dimension_count = read_shape(shape, dimensions)) < 0) return NULL;
  PyObject *descr = tci_numpy_descr(dtype);
  if (descr == NULL) return NULL;
  if (refuse_objects(descr) < 0) {
    Py_DECREF(descr);
    return NULL;
  }
  tci_array *array = (tci_array *)tci_numpy_array(descr, dimension_count, dimensions, placeholder);
  return array == NULL ? NULL : array_adopt(array, pool, zeroed);
}

PyObject *tci_array_like(PyObject *pool, const tci_array *model, PyObject *descr) {
  tci_array *array = (tci_array *)tci_numpy_array(descr, model->dimension_count, model->dimensions, placeholder);
  return array == NULL ? NULL : array_adopt(array, tci_pool_now(pool), 0);
}

PyObject *tci_array_empty(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
  (void)module;
  return tci_expect("empty", count, 3) < 0 ? NULL : tci_array_make(arguments[0], arguments[1], arguments[2], 0);
}

PyObject *tci_array_zeros(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
  (void)module;
  return tci_expect("zeros", count, 3) < 0 ? NULL : tci_array_make(arguments[0], arguments[1], arguments[2], 1);
}
