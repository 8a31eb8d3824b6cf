/* compute.c - NumPy's functions on tensors: their arrays in, tensors in blocks of their pool out.
 *
 * While a function runs, the memory handler of the context (NEP 49) is ours and this thread has a pool, so every array that NumPy makes is
 * a block of it, without a copy. What is not plain (a tensor on a device, no tensor at all, results in tuples) goes to Python, `_compute.py`.
 * Cost: about 150 ns besides NumPy's, 80 of them for setting the handler and setting it back.
 */
#include "native.h"

static __thread PyObject *running; /* borrowed: the MemoryPool that this thread computes with; NULL: none */
static PyObject *handler;          /* owned for good: the capsule of our handler */
static PyObject *slow_call;        /* owned for good: slow_call(function, args, kwargs or None) -> result */
static PyObject *slow_wrap;        /* owned for good: slow_wrap(result, kind, pool) -> result */
static PyObject *slow_refuse;      /* owned for good: slow_refuse(error or None, pool, ...): raises */

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

static tci_handler compute_functions = {"tensorcore operation", 1, {NULL, compute_malloc, compute_calloc, compute_realloc, tci_hook_free}};

int tci_compute_setup(void) {
  handler = PyCapsule_New(&compute_functions, TCI_HANDLER_CAPSULE, NULL);
  return handler == NULL ? -1 : 0;
}

/* set_compute(call, wrap, refuse, operate, place): the Python side; once. */
PyObject *tci_compute_set(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
  (void)module;
  if (tci_expect("set_compute", count, 5) < 0) return NULL;
  slow_call = Py_NewRef(arguments[0]);
  slow_wrap = Py_NewRef(arguments[1]);
  slow_refuse = Py_NewRef(arguments[2]);
  tci_operate_set(arguments[3], arguments[4], slow_refuse);
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

static PyObject *argument_plain(PyObject *argument, tci_operands *found);

/* A list or tuple with the arrays of its tensors: a new reference. */
static PyObject *sequence_plain(PyObject *sequence, int is_tuple, tci_operands *found) {
  Py_ssize_t count = is_tuple ? PyTuple_Size(sequence) : PyList_Size(sequence);
  PyObject *plain = is_tuple ? PyTuple_New(count) : PyList_New(count);
  for (Py_ssize_t i = 0; plain != NULL && i < count; i++) {
    PyObject *item = is_tuple ? PyTuple_GetItem(sequence, i) : PyList_GetItem(sequence, i);
    item = item == NULL ? NULL : argument_plain(item, found);
    if (item == NULL || (is_tuple ? PyTuple_SetItem(plain, i, item) : PyList_SetItem(plain, i, item)) < 0) Py_CLEAR(plain);
  }
  return plain;
}

static void note_tensor(PyObject *tensor, PyObject *array, tci_operands *found) {
  PyObject *pool = tci_holder_pool(tensor);
  if (array == NULL || pool == NULL || !tci_numpy_is_array(array)) {
    found->plain = 0;
  } else if (!tci_pool_check(pool)) {
    found->foreign = 1;
    if (found->kind == NULL) found->kind = (PyObject *)Py_TYPE(tensor);
  } else if (found->pool == NULL) {
    found->pool = pool;
    found->kind = (PyObject *)Py_TYPE(tensor);
  }
}

/* The argument as NumPy takes it: a new reference, or NULL with a Python error set. */
static PyObject *argument_plain(PyObject *argument, tci_operands *found) {
  if (tci_holder_check(argument)) {
    PyObject *array = tci_holder_array(argument);
    note_tensor(argument, array, found);
    return Py_NewRef(array == NULL ? argument : array);
  }
  if (PyTuple_CheckExact(argument)) return sequence_plain(argument, 1, found);
  if (PyList_CheckExact(argument)) return sequence_plain(argument, 0, found);
  if (PyDict_Check(argument) || PyTuple_Check(argument) || PyList_Check(argument)) found->plain = 0; /* may hold tensors */
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

/* What was given, itself or the tensor around it, where that is the result; NULL: none is. Borrowed. */
static PyObject *given_as(PyObject *result, const tci_operands *found) {
  for (Py_ssize_t i = 0; i < found->given_count; i++) {
    PyObject *given = found->given[i];
    if (given == result || (tci_holder_check(given) && tci_holder_array(given) == result)) return given;
  }
  return NULL;
}

/* The result as a tensor where it is an array. Steals `result`; it may be NULL. */
static PyObject *wrap(PyObject *result, PyObject *pool, const tci_operands *found) {
  if (result == NULL || result == Py_None || PyBool_Check(result)) return result;
  if (tci_numpy_is_array(result)) {
    PyObject *given = given_as(result, found);
    if (given != NULL) {
      Py_INCREF(given);
      Py_DECREF(result);
      return given;
    }
    tci_array *array = (tci_array *)result;
    int ours = !found->foreign || (array->flags & TCI_ARRAY_OWNDATA); /* else it may be a view of the foreign memory */
    if (ours && tci_type_is_number(((tci_descr *)array->descr)->type_number)) return tci_holder_of((PyTypeObject *)found->kind, result, pool);
  }
  PyObject *wrapped = tci_numpy_is_scalar(result) ? wrap_scalar(result, found->kind, pool)
                                                  : PyObject_CallFunctionObjArgs(slow_wrap, result, found->kind, pool, NULL);
  Py_DECREF(result);
  return wrapped;
}

PyObject *tci_compute_plainly(PyObject *function, PyObject *args, PyObject *kwargs, const tci_operands *found, int *done) {
  PyObject *pool = found->pool != NULL ? found->pool : tci_holder_default_pool();
  *done = found->plain && found->kind != NULL && pool != NULL;
  if (!*done) return NULL;
  Py_INCREF(pool); /* the default can be replaced meanwhile */
  PyObject *result = wrap(run_in_pool(pool, function, args, kwargs), pool, found);
  Py_DECREF(pool);
  return result;
}

PyObject *tci_compute_pack(PyObject *const *values, Py_ssize_t count, tci_operands *found) {
  PyObject *args = PyTuple_New(count);
  for (Py_ssize_t i = 0; args != NULL && i < count; i++) {
    PyObject *plain = found == NULL ? Py_NewRef(values[i]) : argument_plain(values[i], found);
    if (plain == NULL || PyTuple_SetItem(args, i, plain) < 0) Py_CLEAR(args);
  }
  return args;
}

static PyObject *pack_keywords(PyObject *const *values, PyObject *names, tci_operands *found) {
  Py_ssize_t count = names == NULL ? 0 : PyTuple_Size(names);
  PyObject *kwargs = PyDict_New();
  for (Py_ssize_t i = 0; kwargs != NULL && i < count; i++) {
    PyObject *plain = found == NULL ? Py_NewRef(values[i]) : argument_plain(values[i], found);
    int failed = plain == NULL || PyDict_SetItem(kwargs, PyTuple_GetItem(names, i), plain) < 0;
    Py_XDECREF(plain);
    if (failed) Py_CLEAR(kwargs);
  }
  return kwargs;
}

/* call(function, *args, **kwargs): what the function makes of the tensors' arrays, as tensors. */
PyObject *tci_compute_call(PyObject *module, PyObject *const *arguments, Py_ssize_t count, PyObject *names) {
  (void)module;
  if (count < 1) {
    PyErr_SetString(PyExc_TypeError, "call takes a function");
    return NULL;
  }
  tci_operands found = {NULL, NULL, arguments + 1, count - 1 + (names == NULL ? 0 : PyTuple_Size(names)), 1, 0};
  PyObject *args = tci_compute_pack(arguments + 1, count - 1, &found);
  PyObject *kwargs = args == NULL || names == NULL ? NULL : pack_keywords(arguments + count, names, &found);
  if (args == NULL || (names != NULL && kwargs == NULL)) {
    Py_XDECREF(args);
    return NULL;
  }
  int done;
  PyObject *result = tci_compute_plainly(arguments[0], args, kwargs, &found, &done);
  if (!done) {
    Py_DECREF(args);
    Py_XDECREF(kwargs);
    args = tci_compute_pack(arguments + 1, count - 1, NULL);
    kwargs = args == NULL ? NULL : pack_keywords(arguments + count, names, NULL);
    if (kwargs != NULL) result = PyObject_CallFunctionObjArgs(slow_call, arguments[0], args, kwargs, NULL);
  }
  Py_XDECREF(args);
  Py_XDECREF(kwargs);
  return result;
}
