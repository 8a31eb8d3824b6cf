/* simd_kernels.c - the loops, in plain C, compiled once per instruction set (CMakeLists.txt): TCI_SIMD_TABLE names this one's table.
 *
 * The compiler makes vectors of the loops. Every instruction set gives the same bits: element i of a sum goes to partial sum i % 16
 * whatever the width of a register. Needs -ffp-contract=off: a * b + c would else be rounded once where there is an instruction for it.
 */
#include <math.h>
#include <string.h>

#include "simd_stream.h"

#ifndef TCI_SIMD_TABLE
#define TCI_SIMD_TABLE tci_simd_baseline
#if defined(__x86_64__)
#define TCI_SIMD_NAME "sse2"
#elif defined(__aarch64__)
#define TCI_SIMD_NAME "neon"
#else
#define TCI_SIMD_NAME "baseline"
#endif
#endif

#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#elif defined(__AVX__)
#define VECTOR_BYTES 32
#else
#define VECTOR_BYTES 16
#endif

/* An element of the output depends on the inputs' elements of the same index alone. */
#if defined(__clang__)
#define INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define INDEPENDENT _Pragma("GCC ivdep")
#endif
/* Where the results go: to the array, or past the cache, a line at a time; then `out` starts a line and `count` is whole lines. */
#define PLAIN(T, EXPRESSION) INDEPENDENT for (size_t i = 0; i < count; i++) o[i] = EXPRESSION
#define STREAM(T, EXPRESSION)                                                         \
  for (size_t i = 0; i < count;) {                                                    \
    _Alignas(TCI_SIMD_LINE) T line[TCI_SIMD_LINE / sizeof(T)];                        \
    for (size_t k = 0; k < TCI_SIMD_LINE / sizeof(T); k++, i++) line[k] = EXPRESSION; \
    stream_line((char *)(o + i) - TCI_SIMD_LINE, (const char *)line);                 \
  }

/* ---- element by element ---------------------------------------------------------------------------------------------------------- */

#define BINARY(NAME, T, OPERATOR, STORE)                                                  \
  static void NAME(size_t count, void *out, const void *const *inputs, uint32_t single) { \
    T *o = out;                                                                           \
    const T *a = inputs[0], *b = inputs[1];                                               \
    if (single == 0) {                                                                    \
      STORE(T, a[i] OPERATOR b[i]);                                                       \
    } else if (single == 1) {                                                             \
      const T x = *a;                                                                     \
      STORE(T, x OPERATOR b[i]);                                                          \
    } else if (single == 2) {                                                             \
      const T y = *b;                                                                     \
      STORE(T, a[i] OPERATOR y);                                                          \
    } else {                                                                              \
      const T z = *a OPERATOR * b;                                                        \
      STORE(T, z);                                                                        \
    }                                                                                     \
  }

#define UNARY(NAME, T, SIGN, STORE)                                                       \
  static void NAME(size_t count, void *out, const void *const *inputs, uint32_t single) { \
    T *o = out;                                                                           \
    const T *a = inputs[0];                                                               \
    if (single) {                                                                         \
      const T x = (T)(SIGN * a);                                                          \
      STORE(T, x);                                                                        \
    } else {                                                                              \
      STORE(T, (T)(SIGN a[i]));                                                           \
    }                                                                                     \
  }

/* Either factor, the third operand or both may be single elements; three of them, or both factors, are slow and right. */
#define TERNARY(NAME, T, FMA, STORE)                                                          \
  static void NAME(size_t count, void *out, const void *const *inputs, uint32_t single) {     \
    const int swapped = (single & 3) == 2; /* the factors, so that the single one is first */ \
    T *o = out;                                                                               \
    const T *a = inputs[swapped], *b = inputs[!swapped], *c = inputs[2];                      \
    single = swapped ? single ^ 3 : single;                                                   \
    if (single == 0) {                                                                        \
      STORE(T, FMA(a[i], b[i], c[i]));                                                        \
    } else if (single == 1) {                                                                 \
      const T x = *a;                                                                         \
      STORE(T, FMA(x, b[i], c[i]));                                                           \
    } else if (single == 4) {                                                                 \
      const T z = *c;                                                                         \
      STORE(T, FMA(a[i], b[i], z));                                                           \
    } else if (single == 5) {                                                                 \
      const T x = *a, z = *c;                                                                 \
      STORE(T, FMA(x, b[i], z));                                                              \
    } else {                                                                                  \
      const size_t r = !(single & 4);                                                         \
      STORE(T, FMA(a[0], b[0], c[r ? i : 0]));                                                \
    }                                                                                         \
  }

/* The C library's own copy is the faster one where the cache takes the result; one element to all is a loop. */
#define COPY(NAME, T)                                                                     \
  static void NAME(size_t count, void *out, const void *const *inputs, uint32_t single) { \
    if (single)                                                                           \
      fill_##NAME(count, out, inputs, single);                                            \
    else                                                                                  \
      memmove(out, inputs[0], count * sizeof(T));                                         \
  }

#define MULTIPLY_ADD(x, y, z) ((x) * (y) + (z))
#define MULTIPLY_SUBTRACT(x, y, z) ((x) * (y) - (z))

#define BOTH(MAKE, NAME, T, HOW)      \
  MAKE(NAME, T, HOW, PLAIN)           \
  MAKE(stream_##NAME, T, HOW, STREAM)

#define MAPS(T, SUFFIX, FMA)                                      \
  BOTH(BINARY, add_##SUFFIX, T, +)                                \
  BOTH(BINARY, subtract_##SUFFIX, T, -)                           \
  BOTH(BINARY, multiply_##SUFFIX, T, *)                           \
  BOTH(TERNARY, fma_##SUFFIX, T, FMA)                             \
  BOTH(TERNARY, multiply_add_##SUFFIX, T, MULTIPLY_ADD)           \
  BOTH(TERNARY, multiply_subtract_##SUFFIX, T, MULTIPLY_SUBTRACT) \
  UNARY(fill_copy_##SUFFIX, T, , PLAIN)                           \
  COPY(copy_##SUFFIX, T)                                          \
  UNARY(stream_copy_##SUFFIX, T, , STREAM)                        \
  BOTH(UNARY, negate_##SUFFIX, T, -)

MAPS(float, f32, __builtin_fmaf)
MAPS(double, f64, __builtin_fma)
MAPS(uint32_t, i32, MULTIPLY_ADD) /* unsigned: overflow wraps, as two's complement does */
MAPS(uint64_t, i64, MULTIPLY_ADD)
BOTH(BINARY, divide_f32, float, /)
BOTH(BINARY, divide_f64, double, /)

/* ---- sums ------------------------------------------------------------------------------------------------------------------------ */

#define LANES 16  /* partial sums */
#define BLOCK 256 /* elements that are made ready at a time */
typedef double vector __attribute__((vector_size(VECTOR_BYTES)));
#define WIDTH (VECTOR_BYTES / sizeof(double))
#define VECTORS (LANES / WIDTH)

typedef struct lanes {
  vector value[VECTORS], error[VECTORS];
} lanes;

static inline vector load(const double *x) {
  vector v;
  memcpy(&v, x, sizeof v);
  return v;
}

/* The sum and what its rounding lost, exactly (Knuth, The Art of Computer Programming 2, section 4.2.2, theorem B). */
#define TWO_SUM(SUM, ERROR, TYPE, A, B)                          \
  const TYPE two_a = (A), two_b = (B), two_sum = two_a + two_b;  \
  const TYPE two_back = two_sum - two_a;                         \
  (SUM) = two_sum;                                               \
  (ERROR) += (two_a - (two_sum - two_back)) + (two_b - two_back)

static inline void lanes_clear(lanes *l) {
  for (size_t k = 0; k < VECTORS; k++) { l->value[k] = l->error[k] = -(vector){0}; /* -0.0 is what changes no number, -0.0 included */ }
}

static inline void lanes_add(lanes *l, const vector *x) {
  for (size_t k = 0; k < VECTORS; k++) { TWO_SUM(l->value[k], l->error[k], vector, l->value[k], x[k]); }
}

static inline void lanes_load(vector *x, const double *from) {
  for (size_t k = 0; k < VECTORS; k++) x[k] = load(from + k * WIDTH);
}

/* False: what was lost is not known, of a sum that is infinite, or not a number, or because it could not be computed. */
static bool lanes_finish(const lanes *l, tci_simd_partial *partial) {
  double value[LANES], error[LANES];
  memcpy(value, l->value, sizeof value);
  memcpy(error, l->error, sizeof error);
  partial->value = -0.0;
  partial->error = 0.0;
  for (size_t k = 0; k < LANES; k++) {
    TWO_SUM(partial->value, partial->error, double, partial->value, value[k]);
    partial->error += error[k];
  }
  bool known = isfinite(partial->error);
  if (!known) partial->error = 0.0;
  return known;
}

static void sum_f64(size_t count, const void *x, const void *unused, tci_simd_partial *partial) {
  (void)unused;
  const double *a = x;
  double tail[LANES];
  vector v[VECTORS];
  lanes l;
  size_t i = 0;
  lanes_clear(&l);
  for (; i + LANES <= count; i += LANES) {
    lanes_load(v, a + i);
    lanes_add(&l, v);
  }
  for (size_t k = 0; k < LANES; k++) tail[k] = i + k < count ? a[i + k] : -0.0;
  lanes_load(v, tail);
  lanes_add(&l, v);
  lanes_finish(&l, partial);
}

/* `ready` holds BLOCK numbers of float's precision, or exact products of two: sixteen of them add up in a double with no error that a
 * float could show, so that one compensated addition per sixteen is enough. */
static inline void lanes_add_block(lanes *l, const double *ready) {
  vector sum[VECTORS];
  lanes_load(sum, ready);
  for (size_t i = LANES; i < BLOCK; i += LANES)
    for (size_t k = 0; k < VECTORS; k++) sum[k] += load(ready + i + k * WIDTH);
  lanes_add(l, sum);
}

#define WIDE_SUM(NAME, PARAMETER, ELEMENT)                                                  \
  static void NAME(size_t count, const void *x, const void *y, tci_simd_partial *partial) { \
    const float *a = x, *b = y;                                                             \
    double ready[BLOCK];                                                                    \
    lanes l;                                                                                \
    (void)b;                                                                                \
    lanes_clear(&l);                                                                        \
    for (size_t begin = 0; begin < count; begin += BLOCK) {                                 \
      const size_t n = count - begin < BLOCK ? count - begin : BLOCK;                       \
      if (n == BLOCK) {                                                                     \
        for (size_t i = 0; i < BLOCK; i++) ready[i] = ELEMENT(begin + i);                   \
      } else {                                                                              \
        for (size_t i = 0; i < n; i++) ready[i] = ELEMENT(begin + i);                       \
        for (size_t i = n; i < BLOCK; i++) ready[i] = -0.0;                                 \
      }                                                                                     \
      lanes_add_block(&l, ready);                                                           \
    }                                                                                       \
    lanes_finish(&l, partial);                                                              \
  }
#define WIDENED(i) ((double)a[i])
#define WIDE_PRODUCT(i) ((double)a[i] * (double)b[i])
WIDE_SUM(sum_f32, x, WIDENED)
WIDE_SUM(dot_f32, x, WIDE_PRODUCT)

/* What rounding products p = x * y lost: exactly, as long as nothing underflows. */
static inline void errors_by_fma(double *lost, const double *x, const double *y, const double *p) {
  for (size_t i = 0; i < LANES; i++) lost[i] = fma(x[i], y[i], -p[i]);
}
#if defined(__FMA__) || defined(__aarch64__)
#define product_errors errors_by_fma
enum { ERRORS_MAY_FAIL = 0 };
#else /* Dekker, 1971: halves of 26 bits, whose products are exact. A call of fma() without the instruction is 20 times slower. */
static inline void product_errors(double *lost, const double *x, const double *y, const double *p) {
  const double split = 134217729.0; /* 2^27 + 1 */
  for (size_t i = 0; i < LANES; i++) {
    const double cx = split * x[i], xh = cx - (cx - x[i]), xl = x[i] - xh; /* NaN beyond 2^996 */
    const double cy = split * y[i], yh = cy - (cy - y[i]), yl = y[i] - yh;
    lost[i] = ((xh * yh - p[i]) + xh * yl + xl * yh) + xl * yl;
  }
}
enum { ERRORS_MAY_FAIL = 1 };
#endif

typedef void (*errors_of)(double *lost, const double *x, const double *y, const double *p);

static inline void lanes_add_products(lanes *l, const double *a, const double *b, errors_of errors) {
  double product[LANES], lost[LANES];
  vector v[VECTORS];
  for (size_t i = 0; i < LANES; i++) product[i] = a[i] * b[i];
  errors(lost, a, b, product);
  lanes_load(v, product);
  lanes_add(l, v);
  lanes_load(v, lost);
  for (size_t k = 0; k < VECTORS; k++) l->error[k] += v[k];
}

static inline bool dot_by(errors_of errors, size_t count, const double *a, const double *b, tci_simd_partial *partial) {
  double tail[2][LANES];
  lanes l;
  size_t i = 0;
  lanes_clear(&l);
  for (; i + LANES <= count; i += LANES) lanes_add_products(&l, a + i, b + i, errors);
  for (size_t k = 0; k < LANES; k++) {
    tail[0][k] = i + k < count ? a[i + k] : -0.0;
    tail[1][k] = i + k < count ? b[i + k] : 0.0; /* a product of -0.0 */
  }
  lanes_add_products(&l, tail[0], tail[1], errors);
  return lanes_finish(&l, partial);
}

static void dot_f64(size_t count, const void *x, const void *y, tci_simd_partial *partial) {
  if (!dot_by(product_errors, count, x, y, partial) && ERRORS_MAY_FAIL) dot_by(errors_by_fma, count, x, y, partial);
}

#define INTEGER_SUM(NAME, T, SUM, ELEMENT)                                                  \
  static void NAME(size_t count, const void *x, const void *y, tci_simd_partial *partial) { \
    const T *a = x, *b = y;                                                                 \
    SUM sum = 0;                                                                            \
    (void)b;                                                                                \
    for (size_t i = 0; i < count; i++) sum += ELEMENT;                                      \
    partial->integer = (int64_t)sum;                                                        \
  }
INTEGER_SUM(sum_i32, int32_t, uint64_t, (uint64_t)(int64_t)a[i])
INTEGER_SUM(sum_i64, uint64_t, uint64_t, a[i])
INTEGER_SUM(dot_i32, uint32_t, uint32_t, a[i] * b[i])
INTEGER_SUM(dot_i64, uint64_t, uint64_t, a[i] * b[i])

/* ---- the least and the greatest -------------------------------------------------------------------------------------------------- */

typedef float vector_f32 __attribute__((vector_size(VECTOR_BYTES)));
typedef int32_t vector_i32 __attribute__((vector_size(VECTOR_BYTES)));
typedef int64_t vector_i64 __attribute__((vector_size(VECTOR_BYTES)));
#define KEPT 8 /* vectors: one waits for the comparison before */

/* A number that is not equal to itself is not a number, and is kept from then on: nothing compares with it. */
#define KEEP(KEPT_ONE, V, VECTOR, MASK, OPERATOR)                       \
  {                                                                     \
    const MASK taken = (V OPERATOR KEPT_ONE) | (V != V);                \
    KEPT_ONE = (VECTOR)((taken & (MASK)V) | (~taken & (MASK)KEPT_ONE)); \
  }
#define EXTREME(NAME, T, VECTOR, MASK, OPERATOR, FIELD)                                                          \
  static void NAME(size_t count, const void *x, const void *unused, tci_simd_partial *partial) {                 \
    enum { ELEMENTS = VECTOR_BYTES / sizeof(T) };                                                                \
    (void)unused;                                                                                                \
    const T *a = x;                                                                                              \
    T best = a[0], ends[ELEMENTS];                                                                               \
    size_t i = 0;                                                                                                \
    if (count >= KEPT * ELEMENTS) {                                                                              \
      VECTOR kept[KEPT], v;                                                                                      \
      memcpy(kept, a, sizeof kept);                                                                              \
      for (i = KEPT * ELEMENTS; i + KEPT * ELEMENTS <= count; i += KEPT * ELEMENTS) {                            \
        for (size_t k = 0; k < KEPT; k++) {                                                                      \
          memcpy(&v, a + i + k * ELEMENTS, sizeof v);                                                            \
          KEEP(kept[k], v, VECTOR, MASK, OPERATOR)                                                               \
        }                                                                                                        \
      }                                                                                                          \
      for (size_t k = 1; k < KEPT; k++) KEEP(kept[0], kept[k], VECTOR, MASK, OPERATOR)                           \
      for (; i < count; i += ELEMENTS) { /* the last ones perhaps twice */                                       \
        memcpy(&v, a + (count - i < ELEMENTS ? count - ELEMENTS : i), sizeof v);                                 \
        KEEP(kept[0], v, VECTOR, MASK, OPERATOR)                                                                 \
      }                                                                                                          \
      memcpy(ends, kept, sizeof ends);                                                                           \
      for (size_t k = 0; k < ELEMENTS; k++) best = ends[k] OPERATOR best || ends[k] != ends[k] ? ends[k] : best; \
    }                                                                                                            \
    for (; i < count; i++) best = a[i] OPERATOR best || a[i] != a[i] ? a[i] : best;                              \
    partial->FIELD = best;                                                                                       \
  }
#define EXTREMES(SUFFIX, T, VECTOR, MASK, FIELD)   \
  EXTREME(min_##SUFFIX, T, VECTOR, MASK, <, FIELD) \
  EXTREME(max_##SUFFIX, T, VECTOR, MASK, >, FIELD)
EXTREMES(f32, float, vector_f32, vector_i32, value)
EXTREMES(f64, double, vector, vector_i64, value)
EXTREMES(i32, int32_t, vector_i32, vector_i32, integer)
EXTREMES(i64, int64_t, vector_i64, vector_i64, integer)

/* ---- the table ------------------------------------------------------------------------------------------------------------------- */

#define FOR_ALL(NAME) {NAME##_f32, NAME##_f64, NAME##_i32, NAME##_i64}

#define MAP_TABLE(PREFIX)                                                      \
  {                                                                            \
      [TC_SIMD_ADD] = FOR_ALL(PREFIX##add),                                    \
      [TC_SIMD_SUBTRACT] = FOR_ALL(PREFIX##subtract),                          \
      [TC_SIMD_MULTIPLY] = FOR_ALL(PREFIX##multiply),                          \
      [TC_SIMD_DIVIDE] = {PREFIX##divide_f32, PREFIX##divide_f64, NULL, NULL}, \
      [TC_SIMD_FMA] = FOR_ALL(PREFIX##fma),                                    \
      [TC_SIMD_COPY] = FOR_ALL(PREFIX##copy),                                  \
      [TC_SIMD_NEGATE] = FOR_ALL(PREFIX##negate),                              \
      [TC_SIMD_MULTIPLY_ADD] = FOR_ALL(PREFIX##multiply_add),                  \
      [TC_SIMD_MULTIPLY_SUBTRACT] = FOR_ALL(PREFIX##multiply_subtract),        \
  }

const tci_simd_kernels TCI_SIMD_TABLE = {
    .name = TCI_SIMD_NAME,
    .maps = MAP_TABLE(),
    .streams = MAP_TABLE(stream_),
    .reductions =
        {
            [TC_SIMD_SUM] = FOR_ALL(sum),
            [TC_SIMD_DOT] = FOR_ALL(dot),
            [TC_SIMD_MIN] = FOR_ALL(min),
            [TC_SIMD_MAX] = FOR_ALL(max),
        },
    .fence = stream_fence,
};
