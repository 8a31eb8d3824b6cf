/* simd_internal.h - the map of the SIMD files: one table of kernels per instruction set, the choice among them, and the threads.
 *
 * They are a layer of their own: nothing here knows the pool, and the pool knows nothing of it.
 */
#ifndef TCI_SIMD_INTERNAL_H
#define TCI_SIMD_INTERNAL_H

#include <stdbool.h>

#include "include/tensorcore/simd.h"

#define TCI_SIMD_LINE ((size_t)64)    /* bytes: what is stored past the cache starts on a multiple of it */
#define TCI_SIMD_TILE ((size_t)4096)  /* bytes: an expression's temporaries and operands of that size fit the nearest cache */

/* What a reduction knows of a part of its array. */
typedef struct tci_simd_partial {
  double value, error; /* of floating-point sums: the sum is value + error; of the least and greatest: value */
  int64_t integer;     /* of integers */
} tci_simd_partial;

/* Dense arrays of `count` elements; `out` may be an input. Bit k of `single`: inputs[k] is one element. */
typedef void (*tci_simd_map)(size_t count, void *out, const void *const *inputs, uint32_t single);
typedef void (*tci_simd_reduce)(size_t count, const void *x, const void *y, tci_simd_partial *partial); /* count >= 1 */

typedef struct tci_simd_kernels {
  const char *name;
  tci_simd_map maps[TC_SIMD_OPERATIONS][TC_SIMD_TYPES];    /* NULL: there is none */
  tci_simd_map streams[TC_SIMD_OPERATIONS][TC_SIMD_TYPES]; /* the same past the cache: `out` starts a line, `count` is whole lines */
  tci_simd_reduce reductions[TC_SIMD_REDUCTIONS][TC_SIMD_TYPES];
  void (*fence)(void); /* what this thread streamed is seen before what it stores next */
} tci_simd_kernels;

/* ---- simd_kernels.c, compiled once per instruction set -------------------------------------------------------------------------- */

extern const tci_simd_kernels tci_simd_baseline; /* what every CPU of this architecture has */
extern const tci_simd_kernels tci_simd_avx2, tci_simd_avx512;

/* ---- simd_dispatch.c ------------------------------------------------------------------------------------------------------------- */

const tci_simd_kernels *tci_simd_chosen(void);

/* ---- simd_exceptions.c ----------------------------------------------------------------------------------------------------------- */

void tci_simd_raise_exceptions(int exceptions); /* of fenv.h, in this thread */

/* ---- simd_threads.c -------------------------------------------------------------------------------------------------------------- */

/* body(context, begin, end) for all of [0, count) in shares of `step`, on this thread and up to `threads` - 1 more; shares are handed out
 * as they are finished. On this thread alone where another caller has the others. */
void tci_simd_share(size_t count, size_t step, unsigned threads, void (*body)(void *context, size_t begin, size_t end), void *context);

#endif /* TCI_SIMD_INTERNAL_H */
