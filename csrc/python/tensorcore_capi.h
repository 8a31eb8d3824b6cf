/* tensorcore_capi.h - the pools of an installed tensorcore for extension modules in C, C++ and Cython, with no link step.
 *
 * Include Python.h, then this. Call tensorcore_import() once per module, in its init function; in C and in C++ before 17 once in each file
 * that uses the pools. From then on every tc_ function of the list below is called through a table of pointers that the package hands
 * out as the capsule tensorcore._C_API: same names, same meaning as in tensorcore.h, one load more per call. None but
 * tensorcore_pool_of_object needs the GIL. Limit: called before tensorcore_import() they crash.
 */
#ifndef TENSORCORE_CAPI_H
#define TENSORCORE_CAPI_H

#include <Python.h>

#include "tensorcore.h"

#define TENSORCORE_CAPI_NAME "tensorcore._C_API"
#define TENSORCORE_CAPI_VERSION 1 /* rises when anything but the end of the table changes */

/* The functions of the table, without their tc_ prefix. New ones come last. */
#define TENSORCORE_CAPI_FUNCTIONS(FUNCTION) \
  FUNCTION(version)                         \
  FUNCTION(status_string)                   \
  FUNCTION(upstream_os)                     \
  FUNCTION(pool_options_init)               \
  FUNCTION(pool_create)                     \
  FUNCTION(pool_destroy)                    \
  FUNCTION(pool_alloc)                      \
  FUNCTION(pool_alloc_zeroed)               \
  FUNCTION(pool_alloc_aligned)              \
  FUNCTION(pool_realloc)                    \
  FUNCTION(pool_free)                       \
  FUNCTION(pool_free_sized)                 \
  FUNCTION(free)                            \
  FUNCTION(pool_reserve)                    \
  FUNCTION(pool_trim)                       \
  FUNCTION(pool_check)                      \
  FUNCTION(pool_limit)                      \
  FUNCTION(pool_set_limit)                  \
  FUNCTION(pool_decay)                      \
  FUNCTION(pool_set_decay)                  \
  FUNCTION(pool_name)                       \
  FUNCTION(pool_upstream)                   \
  FUNCTION(pool_on_out_of_memory)           \
  FUNCTION(pool_warn_at)                    \
  FUNCTION(pool_of)                         \
  FUNCTION(block_find)                      \
  FUNCTION(pool_stats)                      \
  FUNCTION(pool_class_stats)                \
  FUNCTION(pool_reset_peak)                 \
  FUNCTION(pool_thread_stats)               \
  FUNCTION(pool_thread_set_peak)            \
  FUNCTION(pool_device)                     \
  FUNCTION(pool_status)                     \
  FUNCTION(pool_stream_ordered)             \
  FUNCTION(pool_alloc_on)                   \
  FUNCTION(pool_alloc_aligned_on)           \
  FUNCTION(pool_free_on)                    \
  FUNCTION(pool_free_sized_on)              \
  FUNCTION(pool_record_stream)              \
  FUNCTION(pool_drain)                      \
  FUNCTION(pool_trim_stream)                \
  FUNCTION(pool_forget_stream)              \
  FUNCTION(pool_mode)                       \
  FUNCTION(pool_on_fault)                   \
  FUNCTION(last_fault)                      \
  FUNCTION(fault_describe)                  \
  FUNCTION(site_intern)                     \
  FUNCTION(site_set)                        \
  FUNCTION(site_describe)

typedef struct tensorcore_capi {
  uint32_t table_version; /* TENSORCORE_CAPI_VERSION of the installed package */
  uint32_t table_size;    /* bytes of this table there: at least what the extension was compiled with */
  uint64_t layout;        /* TENSORCORE_CAPI_LAYOUT there: another one, and the two would write past each other's structs */
  tc_pool *(*global_pool)(void);
  tc_pool *(*pool_of_object)(PyObject *object);
#define TENSORCORE_CAPI_FIELD(name) __typeof__(tc_##name) *name;
  TENSORCORE_CAPI_FUNCTIONS(TENSORCORE_CAPI_FIELD)
#undef TENSORCORE_CAPI_FIELD
} tensorcore_capi;

/* A number that differs where a struct that both sides touch has another size. */
#define TENSORCORE_CAPI_LAYOUT                                                                                                              \
  ((((((uint64_t)sizeof(tc_stats) * 1021 + sizeof(tc_class_stats)) * 1021 + sizeof(tc_pool_options)) * 1021 + sizeof(tc_upstream)) * 1021 + \
    sizeof(tc_thread_stats)) *                                                                                                              \
       1021 +                                                                                                                               \
   sizeof(tc_block))

#ifndef TENSORCORE_CAPI_PROVIDER /* defined by the package itself, which fills the table */

#if defined(__cplusplus) && __cplusplus >= 201703L
inline const tensorcore_capi *tensorcore_api = nullptr;
#else
static const tensorcore_capi *tensorcore_api = NULL;
#endif

/* 0, or -1 with an ImportError set: tensorcore is missing, or is one that this extension was not compiled for. Needs the GIL. */
static inline int tensorcore_import(void) {
  const tensorcore_capi *table = (const tensorcore_capi *)PyCapsule_Import(TENSORCORE_CAPI_NAME, 0);
  if (table == NULL) return -1;
  if (table->table_version == TENSORCORE_CAPI_VERSION && table->table_size >= sizeof *table && table->layout == TENSORCORE_CAPI_LAYOUT) {
    tensorcore_api = table;
    return 0;
  }
  PyErr_Format(PyExc_ImportError,
               "this extension was compiled for tensorcore " TC_VERSION
               " (interface %d, %d bytes), the installed one has interface %d, %d bytes%s: compile the extension again",
               TENSORCORE_CAPI_VERSION, (int)sizeof *table, (int)table->table_version, (int)table->table_size,
               table->layout == TENSORCORE_CAPI_LAYOUT ? "" : " and structs of other sizes");
  return -1;
}

/* The pool that tensorcore.get_global_memory_pool() returns; made by the first call. It is kept open until Python closes it. A call that
 * finds it made or replaced since the last one takes the GIL, so hold no lock that a thread with the GIL may want. NULL: it could not be
 * made; sys.unraisablehook is told why. */
#define tensorcore_global_pool() (tensorcore_api->global_pool())

/* The pool behind a tensorcore.MemoryPool; valid as long as that object is alive and open. NULL with a TypeError or ValueError set. */
#define tensorcore_pool_of_object(object) (tensorcore_api->pool_of_object(object))

#define tc_version (tensorcore_api->version)
#define tc_status_string (tensorcore_api->status_string)
#define tc_upstream_os (tensorcore_api->upstream_os)
#define tc_pool_options_init (tensorcore_api->pool_options_init)
#define tc_pool_create (tensorcore_api->pool_create)
#define tc_pool_destroy (tensorcore_api->pool_destroy)
#define tc_pool_alloc (tensorcore_api->pool_alloc)
#define tc_pool_alloc_zeroed (tensorcore_api->pool_alloc_zeroed)
#define tc_pool_alloc_aligned (tensorcore_api->pool_alloc_aligned)
#define tc_pool_realloc (tensorcore_api->pool_realloc)
#define tc_pool_free (tensorcore_api->pool_free)
#define tc_pool_free_sized (tensorcore_api->pool_free_sized)
#define tc_free (tensorcore_api->free)
#define tc_pool_reserve (tensorcore_api->pool_reserve)
#define tc_pool_trim (tensorcore_api->pool_trim)
#define tc_pool_check (tensorcore_api->pool_check)
#define tc_pool_limit (tensorcore_api->pool_limit)
#define tc_pool_set_limit (tensorcore_api->pool_set_limit)
#define tc_pool_decay (tensorcore_api->pool_decay)
#define tc_pool_set_decay (tensorcore_api->pool_set_decay)
#define tc_pool_name (tensorcore_api->pool_name)
#define tc_pool_upstream (tensorcore_api->pool_upstream)
#define tc_pool_on_out_of_memory (tensorcore_api->pool_on_out_of_memory)
#define tc_pool_warn_at (tensorcore_api->pool_warn_at)
#define tc_pool_of (tensorcore_api->pool_of)
#define tc_block_find (tensorcore_api->block_find)
#define tc_pool_stats (tensorcore_api->pool_stats)
#define tc_pool_class_stats (tensorcore_api->pool_class_stats)
#define tc_pool_reset_peak (tensorcore_api->pool_reset_peak)
#define tc_pool_thread_stats (tensorcore_api->pool_thread_stats)
#define tc_pool_thread_set_peak (tensorcore_api->pool_thread_set_peak)
#define tc_pool_device (tensorcore_api->pool_device)
#define tc_pool_status (tensorcore_api->pool_status)
#define tc_pool_stream_ordered (tensorcore_api->pool_stream_ordered)
#define tc_pool_alloc_on (tensorcore_api->pool_alloc_on)
#define tc_pool_alloc_aligned_on (tensorcore_api->pool_alloc_aligned_on)
#define tc_pool_free_on (tensorcore_api->pool_free_on)
#define tc_pool_free_sized_on (tensorcore_api->pool_free_sized_on)
#define tc_pool_record_stream (tensorcore_api->pool_record_stream)
#define tc_pool_drain (tensorcore_api->pool_drain)
#define tc_pool_trim_stream (tensorcore_api->pool_trim_stream)
#define tc_pool_forget_stream (tensorcore_api->pool_forget_stream)
#define tc_pool_mode (tensorcore_api->pool_mode)
#define tc_pool_on_fault (tensorcore_api->pool_on_fault)
#define tc_last_fault (tensorcore_api->last_fault)
#define tc_fault_describe (tensorcore_api->fault_describe)
#define tc_site_intern (tensorcore_api->site_intern)
#define tc_site_set (tensorcore_api->site_set)
#define tc_site_describe (tensorcore_api->site_describe)

#endif /* TENSORCORE_CAPI_PROVIDER */
#endif /* TENSORCORE_CAPI_H */
