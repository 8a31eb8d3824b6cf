/* operate.c - the operators of tensors, on plain operands: one block from the pool, given to the ufunc as its `out`.
 *
 * Plain are tensors of one layout, in C order, in memory of pools, and Python numbers: the result's type is known then, so it needs no memory
 * handler and no second look. Tensors that have to be broadcast, and other arrays, go the way of compute.c; devices and strangers to Python.
 */
#include "native.h"

#include <string.h>

static PyObject *slow_operate; /* owned for good: slow_operate(ufunc, left, right, into=False) -> result or NotImplemented */
static PyObject *slow_refuse;  /* owned for good: slow_refuse(None, pool, like): raises */

void tci_operate_set(PyObject *operate, PyObject *refuse) {
  slow_operate = Py_NewRef(operate);
  slow_refuse = Py_NewRef(refuse);
}

/* The array of a tensor with a pool, in C order; NULL: another kind of operand. Borrowed. */
static tci_array *operand_array(PyObject *operand) {
  PyObject *array = tci_holder_check(operand) ? tci_holder_array(operand) : NULL;
  PyObject *pool = array == NULL ? NULL : tci_holder_pool(operand);
  if (pool == NULL || !tci_pool_check(pool) || !tci_numpy_is_array(array)) return NULL;
  return ((tci_array *)array)->flags & TCI_ARRAY_C_CONTIGUOUS ? (tci_array *)array : NULL;
}

static int same_layout(const tci_array *a, const tci_array *b) {
  size_t nbytes = (size_t)a->dimension_count * sizeof *a->dimensions;
  if (a->descr != b->descr || a->dimension_count != b->dimension_count) return 0;
  return nbytes == 0 || memcmp(a->dimensions, b->dimensions, nbytes) == 0;
}

/* Whether a Python number takes the type of an array of these elements (the standard's mixing rule; NEP 50). */
static int number_fits(PyObject *number, int type_number) {
  if (PyFloat_CheckExact(number)) return tci_type_is_inexact(type_number);
  return PyLong_CheckExact(number) && type_number != TCI_TYPE_BOOL;
}

/* Which type the result has: the operands', where that is not bool, not integer, any, not complex; bool. */
enum rule { RULE_NUMERIC = 0, RULE_INEXACT = 1, RULE_SAME = 2, RULE_BOOL = 3, RULE_REAL = 4 };

static int rule_knows(long rule, int type_number) {
  if (rule == RULE_NUMERIC) return type_number != TCI_TYPE_BOOL;
  if (rule == RULE_REAL) return type_number != TCI_TYPE_BOOL && !tci_type_is_complex(type_number);
  return rule != RULE_INEXACT || tci_type_is_inexact(type_number);
}

/* Whether the type of a result is known from that of the operands' elements. */
static int type_is_known(long rule, const tci_array *model) {
  const tci_descr *descr = (const tci_descr *)model->descr;
  int is_native = descr->byteorder != '>' && descr->byteorder != '<'; /* '=' is native */
  return tci_type_is_number(descr->type_number) && is_native && rule_knows(rule, descr->type_number);
}

/* The tensor whose layout the result has; NULL: the operands are not plain. Sets both arrays. */
static PyObject *model_of(long rule, PyObject *left, PyObject *right, PyObject **left_array, PyObject **right_array) {
  tci_array *a = operand_array(left), *b = operand_array(right), *model = a != NULL ? a : b;
  if (model == NULL || !type_is_known(rule, model)) return NULL;
  int type_number = ((const tci_descr *)model->descr)->type_number;
  int fits = a != NULL && b != NULL ? same_layout(a, b) : number_fits(a != NULL ? right : left, type_number);
  if (!fits) return NULL;
  *left_array = a != NULL ? (PyObject *)a : left;
  *right_array = b != NULL ? (PyObject *)b : right;
  return a != NULL ? left : right;
}

static PyObject *descr_of(long rule, const tci_array *model) {
  return rule == RULE_BOOL ? tci_numpy_descr((PyObject *)&PyBool_Type) : Py_NewRef(model->descr);
}

/* The tensor around a new array that a function has written, or NULL where it failed. Steals all of them; they may be NULL. */
static PyObject *hand_over(PyTypeObject *kind, PyObject *array, PyObject *pool, PyObject *written) {
  PyObject *result = written == NULL ? NULL : tci_holder_of(kind, Py_NewRef(array), pool);
  Py_XDECREF(written);
  Py_XDECREF(array);
  Py_DECREF(pool);
  return result;
}

/* ufunc(left[, right]) in a block of the model's pool. */
static PyObject *operate_on(PyObject *ufunc, long rule, PyObject *model, PyObject *left, PyObject *right) {
  tci_array *layout = (tci_array *)tci_holder_array(model);
  PyObject *pool = Py_NewRef(tci_holder_pool(model)), *descr = descr_of(rule, layout), *written = NULL;
  PyObject *array = descr == NULL ? NULL : tci_array_like(pool, layout, descr);
  if (array == Py_None)
    PyObject_CallFunctionObjArgs(slow_refuse, Py_None, pool, layout, NULL); /* raises */
  else if (array != NULL && right != NULL)
    written = PyObject_CallFunctionObjArgs(ufunc, left, right, array, NULL);
  else if (array != NULL)
    written = PyObject_CallFunctionObjArgs(ufunc, left, array, NULL);
  return hand_over(Py_TYPE(model), array, pool, written);
}

/* operate_one(ufunc, rule, x): ufunc(x). */
PyObject *tci_operate_one(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
  if (tci_expect("operate_one", count, 3) < 0) return NULL;
  PyObject *call[] = {arguments[0], arguments[2]};
  long rule = PyLong_AsLong(arguments[1]);
  tci_array *array = operand_array(arguments[2]);
  if (array == NULL || !type_is_known(rule, array)) return tci_compute_call(module, call, 2, NULL);
  return operate_on(arguments[0], rule, arguments[2], (PyObject *)array, NULL);
}

/* reduce_all(reduce, rule, x): a ufunc's reduce over all axes, in a block of no dimensions. */
PyObject *tci_operate_reduce(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
  if (tci_expect("reduce_all", count, 3) < 0) return NULL;
  PyObject *call[] = {arguments[0], arguments[2], Py_None};
  long rule = PyLong_AsLong(arguments[1]);
  tci_array *array = operand_array(arguments[2]);
  if (array == NULL || !type_is_known(rule, array)) return tci_compute_call(module, call, 3, NULL);
  PyObject *pool = Py_NewRef(tci_holder_pool(arguments[2])), *descr = descr_of(rule, array), *written = NULL;
  tci_array scalar = {.dimension_count = 0};
  PyObject *out = descr == NULL ? NULL : tci_array_like(pool, &scalar, descr);
  if (out == Py_None)
    PyObject_CallFunctionObjArgs(slow_refuse, Py_None, pool, array, NULL); /* raises */
  else if (out != NULL)
    written = PyObject_CallFunctionObjArgs(arguments[0], (PyObject *)array, Py_None, Py_None, out, NULL);
  return hand_over(Py_TYPE(arguments[2]), out, pool, written);
}

/* Whether NumPy takes an operand as it is: a tensor on the CPU, an array, a Python number. */
static int is_plain_operand(PyObject *operand) {
  if (tci_holder_check(operand)) return tci_holder_array(operand) != NULL && tci_numpy_is_array(tci_holder_array(operand));
  return PyLong_Check(operand) || PyFloat_CheckExact(operand) || PyComplex_CheckExact(operand) || tci_numpy_is_array(operand);
}

/* operate(ufunc, rule, left, right): ufunc(left, right), or NotImplemented; a negative rule: the result's layout is not the operands'. */
PyObject *tci_operate(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
  (void)module;
  if (tci_expect("operate", count, 4) < 0) return NULL;
  PyObject *left, *right;
  long rule = PyLong_AsLong(arguments[1]);
  PyObject *model = rule < 0 ? NULL : model_of(rule, arguments[2], arguments[3], &left, &right);
  if (model != NULL) return operate_on(arguments[0], rule, model, left, right);
  if (is_plain_operand(arguments[2]) && is_plain_operand(arguments[3])) {
    int done;
    tci_operands found = {NULL, NULL, 1, 0};
    PyObject *args = tci_compute_pack(arguments + 2, 2, &found);
    PyObject *result = args == NULL ? NULL : tci_compute_plainly(arguments[0], args, NULL, &found, &done);
    Py_XDECREF(args);
    if (args == NULL || done) return result;
  }
  return PyObject_CallFunctionObjArgs(slow_operate, arguments[0], arguments[2], arguments[3], NULL);
}

/* operate_into(ufunc, left, right): ufunc(left, right, out=left); left, or NotImplemented. */
PyObject *tci_operate_into(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
  (void)module;
  if (tci_expect("operate_into", count, 3) < 0) return NULL;
  PyObject *other = arguments[2];
  if (!is_plain_operand(arguments[1]) || !is_plain_operand(other))
    return PyObject_CallFunctionObjArgs(slow_operate, arguments[0], arguments[1], other, Py_True, NULL);
  PyObject *target = tci_holder_array(arguments[1]);
  if (tci_holder_check(other)) other = tci_holder_array(other);
  PyObject *result = PyObject_CallFunctionObjArgs(arguments[0], target, other, target, NULL);
  Py_XDECREF(result);
  return result == NULL ? NULL : Py_NewRef(arguments[1]);
}
