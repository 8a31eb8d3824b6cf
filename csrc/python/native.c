/* native.c - the module of C functions behind tensorcore._lib: allocation at the cost of one call, and the table of all glue functions.
 *
 * The GIL stays held: a hit in the pool takes less time than releasing it. What may take long (reserve, trim, check) goes through cffi.
 */
#include "native.h"

#include "bindings.h"

int tci_expect(const char *function, Py_ssize_t given, Py_ssize_t expected) {
  if (given == expected) return 0;
  PyErr_Format(PyExc_TypeError, "%s takes %zd arguments, not %zd", function, expected, given);
  return -1;
}

Py_ssize_t tci_size_argument(PyObject *object) {
  Py_ssize_t nbytes = PyNumber_AsSsize_t(object, PyExc_OverflowError);
  if (nbytes < 0 && !PyErr_Occurred()) PyErr_Format(PyExc_ValueError, "a size is at least 0 bytes, not %zd", nbytes);
  return nbytes < 0 ? -1 : nbytes;
}

/* allocate(pool, nbytes): an address, 0 where the pool refused. */
static PyObject *native_allocate(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
  (void)module;
  tc_pool *pool;
  Py_ssize_t nbytes;
  if (tci_expect("allocate", count, 2) < 0 || tci_pool_argument(arguments[0], &pool) < 0 || (nbytes = tci_size_argument(arguments[1])) < 0)
    return NULL;
  tci_call_begin(1);
  void *block = pool == NULL ? NULL : tc_pool_alloc(pool, (size_t)nbytes);
  if (tci_call_end() < 0) {
    if (block != NULL) tc_pool_free(pool, block);
    return NULL;
  }
  return PyLong_FromVoidPtr(block);
}

/* deallocate(pool, address, nbytes or None): a tc_status. */
static PyObject *native_deallocate(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
  (void)module;
  tc_pool *pool;
  if (tci_expect("deallocate", count, 3) < 0 || tci_pool_argument(arguments[0], &pool) < 0) return NULL;
  void *address = PyLong_AsVoidPtr(arguments[1]);
  if (address == NULL && PyErr_Occurred()) return NULL;
  if (pool == NULL) return PyLong_FromLong(TC_CLOSED);
  int sized = arguments[2] != Py_None;
  Py_ssize_t nbytes = sized ? tci_size_argument(arguments[2]) : 0;
  if (nbytes < 0) return NULL;
  tci_call_begin(1);
  tc_status status = sized ? tc_pool_free_sized(pool, address, (size_t)nbytes) : tc_pool_free(pool, address);
  return tci_call_end() < 0 ? NULL : PyLong_FromLong(status);
}

/* measure_thread(pool): what the calling thread did with it, (bytes in, bytes out, peak, allocations, deallocations), and the thread's
 * peak begins anew; None where the pool is closed. */
static PyObject *native_measure_thread(PyObject *module, PyObject *object) {
  (void)module;
  tc_pool *pool;
  if (tci_pool_argument(object, &pool) < 0) return NULL;
  if (pool == NULL) return Py_NewRef(Py_None);
  tc_thread_stats stats;
  tc_pool_thread_stats(pool, &stats);
  tc_pool_thread_set_peak(pool, INT64_MIN);
  return Py_BuildValue("(KKLKK)", (unsigned long long)stats.requested_in, (unsigned long long)stats.requested_out,
                       (long long)stats.requested_peak, (unsigned long long)stats.allocation_count,
                       (unsigned long long)stats.deallocation_count);
}

/* array_layout_matches(): whether `empty` and `zeros` may be used with this NumPy. */
static PyObject *native_layout_matches(PyObject *module, PyObject *unused) {
  (void)module, (void)unused;
  int matches = tci_numpy_layout_matches();
  return matches < 0 ? NULL : PyBool_FromLong(matches);
}

#define FAST(function) ((PyCFunction)(void (*)(void))(function))

/* report(error, object): to sys.unraisablehook, whose default takes only what the interpreter makes. */
static PyObject *native_report(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
  (void)module;
  if (tci_expect("report", count, 2) < 0) return NULL;
  PyErr_Restore(Py_NewRef((PyObject *)Py_TYPE(arguments[0])), Py_NewRef(arguments[0]), PyException_GetTraceback(arguments[0]));
  PyErr_WriteUnraisable(arguments[1]);
  return Py_NewRef(Py_None);
}

static PyMethodDef native_methods[] = {
    {"allocate", FAST(native_allocate), METH_FASTCALL, "allocate(pool, nbytes) -> address, 0 where the pool refused"},
    {"deallocate", FAST(native_deallocate), METH_FASTCALL, "deallocate(pool, address, nbytes or None) -> status"},
    {"empty", FAST(tci_array_empty), METH_FASTCALL, "empty(pool, shape, dtype) -> array that owns its block, None where the pool refused"},
    {"zeros", FAST(tci_array_zeros), METH_FASTCALL, "zeros(pool, shape, dtype) -> the same, cleared"},
    {"holder", FAST(tci_holder_wrap), METH_FASTCALL, "holder(type, array, pool) -> an ArrayHolder around them"},
    {"set_default_pool", tci_holder_set_default_pool, METH_O, "set_default_pool(pool or None) -> None"},
    {"pool_open", FAST(tci_pool_open), METH_FASTCALL, "pool_open(pool, address) -> None"},
    {"pool_close", tci_pool_close, METH_O, "pool_close(pool) -> the address it had"},
    {"pool_address", tci_pool_address, METH_O, "pool_address(pool) -> address, 0 where closed"},
    {"measure_thread", native_measure_thread, METH_O, "measure_thread(pool) -> (in, out, peak, allocations, deallocations) or None"},
    {"allocate_on", FAST(tci_allocate_on), METH_FASTCALL, "allocate_on(pool, nbytes, stream) -> address, 0 where the pool refused"},
    {"deallocate_on", FAST(tci_deallocate_on), METH_FASTCALL, "deallocate_on(pool, address, nbytes or None, stream) -> status"},
    {"block", FAST(tci_block_make), METH_FASTCALL, "block(pool, nbytes, stream) -> Block, None where the pool refused"},
    {"dlpack_export", tci_dlpack_export, METH_VARARGS, "dlpack_export(owner, address, shape, strides, type, device, ...) -> capsule"},
    {"dlpack_import", tci_dlpack_import, METH_O, "dlpack_import(capsule) -> owner, description; the capsule is used up"},
    {"array_layout_matches", native_layout_matches, METH_NOARGS, "array_layout_matches() -> whether empty and zeros suit this NumPy"},
    {"simd_call", FAST(tci_simd_call), METH_FASTCALL, "simd_call(type, out or None, steps, *inputs) -> out, None where it takes the slow way"},
    {"simd_reduce", FAST(tci_simd_call_reduce), METH_FASTCALL, "simd_reduce(reduction, x, y or None) -> scalar, None as above"},
    {"hook_attach", tci_hook_attach, METH_O, "hook_attach(repoint) -> None"},
    {"hook_set_pool", tci_hook_set_pool, METH_O, "hook_set_pool(pool or None) -> None"},
    {"hook_pool", tci_hook_pool, METH_NOARGS, "hook_pool() -> the installed pool's address, 0 where none is"},
    {"hook_handler_address", tci_hook_handler_address, METH_NOARGS, "hook_handler_address() -> where NumPy's default handler lies"},
    {"hook_context_handler", tci_hook_context_handler, METH_O, "hook_context_handler(pool) -> capsule"},
    {"hook_set_context", tci_hook_set_context, METH_O, "hook_set_context(capsule or None) -> the old capsule"},
    {"watch_faults", FAST(tci_fault_setup), METH_FASTCALL, "watch_faults(make_error, prefixes) -> None"},
    {"torch_connect", tci_torch_connect, METH_O, "torch_connect(find_pool) -> None; whom torch_port.c asks for pools"},
    {"set_compute", FAST(tci_compute_set), METH_FASTCALL, "set_compute(call, wrap, refuse, operate, place) -> None; what is done in Python"},
    {"set_ufunc", tci_ufunc_set, METH_O, "set_ufunc(call) -> None; what is done in Python"},
    {"run", FAST(tci_compute_run), METH_FASTCALL, "run(pool, function, args, kwargs or None) -> its bare result, made in the pool"},
    {"call", FAST(tci_compute_call), METH_FASTCALL | METH_KEYWORDS, "call(function, *args, **kwargs) -> its result as tensors"},
    {"operate", FAST(tci_operate_call), METH_FASTCALL, "operate(ufunc, rule, left, right) -> tensor or NotImplemented"},
    {"operate_one", FAST(tci_operate_one_call), METH_FASTCALL, "operate_one(ufunc, rule, tensor) -> tensor"},
    {"reduce_all", FAST(tci_operate_reduce), METH_FASTCALL, "reduce_all(reduce, rule, tensor) -> tensor of no dimensions"},
    {"report", FAST(native_report), METH_FASTCALL, "report(error, object) -> None; to sys.unraisablehook"},
    {"forget_global_pool", tci_capi_forget_global_pool, METH_NOARGS, "forget_global_pool() -> None; get_global_memory_pool changed"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef native_module = {
    PyModuleDef_HEAD_INIT, "tensorcore._native", "The C functions behind tensorcore._lib.", -1, native_methods, NULL, NULL, NULL, NULL,
};

static const struct {
  const char *name;
  long value;
} rules[] = {
    {"NUMERIC", TCI_RULE_NUMERIC}, {"INEXACT", TCI_RULE_INEXACT},   {"BOOL", TCI_RULE_BOOL},         {"REAL", TCI_RULE_REAL},
    {"ADD", TCI_RULE_ADD},         {"SUBTRACT", TCI_RULE_SUBTRACT}, {"MULTIPLY", TCI_RULE_MULTIPLY}, {"DIVIDE", TCI_RULE_DIVIDE},
    {"NEGATE", TCI_RULE_NEGATE},   {"SUM", TCI_RULE_SUM},           {"MIN", TCI_RULE_MIN},           {"MAX", TCI_RULE_MAX},
    {"MEAN", TCI_RULE_MEAN},
};

static int add_objects(PyObject *module) {
  PyObject *holder = tci_holder_setup();
  PyObject *capsule = tci_capi_setup();
  const struct {
    const char *name;
    PyObject *object;
  } objects[] = {{"ArrayHolder", holder},
                 {"PoolHandle", tci_pool_handle_setup()},
                 {"Block", tci_block_setup()},
                 {"CupyPort", tci_cupy_port_setup()},
                 {"C_API", capsule}};
  int failed = 0;
  for (size_t i = 0; !failed && i < sizeof objects / sizeof *objects; i++)
    failed = objects[i].object == NULL || PyModule_AddObjectRef(module, objects[i].name, objects[i].object) < 0;
  for (size_t i = 0; !failed && i < sizeof rules / sizeof *rules; i++)
    failed = PyModule_AddIntConstant(module, rules[i].name, rules[i].value) < 0;
  Py_XDECREF(holder);
  Py_XDECREF(capsule);
  return failed ? -1 : 0;
}

void *tci_native_module(void) {
  if (tci_numpy_load() < 0 || tci_hook_setup() < 0 || tci_array_setup() < 0 || tci_compute_setup() < 0 || tci_simd_setup() < 0 ||
      tci_operators_setup() < 0 || tci_ufunc_setup() < 0)
    return NULL;
  PyObject *module = PyModule_Create(&native_module);
  if (module != NULL && add_objects(module) < 0) {
    Py_DECREF(module);
    return NULL;
  }
  return module;
}
