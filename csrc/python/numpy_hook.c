/* numpy_hook.c - the functions that NumPy calls for array data while a pool is installed, and how they get there.
 *
 * Process-wide: the functions inside NumPy's default handler are replaced where they stand, which every thread sees at once, for arrays
 * made before too; `free` and `realloc` tell our blocks from others by their address and pass the others on. They stay replaced for good,
 * since blocks of ours may be alive; malloc and calloc come and go with the installed pool. Cost: about 2 ns for an array that is not ours.
 * Context-local (NEP 49 as documented): a handler of our own, whose capsule keeps its pool's owner alive.
 */
#include "native.h"

#include <stdlib.h>
#include <string.h>

static tci_handler *target;      /* NumPy's default handler, or our copy of it; NULL until attached */
static tci_handler target_copy;  /* what the default capsule points to where re-pointing was chosen */
static tci_allocator original;   /* NumPy's own functions, read before ours can be called */
static tc_pool *installed_pool;  /* atomic; NULL: pass on */

static tc_pool *pool_now(void) { return __atomic_load_n(&installed_pool, __ATOMIC_ACQUIRE); }

static void *pool_take(tc_pool *pool, size_t nbytes, int zeroed) {
  tci_call_begin(0);
  void *block = zeroed ? tc_pool_alloc_zeroed(pool, nbytes) : tc_pool_alloc(pool, nbytes);
  tci_call_end();
  return block;
}

/* ---- what NumPy calls ------------------------------------------------------------------------------------------------------------- */

void *tci_hook_malloc(void *context, size_t nbytes) {
  tc_pool *pool = pool_now();
  return pool != NULL ? pool_take(pool, nbytes, 0) : original.malloc(context, nbytes);
}

void *tci_hook_calloc(void *context, size_t count, size_t nbytes) {
  tc_pool *pool = pool_now();
  size_t total;
  if (pool == NULL) return original.calloc(context, count, nbytes);
  return __builtin_mul_overflow(count, nbytes, &total) ? NULL : pool_take(pool, total, 1);
}

/* A block whose own pool can't grow it (closed, or at its limit) moves to the installed pool, or out of the pools where none is. */
static void *block_move(void *context, tc_pool *owner, void *ptr, size_t nbytes) {
  tc_pool *pool = pool_now();
  tc_block block;
  if (pool == owner) return NULL;
  void *moved = pool != NULL ? tc_pool_alloc(pool, nbytes) : original.malloc(context, nbytes);
  if (moved == NULL) return NULL;
  tc_block_find(ptr, &block);
  memcpy(moved, ptr, block.requested < nbytes ? block.requested : nbytes);
  tc_free(ptr);
  return moved;
}

void *tci_hook_realloc(void *context, void *ptr, size_t nbytes) {
  if (ptr == NULL) return tci_hook_malloc(context, nbytes);
  tc_pool *owner = tc_pool_of(ptr);
  if (owner == NULL) return original.realloc(context, ptr, nbytes);
  tci_call_begin(0);
  void *grown = tc_pool_realloc(owner, ptr, nbytes);
  tci_call_end();
  return grown != NULL ? grown : block_move(context, owner, ptr, nbytes);
}

/* A refused free of our own memory (a double free inside NumPy) is counted by the pool and must not reach the C library. */
void tci_hook_free(void *context, void *ptr, size_t nbytes) {
  tci_call_begin(0);
  tc_status status = tc_free(ptr);
  tci_call_end();
  if (status == TC_INVALID_FREE && tc_pool_of(ptr) == NULL)
    original.free(context, ptr, nbytes);
  else if (status != TC_OK && tci_watching)
    tci_fault_report();
}

/* ---- process-wide ------------------------------------------------------------------------------------------------------------------ */

int tci_hook_setup(void) {
  tci_handler *handler = PyCapsule_GetPointer(tci_numpy_default_handler(), TCI_HANDLER_CAPSULE);
  if (handler == NULL) return -1;
  original = handler->allocator;
  return 0;
}

#define STORE(field, function) __atomic_store_n(&target->allocator.field, (function), __ATOMIC_RELEASE)

PyObject *tci_hook_handler_address(PyObject *module, PyObject *unused) {
  (void)module, (void)unused;
  return PyLong_FromVoidPtr(PyCapsule_GetPointer(tci_numpy_default_handler(), TCI_HANDLER_CAPSULE));
}

/* attach(repoint): take over free and realloc. False: write into NumPy's handler; True: point its capsule to a copy and write there.
 * A second call may only change from the first way to the second. */
PyObject *tci_hook_attach(PyObject *module, PyObject *repoint) {
  (void)module;
  PyObject *capsule = tci_numpy_default_handler();
  tci_handler *handler = PyCapsule_GetPointer(capsule, TCI_HANDLER_CAPSULE);
  int copy = PyObject_IsTrue(repoint);
  if (handler == NULL || copy < 0) return NULL;
  if (handler->version != 1)
    return PyErr_Format(PyExc_RuntimeError, "NumPy's memory handler has version %d; this hook knows version 1", handler->version);
  if (copy && target != &target_copy) {
    target_copy = *handler;
    if (PyCapsule_SetPointer(capsule, &target_copy) != 0) return NULL;
    handler = &target_copy;
  }
  target = handler;
  STORE(free, tci_hook_free); /* first: from here on a block of ours is recognised wherever it is freed */
  STORE(realloc, tci_hook_realloc);
  return Py_NewRef(Py_None);
}

/* set_pool(pool or None): where new arrays come from, None: NumPy's own functions again. Attach first. */
PyObject *tci_hook_set_pool(PyObject *module, PyObject *object) {
  (void)module;
  tc_pool *pool = NULL;
  if (object != Py_None && tci_pool_argument(object, &pool) < 0) return NULL;
  if (target == NULL) {
    PyErr_SetString(PyExc_RuntimeError, "set_pool before attach");
    return NULL;
  }
  __atomic_store_n(&installed_pool, pool, __ATOMIC_RELEASE);
  STORE(malloc, pool != NULL ? tci_hook_malloc : original.malloc);
  STORE(calloc, pool != NULL ? tci_hook_calloc : original.calloc);
  return Py_NewRef(Py_None);
}

PyObject *tci_hook_pool(PyObject *module, PyObject *unused) {
  (void)module, (void)unused;
  return PyLong_FromVoidPtr(pool_now());
}

/* ---- context-local ----------------------------------------------------------------------------------------------------------------- */

/* The context is the MemoryPool object: once closed it has no address, and NumPy raises MemoryError. */
static void *context_malloc(void *context, size_t nbytes) {
  tc_pool *pool = tci_pool_now(context);
  return pool == NULL ? NULL : pool_take(pool, nbytes, 0);
}

static void *context_calloc(void *context, size_t count, size_t nbytes) {
  tc_pool *pool = tci_pool_now(context);
  size_t total;
  return pool == NULL || __builtin_mul_overflow(count, nbytes, &total) ? NULL : pool_take(pool, total, 1);
}

static void context_handler_free(PyObject *capsule) {
  PyObject *owner = PyCapsule_GetContext(capsule);
  free(PyCapsule_GetPointer(capsule, TCI_HANDLER_CAPSULE));
  Py_XDECREF(owner);
}

/* context_handler(pool): a capsule for set_context. It lives as long as an array made through it, and keeps the MemoryPool alive. */
PyObject *tci_hook_context_handler(PyObject *module, PyObject *object) {
  (void)module;
  tc_pool *pool;
  if (tci_pool_argument(object, &pool) < 0) return NULL;
  tci_handler *handler = calloc(1, sizeof *handler);
  if (handler == NULL) return PyErr_NoMemory();
  strcpy(handler->name, "tensorcore");
  handler->version = 1;
  handler->allocator = (tci_allocator){object, context_malloc, context_calloc, tci_hook_realloc, tci_hook_free};
  PyObject *capsule = PyCapsule_New(handler, TCI_HANDLER_CAPSULE, context_handler_free);
  if (capsule == NULL)
    free(handler);
  else
    PyCapsule_SetContext(capsule, Py_NewRef(object));
  return capsule;
}

/* set_context(capsule or None): the handler of the current context; the old one. None: NumPy's default. */
PyObject *tci_hook_set_context(PyObject *module, PyObject *capsule) {
  (void)module;
  return tci_numpy_set_handler(capsule == Py_None ? NULL : capsule);
}
