/* dlpack.c - DLPack capsules (dmlc.github.io/dlpack, versions 0 and 1): made from a description of memory, and taken apart into one.
 *
 * What the fields mean, and which stream has to wait for which, is decided in tensorcore/_dlpack.py; here is only what Python cannot say:
 * the structs, who frees them, and the names by which a capsule tells whether it was taken. An export is one allocation.
 */
#include <stdlib.h>

#include "native.h"

#define PLAIN "dltensor"
#define VERSIONED "dltensor_versioned"
#define READ_ONLY 1u /* DLPACK_FLAG_BITMASK_READ_ONLY */
#define IS_COPIED 2u /* DLPACK_FLAG_BITMASK_IS_COPIED */
#define MAJOR 1u     /* the newest layout that is known here */

enum { CPU = 1, CUDA_HOST = 3, ROCM_HOST = 11 }; /* DLDeviceType, where the CPU can write */

typedef struct dl_tensor {
  void *data;
  int32_t device_type, device_id;
  int32_t dimension_count;
  uint8_t code, bits;
  uint16_t lanes;
  int64_t *shape;
  int64_t *strides; /* elements; NULL: C order */
  uint64_t byte_offset;
} dl_tensor;

typedef struct dl_plain {
  dl_tensor tensor;
  void *context;
  void (*deleter)(struct dl_plain *self);
} dl_plain;

typedef struct dl_versioned {
  uint32_t major, minor;
  void *context;
  void (*deleter)(struct dl_versioned *self);
  uint64_t flags;
  dl_tensor tensor;
} dl_versioned;

/* ---- out ---------------------------------------------------------------------------------------------------------------------------- */

typedef struct export {
  union {
    dl_plain plain;
    dl_versioned versioned;
  } head;
  PyObject *owner; /* owned: keeps the memory */
  int64_t shape[TCI_MAX_DIMENSIONS], strides[TCI_MAX_DIMENSIONS];
} export;

/* The consumer may call this from any thread, and after the interpreter is gone: then the owner stays. */
static void export_free(export *self) {
  if (Py_IsInitialized()) {
    PyGILState_STATE state = PyGILState_Ensure();
    Py_DECREF(self->owner);
    PyGILState_Release(state);
  }
  free(self);
}

static void delete_plain(dl_plain *self) { export_free(self->context); }
static void delete_versioned(dl_versioned *self) { export_free(self->context); }

/* A capsule that nobody took frees what it holds; one that was taken has another name. */
static void capsule_destroy(PyObject *capsule) {
  if (PyCapsule_IsValid(capsule, PLAIN)) {
    dl_plain *plain = PyCapsule_GetPointer(capsule, PLAIN);
    if (plain->deleter != NULL) plain->deleter(plain);
  } else if (PyCapsule_IsValid(capsule, VERSIONED)) {
    dl_versioned *versioned = PyCapsule_GetPointer(capsule, VERSIONED);
    if (versioned->deleter != NULL) versioned->deleter(versioned);
  }
}

static int read_integers(PyObject *tuple, int64_t *values) {
  Py_ssize_t count = PyTuple_Size(tuple);
  if (count > TCI_MAX_DIMENSIONS) PyErr_Format(PyExc_ValueError, "at most %d dimensions", TCI_MAX_DIMENSIONS);
  for (Py_ssize_t i = 0; i < count && !PyErr_Occurred(); i++) values[i] = PyLong_AsLongLong(PyTuple_GetItem(tuple, i));
  return PyErr_Occurred() ? -1 : (int)count;
}

static PyObject *export_capsule(export *self, dl_tensor tensor, uint64_t flags, int versioned) {
  tensor.lanes = 1;
  tensor.shape = self->shape;
  tensor.strides = self->strides;
  if (versioned) {
    self->head.versioned = (dl_versioned){MAJOR, 0, self, delete_versioned, flags, tensor};
    return PyCapsule_New(&self->head.versioned, VERSIONED, capsule_destroy);
  }
  self->head.plain = (dl_plain){tensor, self, delete_plain};
  return PyCapsule_New(&self->head.plain, PLAIN, capsule_destroy);
}

/* dlpack_export(owner, address, shape, strides in elements, (code, bits), (device type, device id), read_only, copied, versioned). */
PyObject *tci_dlpack_export(PyObject *module, PyObject *arguments) {
  (void)module;
  PyObject *owner, *address, *shape, *strides;
  dl_tensor tensor = {0};
  int read_only, copied, versioned, type_code, bits;
  if (!PyArg_ParseTuple(arguments, "OOO!O!(ii)(ii)ppp", &owner, &address, &PyTuple_Type, &shape, &PyTuple_Type, &strides, &type_code, &bits,
                        &tensor.device_type, &tensor.device_id, &read_only, &copied, &versioned))
    return NULL;
  export *self = calloc(1, sizeof *self);
  if (self == NULL) return PyErr_NoMemory();
  tensor.data = PyLong_AsVoidPtr(address);
  tensor.code = (uint8_t)type_code, tensor.bits = (uint8_t)bits;
  self->owner = Py_NewRef(owner);
  PyObject *capsule = NULL;
  if ((tensor.data != NULL || !PyErr_Occurred()) && (tensor.dimension_count = read_integers(shape, self->shape)) >= 0 &&
      read_integers(strides, self->strides) >= 0)
    capsule = export_capsule(self, tensor, (read_only ? READ_ONLY : 0) | (copied ? IS_COPIED : 0), versioned);
  if (capsule == NULL) export_free(self);
  return capsule;
}

/* ---- in ----------------------------------------------------------------------------------------------------------------------------- */

static PyObject *tuple_of(const int64_t *values, int count) {
  PyObject *tuple = PyTuple_New(count);
  for (int i = 0; tuple != NULL && i < count; i++) {
    PyObject *value = PyLong_FromLongLong(values[i]);
    if (value == NULL || PyTuple_SetItem(tuple, i, value) < 0) Py_CLEAR(tuple);
  }
  return tuple;
}

/* A tuple (address, shape, strides in elements or None, code, bits, lanes, device type, device id, read only). */
static PyObject *describe(const dl_tensor *tensor, int read_only) {
  PyObject *shape = tuple_of(tensor->shape, tensor->dimension_count);
  PyObject *strides = tensor->strides == NULL ? Py_NewRef(Py_None) : tuple_of(tensor->strides, tensor->dimension_count);
  PyObject *address = PyLong_FromVoidPtr((char *)tensor->data + tensor->byte_offset);
  if (shape == NULL || strides == NULL || address == NULL) {
    Py_XDECREF(shape), Py_XDECREF(strides), Py_XDECREF(address);
    return NULL;
  }
  return Py_BuildValue("(NNNiiiiiN)", address, shape, strides, (int)tensor->code, (int)tensor->bits, (int)tensor->lanes,
                       (int)tensor->device_type, (int)tensor->device_id, PyBool_FromLong(read_only));
}

/* An old capsule can't say whether its memory may be written to. On the host it may be another library's constant (JAX's arrays are), so it
 * is read-only, as NumPy has it; on a device it is not, as CuPy has it. */
static int plain_is_read_only(const dl_tensor *tensor) {
  return tensor->device_type == CPU || tensor->device_type == CUDA_HOST || tensor->device_type == ROCM_HOST;
}

/* The capsule that the taker holds from now on: it frees the tensor with its last reference, under the name of a capsule not yet taken. */
static PyObject *take(PyObject *capsule, void *tensor, const char *name, const char *used) {
  PyObject *owner = PyCapsule_New(tensor, name, capsule_destroy);
  if (owner != NULL && PyCapsule_SetName(capsule, used) < 0) {
    PyCapsule_SetDestructor(owner, NULL);
    Py_CLEAR(owner);
  }
  return owner;
}

/* dlpack_import(capsule): (owner, description); the capsule is used up, the memory lives as long as the owner. */
PyObject *tci_dlpack_import(PyObject *module, PyObject *capsule) {
  (void)module;
  PyObject *owner = NULL, *description = NULL;
  if (PyCapsule_IsValid(capsule, VERSIONED)) {
    dl_versioned *versioned = PyCapsule_GetPointer(capsule, VERSIONED);
    if (versioned->major > MAJOR)
      return PyErr_Format(PyExc_BufferError, "the capsule has DLPack version %u, this is for version %u and below", versioned->major, MAJOR);
    owner = take(capsule, versioned, VERSIONED, "used_" VERSIONED);
    if (owner != NULL) description = describe(&versioned->tensor, (versioned->flags & READ_ONLY) != 0);
  } else if (PyCapsule_IsValid(capsule, PLAIN)) {
    dl_plain *plain = PyCapsule_GetPointer(capsule, PLAIN);
    owner = take(capsule, plain, PLAIN, "used_" PLAIN);
    if (owner != NULL) description = describe(&plain->tensor, plain_is_read_only(&plain->tensor));
  } else {
    PyErr_SetString(PyExc_BufferError, "this is no DLPack capsule, or it was used before: each can be taken once");
  }
  if (owner != NULL && description != NULL) return Py_BuildValue("(NN)", owner, description);
  Py_XDECREF(owner);
  Py_XDECREF(description);
  return NULL;
}
