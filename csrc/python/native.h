/* native.h - the map of the Python glue: declarations grouped under the file that defines them.
 *
 * Only calls of the limited API, so that one build serves Python 3.11 and later; no NumPy headers, so that it serves NumPy 2.0 and later.
 */
#ifndef TENSORCORE_NATIVE_H
#define TENSORCORE_NATIVE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>

#include "tensorcore.h"
#include "tensorcore/simd.h"

#define TCI_MAX_DIMENSIONS 64 /* NPY_MAXDIMS of NumPy 2 */

/* ---- numpy_api.c: the parts of NumPy's C interface that the glue uses ------------------------------------------------------------ */

/* NEP 49's PyDataMem_Handler, version 1. NumPy calls these functions for the data of each array; `free` is told a size that may be wrong. */
typedef struct tci_allocator {
  void *context;
  void *(*malloc)(void *context, size_t nbytes);
  void *(*calloc)(void *context, size_t count, size_t nbytes);
  void *(*realloc)(void *context, void *ptr, size_t nbytes);
  void (*free)(void *context, void *ptr, size_t nbytes);
} tci_allocator;

typedef struct tci_handler {
  char name[127];
  uint8_t version;
  tci_allocator allocator;
} tci_handler;

#define TCI_HANDLER_CAPSULE "mem_handler" /* the capsule name that NumPy asks for */

/* The start of PyArray_Descr, the same in every NumPy so far. */
typedef struct tci_descr {
  PyObject ob_base;
  PyTypeObject *scalar_type;
  char kind, type, byteorder, former_flags;
  int type_number; /* NPY_TYPES */
} tci_descr;

/* The start of PyArrayObject_fields, public since NumPy 1.22. tci_numpy_layout_matches proves it on a living array before any write. */
typedef struct tci_array {
  PyObject ob_base;
  char *data;
  int dimension_count;
  Py_ssize_t *dimensions;
  Py_ssize_t *strides; /* bytes */
  PyObject *base;
  PyObject *descr;
  int flags;
  PyObject *weak_references;
  void *buffer_info;
  PyObject *mem_handler; /* owned; the capsule through which the data is freed */
} tci_array;

/* NPY_TYPES: 0 to 16 are the numbers, the later ones 128-bit complex and 16-bit float. */
enum {
  TCI_TYPE_BOOL = 0,
  TCI_TYPE_INT = 5,
  TCI_TYPE_LONG = 7,
  TCI_TYPE_LONGLONG = 9,
  TCI_TYPE_FLOAT = 11,
  TCI_TYPE_DOUBLE = 12,
  TCI_TYPE_LONGDOUBLE = 13,
  TCI_TYPE_CLONGDOUBLE = 16,
  TCI_TYPE_HALF = 23
};

static inline int tci_type_is_number(int type_number) {
  return (type_number >= 0 && type_number <= TCI_TYPE_CLONGDOUBLE) || type_number == TCI_TYPE_HALF;
}

/* Real or complex. */
static inline int tci_type_is_inexact(int type_number) { return tci_type_is_number(type_number) && type_number >= TCI_TYPE_FLOAT; }

static inline int tci_type_is_complex(int type_number) { return type_number > TCI_TYPE_LONGDOUBLE && type_number <= TCI_TYPE_CLONGDOUBLE; }

#define TCI_ARRAY_C_CONTIGUOUS 0x0001
#define TCI_ARRAY_F_CONTIGUOUS 0x0002
#define TCI_ARRAY_OWNDATA 0x0004
#define TCI_ARRAY_ALIGNED 0x0100
#define TCI_ARRAY_WRITEABLE 0x0400

int tci_numpy_load(void); /* 0, or -1 with a Python error set */
PyObject *tci_numpy_scalar(void *value, int type_number); /* a new reference; `type_number`: NPY_TYPES */
int tci_numpy_layout_matches(void); /* 1: tci_array and tci_descr describe this NumPy; 0: it does not; -1 with a Python error set */
/* A new reference to an array over `data`, in C order, that does not own it; NULL: NumPy allocates. Steals `descr`. */
PyObject *tci_numpy_array(PyObject *descr, int dimension_count, Py_ssize_t *dimensions, void *data);
PyObject *tci_numpy_descr(PyObject *dtype); /* a new reference; whatever numpy.dtype() takes */
PyObject *tci_numpy_set_handler(PyObject *capsule); /* NULL: NumPy's default. A new reference to the old one */
PyObject *tci_numpy_default_handler(void); /* borrowed: the capsule that every context starts with */
int tci_numpy_is_array(PyObject *object);  /* an ndarray itself, no subclass */
int tci_numpy_is_scalar(PyObject *object); /* a numpy.generic */
/* Whether NumPy takes an object as it is: an array, a number, a list or tuple. No subclass: one may have operators of its own. */
int tci_numpy_is_plain(PyObject *object);

/* ---- pool_handle.c: the base type of MemoryPool ---------------------------------------------------------------------------------- */

PyObject *tci_pool_handle_setup(void);                       /* the type, a borrowed reference; NULL with a Python error set */
int tci_pool_check(PyObject *object);
int tci_pool_argument(PyObject *object, tc_pool **pool); /* NULL where closed; 0, or -1 with a TypeError set */
tc_pool *tci_pool_now(PyObject *pool);                   /* of an object known to be a MemoryPool; NULL where closed */
PyObject *tci_pool_open(PyObject *module, PyObject *const *arguments, Py_ssize_t count);
PyObject *tci_pool_close(PyObject *module, PyObject *object);
PyObject *tci_pool_address(PyObject *module, PyObject *object);

/* ---- array.c: arrays that own a block of a pool ---------------------------------------------------------------------------------- */

int tci_array_setup(void); /* 0, or -1 with a Python error set */
/* A new reference to an array, to None where the pool refused, or NULL with a Python error set. */
PyObject *tci_array_make(PyObject *pool, PyObject *shape, PyObject *dtype, int zeroed);
PyObject *tci_array_like(PyObject *pool, const tci_array *model, PyObject *descr); /* the same, in C order; steals `descr` */
PyObject *tci_array_empty(PyObject *module, PyObject *const *arguments, Py_ssize_t count);
PyObject *tci_array_zeros(PyObject *module, PyObject *const *arguments, Py_ssize_t count);

/* ---- ordered.c: blocks of stream-ordered pools ----------------------------------------------------------------------------------- */

PyObject *tci_block_setup(void); /* the type, a borrowed reference; NULL with a Python error set */
PyObject *tci_allocate_on(PyObject *module, PyObject *const *arguments, Py_ssize_t count);
PyObject *tci_deallocate_on(PyObject *module, PyObject *const *arguments, Py_ssize_t count);
PyObject *tci_block_make(PyObject *module, PyObject *const *arguments, Py_ssize_t count);

/* ---- _core.c, generated: what Python implements of an upstream; called by upstream.c alone -------------------------------------------- */

void *tensorcore_upstream_allocate(void *context, size_t nbytes, size_t alignment); /* NULL: refused */
int tensorcore_upstream_deallocate(void *context, void *address);
void *tensorcore_event_record(void *context, uintptr_t stream); /* NULL: failed */
int tensorcore_event_query(void *context, void *event);         /* 1: passed, 0: not yet, -1: failed */
int tensorcore_event_destroy(void *context, void *event);
int tensorcore_stream_wait(void *context, uintptr_t stream, void *event); /* 0, or -1 */
int tensorcore_synchronize(void *context);                                /* 0, or -1 */

/* ---- dlpack.c: capsules of DLPack ------------------------------------------------------------------------------------------------ */

PyObject *tci_dlpack_export(PyObject *module, PyObject *arguments);
PyObject *tci_dlpack_import(PyObject *module, PyObject *capsule);

/* ---- holder.c: the base type of Tensor ------------------------------------------------------------------------------------------- */

PyObject *tci_holder_setup(void); /* the type, a new reference; NULL with a Python error set */
PyObject *tci_holder_wrap(PyObject *module, PyObject *const *arguments, Py_ssize_t count);
PyObject *tci_holder_set_default_pool(PyObject *module, PyObject *pool);
PyObject *tci_holder_default_pool(void); /* borrowed; NULL: there is no short way to it */
int tci_holder_check(PyObject *object);
/* Of an operand: 1 where it is of a subclass with an __array_ufunc__ of its own, 2 where that is None, so that it is none; else 0. */
int tci_holder_overrides(PyObject *object);
PyObject *tci_holder_array(PyObject *holder); /* borrowed, as is the pool; NULL where the garbage collector has cleared it */
PyObject *tci_holder_pool(PyObject *holder);
PyObject *tci_holder_of(PyTypeObject *type, PyObject *array, PyObject *pool); /* a new reference; steals `array` */

/* ---- numpy_hook.c: a pool under NumPy's array data ------------------------------------------------------------------------------- */

int tci_hook_setup(void); /* 0, or -1 with a Python error set */
void *tci_hook_malloc(void *context, size_t nbytes);
void *tci_hook_calloc(void *context, size_t count, size_t nbytes);
void tci_hook_free(void *context, void *ptr, size_t nbytes);
void *tci_hook_realloc(void *context, void *ptr, size_t nbytes);
PyObject *tci_hook_attach(PyObject *module, PyObject *repoint);
PyObject *tci_hook_set_pool(PyObject *module, PyObject *pool);
PyObject *tci_hook_pool(PyObject *module, PyObject *unused);
PyObject *tci_hook_handler_address(PyObject *module, PyObject *unused);
PyObject *tci_hook_context_handler(PyObject *module, PyObject *pool);
PyObject *tci_hook_set_context(PyObject *module, PyObject *capsule);

/* ---- fault.c: pools with a mode ----------------------------------------------------------------------------------------------------- */

PyObject *tci_fault_setup(PyObject *module, PyObject *const *arguments, Py_ssize_t count);
void tci_fault_watch(tc_pool *pool); /* of a pool that was just opened */
void tci_fault_report(void);
extern int tci_watching; /* 1: a pool with a mode was opened */
void tci_call_begin_slowly(int may_raise);
int tci_call_end_slowly(void);
static inline void tci_call_begin(int may_raise) { /* around each call of a pool; they do not nest */
  if (tci_watching) tci_call_begin_slowly(may_raise);
}
static inline int tci_call_end(void) { return tci_watching ? tci_call_end_slowly() : 0; } /* 0, or -1 with a Python error set */

/* ---- throw.c: C++ exceptions ------------------------------------------------------------------------------------------------------- */

void tci_throw_bad_alloc(void); /* returns only where the process has no C++ library */

/* ---- cupy_port.c, torch_port.c: device pools under CuPy and PyTorch --------------------------------------------------------------- */

PyObject *tci_cupy_port_setup(void); /* the type, a borrowed reference; NULL with a Python error set */
PyObject *tci_torch_connect(PyObject *module, PyObject *function);

/* ---- compute.c: NumPy's functions on tensors --------------------------------------------------------------------------------------- */

int tci_compute_setup(void); /* 0, or -1 with a Python error set */
PyObject *tci_compute_set(PyObject *module, PyObject *const *arguments, Py_ssize_t count);
PyObject *tci_compute_run(PyObject *module, PyObject *const *arguments, Py_ssize_t count);
PyObject *tci_compute_call(PyObject *module, PyObject *const *arguments, Py_ssize_t count, PyObject *names);

/* What a call has found among its arguments. */
typedef struct tci_operands {
  PyObject *kind; /* borrowed: the type of the first tensor of a pool, else of the first tensor; NULL: none so far */
  PyObject *pool; /* borrowed: the pool of the first that has one; NULL: none so far */
  PyObject *const *given; /* what the function was given: one of them is the result where it was its out= */
  Py_ssize_t given_count;
  int plain;      /* no argument so far needs Python */
  int foreign;    /* some tensor's memory is not of a pool */
} tci_operands;

/* A tuple of the values as NumPy takes them (NULL for `found`: as they are); NULL with a Python error set. */
PyObject *tci_compute_pack(PyObject *const *values, Py_ssize_t count, tci_operands *found);
/* The function's result as tensors; *done: whether it was called, else it is for Python to do. */
PyObject *tci_compute_plainly(PyObject *function, PyObject *args, PyObject *kwargs, const tci_operands *found, int *done);

enum { TCI_SIMD_MEAN = TC_SIMD_REDUCTIONS }; /* besides the reductions that simd.c knows */

/* ---- operate.c: the operators of tensors ------------------------------------------------------------------------------------------ */

void tci_operate_set(PyObject *operate, PyObject *place, PyObject *refuse);

/* How a result's type follows from the operands': theirs, where that is not bool, not integer, any, not complex; bool; a sum's. OTHER: its
 * layout does not follow at all. Above these bits stands 1 + the kernel of simd.c that does the same, 0 for none. */
enum tci_rule {
  TCI_RULE_OTHER = -1,
  TCI_RULE_NUMERIC = 0,
  TCI_RULE_INEXACT = 1,
  TCI_RULE_SAME = 2,
  TCI_RULE_BOOL = 3,
  TCI_RULE_REAL = 4,
  TCI_RULE_OF_SUM = 5,
  TCI_RULE_BITS = 8,
#define TCI_WITH_KERNEL(rule, kernel) ((rule) | ((int)(kernel) + 1) << TCI_RULE_BITS)
  TCI_RULE_ADD = TCI_WITH_KERNEL(TCI_RULE_NUMERIC, TC_SIMD_ADD),
  TCI_RULE_SUBTRACT = TCI_WITH_KERNEL(TCI_RULE_NUMERIC, TC_SIMD_SUBTRACT),
  TCI_RULE_MULTIPLY = TCI_WITH_KERNEL(TCI_RULE_NUMERIC, TC_SIMD_MULTIPLY),
  TCI_RULE_DIVIDE = TCI_WITH_KERNEL(TCI_RULE_INEXACT, TC_SIMD_DIVIDE),
  TCI_RULE_NEGATE = TCI_WITH_KERNEL(TCI_RULE_NUMERIC, TC_SIMD_NEGATE),
  TCI_RULE_SUM = TCI_WITH_KERNEL(TCI_RULE_OF_SUM, TC_SIMD_SUM),
  TCI_RULE_MIN = TCI_WITH_KERNEL(TCI_RULE_NUMERIC, TC_SIMD_MIN),
  TCI_RULE_MAX = TCI_WITH_KERNEL(TCI_RULE_NUMERIC, TC_SIMD_MAX),
  TCI_RULE_MEAN = TCI_WITH_KERNEL(TCI_RULE_INEXACT, TCI_SIMD_MEAN),
};

/* ufunc(left, right) as a tensor, or NotImplemented; where the rule does not know the result, general(left, right). */
PyObject *tci_operate(PyObject *ufunc, PyObject *general, long rule, PyObject *left, PyObject *right);
/* ufunc(*operands) into a tensor that is there, by the kernel: 1, 0 where it is for NumPy to do, -1 with a Python error set. */
int tci_operate_to(PyObject *ufunc, long rule, PyObject *const *operands, Py_ssize_t count, PyObject *out);
PyObject *tci_operate_one(PyObject *ufunc, long rule, PyObject *operand);           /* ufunc(operand) as a tensor */
/* `left` with ufunc(left, right) in it, by the kernel or by NumPy's own operator, or NotImplemented. */
PyObject *tci_operate_into(PyObject *ufunc, long rule, binaryfunc in_place, PyObject *left, PyObject *right);
PyObject *tci_operate_call(PyObject *module, PyObject *const *arguments, Py_ssize_t count);
PyObject *tci_operate_one_call(PyObject *module, PyObject *const *arguments, Py_ssize_t count);
PyObject *tci_operate_reduce(PyObject *module, PyObject *const *arguments, Py_ssize_t count);

/* ---- operators.c: the slots of a tensor's type -------------------------------------------------------------------------------------- */

int tci_operators_setup(void); /* 0, or -1 with a Python error set */
int tci_operators_add_rules(void); /* of the operators' ufuncs; 0, or -1 with a Python error set */
extern const PyType_Slot tci_operator_slots[];

/* ---- ufunc.c: __array_ufunc__ ------------------------------------------------------------------------------------------------------- */

int tci_ufunc_setup(void); /* after that of the operators; 0, or -1 with a Python error set */
int tci_ufunc_add_rule(PyObject *ufunc, Py_ssize_t operands, long rule);
PyObject *tci_ufunc_set(PyObject *module, PyObject *call);
PyObject *tci_ufunc_protocol(PyObject *self, PyObject *const *arguments, Py_ssize_t count, PyObject *names);

/* ---- simd_call.c: the quick way to simd.c ------------------------------------------------------------------------------------------ */

int tci_simd_setup(void); /* 0, or -1 with a Python error set */
PyObject *tci_simd_call(PyObject *module, PyObject *const *arguments, Py_ssize_t count);
PyObject *tci_simd_call_reduce(PyObject *module, PyObject *const *arguments, Py_ssize_t count);
/* ufunc(*operands) into `out` by the kernel of a tc_simd_operation: 1 where it was done, with NumPy's bits and warnings, 0 where it is left
 * to NumPy, -1 with a Python error set. */
int tci_simd_operate(PyObject *ufunc, int operation, PyObject *const *operands, Py_ssize_t count, tci_array *out);
int tci_simd_reduce_all(int reduction, PyObject *array, tci_array *out); /* of all elements, into one: 1, or 0 where it is left to NumPy */

/* ---- capi.c: the pools for other extension modules -------------------------------------------------------------------------------- */

PyObject *tci_capi_setup(void); /* the capsule of tensorcore_capi.h, a new reference; NULL with a Python error set */
PyObject *tci_capi_forget_global_pool(PyObject *module, PyObject *unused);

/* ---- native.c: the module, and argument checks ---------------------------------------------------------------------------------------- */

Py_ssize_t tci_size_argument(PyObject *object);                               /* bytes; -1 with a Python error set */
int tci_expect(const char *function, Py_ssize_t given, Py_ssize_t expected); /* 0, or -1 with a TypeError set */

#endif /* TENSORCORE_NATIVE_H */
