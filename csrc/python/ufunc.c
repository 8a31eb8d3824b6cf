/* ufunc.c - __array_ufunc__ of tensors: what NumPy's ufuncs do when they are called with one.
 *
 * A plain call goes where the operator of that ufunc goes, without a frame on Python's stack; methods, keywords but `out`, and operands that
 * are not plain go to `_compute.call_ufunc`.
 */
#include "native.h"

static PyObject *rules[2];  /* owned for good, as all here: by the number of operands less one, ufunc -> rule of its result's type */
static PyObject *slow_call; /* slow_call(ufunc, method, inputs, kwargs) -> result or NotImplemented */

int tci_ufunc_setup(void) {
  static const char *const inexact[] = {"arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctanh", "cos",  "cosh", "exp", "exp2",
                                        "expm1",  "log",     "log10",  "log1p",   "log2",   "sin",     "sinh", "sqrt", "tan", "tanh"};
  PyObject *module = PyImport_ImportModule("numpy._core._multiarray_umath");
  int failed = module == NULL || (rules[0] = PyDict_New()) == NULL || (rules[1] = PyDict_New()) == NULL;
  failed = failed || tci_operators_add_rules() < 0;
  for (size_t i = 0; !failed && i < sizeof inexact / sizeof *inexact; i++) {
    PyObject *ufunc = PyObject_GetAttrString(module, inexact[i]);
    failed = ufunc == NULL || tci_ufunc_add_rule(ufunc, 1, TCI_RULE_INEXACT) < 0;
    Py_XDECREF(ufunc);
  }
  Py_XDECREF(module);
  return failed ? -1 : 0;
}

int tci_ufunc_add_rule(PyObject *ufunc, Py_ssize_t operands, long rule) {
  PyObject *number = PyLong_FromLong(rule);
  int status = number == NULL ? -1 : PyDict_SetItem(rules[operands - 1], ufunc, number);
  Py_XDECREF(number);
  return status;
}

/* set_ufunc(call): the Python side; once. */
PyObject *tci_ufunc_set(PyObject *module, PyObject *call) {
  (void)module;
  slow_call = Py_NewRef(call);
  return Py_NewRef(Py_None);
}

static long rule_of(PyObject *ufunc, Py_ssize_t operands) {
  PyObject *rule = PyDict_GetItemWithError(rules[operands - 1], ufunc);
  if (rule != NULL) return PyLong_AsLong(rule);
  PyErr_Clear(); /* of a stranger's hash */
  return TCI_RULE_OTHER;
}

static int is_plain(PyObject *input) { return tci_holder_check(input) || tci_numpy_is_plain(input); }

static int all_plain(PyObject *const *inputs, Py_ssize_t count) {
  for (Py_ssize_t i = 0; i < count; i++)
    if (!is_plain(inputs[i])) return 0;
  return 1;
}

static PyObject *call_plainly(PyObject *ufunc, PyObject *const *inputs, Py_ssize_t count) {
  PyObject *call[] = {ufunc, inputs[0]};
  long rule = rule_of(ufunc, count);
  if (count == 2) return tci_operate(ufunc, ufunc, rule, inputs[0], inputs[1]);
  return rule != TCI_RULE_OTHER ? tci_operate_one(ufunc, rule, inputs[0]) : tci_compute_call(NULL, call, 2, NULL);
}

/* The one tensor of out=(tensor,), as NumPy hands it on; NULL: it is given otherwise, or more than it. Borrowed. */
static PyObject *only_out(PyObject *const *values, PyObject *names) {
  if (PyTuple_Size(names) != 1 || PyUnicode_CompareWithASCIIString(PyTuple_GetItem(names, 0), "out") != 0) return NULL;
  if (!PyTuple_Check(values[0]) || PyTuple_Size(values[0]) != 1) return NULL;
  PyObject *out = PyTuple_GetItem(values[0], 0);
  return tci_holder_check(out) && tci_holder_array(out) != NULL && tci_numpy_is_array(tci_holder_array(out)) ? out : NULL;
}

static PyObject *call_slowly(PyObject *const *arguments, Py_ssize_t count, PyObject *names) {
  PyObject *inputs = tci_compute_pack(arguments + 2, count - 2, NULL), *kwargs = PyDict_New(), *result = NULL;
  int failed = inputs == NULL || kwargs == NULL;
  for (Py_ssize_t i = 0; !failed && names != NULL && i < PyTuple_Size(names); i++)
    failed = PyDict_SetItem(kwargs, PyTuple_GetItem(names, i), arguments[count + i]) < 0;
  if (!failed) result = PyObject_CallFunctionObjArgs(slow_call, arguments[0], arguments[1], inputs, kwargs, NULL);
  Py_XDECREF(inputs);
  Py_XDECREF(kwargs);
  return result;
}

PyObject *tci_ufunc_protocol(PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *names) {
  (void)self;
  if (count < 3) {
    PyErr_Format(PyExc_TypeError, "__array_ufunc__ takes a ufunc, a method's name and inputs, not %zd arguments", count);
    return NULL;
  }
  int is_call = PyUnicode_Check(arguments[1]) && PyUnicode_CompareWithASCIIString(arguments[1], "__call__") == 0;
  if (!is_call || count > 4 || !all_plain(arguments + 2, count - 2)) return call_slowly(arguments, count, names);
  if (names == NULL || PyTuple_Size(names) == 0) return call_plainly(arguments[0], arguments + 2, count - 2);
  PyObject *out = only_out(arguments + count, names);
  int done = out == NULL ? 0 : tci_operate_to(arguments[0], rule_of(arguments[0], count - 2), arguments + 2, count - 2, out);
  if (done) return done < 0 ? NULL : Py_NewRef(out);
  return call_slowly(arguments, count, names);
}
