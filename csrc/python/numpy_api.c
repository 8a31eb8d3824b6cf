/* numpy_api.c - the handful of NumPy's C functions that the glue calls, found through the _ARRAY_API table without NumPy's headers.
 *
 * The slots are part of NumPy's stable ABI (numpy/_core/code_generators/numpy_api.py); the table is an unnamed capsule.
 */
#include "native.h"

enum numpy_slot {
  SLOT_ARRAY_TYPE = 2,
  SLOT_DESCR_TYPE = 3,
  SLOT_SCALAR_TYPE = 10,
  SLOT_DESCR_FROM_TYPE = 45,
  SLOT_SCALAR = 60,
  SLOT_NEW_FROM_DESCR = 94,
  SLOT_DESCR_CONVERTER = 174,
  SLOT_SET_HANDLER = 304,
  SLOT_GET_HANDLER = 305,
  SLOT_DEFAULT_HANDLER = 306,
};

typedef PyObject *(*new_from_descr)(PyTypeObject *, PyObject *, int, const Py_ssize_t *, const Py_ssize_t *, void *, int, PyObject *);
typedef PyObject *(*descr_from_type)(int);
typedef PyObject *(*scalar_from)(void *, PyObject *, PyObject *);
typedef int (*descr_converter)(PyObject *, PyObject **);
typedef PyObject *(*set_handler)(PyObject *);
typedef PyObject *(*get_handler)(void);

static void **numpy_api; /* written once, under the import lock */

int tci_numpy_load(void) {
  PyObject *module = PyImport_ImportModule("numpy._core._multiarray_umath");
  if (module == NULL) return -1;
  PyObject *capsule = PyObject_GetAttrString(module, "_ARRAY_API");
  Py_DECREF(module);
  if (capsule == NULL) return -1;
  numpy_api = PyCapsule_GetPointer(capsule, NULL);
  Py_DECREF(capsule); /* NumPy's module keeps it alive */
  return numpy_api == NULL ? -1 : 0;
}

PyObject *tci_numpy_array(PyObject *descr, int dimension_count, Py_ssize_t *dimensions, void *data) {
  new_from_descr make = (new_from_descr)numpy_api[SLOT_NEW_FROM_DESCR];
  int flags = data == NULL ? 0 : TCI_ARRAY_C_CONTIGUOUS | TCI_ARRAY_ALIGNED | TCI_ARRAY_WRITEABLE;
  return make(numpy_api[SLOT_ARRAY_TYPE], descr, dimension_count, dimensions, NULL, data, flags, NULL);
}

PyObject *tci_numpy_descr(PyObject *dtype) {
  PyObject *descr = NULL;
  if (PyObject_TypeCheck(dtype, (PyTypeObject *)numpy_api[SLOT_DESCR_TYPE])) return Py_NewRef(dtype);
  ((descr_converter)numpy_api[SLOT_DESCR_CONVERTER])(dtype, &descr);
  return descr;
}

int tci_numpy_is_array(PyObject *object) { return (void *)Py_TYPE(object) == numpy_api[SLOT_ARRAY_TYPE]; }

int tci_numpy_is_scalar(PyObject *object) { return PyObject_TypeCheck(object, (PyTypeObject *)numpy_api[SLOT_SCALAR_TYPE]); }

int tci_numpy_is_plain(PyObject *object) {
  return tci_numpy_is_array(object) || PyFloat_CheckExact(object) || PyLong_CheckExact(object) || PyBool_Check(object) ||
         PyComplex_CheckExact(object) || tci_numpy_is_scalar(object) || PyList_CheckExact(object) || PyTuple_CheckExact(object);
}

PyObject *tci_numpy_scalar(void *value, int type_number) {
  PyObject *descr = ((descr_from_type)numpy_api[SLOT_DESCR_FROM_TYPE])(type_number);
  PyObject *scalar = descr == NULL ? NULL : ((scalar_from)numpy_api[SLOT_SCALAR])(value, descr, NULL);
  Py_XDECREF(descr);
  return scalar;
}

PyObject *tci_numpy_set_handler(PyObject *capsule) { return ((set_handler)numpy_api[SLOT_SET_HANDLER])(capsule); }

PyObject *tci_numpy_default_handler(void) { return *(PyObject **)numpy_api[SLOT_DEFAULT_HANDLER]; }

/* An array that NumPy itself allocated owns its data through the current handler: were a field elsewhere, these could not all agree. */
int tci_numpy_layout_matches(void) {
  PyObject *handler = ((get_handler)numpy_api[SLOT_GET_HANDLER])();
  PyObject *descr = handler == NULL ? NULL : tci_numpy_descr((PyObject *)&PyFloat_Type);
  Py_ssize_t dimensions[] = {3, 5};
  tci_array *array = descr == NULL ? NULL : (tci_array *)tci_numpy_array(Py_NewRef(descr), 2, dimensions, NULL);
  int matches = -1;
  if (array != NULL)
    matches = array->dimension_count == 2 && array->dimensions[0] == 3 && array->dimensions[1] == 5 && array->strides[0] == 40 &&
              array->strides[1] == 8 && array->base == NULL && array->descr == descr && (array->flags & TCI_ARRAY_OWNDATA) &&
              array->weak_references == NULL && array->mem_handler == handler && ((tci_descr *)descr)->type_number == TCI_TYPE_DOUBLE;
  Py_XDECREF((PyObject *)array);
  Py_XDECREF(descr);
  Py_XDECREF(handler);
  return matches;
}
