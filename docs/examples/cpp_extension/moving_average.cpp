// moving_average.cpp - a Python extension whose scratch memory and results are blocks of TensorCore's global pool.
//
// moving_average(values, window) takes a buffer of float64 and returns a Block, itself a buffer of float64: numpy.asarray(block) is a view.
// Built by example.py beside this file; nothing is linked.
#include <Python.h>

#define TENSORCORE_USE_CAPI
#include <tensorcore/memory_pool.hpp>

#include <new>
#include <vector>

// ---- Block: a pooled allocation that Python can look into -------------------------------------------------------------------------

struct Block {
  PyObject ob_base;
  tensorcore::PooledAllocation memory;
  Py_ssize_t count; // of doubles
};

static PyTypeObject *block_type;

static int block_getbuffer(PyObject *self, Py_buffer *view, int flags) {
  auto *block = reinterpret_cast<Block *>(self);
  int failed = PyBuffer_FillInfo(view, self, block->memory.get(), static_cast<Py_ssize_t>(block->memory.size()), 0, flags);
  if (failed) return failed;
  view->itemsize = sizeof(double);
  view->format = (flags & PyBUF_FORMAT) != 0 ? const_cast<char *>("d") : nullptr;
  if (view->shape != nullptr) view->shape = &block->count;
  return 0;
}

static void block_dealloc(PyObject *self) {
  PyTypeObject *type = Py_TYPE(self);
  reinterpret_cast<Block *>(self)->memory.~PooledAllocation(); // back to the pool
  type->tp_free(self);
  Py_DECREF(type);
}

static PyType_Slot block_slots[] = {
    {Py_bf_getbuffer, reinterpret_cast<void *>(block_getbuffer)},
    {Py_tp_dealloc, reinterpret_cast<void *>(block_dealloc)},
    {0, nullptr},
};
static PyType_Spec block_spec = {"moving_average.Block", sizeof(Block), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, block_slots};

// ---- the computation: no Python in it, so it runs without the GIL -----------------------------------------------------------------

// At each point the mean of up to `window` values before and behind it.
static tensorcore::PooledAllocation smooth(const double *values, std::size_t count, std::size_t window) {
  tensorcore::PooledAllocation result(count * sizeof(double));
  tensorcore::pool_resource pool;
  std::pmr::vector<double> sums(count + 1, &pool); // sums[i]: of the first i values; scratch, from the same pool
  for (std::size_t i = 0; i < count; ++i) sums[i + 1] = sums[i] + values[i];
  for (std::size_t i = 0; i < count; ++i) {
    std::size_t begin = i < window ? 0 : i - window, end = count - i <= window ? count : i + window + 1;
    result.as<double>()[i] = (sums[end] - sums[begin]) / static_cast<double>(end - begin);
  }
  return result;
}

// The result of smooth() with the GIL released, or an empty one with a MemoryError set.
static tensorcore::PooledAllocation smooth_without_gil(const Py_buffer &values, std::size_t window) {
  tensorcore::PooledAllocation result;
  bool refused = false;
  Py_BEGIN_ALLOW_THREADS;
  try {
    result = smooth(static_cast<const double *>(values.buf), static_cast<std::size_t>(values.len) / sizeof(double), window);
  } catch (const std::bad_alloc &) { // OutOfMemoryError is one
    refused = true;
  }
  Py_END_ALLOW_THREADS;
  if (refused) PyErr_NoMemory();
  return result;
}

static PyObject *moving_average(PyObject *, PyObject *args) {
  Py_buffer values;
  Py_ssize_t window;
  if (!PyArg_ParseTuple(args, "y*n", &values, &window)) return nullptr;
  if (window < 0 || values.len % static_cast<Py_ssize_t>(sizeof(double)) != 0) {
    PyBuffer_Release(&values);
    return PyErr_Format(PyExc_ValueError, "a window of 0 or more and a buffer of float64 are wanted, not %zd and %zd bytes", window,
                        values.len);
  }
  tensorcore::PooledAllocation result = smooth_without_gil(values, static_cast<std::size_t>(window));
  PyBuffer_Release(&values);
  PyObject *self = result ? block_type->tp_alloc(block_type, 0) : nullptr;
  if (self == nullptr) return nullptr;
  auto *block = reinterpret_cast<Block *>(self);
  block->count = static_cast<Py_ssize_t>(result.size() / sizeof(double));
  new (&block->memory) tensorcore::PooledAllocation(std::move(result));
  return self;
}

// ---- the module -------------------------------------------------------------------------------------------------------------------

PyMODINIT_FUNC PyInit_moving_average() {
  static PyMethodDef methods[] = {{"moving_average", moving_average, METH_VARARGS, "moving_average(values, window) -> Block"},
                                  {nullptr, nullptr, 0, nullptr}};
  static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "moving_average", nullptr, -1, methods, nullptr, nullptr, nullptr, nullptr};
  if (tensorcore_import() < 0) return nullptr; // ImportError: tensorcore is missing, or another one
  block_type = reinterpret_cast<PyTypeObject *>(PyType_FromSpec(&block_spec));
  return block_type == nullptr ? nullptr : PyModule_Create(&definition);
}
