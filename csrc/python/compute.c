/* compute.c - NumPy's functions on tensors: their arrays in, tensors in blocks of their pool out.
 *
 * While a function runs, the memory handler of the context (NEP 49) is ours and this thread has a pool, so every array that NumPy makes is
 * a block of it, without a copy. Operators on plain operands go without the handler: the result's block is taken first and given to the
 * ufunc as `out`. Whatever is not plain (a tensor on a device or of foreign memory, tensors in lists) goes to Python, `_compute.py`.
 */
#include "native.h"

#include <string.h>

static __thread PyObject *running; /* borrowed: the MemoryPool that this thread computes with; NULL: none */
static PyObject *handler;          /* owned for good: the capsule of our handler */
static PyObject *slow_call;        /* owned for good: slow_call(function, args, kwargs or None) -> result */
static PyObject *slow_operate;     /* owned for good: slow_operate(ufunc, left, right) -> result or NotImplemented */
static PyObject *slow_wrap;        /* owned for good: slow_wrap(result, kind, pool) -> result */
static PyObject *slow_refuse;      /* owned for good: slow_refuse(error or None, pool[, like]): raises */

/* ---- the handler ------------------------------------------------------------------------------------------------------------------- */

static void *compute_malloc(void *context, size_t nbytes) {
  if (running == NULL) return tci_hook_malloc(context, nbytes); /* a copy of the context that outlived the computation */
  tc_pool *pool = tci_pool_now(running);
  return pool == NULL ? NULL : tc_pool_alloc(pool, nbytes);
}

static void *compute_calloc(void *context, size_t count, size_t nbytes) {
  size_t total;
  if (running == NULL) return tci_hook_calloc(context, count, nbytes);
  tc_pool *pool = tci_pool_now(running);
  return pool == NULL || __builtin_mul_overflow(count, nbytes, &total) ? NULL : tc_pool_alloc_zeroed(pool, total);
}

static void *compute_realloc(void *context, void *ptr, size_t nbytes) {
  return ptr == NULL ? compute_malloc(context, nbytes) : tci_hook_realloc(context, ptr, nbytes);
}

static tci_handler compute_functions = {
    "tensorcore operation", 1, {NULL, compute_malloc, compute_calloc, compute_realloc, tci_hook_free}};

int tci_compute_setup(void) {
  handler = PyCapsule_New(&compute_functions, TCI_HANDLER_CAPSULE, NULL);
  return handler == NULL ? -1 : 0;
}

/* set_compute(call, operate, wrap, refuse): the Python side; once. */
PyObject *tci_compute_set(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
  (void)module;
  if (tci_expect("set_compute", count, 4) < 0) return NULL;
  slow_call = Py_NewRef(arguments[0]);
  slow_operate = Py_NewRef(arguments[1]);
  slow_wrap = Py_NewRef(arguments[2]);
  slow_refuse = Py_NewRef(arguments[3]);
  return Py_NewRef(Py_None);
}

/* After a function that failed: where NumPy got no memory, the pool says why. */
static PyObject *explain_failure(PyObject *pool) {
  PyObject *type, *error, *traceback, *unused;
  if (!PyErr_ExceptionMatches(PyExc_MemoryError)) return NULL;
  PyErr_Fetch(&type, &error, &traceback);
  PyErr_NormalizeException(&type, &error, &traceback);
  unused = PyObject_CallFunctionObjArgs(slow_refuse, error, pool, NULL);
  Py_XDECREF(unused);
  Py_XDECREF(type);
  Py_XDECREF(error);
  Py_XDECREF(traceback);
  return NULL;
}

/* What the function returns, with every array that it makes in the pool. */
static PyObject *run_in_pool(PyObject *pool, PyObject *function, PyObject *args, PyObject *kwargs) {
  PyObject *outer = running, *type, *error, *traceback;
  PyObject *before = tci_numpy_set_handler(handler);
  if (before == NULL) return NULL;
  running = pool;
  PyObject *result = PyObject_Call(function, args, kwargs);
  running = outer;
  PyErr_Fetch(&type, &error, &traceback);
  PyObject *ours = tci_numpy_set_handler(before);
  Py_DECREF(before);
  if (ours == NULL) {
    Py_XDECREF(result);
    Py_XDECREF(type), Py_XDECREF(error), Py_XDECREF(traceback);
    return NULL;
  }
  Py_DECREF(ours);
  PyErr_Restore(type, error, traceback);
  return result != NULL ? result : explain_failure(pool);
}

/* run(pool, function, args, kwargs or None): the bare result of a function whose arrays come from the pool. */
PyObject *tci_compute_run(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
  (void)module;
  tc_pool *pool;
  if (tci_expect("run", count, 4) < 0 || tci_pool_argument(arguments[0], &pool) < 0) return NULL;
  return run_in_pool(arguments[0], arguments[1], arguments[2], arguments[3] == Py_None ? NULL : arguments[3]);
}

/* ---- calls ------------------------------------------------------------------------------------------------------------------------- */

/* What a call has found among its arguments. */
typedef struct operands {
  PyObject *kind; /* borrowed: the type of the first tensor of a pool; NULL: none so far */
  PyObject *pool; /* borrowed: its pool */
  int plain;      /* no argument so far needs Python */
} operands;

static int holds_only_plain_items(PyObject *sequence, int is_tuple) {
  Py_ssize_t count = is_tuple ? PyTuple_Size(sequence) : PyList_Size(sequence);
  for (Py_ssize_t i = 0; i < count; i++) {
    PyObject *item = is_tuple ? PyTuple_GetItem(sequence, i) : PyList_GetItem(sequence, i);
    if (item == NULL || tci_holder_check(item) || PyTuple_Check(item) || PyList_Check(item)) return 0;
  }
  return 1;
}

/* The argument as NumPy takes it: a new reference. */
static PyObject *argument_plain(PyObject *argument, operands *found) {
  if (tci_holder_check(argument)) {
    PyObject *array = tci_holder_array(argument), *pool = tci_holder_pool(argument);
    if (array == NULL || pool == NULL || !tci_numpy_is_array(array)) {
      found->plain = 0;
    } else {
      if (found->pool == NULL && tci_pool_check(pool)) found->pool = pool, found->kind = (PyObject *)Py_TYPE(argument);
      return Py_NewRef(array);
    }
  } else if (PyTuple_Check(argument) || PyList_Check(argument)) {
    found->plain = found->plain && holds_only_plain_items(argument, PyTuple_Check(argument));
  }
  return Py_NewRef(argument);
}

/* A tensor of no dimensions in the pool that holds a scalar of NumPy's. */
static PyObject *wrap_scalar(PyObject *scalar, PyObject *kind, PyObject *pool) {
  PyObject *dtype = PyObject_GetAttrString(scalar, "dtype"), *shape = PyTuple_New(0), *array = NULL;
  if (dtype != NULL && shape != NULL) array = tci_array_make(pool, shape, dtype, 0);
  if (array != NULL && array != Py_None && PyObject_SetItem(array, shape, scalar) < 0) {
    Py_DECREF(array);
    array = NULL;
  }
  Py_XDECREF(dtype);
  Py_XDECREF(shape);
  if (array != Py_None) return array == NULL ? NULL : tci_holder_of((PyTypeObject *)kind, array, pool);
  Py_DECREF(array);
  return PyObject_CallFunctionObjArgs(slow_wrap, scalar, kind, pool, NULL); /* the pool refused */
}

/* The result as a tensor where it is an array. Steals `result`; it may be NULL. */
static PyObject *wrap(PyObject *result, const operands *found) {
  if (result == NULL || PyBool_Check(result)) return result;
  if (tci_numpy_is_array(result) && tci_type_is_number(((tci_descr *)((tci_array *)result)->descr)->type_number)) return tci_holder_of((PyTypeObject *)found->kind, result, found->pool);
  PyObject *wrapped = tci_numpy_is_scalar(result) ? wrap_scalar(result, found->kind, found->pool)
                                                  : PyObject_CallFunctionObjArgs(slow_wrap, result, found->kind, found->pool, NULL);
  Py_DECREF(result);
  return wrapped;
}

static PyObject *pack_arguments(PyObject *const *values, Py_ssize_t count, operands *found) {
  PyObject *args = PyTuple_New(count);
  for (Py_ssize_t i = 0; args != NULL && i < count; i++) {
    PyObject *plain = found == NULL ? Py_NewRef(values[i]) : argument_plain(values[i], found);
    PyTuple_SetItem(args, i, plain); /* steals it */
  }
  return args;
}

static PyObject *pack_keywords(PyObject *const *values, PyObject *names, operands *found) {
  Py_ssize_t count = names == NULL ? 0 : PyTuple_Size(names);
  PyObject *kwargs = PyDict_New();
  for (Py_ssize_t i = 0; kwargs != NULL && i < count; i++) {
    PyObject *plain = found == NULL ? Py_NewRef(values[i]) : argument_plain(values[i], found);
    int failed = PyDict_SetItem(kwargs, PyTuple_GetItem(names, i), plain) < 0;
    Py_DECREF(plain);
    if (failed) Py_CLEAR(kwargs);
  }
  return kwargs;
}

/* call(function, *args, **kwargs): what the function makes of the tensors' arrays, as tensors. */
PyObject *tci_compute_call(PyObject *module, PyObject *const *arguments, Py_ssize_t count, PyObject *names) {
  (void)module;
  operands found = {NULL, NULL, 1};
  if (count < 1) {
    PyErr_SetString(PyExc_TypeError, "call takes a function");
    return NULL;
  }
  PyObject *args = pack_arguments(arguments + 1, count - 1, &found);
  PyObject *kwargs = args == NULL || names == NULL ? NULL : pack_keywords(arguments + count, names, &found);
  PyObject *result = NULL;
  if (args == NULL || (names != NULL && kwargs == NULL)) {
    Py_XDECREF(args);
    return NULL;
  }
  if (found.plain && found.pool != NULL) {
    result = wrap(run_in_pool(found.pool, arguments[0], args, kwargs), &found);
  } else {
    Py_DECREF(args);
    Py_XDECREF(kwargs);
    args = pack_arguments(arguments + 1, count - 1, NULL);
    kwargs = args == NULL ? NULL : pack_keywords(arguments + count, names, NULL);
    if (kwargs != NULL) result = PyObject_CallFunctionObjArgs(slow_call, arguments[0], args, kwargs, NULL);
  }
  Py_XDECREF(args);
  Py_XDECREF(kwargs);
  return result;
}

/* ---- operators --------------------------------------------------------------------------------------------------------------------- */

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

/* Which type the result has: the operands', where that is not bool; theirs, where it is not integer; theirs always; bool. */
enum rule { RULE_NUMERIC = 0, RULE_INEXACT = 1, RULE_SAME = 2, RULE_BOOL = 3 };

static int rule_knows(long rule, int type_number) {
  if (rule == RULE_NUMERIC) return type_number != TCI_TYPE_BOOL;
  return rule != RULE_INEXACT || tci_type_is_inexact(type_number);
}

/* The tensor whose layout the result has; NULL: the operands are not plain. Sets both arrays. */
static PyObject *model_of(long rule, PyObject *left, PyObject *right, PyObject **left_array, PyObject **right_array) {
  tci_array *a = operand_array(left), *b = operand_array(right), *model = a != NULL ? a : b;
  if (model == NULL) return NULL;
  const tci_descr *descr = (const tci_descr *)model->descr;
  if (!tci_type_is_number(descr->type_number) || descr->byteorder == '>' || descr->byteorder == '<') return NULL; /* '=' is native */
  int fits = a != NULL && b != NULL ? same_layout(a, b) : number_fits(a != NULL ? right : left, descr->type_number);
  if (!fits || !rule_knows(rule, descr->type_number)) return NULL;
  *left_array = a != NULL ? (PyObject *)a : left;
  *right_array = b != NULL ? (PyObject *)b : right;
  return a != NULL ? left : right;
}

/* ufunc(left, right) in a block of the model's pool. */
static PyObject *operate_on(PyObject *ufunc, long rule, PyObject *model, PyObject *left, PyObject *right) {
  tci_array *layout = (tci_array *)tci_holder_array(model);
  PyObject *pool = Py_NewRef(tci_holder_pool(model));
  PyObject *descr = rule == RULE_BOOL ? tci_numpy_descr((PyObject *)&PyBool_Type) : Py_NewRef(layout->descr);
  PyObject *array = descr == NULL ? NULL : tci_array_like(pool, layout, descr), *result = NULL;
  if (array == Py_None) {
    result = PyObject_CallFunctionObjArgs(slow_refuse, Py_None, pool, tci_holder_array(model), NULL);
  } else if (array != NULL) {
    result = PyObject_CallFunctionObjArgs(ufunc, left, right, array, NULL); /* the array */
    if (result != NULL) Py_DECREF(result), result = tci_holder_of(Py_TYPE(model), Py_NewRef(array), pool);
  }
  Py_XDECREF(array);
  Py_DECREF(pool);
  return result;
}

/* Whether NumPy takes an operand as it is: a tensor on the CPU, an array, a Python number. */
static int is_plain_operand(PyObject *operand) {
  if (tci_holder_check(operand)) return tci_holder_array(operand) != NULL && tci_numpy_is_array(tci_holder_array(operand));
  return PyLong_Check(operand) || PyFloat_CheckExact(operand) || PyComplex_CheckExact(operand) || tci_numpy_is_array(operand);
}

/* operate(ufunc, rule, left, right): ufunc(left, right), or NotImplemented; a negative rule: the result's layout is not the operands'. */
PyObject *tci_compute_operate(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
  (void)module;
  if (tci_expect("operate", count, 4) < 0) return NULL;
  PyObject *left, *right, *result = NULL;
  operands found = {NULL, NULL, 1};
  long rule = PyLong_AsLong(arguments[1]);
  PyObject *model = rule < 0 ? NULL : model_of(rule, arguments[2], arguments[3], &left, &right);
  if (model != NULL) return operate_on(arguments[0], rule, model, left, right);
  if (is_plain_operand(arguments[2]) && is_plain_operand(arguments[3])) {
    PyObject *args = pack_arguments(arguments + 2, 2, &found);
    if (args != NULL && found.pool != NULL) result = wrap(run_in_pool(found.pool, arguments[0], args, NULL), &found);
    Py_XDECREF(args);
    if (args == NULL || found.pool != NULL) return result;
  }
  return PyObject_CallFunctionObjArgs(slow_operate, arguments[0], arguments[2], arguments[3], NULL);
}

/* operate_into(ufunc, left, right): ufunc(left, right, out=left); left, or NotImplemented. */
PyObject *tci_compute_operate_into(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
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
