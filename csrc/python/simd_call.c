/* simd_call.c - the quick way to simd.c: dense arrays of one type, shape and order, and numbers, read straight from their objects.
 *
 * Whatever is not so (strides, mixed types, broadcasting, overlaps, other objects) is refused, and done the general way: by
 * tensorcore/simd.py, or for operators by NumPy. Cost: about 60 ns for three arrays; the GIL is released from 128 KiB on, where a switch
 * of threads is worth it.
 */
#include <fenv.h>
#include <float.h>
#include <math.h>
#include <string.h>

#include "native.h"

#define RELEASE_BYTES ((Py_ssize_t)128 << 10)
#define EXACT ((long long)1 << 53) /* integers up to here are doubles */

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
  case TCI_TYPE_FLOAT:
    return TC_SIMD_F32;
  case TCI_TYPE_DOUBLE:
    return TC_SIMD_F64;
  case TCI_TYPE_INT:
    return TC_SIMD_I32;
  case TCI_TYPE_LONG:
    return sizeof(long) == 8 ? TC_SIMD_I64 : TC_SIMD_I32;
  case TCI_TYPE_LONGLONG:
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

/* The same for such an array, which may lie in the output. */
static int take_single(call *c, const tci_array *array, number *n) {
  if (array->dimension_count != 0 || type_of(array) != c->type) return 0;
  memcpy(n, array->data, (size_t)size_of(c->type));
  return 1;
}

static int take_inputs(call *c, PyObject *const *objects, Py_ssize_t count) {
  int numbers = 0;
  for (Py_ssize_t i = 0; i < count; i++) {
    tci_array *array = as_array(objects[i], &c->pool);
    numbers += array == NULL;
    if (array == NULL || (array->dimension_count == 0 && c->model != NULL && c->model->dimension_count != 0))
      c->single |= 1u << i;
    else if (!take_array(c, array))
      return 0;
    else
      c->inputs[i] = array->data;
  }
  if (c->model == NULL || (numbers == count && count > 1)) return 0; /* numbers alone are computed in a type of their own */
  for (Py_ssize_t i = 0; i < count && c->single; i++) {
    PyObject *unused = NULL;
    if (!(c->single >> i & 1)) continue;
    tci_array *array = as_array(objects[i], &unused);
    if (array == NULL ? !take_number(c, objects[i], &c->numbers[i]) : !take_single(c, array, &c->numbers[i])) return 0;
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

typedef struct program {
  const tc_simd_step *steps;
  size_t step_count, input_count;
} program;

/* TC_INVALID_ARGUMENT: the steps are not for this type. *exceptions: the floating-point exceptions that it raised; it may be NULL. */
static tc_status evaluate(const call *c, program p, void *out, int *exceptions) {
  PyThreadState *released = c->nbytes < RELEASE_BYTES ? NULL : PyEval_SaveThread();
  if (exceptions != NULL) tc_simd_take_exceptions();
  tc_status status = tc_simd_evaluate(p.steps, p.step_count, (tc_simd_type)c->type, (size_t)c->count, out, c->inputs, p.input_count, c->single);
  if (exceptions != NULL) *exceptions = tc_simd_take_exceptions();
  if (released != NULL) PyEval_RestoreThread(released);
  return status;
}

static PyObject *call_into_new(call *c, PyTypeObject *type, program p) {
  PyObject *pool = c->pool != NULL ? c->pool : tci_holder_default_pool();
  if (pool == NULL || !(c->order & TCI_ARRAY_C_CONTIGUOUS)) return Py_NewRef(Py_None);
  Py_INCREF(pool); /* what runs while the GIL is released may replace the default */
  PyObject *array = tci_array_like(pool, c->model, Py_NewRef(c->model->descr)), *result = NULL;
  if (array == Py_None)
    result = array; /* the pool refused: the general way says so */
  else if (array != NULL && evaluate(c, p, ((tci_array *)array)->data, NULL) != TC_OK) {
    Py_DECREF(array);
    result = Py_NewRef(Py_None);
  } else if (array != NULL)
    result = tci_holder_of(type, array, pool);
  Py_DECREF(pool);
  return result;
}

/* Whether the inputs can be taken for an output that is there already, or for a new one where it is NULL. */
static int take_call(call *c, tci_array *out, PyObject *const *inputs, Py_ssize_t count) {
  c->model = NULL, c->pool = NULL, c->single = 0;
  if (!layout_known || count > TC_SIMD_INPUTS) return 0;
  if (out == NULL) return take_inputs(c, inputs, count);
  return (out->flags & TCI_ARRAY_WRITEABLE) && take_array(c, out) && take_inputs(c, inputs, count) && !overlaps(c, count, out->data);
}

/* simd_call(type, out or None, steps, *inputs): out, or a new holder of that type where it is None. */
PyObject *tci_simd_call(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
  (void)module;
  call c;
  char *steps;
  Py_ssize_t length;
  PyObject *unused = NULL;
  if (count < 4) return tci_expect("simd_call", count, 4), NULL;
  PyObject *out = arguments[1];
  tci_array *array = out == Py_None ? NULL : as_array(out, &unused);
  if (PyBytes_AsStringAndSize(arguments[2], &steps, &length) < 0) return NULL;
  if ((out != Py_None && array == NULL) || !take_call(&c, array, arguments + 3, count - 3)) return Py_NewRef(Py_None);
  program p = {(const tc_simd_step *)steps, (size_t)length / sizeof(tc_simd_step), (size_t)count - 3};
  if (array == NULL) return call_into_new(&c, (PyTypeObject *)arguments[0], p);
  return Py_NewRef(evaluate(&c, p, array->data, NULL) == TC_OK ? out : Py_None);
}

static tc_status reduce(const call *c, tc_simd_reduction kind, const void *x, const void *y, number *result) {
  PyThreadState *released = c->nbytes < RELEASE_BYTES ? NULL : PyEval_SaveThread();
  tc_status status = tc_simd_reduce(kind, (tc_simd_type)c->type, (size_t)c->count, x, y, result);
  if (released != NULL) PyEval_RestoreThread(released);
  return status;
}

/* simd_reduce(reduction, x, y or None): a NumPy scalar. */
PyObject *tci_simd_call_reduce(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
  static const int type_numbers[] = {TCI_TYPE_FLOAT, TCI_TYPE_DOUBLE, TCI_TYPE_INT, sizeof(long) == 8 ? TCI_TYPE_LONG : TCI_TYPE_LONGLONG};
  (void)module;
  call c;
  number result;
  if (tci_expect("simd_reduce", count, 3) < 0) return NULL;
  long kind = PyLong_AsLong(arguments[0]);
  if (kind == -1 && PyErr_Occurred()) return NULL;
  Py_ssize_t inputs = arguments[2] == Py_None ? 1 : 2;
  if (!take_call(&c, NULL, arguments + 1, inputs) || c.single) return Py_NewRef(Py_None);
  tc_status status = reduce(&c, (tc_simd_reduction)kind, c.inputs[0], c.inputs[inputs - 1], &result);
  int widened = kind == TC_SIMD_SUM && c.type == TC_SIMD_I32 ? TC_SIMD_I64 : c.type;
  return status == TC_OK ? tci_numpy_scalar(&result, type_numbers[widened]) : Py_NewRef(Py_None);
}

/* ---- operators --------------------------------------------------------------------------------------------------------------------- */

/* For each exception in NumPy's order, operands on which an operation raises it and no other; 0, 0 raises none. */
static const struct {
  int exception;
  double operands[TC_SIMD_DIVIDE + 1][2];
} witnesses[] = {
    {FE_DIVBYZERO, {[TC_SIMD_DIVIDE] = {1.0, 0.0}}},
    {FE_OVERFLOW, {{DBL_MAX, DBL_MAX}, {DBL_MAX, -DBL_MAX}, {DBL_MAX, DBL_MAX}, {DBL_MAX, DBL_MIN}}},
    {FE_UNDERFLOW, {[TC_SIMD_MULTIPLY] = {DBL_MIN, DBL_MIN}, [TC_SIMD_DIVIDE] = {DBL_MIN, DBL_MAX}}},
    {FE_INVALID, {{INFINITY, -INFINITY}, {INFINITY, INFINITY}, {0.0, INFINITY}, {0.0, 0.0}}},
};

static int append(PyObject *list, double value) {
  PyObject *number = PyFloat_FromDouble(value);
  int failed = number == NULL || PyList_Append(list, number) < 0;
  Py_XDECREF(number);
  return failed ? -1 : 0;
}

/* Has NumPy warn, raise or call as its errstate says, by doing the same on one element each; 0, or -1 with a Python error set. */
static int report_exceptions(PyObject *ufunc, tc_simd_operation operation, int exceptions) {
  PyObject *left = PyList_New(0), *right = PyList_New(0), *result = NULL;
  int failed = left == NULL || right == NULL;
  for (size_t i = 0; !failed && i < sizeof witnesses / sizeof *witnesses; i++) {
    const double *operands = witnesses[i].operands[operation];
    if (exceptions & witnesses[i].exception) failed = append(left, operands[0]) < 0 || append(right, operands[1]) < 0;
  }
  if (!failed) result = PyObject_CallFunctionObjArgs(ufunc, left, right, NULL);
  Py_XDECREF(left);
  Py_XDECREF(right);
  Py_XDECREF(result);
  return result == NULL ? -1 : 0;
}

int tci_simd_operate(PyObject *ufunc, int operation, PyObject *const *operands, Py_ssize_t count, tci_array *out) {
  call c;
  int exceptions;
  const tc_simd_step step = {(uint8_t)operation, 0, {0, 1, 2}};
  if (!(out->flags & TCI_ARRAY_ALIGNED) || !take_call(&c, out, operands, count)) return 0;
  if (evaluate(&c, (program){&step, 1, (size_t)count}, out->data, &exceptions) != TC_OK) return 0;
  if (exceptions == 0 || operation > TC_SIMD_DIVIDE) return 1;
  return report_exceptions(ufunc, (tc_simd_operation)operation, exceptions) < 0 ? -1 : 1;
}

/* -0.0 is the least integer of its size. */
static int has_negative_zero(const call *c) {
  call bits = *c;
  number least;
  bits.type = c->type == TC_SIMD_F32 ? TC_SIMD_I32 : TC_SIMD_I64;
  if (reduce(&bits, TC_SIMD_MIN, c->inputs[0], c->inputs[0], &least) != TC_OK) return 1;
  return c->type == TC_SIMD_F32 ? least.i32 == INT32_MIN : least.i64 == INT64_MIN;
}

/* Whether NumPy's result is the same: it may warn of a sum that is not finite, picks one of several NaNs, and one of zeros of both signs. */
static int is_settled(const call *c, tc_simd_reduction kind, const number *result) {
  if (c->type != TC_SIMD_F32 && c->type != TC_SIMD_F64) return 1;
  double value = c->type == TC_SIMD_F32 ? (double)result->f32 : result->f64;
  if (kind == TC_SIMD_SUM) return isfinite(value);
  return !isnan(value) && (value != 0.0 || !has_negative_zero(c));
}

int tci_simd_reduce_all(int reduction, PyObject *array, tci_array *out) {
  call c;
  number result;
  int is_mean = reduction == TCI_SIMD_MEAN;
  tc_simd_reduction kind = is_mean ? TC_SIMD_SUM : (tc_simd_reduction)reduction;
  if (!take_call(&c, NULL, &array, 1) || c.single) return 0;
  int type = kind == TC_SIMD_SUM && c.type == TC_SIMD_I32 ? TC_SIMD_I64 : c.type;
  if (type_of(out) != type || (is_mean && (c.count == 0 || type == TC_SIMD_I64))) return 0;
  if (reduce(&c, kind, c.inputs[0], c.inputs[0], &result) != TC_OK || !is_settled(&c, kind, &result)) return 0;
  double divisor = is_mean ? (double)c.count : 1.0, zero = kind == TC_SIMD_SUM ? 0.0 : -0.0; /* no sum of NumPy's is -0.0 */
  if (type == TC_SIMD_F32) result.f32 = (float)(((double)result.f32 + zero) / divisor);
  if (type == TC_SIMD_F64) result.f64 = (result.f64 + zero) / divisor;
  memcpy(out->data, &result, (size_t)size_of(type));
  return 1;
}
