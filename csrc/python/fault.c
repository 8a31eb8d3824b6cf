/* fault.c - pools with a mode, seen from Python: the line of Python that calls becomes the call site, and faults become exceptions.
 *
 * Nothing here costs a thing until the first such pool is opened; from then on each call of the glue walks to its caller's frame, some
 * 300 ns. What a call can raise it raises; the rest goes to sys.unraisablehook, without the GIL's thread to stderr.
 */
#include <string.h>
#include <unistd.h>

#include "native.h"

#define PLACE 512  /* bytes of a call site's text */
#define REPORT 2048 /* bytes */

int tci_watching;
static PyObject *make_error;   /* owned for good: () -> the thread's last fault as an exception */
static PyObject *own_prefixes; /* owned for good: a tuple of folders whose frames are passed over */
static _Thread_local int raises;
static _Thread_local PyObject *pending;

/* watch_faults(make_error, prefixes) */
PyObject *tci_fault_setup(PyObject *module, PyObject *const *arguments, Py_ssize_t count) {
  (void)module;
  if (tci_expect("watch_faults", count, 2) < 0) return NULL;
  make_error = Py_NewRef(arguments[0]);
  own_prefixes = Py_NewRef(arguments[1]);
  return Py_NewRef(Py_None);
}

static int is_own(PyObject *file) {
  for (Py_ssize_t i = 0; i < PyTuple_Size(own_prefixes); i++)
    if (PyUnicode_Tailmatch(file, PyTuple_GetItem(own_prefixes, i), 0, PY_SSIZE_T_MAX, -1) == 1) return 1;
  return 0;
}

/* Writes "file:line" of the frame unless it is one of ours; 1 where it did. */
static int describe_frame(PyFrameObject *frame, char *text) {
  PyCodeObject *code = PyFrame_GetCode(frame);
  PyObject *file = PyObject_GetAttrString((PyObject *)code, "co_filename");
  const char *name = file == NULL || is_own(file) ? NULL : PyUnicode_AsUTF8AndSize(file, NULL);
  if (name != NULL) PyOS_snprintf(text, PLACE, "%s:%d", name, PyFrame_GetLineNumber(frame));
  Py_XDECREF(file);
  Py_DECREF((PyObject *)code);
  return name != NULL;
}

static void set_site(void) { /* no Python error is set afterwards that was not before */
  char text[PLACE] = "";
  PyObject *type, *value, *trace, *frame = Py_XNewRef((PyObject *)PyEval_GetFrame());
  PyErr_Fetch(&type, &value, &trace);
  while (frame != NULL && frame != Py_None && !describe_frame((PyFrameObject *)frame, text)) {
    PyObject *back = PyObject_GetAttrString(frame, "f_back");
    Py_DECREF(frame);
    frame = back;
  }
  Py_XDECREF(frame);
  PyErr_Restore(type, value, trace);
  tc_site_set(text[0] ? tc_site_intern(text) : NULL);
}

void tci_call_begin_slowly(int may_raise) {
  if (PyGILState_GetThisThreadState() == NULL) return; /* a thread that Python does not know */
  PyGILState_STATE state = PyGILState_Ensure(); /* NumPy's functions may be called without the GIL */
  raises = may_raise;
  set_site();
  PyGILState_Release(state);
}

int tci_call_end_slowly(void) {
  PyObject *error = pending;
  raises = 0;
  pending = NULL;
  tc_site_set(NULL);
  if (error == NULL) return 0;
  PyErr_SetObject((PyObject *)Py_TYPE(error), error);
  Py_DECREF(error);
  return -1;
}

static void print(const tc_fault *fault) {
  char text[REPORT];
  size_t length = tc_fault_describe(fault, text, sizeof text);
  if (write(STDERR_FILENO, text, length < sizeof text ? length : sizeof text - 1) < 0) return;
}

/* To Python: an exception that is kept for the end of the call, or reported. Needs the GIL. */
static void tell(void) {
  PyObject *type, *value, *trace;
  PyErr_Fetch(&type, &value, &trace);
  PyObject *error = PyObject_CallNoArgs(make_error);
  if (error != NULL && raises && pending == NULL) {
    pending = error;
  } else {
    if (error != NULL) PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    Py_XDECREF(error);
    PyErr_WriteUnraisable(make_error);
  }
  PyErr_Restore(type, value, trace);
}

static void on_fault(tc_pool *pool, const tc_fault *fault, void *context) {
  (void)pool, (void)context;
  if (!Py_IsInitialized() || PyGILState_GetThisThreadState() == NULL) { /* such a thread may be waited for by one that holds the GIL */
    print(fault);
    return;
  }
  PyGILState_STATE state = PyGILState_Ensure();
  tell();
  PyGILState_Release(state);
}

void tci_fault_watch(tc_pool *pool) {
  if (tc_pool_mode(pool) == TC_MODE_FAST) return;
  tc_pool_on_fault(pool, on_fault, NULL);
  tci_watching = 1;
}

/* A deallocation that cannot raise found something. */
void tci_fault_report(void) {
  tc_fault fault;
  if (tc_last_fault(&fault)) on_fault(fault.pool, &fault, NULL);
}
