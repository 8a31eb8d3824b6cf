/* bench_stream.c - the machine's limit for c = a + b: what the STREAM benchmark's Add does, by one loop per thread and nothing else.
 *
 * A library of its own that shares no code with what it is the limit of. Each thread has one contiguous part; they start together behind
 * a barrier, so that starting them is not measured. Stores go past the cache where `past_cache` asks for it and the CPU is an x86.
 * (J. D. McCalpin, STREAM: Sustainable Memory Bandwidth in High Performance Computers, 1991-2007.)
 */
#include <pthread.h>
#include <stddef.h>
#include <time.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum { MOST_THREADS = 64 };

typedef void (*add_loop)(double *out, const double *a, const double *b, size_t count); /* aligned to 64 bytes; count: a multiple of 8 */

static void add_plain(double *out, const double *a, const double *b, size_t count) {
#if defined(__clang__)
#pragma clang loop vectorize(assume_safety)
#else
#pragma GCC ivdep
#endif
  for (size_t i = 0; i < count; i++) out[i] = a[i] + b[i];
}

#if defined(__x86_64__)
static void add_sse2(double *out, const double *a, const double *b, size_t count) {
  for (size_t i = 0; i < count; i += 2) _mm_stream_pd(out + i, _mm_add_pd(_mm_load_pd(a + i), _mm_load_pd(b + i)));
  _mm_sfence();
}

__attribute__((target("avx2"))) static void add_avx2(double *out, const double *a, const double *b, size_t count) {
  for (size_t i = 0; i < count; i += 4) _mm256_stream_pd(out + i, _mm256_add_pd(_mm256_load_pd(a + i), _mm256_load_pd(b + i)));
  _mm_sfence();
}

__attribute__((target("avx512f"))) static void add_avx512(double *out, const double *a, const double *b, size_t count) {
  for (size_t i = 0; i < count; i += 8) _mm512_stream_pd(out + i, _mm512_add_pd(_mm512_load_pd(a + i), _mm512_load_pd(b + i)));
  _mm_sfence();
}

static add_loop loop_past_cache(void) {
  return __builtin_cpu_supports("avx512f") ? add_avx512 : __builtin_cpu_supports("avx2") ? add_avx2 : add_sse2;
}
#else
static add_loop loop_past_cache(void) { return add_plain; }
#endif

typedef struct part {
  add_loop add;
  double *out;
  const double *a, *b;
  size_t count;
  int *ready; /* atomic: threads that have not come to the start yet */
} part;

static void *run_part(void *argument) {
  part *p = argument;
  __atomic_fetch_sub(p->ready, 1, __ATOMIC_ACQ_REL);
  while (__atomic_load_n(p->ready, __ATOMIC_ACQUIRE) > 0) continue;
  p->add(p->out, p->a, p->b, p->count);
  return NULL;
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* Seconds for `count` elements on `threads` threads; -1.0 where they can't be had. Arrays are aligned to 64 bytes. */
__attribute__((visibility("default"))) double tensorcore_stream_add(double *out, const double *a, const double *b, size_t count, int threads,
                                                                    int past_cache) {
  pthread_t others[MOST_THREADS];
  part parts[MOST_THREADS];
  int ready = threads;
  size_t share = count / (size_t)threads / 8 * 8;
  if (threads < 1 || threads > MOST_THREADS || count % 8) return -1.0;
  for (int i = 0; i < threads; i++) {
    size_t first = (size_t)i * share;
    parts[i] =
        (part){past_cache ? loop_past_cache() : add_plain, out + first, a + first, b + first, i == threads - 1 ? count - first : share, &ready};
    if (i && pthread_create(&others[i], NULL, run_part, &parts[i]) != 0) return -1.0;
  }
  while (__atomic_load_n(&ready, __ATOMIC_ACQUIRE) > 1) continue;
  double start = now();
  run_part(&parts[0]);
  for (int i = 1; i < threads; i++) pthread_join(others[i], NULL);
  return now() - start;
}
