/* simd_call.c - the quick way to simd.c: dense arrays of one type, shape and order, and Python numbers, read straight from their objects.
 *
 * Whatever is not so (strides, mixed types, broadcasting, overlaps, other objects) gets None, and tensorcore/simd.py does it the general
 * way. Cost: about 60 ns for three arrays; the GIL is released from 128 KiB on, where a switch of threads is worth it.
 */
#include <math.h>

#include "native.h"
#include "tensorcore/simd.h"

#define RELEASE_BYTES ((Py_ssize_t)128 << 10)
#define EXACT ((long long)1 << 53) /* integers up to here are doubles */

enum { TYPE_INT = 5, TYPE_LONG = 7, TYPE_LONGLONG = 9, TYPE_FLOAT = 11, TYPE_DOUBLE = 12 }; /* NPY_TYPES */

typedef union number {
  float f32;
  double f64;
  int32_t i32;
  int64_t i64;
} number;

typedef struct call {
  tci_array *model; /* the first array: the others are like it */
  PyObject *pool;   /* borrowed: of the first tensor; NULL: there is none */
  int type;         /* tc_simd_type */
  int order;        /* TCI_ARRAY_C_CONTIGUOUS and TCI_ARRAY_F_CONTIGUOUS: what all arrays are */
  Py_ssize_t count, nbytes;
  uint32_t single;
  const void *inputs[TC_SIMD_INPUTS];
  number numbers[TC_SIMD_INPUTS];
} call;

static int layout_known; /* whether tci_array describes this NumPy */

int tci_simd_setup(void) { return layout_known = tci_numpy_layout_matches(), layout_known < 0 ? -1 : 0; }

/* ---- reading ----------------------------------------------------------------------------------------------------------------------- */

static int type_of(const tci_array *array) {
  const tci_descr *descr = (const tci_descr *)array->descr;
  if (descr->byteorder != '=') return -1;
  switch (descr->type_number) {
  case TYPE_FLOAT:
    return TC_SIMD_F32;
  case TYPE_DOUBLE:
    return TC_SIMD_F64;
  case TYPE_INT:
    return TC_SIMD_I32;
  case TYPE_LONG:
    return sizeof(long) == 8 ? TC_SIMD_I64 : TC_SIMD_I32;
  case TYPE_LONGLONG:
    return TC_SIMD_I64;
  default:
    return -1;
  }
}

static Py_ssize_t size_of(int type) { return type == TC_SIMD_F32 || type == TC_SIMD_I32 ? 4 : 8; }

/* The array of a tensor, or the object itself where it is one; NULL: neither. `pool`: the tensor's, left alone otherwise. */
static tci_array *as_array(PyObject *object, PyObject **pool) {
  PyObject *array = object, *of_holder = NULL;
  if (tci_holder_check(object)) array = tci_holder_array(object), of_holder = tci_holder_pool(object);
  if (array == NULL || !tci_numpy_is_array(array) || !(((tci_array *)array)->flags & TCI_ARRAY_ALIGNED)) return NULL;
  if (*pool == NULL && of_holder != NULL && tci_pool_check(of_holder)) *pool = of_holder;
  return (tci_array *)array;
}

/* 1: an array like the ones before it; 0: not one that goes the quick way. */
static int take_array(call *c, tci_array *array) {
  int type = array == NULL ? -1 : type_of(array);
  if (type < 0) return 0;
  if (c->model == NULL) {
    c->model = array;
    c->type = type;
    c->order = TCI_ARRAY_C_CONTIGUOUS | TCI_ARRAY_F_CONTIGUOUS;
    c->count = 1;
    for (int i = 0; i < array->dimension_count; i++) c->count *= array->dimensions[i];
    c->nbytes = c->count * size_of(type);
  }
  if (type != c->type || array->dimension_count != c->model->dimension_count) return 0;
  for (int i = 0; i < array->dimension_count; i++)
    if (array->dimensions[i] != c->model->dimensions[i]) return 0;
  return (c->order &= array->flags) != 0;
}

/* 1: a Python number as an element of the arrays' type, converted as NumPy does; 0: NumPy would widen the type, warn or refuse. */
static int take_number(call *c, PyObject *object, number *n) {
  int is_float = PyFloat_CheckExact(object), overflow = 0;
  if (!is_float && !PyLong_CheckExact(object)) return 0;
  long long integer = is_float ? 0 : PyLong_AsLongLongAndOverflow(object, &overflow);
  if (overflow) return 0;
  if (c->type == TC_SIMD_I32 || c->type == TC_SIMD_I64) {
    if (is_float || (c->type == TC_SIMD_I32 && integer != (int32_t)integer)) return 0;
    if (c->type == TC_SIMD_I32)
      n->i32 = (int32_t)integer;
    else
      n->i64 = integer;
    return 1;
  }
  if (integer > EXACT || integer < -EXACT) return 0;
  double value = is_float ? PyFloat_AsDouble(object) : (double)integer;
  if (c->type == TC_SIMD_F64) {
    n->f64 = value;
    return 1;
  }
  n->f32 = (float)value;
  return isfinite(n->f32) == isfinite(value);
}

static int take_inputs(call *c, PyObject *const *objects, Py_ssize_t count) {
  for (Py_ssize_t i = 0; i < count; i++) {
    tci_array *array = as_array(objects[i], &c->pool);
    if (array == NULL)
      c->single |= 1u << i;
    else if (!take_array(c, array))
      return 0;
    else
      c->inputs[i] = array->data;
  }
  if (c->model == NULL) return 0;
  for (Py_ssize_t i = 0; i < count && c->single; i++) {
    if (!(c->single >> i & 1)) continue;
    if (!take_number(c, objects[i], &c->numbers[i])) return 0;
    c->inputs[i] = &c->numbers[i];
  }
  return 1;
}

/* Without this an output could replace what a later element is computed from. */
static int overlaps(const call *c, Py_ssize_t count, const char *out) {
  for (Py_ssize_t i = 0; i < count; i++) {
    const char *input = c->inputs[i];
    if (!(c->single >> i & 1) && input != out && input < out + c->nbytes && out < input + c->nbytes) return 1;
  }
  return 0;
}

/* ---- calling ----------------------------------------------------------------------------------------------------------------------- */

/* TC_INVALID_ARGUMENT: the steps are not for this type. */
static tc_status evaluate(const call *c, PyObject *steps, Py_ssize_t count, void *out) {
  char *bytes;
  Py_ssize_t length;
  tc_status status;
  if (PyBytes_AsStringAndSize(steps, &bytes, &length) < 0) {
    PyErr_Clear();
    return TC_INVALID_ARGUMENT;
  }
  size_t step_count = (size_t)length / sizeof(tc_simd_step);
  PyThreadState *released = c->nbytes < RELEASE_BYTES ? NULL : PyEval_SaveThread();
  status = tc_simd_evaluate((const tc_simd_step *)bytes, step_count, (tc_simd_type)c->type, (size_t)c->count, out, c->inputs, (size_t)count,
                            c->single);
  if (released != NULL) PyEval_RestoreThread(released);
  return status;
}

static PyObject *call_into_new(call *c, PyTypeObject *type, PyObject *steps, Py_ssize_t count) {
  PyObject *pool = c->pool != NULL ? c->pool : tci_holder_default_pool();
  if (pool == NULL || !(c->order & TCI_ARRAY_C_CONTIGUOUS)) return Py_NewRef(Py_None);
  Py_INCREF(pool); /* what runs while the GIL is released may replace the default */
  PyObject *array = tci_array_like(pool, c->model, Py_NewRef(c->model->descr)), *result = NULL;
  if (array == Py_None)
    result = array; /* the pool refused: the general way says so */
  else if (array != NULL && evaluate(c, steps, count, ((tci_array *)array)->data) != TC_OK) {
    Py_DECREF(array);
    result = Py_NewRef(Py_None);
  } else if (array != NULL)
    result = tci_holder_of(type, array, pool);
  Py_DECREF(pool);
  return result;
}

static PyObject *call_into(call *c, tci_array *array, PyObject *out, PyObject *steps, Py_ssize_t count) {
  int quick = (array->flags & TCI_ARRAY_WRITEABLE) && !overlaps(c, count, array->data) && evaluate(c, steps, count, array->data) == TC_OK;
  return Py_NewRef(quick ? out : Py_None);
}

/* simd_call(type, out or None, steps, *inputs): out, or a new holder of that type where it is None. */
PyObject *tci_simd_call(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
  (void)module;
  call c;
  PyObject *unused = NULL;
  tci_array *array = NULL;
  if (count < 4) return tci_expect("simd_call", count, 4), NULL;
  PyObject *out = arguments[1], *steps = arguments[2];
  c.model = NULL, c.pool = NULL, c.single = 0;
  count -= 3;
  int quick = layout_known && count <= TC_SIMD_INPUTS && (out == Py_None || take_array(&c, array = as_array(out, &unused))) &&
              take_inputs(&c, arguments + 3, count);
  if (!quick) return Py_NewRef(Py_None);
  return array == NULL ? call_into_new(&c, (PyTypeObject *)arguments[0], steps, count) : call_into(&c, array, out, steps, count);
}

/* simd_reduce(reduction, x, y or None): a NumPy scalar. */
PyObject *tci_simd_call_reduce(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
  static const int type_numbers[] = {TYPE_FLOAT, TYPE_DOUBLE, TYPE_INT, sizeof(long) == 8 ? TYPE_LONG : TYPE_LONGLONG};
  (void)module;
  call c;
  number result;
  if (tci_expect("simd_reduce", count, 3) < 0) return NULL;
  long kind = PyLong_AsLong(arguments[0]);
  if (kind == -1 && PyErr_Occurred()) return NULL;
  c.model = NULL, c.pool = NULL, c.single = 0;
  Py_ssize_t inputs = arguments[2] == Py_None ? 1 : 2;
  if (!layout_known || !take_inputs(&c, arguments + 1, inputs) || c.single) return Py_NewRef(Py_None);
  PyThreadState *released = c.nbytes < RELEASE_BYTES ? NULL : PyEval_SaveThread();
  tc_status status = tc_simd_reduce((tc_simd_reduction)kind, (tc_simd_type)c.type, (size_t)c.count, c.inputs[0], c.inputs[inputs - 1], &result);
  if (released != NULL) PyEval_RestoreThread(released);
  int widened = kind == TC_SIMD_SUM && c.type == TC_SIMD_I32 ? TC_SIMD_I64 : c.type;
  return status == TC_OK ? tci_numpy_scalar(&result, type_numbers[widened]) : Py_NewRef(Py_None);
}
