/* operate.c - the operators of tensors, on plain operands: one block from the pool, given to the ufunc as its `out`.
 *
 * Plain are tensors on the CPU and arrays of one layout, in C order, those of no dimensions, and Python numbers: the result's type is known
 * then, so it needs no memory handler and no second look. What has a kernel of simd.c goes there. Operands that have to be broadcast go the
 * way of compute.c; devices and strangers to Python.
 */
#include "native.h"

#include <string.h>

static PyObject *slow_operate; /* owned for good: slow_operate(ufunc, left, right, into=False) -> result or NotImplemented */
static PyObject *slow_place;   /* owned for good: slow_place(tensor) -> the pool for what is computed from a tensor that has none */
static PyObject *slow_refuse;  /* owned for good: slow_refuse(None, pool, like or None, dtype): raises */

void tci_operate_set(PyObject *operate, PyObject *place, PyObject *refuse) {
  slow_operate = Py_NewRef(operate);
  slow_place = Py_NewRef(place);
  slow_refuse = Py_NewRef(refuse);
}

/* The array of a tensor, or the operand itself where it is one, in C order; NULL: another kind of operand. Borrowed. */
static tci_array *operand_array(PyObject *operand) {
  PyObject *array = tci_holder_check(operand) ? tci_holder_array(operand) : operand;
  if (array == NULL || !tci_numpy_is_array(array)) return NULL;
  return ((tci_array *)array)->flags & TCI_ARRAY_C_CONTIGUOUS ? (tci_array *)array : NULL;
}

/* Where a result goes. */
typedef struct place {
  PyObject *pool; /* owned: of the first tensor that has one, else of its device here and now; NULL: there is no tensor, or an error is set */
  PyTypeObject *kind; /* borrowed: the type of that tensor, else of the first */
} place;

static place place_of(PyObject *left, PyObject *right) {
  PyObject *operands[] = {left, right}, *first = NULL;
  for (int i = 0; i < 2; i++) {
    if (operands[i] == NULL || !tci_holder_check(operands[i])) continue;
    PyObject *pool = tci_holder_pool(operands[i]);
    if (pool != NULL && tci_pool_check(pool)) return (place){Py_NewRef(pool), Py_TYPE(operands[i])};
    if (first == NULL) first = operands[i];
  }
  if (first == NULL) return (place){NULL, NULL};
  return (place){PyObject_CallFunctionObjArgs(slow_place, first, NULL), Py_TYPE(first)};
}

static int same_layout(const tci_array *a, const tci_array *b) {
  size_t nbytes = (size_t)a->dimension_count * sizeof *a->dimensions;
  if (a->descr != b->descr || a->dimension_count != b->dimension_count) return 0;
  return nbytes == 0 || memcmp(a->dimensions, b->dimensions, nbytes) == 0;
}

/* Whether an array of no dimensions is an operand of an array like a number of its type. */
static int is_single(const tci_array *array, const tci_array *of) { return array->dimension_count == 0 && array->descr == of->descr; }

/* Whether a Python number takes the type of an array of these elements (the standard's mixing rule; NEP 50). */
static int number_fits(PyObject *number, int type_number) {
  if (PyFloat_CheckExact(number)) return tci_type_is_inexact(type_number);
  return PyLong_CheckExact(number) && type_number != TCI_TYPE_BOOL;
}

static long type_rule(long rule) { return rule & ((1 << TCI_RULE_BITS) - 1); }

static int kernel_of(long rule) { return rule < 0 ? -1 : (int)(rule >> TCI_RULE_BITS) - 1; }

static int rule_knows(long rule, int type_number) {
  switch (type_rule(rule)) {
  case TCI_RULE_NUMERIC:
    return type_number != TCI_TYPE_BOOL;
  case TCI_RULE_REAL:
    return type_number != TCI_TYPE_BOOL && !tci_type_is_complex(type_number);
  case TCI_RULE_INEXACT:
    return tci_type_is_inexact(type_number);
  case TCI_RULE_OF_SUM:
    return tci_type_is_inexact(type_number) || type_number == TCI_TYPE_INT || type_number == TCI_TYPE_LONG;
  default:
    return 1;
  }
}

/* Whether the type of a result is known from that of the operands' elements. */
static int type_is_known(long rule, const tci_array *model) {
  const tci_descr *descr = (const tci_descr *)model->descr;
  int is_native = descr->byteorder != '>' && descr->byteorder != '<'; /* '=' is native */
  return tci_type_is_number(descr->type_number) && is_native && rule_knows(rule, descr->type_number);
}

/* The array whose layout the result has; NULL: the operands are not plain. Sets both as the ufunc takes them. */
static tci_array *model_of(long rule, PyObject *left, PyObject *right, PyObject **plain_left, PyObject **plain_right) {
  tci_array *a = operand_array(left), *b = operand_array(right), *model = a != NULL ? a : b;
  if (model == NULL || !type_is_known(rule, model)) return NULL;
  *plain_left = a != NULL ? (PyObject *)a : left;
  *plain_right = b != NULL ? (PyObject *)b : right;
  if (a == NULL || b == NULL) return number_fits(a != NULL ? right : left, ((const tci_descr *)model->descr)->type_number) ? model : NULL;
  if (same_layout(a, b) || is_single(b, a)) return a;
  return is_single(a, b) ? b : NULL;
}

static PyObject *descr_of(long rule, const tci_array *model) {
  PyTypeObject *type = NULL;
  if (type_rule(rule) == TCI_RULE_BOOL) type = &PyBool_Type;
  if (type_rule(rule) == TCI_RULE_OF_SUM && !tci_type_is_inexact(((const tci_descr *)model->descr)->type_number)) type = &PyLong_Type;
  return type == NULL ? Py_NewRef(model->descr) : tci_numpy_descr((PyObject *)type);
}

/* An array of the model's layout, or of no dimensions, and of the result's type; NULL with a Python error set. */
static PyObject *new_array(PyObject *pool, long rule, const tci_array *model, int is_one) {
  const tci_array one = {.dimension_count = 0};
  PyObject *descr = descr_of(rule, model);
  PyObject *array = descr == NULL ? NULL : tci_array_like(pool, is_one ? &one : model, Py_NewRef(descr));
  if (array == Py_None) {
    Py_CLEAR(array);
    PyObject_CallFunctionObjArgs(slow_refuse, Py_None, pool, is_one ? Py_None : (PyObject *)model, descr, NULL); /* raises */
  }
  Py_XDECREF(descr);
  return array;
}

/* The tensor around a new array that a function has written, or NULL where it failed. Steals all of them; they may be NULL. */
static PyObject *hand_over(place to, PyObject *array, PyObject *written) {
  PyObject *result = written == NULL ? NULL : tci_holder_of(to.kind, Py_NewRef(array), to.pool);
  Py_XDECREF(written);
  Py_XDECREF(array);
  Py_DECREF(to.pool);
  return result;
}

/* ufunc(left[, right], out): a new reference to something, or NULL with a Python error set. */
static PyObject *write_to(PyObject *out, PyObject *ufunc, long rule, PyObject *left, PyObject *right) {
  PyObject *operands[] = {left, right};
  int kernel = kernel_of(rule), done = kernel < 0 ? 0 : tci_simd_operate(ufunc, kernel, operands, right == NULL ? 1 : 2, (tci_array *)out);
  if (done) return done < 0 ? NULL : Py_NewRef(out);
  if (right == NULL) return PyObject_CallFunctionObjArgs(ufunc, left, out, NULL);
  return PyObject_CallFunctionObjArgs(ufunc, left, right, out, NULL);
}

/* ufunc(left[, right]) at a place, which it takes. */
static PyObject *operate_on(PyObject *ufunc, long rule, place to, tci_array *model, PyObject *left, PyObject *right) {
  PyObject *array = new_array(to.pool, rule, model, 0), *written = NULL;
  if (array != NULL) written = write_to(array, ufunc, rule, left, right);
  return hand_over(to, array, written);
}

PyObject *tci_operate_one(PyObject *ufunc, long rule, PyObject *operand) {
  PyObject *call[] = {ufunc, operand};
  tci_array *array = operand_array(operand);
  if (array == NULL || !type_is_known(rule, array)) return tci_compute_call(NULL, call, 2, NULL);
  place to = place_of(operand, NULL);
  if (to.pool == NULL) return PyErr_Occurred() ? NULL : tci_compute_call(NULL, call, 2, NULL);
  return operate_on(ufunc, rule, to, array, (PyObject *)array, NULL);
}

/* reduce(array, axis=None, dtype=None, out): a new reference to something, or NULL with a Python error set. */
static PyObject *reduce_to(PyObject *out, PyObject *reduce, long rule, PyObject *array) {
  int kernel = kernel_of(rule);
  if (kernel >= 0 && tci_simd_reduce_all(kernel, array, (tci_array *)out)) return Py_NewRef(out);
  return PyObject_CallFunctionObjArgs(reduce, array, Py_None, Py_None, out, NULL);
}

/* reduce_all(reduce, rule, x): a ufunc's reduce, or one that takes the same arguments, over all axes, in a block of no dimensions. */
PyObject *tci_operate_reduce(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
  if (tci_expect("reduce_all", count, 3) < 0) return NULL;
  PyObject *call[] = {arguments[0], arguments[2], Py_None};
  long rule = PyLong_AsLong(arguments[1]);
  tci_array *array = operand_array(arguments[2]);
  if (array == NULL || !type_is_known(rule, array)) return tci_compute_call(module, call, 3, NULL);
  place to = place_of(arguments[2], NULL);
  if (to.pool == NULL) return PyErr_Occurred() ? NULL : tci_compute_call(module, call, 3, NULL);
  PyObject *out = new_array(to.pool, rule, array, 1), *written = NULL;
  if (out != NULL) written = reduce_to(out, arguments[0], rule, (PyObject *)array);
  return hand_over(to, out, written);
}

/* Whether NumPy takes an operand as it is: a tensor on the CPU, an array, a Python number. */
static int is_plain_operand(PyObject *operand) {
  if (tci_holder_check(operand)) return tci_holder_array(operand) != NULL && tci_numpy_is_array(tci_holder_array(operand));
  return tci_numpy_is_plain(operand);
}

PyObject *tci_operate(PyObject *ufunc, PyObject *general, long rule, PyObject *left, PyObject *right) {
  PyObject *operands[] = {left, right}, *plain_left, *plain_right;
  tci_array *model = rule < 0 ? NULL : model_of(rule, left, right, &plain_left, &plain_right);
  place to = model == NULL ? (place){NULL, NULL} : place_of(left, right);
  if (to.pool != NULL) return operate_on(ufunc, rule, to, model, plain_left, plain_right);
  if (model != NULL && PyErr_Occurred()) return NULL;
  if (is_plain_operand(left) && is_plain_operand(right)) {
    int done;
    tci_operands found = {NULL, NULL, operands, 2, 1, 0};
    PyObject *args = tci_compute_pack(operands, 2, &found);
    PyObject *result = args == NULL ? NULL : tci_compute_plainly(general, args, NULL, &found, &done);
    Py_XDECREF(args);
    if (args == NULL || done) return result;
  }
  return PyObject_CallFunctionObjArgs(slow_operate, general, left, right, NULL);
}

int tci_operate_to(PyObject *ufunc, long rule, PyObject *const *operands, Py_ssize_t count, PyObject *out) {
  int kernel = kernel_of(rule);
  return kernel < 0 ? 0 : tci_simd_operate(ufunc, kernel, operands, count, (tci_array *)tci_holder_array(out));
}

PyObject *tci_operate_into(PyObject *ufunc, long rule, binaryfunc in_place, PyObject *left, PyObject *right) {
  if (!is_plain_operand(left) || !is_plain_operand(right)) return PyObject_CallFunctionObjArgs(slow_operate, ufunc, left, right, Py_True, NULL);
  PyObject *target = tci_holder_array(left), *operands[] = {target, tci_holder_check(right) ? tci_holder_array(right) : right};
  int done = tci_operate_to(ufunc, rule, operands, 2, left);
  PyObject *result = done < 0 ? NULL : done ? Py_NewRef(target) : in_place(target, operands[1]);
  Py_XDECREF(result); /* the target, as always where both are plain */
  return result == NULL ? NULL : Py_NewRef(left);
}

/* ---- for Python -------------------------------------------------------------------------------------------------------------------- */

/* operate(ufunc, rule, left, right): ufunc(left, right) as a tensor, or NotImplemented. */
PyObject *tci_operate_call(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
  (void)module;
  if (tci_expect("operate", count, 4) < 0) return NULL;
  return tci_operate(arguments[0], arguments[0], PyLong_AsLong(arguments[1]), arguments[2], arguments[3]);
}

/* operate_one(ufunc, rule, x): ufunc(x) as a tensor. */
PyObject *tci_operate_one_call(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
  (void)module;
  if (tci_expect("operate_one", count, 3) < 0) return NULL;
  return tci_operate_one(arguments[0], PyLong_AsLong(arguments[1]), arguments[2]);
}
