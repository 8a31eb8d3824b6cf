/* simd_reduce.c - reductions: the parts of an array, of a size that its length alone decides, and their results put together in order.
 *
 * So a sum has the same bits on any number of threads. Sums of floating-point numbers carry along what each addition lost, in the
 * parts and here (Ogita, Rump and Oishi, SIAM J. Sci. Comput. 26, 2005: as if computed in twice the precision, then rounded).
 */
#include <math.h>

#include "simd_internal.h"

#define PART ((size_t)1 << 15) /* elements, at least */
#define MOST_PARTS 512
#define PARALLEL_BYTES ((size_t)4 << 20)

typedef struct reduction {
  tci_simd_reduce kernel;
  const char *x, *y;
  size_t count, part, size; /* elements, elements, bytes */
  tci_simd_partial *partials;
} reduction;

static void reduce_parts(void *context, size_t begin, size_t end) {
  reduction *r = context;
  for (size_t i = begin; i < end; i++) {
    size_t first = i * r->part, count = r->count - first < r->part ? r->count - first : r->part;
    r->kernel(count, r->x + first * r->size, r->y == NULL ? NULL : r->y + first * r->size, &r->partials[i]);
  }
}

static double join_sums(const reduction *r, size_t parts) {
  double sum = -0.0, error = 0.0;
  for (size_t i = 0; i < parts; i++) {
    double a = sum, b = r->partials[i].value, back;
    sum = a + b;
    back = sum - a;
    error += ((a - (sum - back)) + (b - back)) + r->partials[i].error;
  }
  return parts == 0 ? 0.0 : isfinite(error) && error != 0.0 ? sum + error : sum;
}

static int64_t join_integers(tc_simd_reduction kind, const reduction *r, size_t parts) {
  int64_t joined = parts ? r->partials[0].integer : 0;
  for (size_t i = 1; i < parts; i++) {
    int64_t next = r->partials[i].integer;
    if (kind == TC_SIMD_SUM || kind == TC_SIMD_DOT)
      joined = (int64_t)((uint64_t)joined + (uint64_t)next);
    else if (kind == TC_SIMD_MIN ? next < joined : next > joined)
      joined = next;
  }
  return joined;
}

static double join_extremes(tc_simd_reduction kind, const reduction *r, size_t parts) {
  double joined = r->partials[0].value;
  for (size_t i = 1; i < parts; i++) {
    double next = r->partials[i].value;
    if (isnan(next) || (kind == TC_SIMD_MIN ? next < joined : next > joined)) joined = next;
  }
  return joined;
}

static void write_result(tc_simd_reduction kind, tc_simd_type type, const reduction *r, size_t parts, void *result) {
  bool adds = kind == TC_SIMD_SUM || kind == TC_SIMD_DOT;
  if (type == TC_SIMD_F64)
    *(double *)result = adds ? join_sums(r, parts) : join_extremes(kind, r, parts);
  else if (type == TC_SIMD_F32)
    *(float *)result = (float)(adds ? join_sums(r, parts) : join_extremes(kind, r, parts));
  else if (type == TC_SIMD_I64 || kind == TC_SIMD_SUM)
    *(int64_t *)result = join_integers(kind, r, parts);
  else
    *(int32_t *)result = (int32_t)(uint32_t)(uint64_t)join_integers(kind, r, parts);
}

static bool is_aligned(const void *address, size_t size) { return address != NULL && ((uintptr_t)address & (size - 1)) == 0; }

tc_status tc_simd_reduce(tc_simd_reduction kind, tc_simd_type type, size_t count, const void *x, const void *y, void *result) {
  if ((unsigned)kind >= TC_SIMD_REDUCTIONS || (unsigned)type >= TC_SIMD_TYPES) return TC_INVALID_ARGUMENT;
  bool two = kind == TC_SIMD_DOT;
  tci_simd_partial partials[MOST_PARTS];
  reduction r = {.kernel = tci_simd_chosen()->reductions[kind][type], .x = x, .y = two ? y : NULL, .count = count, .partials = partials};
  r.size = type == TC_SIMD_F32 || type == TC_SIMD_I32 ? 4 : 8;
  if (count ? !is_aligned(x, r.size) || (two && !is_aligned(y, r.size)) : kind == TC_SIMD_MIN || kind == TC_SIMD_MAX)
    return TC_INVALID_ARGUMENT;
  r.part = count / MOST_PARTS + (count % MOST_PARTS != 0);
  if (r.part < PART) r.part = PART;
  size_t parts = count / r.part + (count % r.part != 0);
  unsigned threads = count * r.size * (two ? 2 : 1) < PARALLEL_BYTES ? 1 : tc_simd_threads();
  if (parts) tci_simd_share(parts, 1, threads, reduce_parts, &r);
  write_result(kind, type, &r, parts, result);
  return TC_OK;
}
