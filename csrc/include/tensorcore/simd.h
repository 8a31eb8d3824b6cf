/* simd.h - arithmetic on host arrays at the memory's speed: element by element, several operations in one pass, and reductions.
 *
 * It uses no pool and allocates nothing. The instruction set is chosen at run time; results are the same on all of them. Large arrays are
 * worked on by several threads, and results larger than the cache are stored past it. Arrays are dense and aligned to their elements;
 * an output is one of its inputs or overlaps none. Integers wrap. All threads round as the caller's does, and the floating-point exceptions
 * of maps and programs are raised in the caller's (fenv.h); those of reductions say nothing.
 */
#ifndef TENSORCORE_SIMD_H
#define TENSORCORE_SIMD_H

#ifdef TC_CDEF /* cffi has read tensorcore.h by itself */
#define TC_API
#else
#include "../tensorcore.h"
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum tc_simd_type { TC_SIMD_F32 = 0, TC_SIMD_F64 = 1, TC_SIMD_I32 = 2, TC_SIMD_I64 = 3 } tc_simd_type;
#define TC_SIMD_TYPES 4

typedef enum tc_simd_operation {
  TC_SIMD_ADD = 0,
  TC_SIMD_SUBTRACT = 1,
  TC_SIMD_MULTIPLY = 2,
  TC_SIMD_DIVIDE = 3, /* floating point only */
  TC_SIMD_FMA = 4,    /* three inputs: a * b + c, rounded once */
  TC_SIMD_COPY = 5,   /* one input */
  TC_SIMD_NEGATE = 6, /* one input */
  TC_SIMD_MULTIPLY_ADD = 7,     /* three inputs: a * b + c, rounded twice as the two operations are */
  TC_SIMD_MULTIPLY_SUBTRACT = 8 /* a * b - c, the same */
} tc_simd_operation;
#define TC_SIMD_OPERATIONS 9

/* out[i] = operation(inputs[0][i], ...) for `count` elements. Bit k of `single`: inputs[k] is one element, used for every i.
 * TC_INVALID_ARGUMENT: there is no such operation or type, or not the one on the other; nothing was written. */
TC_API tc_status tc_simd_map(tc_simd_operation operation, tc_simd_type type, size_t count, void *out, const void *const *inputs,
                             uint32_t single);

/* One operation of a program. Registers: 0 ... inputs - 1 are the inputs, the next TC_SIMD_TEMPORARIES hold intermediate results. */
typedef struct tc_simd_step {
  uint8_t operation;   /* a tc_simd_operation */
  uint8_t target;      /* the temporary that is written; ignored in the last step, which writes the output */
  uint8_t operands[3]; /* registers; those that the operation does not take are ignored */
} tc_simd_step;
#define TC_SIMD_TEMPORARIES 8
#define TC_SIMD_INPUTS 32
#define TC_SIMD_STEPS 255

/* Runs the steps on a few KiB of the arrays at a time, so that intermediate results never leave the nearest cache.
 * TC_INVALID_ARGUMENT as above, and where a step names a register that is not there or not written yet. */
TC_API tc_status tc_simd_evaluate(const tc_simd_step *steps, size_t step_count, tc_simd_type type, size_t count, void *out,
                                  const void *const *inputs, size_t input_count, uint32_t single);

typedef enum tc_simd_reduction { TC_SIMD_SUM = 0, TC_SIMD_DOT = 1, TC_SIMD_MIN = 2, TC_SIMD_MAX = 3 } tc_simd_reduction;
#define TC_SIMD_REDUCTIONS 4

/* *result, of `type`: the sum of x, the sum of x * y, the least or the greatest of x (NaN where there is one). The sum of integers is an
 * int64_t in both types. Sums of doubles are compensated: their error is about that of rounding the exact sum once. Sums of floats are
 * computed in double, an error of 1e-15 of the sum of magnitudes, and rounded once. They
 * do not depend on the number of threads. TC_INVALID_ARGUMENT: no such reduction or type, or the least or greatest of nothing. */
TC_API tc_status tc_simd_reduce(tc_simd_reduction reduction, tc_simd_type type, size_t count, const void *x, const void *y, void *result);

/* How many threads work on a large array, the caller among them: 1 ... TC_SIMD_MAX_THREADS. The setter gives the old number, 0 where the
 * new one is out of range. At first: the CPUs that the process may run on. */
#define TC_SIMD_MAX_THREADS 64
TC_API unsigned tc_simd_threads(void);
TC_API unsigned tc_simd_set_threads(unsigned threads);

/* The floating-point exceptions that stand raised in this thread, of FE_DIVBYZERO, FE_OVERFLOW, FE_UNDERFLOW and FE_INVALID (fenv.h), and
 * clears them. An eighth of the time of fenv.h's functions, which would cost a small array more than its arithmetic. */
TC_API int tc_simd_take_exceptions(void);

/* From how many bytes of output on stores go past the cache. The setter gives the old number. At first: half of the last-level cache. */
TC_API size_t tc_simd_stream_from(void);
TC_API size_t tc_simd_set_stream_from(size_t nbytes);

/* The instruction sets that this CPU has, the widest first: names like "avx2"; NULL behind the last. */
TC_API const char *tc_simd_available(size_t index);
TC_API const char *tc_simd_selected(void);
TC_API tc_status tc_simd_select(const char *name); /* TC_INVALID_ARGUMENT: not available */

#ifdef __cplusplus
}
#endif

#endif /* TENSORCORE_SIMD_H */
