/* bench_curves.c - what an allocation costs as something grows beside it: live blocks, pools, classes in use, threads.
 *
 * A row is the median repetition. Threads run for a fixed time and their blocks are counted; the figure is the time over all blocks, so
 * that twice the threads on twice the processors halves it. Limit: what the caches of the processor hold is part of every curve.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"
#include "tensorcore.h"
#include "workloads.h"

enum { BATCH = 10000, SIZES = 1024, MOST_POOLS = 64, MOST_THREADS = 64, MOST_REPETITIONS = 16 };

static size_t sizes[SIZES];

static void sizes_draw(size_t low, size_t high) {
  workload_seed = 11;
  for (size_t i = 0; i < SIZES; i++) sizes[i] = low + workload_below(high - low + 1);
}

static int compare_doubles(const void *left, const void *right) {
  double l = *(const double *)left, r = *(const double *)right;
  return (l > r) - (l < r);
}

/* The median of repetitions of `pass`, which handles `count` blocks a call; one call before is not counted. */
static void measure(const char *label, size_t count, void (*pass)(void *), void *argument) {
  double times[MOST_REPETITIONS];
  uint64_t faults = bench_faults(), passes = 0;
  pass(argument);
  for (int r = 0; r < bench_repetitions; r++) {
    size_t now = 0;
    double start = bench_now(), elapsed;
    do {
      pass(argument);
      now++;
      elapsed = bench_now() - start;
    } while (elapsed < bench_seconds);
    times[r] = elapsed / (double)(now * count);
    passes += now;
  }
  qsort(times, (size_t)bench_repetitions, sizeof *times, compare_doubles);
  bench_report(label, 1e9 * times[bench_repetitions / 2], (double)(bench_faults() - faults) / (double)(passes * count), "");
}

static void pass_pairs(void *argument) {
  const allocator *a = argument;
  for (size_t i = 0; i < SIZES; i++) a->release(a->context, a->allocate(a->context, sizes[i]));
}

static void pass_batch(void *argument) {
  static void *blocks[BATCH];
  const allocator *a = argument;
  for (size_t i = 0; i < BATCH; i++) blocks[i] = a->allocate(a->context, sizes[i % SIZES]);
  for (size_t i = 0; i < BATCH; i++) a->release(a->context, blocks[i]);
}

/* ---- live blocks, classes ------------------------------------------------------------------------------------------------------------ */

static void case_live_blocks(const allocator *a) { /* of 64 to 128 B: ten million fit into a gigabyte */
  char label[64];
  size_t most = bench_operations < 1000000 ? 100000 : 10000000, live = 0;
  void **blocks = calloc(most, sizeof *blocks);
  if (blocks == NULL) exit(1);
  for (size_t count = 1000; count <= most; count *= 10) {
    for (; live < count; live++) blocks[live] = a->allocate(a->context, 64 + live % 64);
    sizes_draw(64, KIB);
    snprintf(label, sizeof label, "pair, %zu live", count);
    measure(label, SIZES, pass_pairs, (void *)(uintptr_t)a);
    snprintf(label, sizeof label, "batch of 10,000, %zu live", count);
    measure(label, BATCH, pass_batch, (void *)(uintptr_t)a);
  }
  while (live > 0) a->release(a->context, blocks[--live]);
  free(blocks);
}

static void case_classes(const allocator *a) { /* eight sizes a doubling: 72 of them between 64 B and 64 KiB */
  char label[64];
  for (size_t count = 1; count <= 64; count *= 4) {
    for (size_t i = 0; i < SIZES; i++) {
      size_t class = i % count, doubling = class / 8;
      sizes[i] = (KIB << (doubling % 8)) / 8 * (8 + class % 8);
    }
    snprintf(label, sizeof label, "pair, %zu sizes", count);
    measure(label, SIZES, pass_pairs, (void *)(uintptr_t)a);
  }
}

/* ---- pools --------------------------------------------------------------------------------------------------------------------------- */

typedef struct pool_set {
  size_t count;
  tc_pool *pools[MOST_POOLS];
} pool_set;

static void pass_pools(void *argument) {
  const pool_set *set = argument;
  for (size_t i = 0; i < SIZES; i++) {
    tc_pool *pool = set->pools[i % set->count];
    tc_pool_free(pool, tc_pool_alloc(pool, sizes[i]));
  }
}

static void case_pools(const allocator *a) {
  static pool_set set;
  char label[64];
  if (a->pool(a->context) == NULL) return;
  sizes_draw(64, KIB);
  for (size_t i = 0; i < MOST_POOLS; i++)
    if (tc_pool_create(NULL, &set.pools[i]) != TC_OK) exit(1);
  for (set.count = 1; set.count <= MOST_POOLS; set.count *= 4) {
    snprintf(label, sizeof label, "pair, %zu pools in turn", set.count);
    measure(label, SIZES, pass_pools, &set);
  }
}

/* ---- threads ------------------------------------------------------------------------------------------------------------------------- */

enum { THREAD_BATCH = 1000 };

typedef struct crew {
  const allocator *a;
  int batches; /* 1: a thousand blocks, then freed; 0: pairs */
  _Atomic int stage; /* 1: go, 2: stop */
  _Atomic uint64_t blocks;
} crew;

static void *work(void *argument) {
  crew *c = argument;
  const allocator *a = c->a;
  void *held[THREAD_BATCH];
  uint64_t count = 0;
  while (atomic_load(&c->stage) == 0) continue;
  while (atomic_load_explicit(&c->stage, memory_order_relaxed) == 1) {
    if (c->batches) {
      for (size_t i = 0; i < THREAD_BATCH; i++) held[i] = a->allocate(a->context, sizes[i]);
      for (size_t i = 0; i < THREAD_BATCH; i++) a->release(a->context, held[i]);
      count += THREAD_BATCH;
    } else {
      for (size_t i = 0; i < SIZES; i++) a->release(a->context, a->allocate(a->context, sizes[i]));
      count += SIZES;
    }
  }
  atomic_fetch_add(&c->blocks, count);
  return NULL;
}

/* Seconds a block, over all threads. */
static double crew_run(const allocator *a, size_t count, int batches) {
  pthread_t threads[MOST_THREADS];
  crew c = {.a = a, .batches = batches};
  for (size_t i = 0; i < count; i++)
    if (pthread_create(&threads[i], NULL, work, &c) != 0) exit(1);
  double start = bench_now();
  atomic_store(&c.stage, 1);
  while (bench_now() - start < 20 * bench_seconds) bench_sleep(bench_seconds);
  atomic_store(&c.stage, 2);
  for (size_t i = 0; i < count; i++) pthread_join(threads[i], NULL);
  return (bench_now() - start) / (double)c.blocks;
}

static void case_thread_counts(const allocator *a) {
  static const size_t COUNTS[] = {1, 2, 8, 64};
  char label[64];
  for (int batches = 0; batches < 2; batches++) {
    sizes_draw(64, batches ? 4 * KIB : 64 * KIB);
    for (size_t i = 0; i < sizeof COUNTS / sizeof *COUNTS; i++) {
      double times[MOST_REPETITIONS];
      for (int r = 0; r < bench_repetitions; r++) times[r] = crew_run(a, COUNTS[i], batches);
      qsort(times, (size_t)bench_repetitions, sizeof *times, compare_doubles);
      snprintf(label, sizeof label, "%s, %zu thread%s", batches ? "batch of 1,000" : "pair", COUNTS[i], COUNTS[i] == 1 ? "" : "s");
      bench_report(label, 1e9 * times[bench_repetitions / 2], 0, "");
    }
  }
}

const bench_case bench_curves[] = {
    {"live-blocks", case_live_blocks, 1},
    {"classes", case_classes, 0},
    {"pools", case_pools, 1},
    {"thread-counts", case_thread_counts, 0},
    {NULL, NULL, 0},
};
