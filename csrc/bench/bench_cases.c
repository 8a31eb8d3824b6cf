/* bench_cases.c - the cases of the host benchmark. A figure is the median repetition's time per block allocated and freed.
 *
 * Sizes are drawn once, before the clock starts, from one seed, so that every allocator gets the same sequence. 'Untouched' cases never
 * write to their blocks; the others write one byte per 4 KiB page, the least that makes the pages exist.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"

enum { BATCH = 10000, RING = 1024, PAGE = 4096, LIVE = 8 };

static const size_t KIB = 1024, MIB = 1024 * 1024;
static const size_t BATCH_BYTES = (size_t)4 << 30; /* address space one batch may take: overcommit refuses more on small machines */

/* What one thread works on. */
typedef struct workload {
  const allocator *a;
  size_t count;   /* blocks per pass */
  size_t *sizes;  /* bytes, `count` of them */
  size_t *order;  /* in which the blocks are freed, `count` of them */
  void **blocks;  /* `count` of them */
  void (*pass)(struct workload *w);
} workload;

typedef enum free_order { LIFO, FIFO, RANDOM } free_order;
static const char *const ORDER_NAMES[] = {"LIFO", "FIFO", "random order"};

static uint64_t random_state = 0x9E3779B97F4A7C15u;

static uint64_t random_next(void) { /* xorshift64, Marsaglia 2003 */
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return random_state;
}

static void *checked(void *memory) {
  if (memory != NULL) return memory;
  fprintf(stderr, "bench_host: out of memory\n");
  exit(1);
}

static const char *size_name(char *text, size_t nbytes) {
  if (nbytes >= MIB)
    snprintf(text, 24, "%zu MiB", nbytes / MIB);
  else if (nbytes >= KIB)
    snprintf(text, 24, "%zu KiB", nbytes / KIB);
  else
    snprintf(text, 24, "%zu B", nbytes);
  return text;
}

/* ---- workloads and their clock ------------------------------------------------------------------------------------------------------ */

static workload workload_make(const allocator *a, size_t count, size_t low, size_t high, free_order order) {
  workload w = {
      a, count, checked(malloc(count * sizeof(size_t))), checked(malloc(count * sizeof(size_t))), checked(calloc(count, sizeof(void *))), NULL};
  for (size_t i = 0; i < count; i++) {
    w.sizes[i] = low + random_next() % (high - low + 1);
    w.order[i] = order == LIFO ? count - 1 - i : i;
  }
  for (size_t i = count; order == RANDOM && i > 1; i--) { /* Fisher-Yates */
    size_t j = random_next() % i, swap = w.order[i - 1];
    w.order[i - 1] = w.order[j];
    w.order[j] = swap;
  }
  return w;
}

static void workload_drop(workload *w) {
  free(w->sizes);
  free(w->order);
  free(w->blocks);
}

static void pass_pairs(workload *w) {
  const allocator *a = w->a;
  for (size_t i = 0; i < w->count; i++) a->release(a->context, checked(a->allocate(a->context, w->sizes[i])));
}

static void pass_batch(workload *w) {
  const allocator *a = w->a;
  for (size_t i = 0; i < w->count; i++) w->blocks[i] = checked(a->allocate(a->context, w->sizes[i]));
  for (size_t i = 0; i < w->count; i++) a->release(a->context, w->blocks[w->order[i]]);
}

static void touch(void *block, size_t nbytes) {
  for (size_t i = 0; i < nbytes; i += PAGE) ((volatile char *)block)[i] = 1;
}

static void pass_touched(workload *w) {
  const allocator *a = w->a;
  for (size_t i = 0; i < w->count; i++) {
    w->blocks[i] = checked(a->allocate(a->context, w->sizes[i]));
    touch(w->blocks[i], w->sizes[i]);
  }
  for (size_t i = 0; i < w->count; i++) a->release(a->context, w->blocks[w->order[i]]);
}

static void pass_zeroed_untouched(workload *w) {
  const allocator *a = w->a;
  for (size_t i = 0; i < w->count; i++) a->release(a->context, checked(a->allocate_zeroed(a->context, w->sizes[i])));
}

static void pass_zeroed_used(workload *w) {
  const allocator *a = w->a;
  for (size_t i = 0; i < w->count; i++) {
    void *block = checked(a->allocate_zeroed(a->context, w->sizes[i]));
    touch(block, w->sizes[i]);
    a->release(a->context, block);
  }
}

/* Keeps `count` blocks alive and replaces the one that `order` names, writing to it: what a loop over layers does. */
static void pass_trace(workload *w) {
  const allocator *a = w->a;
  for (size_t i = 0; i < w->count; i++) {
    size_t slot = w->order[i];
    if (w->blocks[slot] != NULL) a->release(a->context, w->blocks[slot]);
    w->blocks[slot] = checked(a->allocate(a->context, w->sizes[i]));
    touch(w->blocks[slot], w->sizes[i]);
  }
}

static int compare_doubles(const void *left, const void *right) {
  double l = *(const double *)left, r = *(const double *)right;
  return (l > r) - (l < r);
}

/* Passes until bench_seconds are over, bench_repetitions times after one pass unmeasured; the median goes out. */
static void measure(workload *w, const char *label, const char *note) {
  double *times = checked(malloc((size_t)bench_repetitions * sizeof *times));
  uint64_t faults = 0, blocks = 0;
  w->pass(w);
  for (int r = 0; r < bench_repetitions; r++) {
    uint64_t passes = 0, faults_before = bench_faults();
    double start = bench_now(), elapsed;
    do {
      w->pass(w);
      passes++;
      elapsed = bench_now() - start;
    } while (elapsed < bench_seconds);
    times[r] = elapsed / (double)(passes * w->count);
    faults += bench_faults() - faults_before;
    blocks += passes * w->count;
  }
  qsort(times, (size_t)bench_repetitions, sizeof *times, compare_doubles);
  bench_report(label, 1e9 * times[bench_repetitions / 2], (double)faults / (double)blocks, note);
  free(times);
}

static void measure_and_drop(workload w, void (*pass)(workload *), const char *label, const char *note) {
  w.pass = pass;
  measure(&w, label, note);
  workload_drop(&w);
}

/* ---- one thread --------------------------------------------------------------------------------------------------------------------- */

static void case_pair(const allocator *a) {
  char label[64], size[24];
  for (size_t nbytes = 64; nbytes <= 64 * MIB; nbytes *= 2) {
    snprintf(label, sizeof label, "pair %s", size_name(size, nbytes));
    measure_and_drop(workload_make(a, 1000, nbytes, nbytes, FIFO), pass_pairs, label, "");
  }
}

static void case_batch(const allocator *a) {
  char label[64], note[64] = "", size[24];
  for (size_t nbytes = 64; nbytes <= 64 * MIB; nbytes *= 2) {
    size_t count = BATCH_BYTES / nbytes < BATCH ? BATCH_BYTES / nbytes : BATCH;
    if (count < BATCH) snprintf(note, sizeof note, "%zu blocks: a batch is kept within 4 GiB", count);
    snprintf(label, sizeof label, "10,000 of %s, FIFO", size_name(size, nbytes));
    measure_and_drop(workload_make(a, count, nbytes, nbytes, FIFO), pass_batch, label, note);
  }
}

static void case_mixed(const allocator *a) {
  static const size_t RANGES[][2] = {{64, 1024}, {64, 65536}, {4096, 65536}};
  char label[96], low[24], high[24];
  for (size_t r = 0; r < sizeof RANGES / sizeof RANGES[0]; r++)
    for (free_order order = LIFO; order <= RANDOM; order++) {
      snprintf(label, sizeof label, "10,000 of %s-%s, %s", size_name(low, RANGES[r][0]), size_name(high, RANGES[r][1]), ORDER_NAMES[order]);
      measure_and_drop(workload_make(a, BATCH, RANGES[r][0], RANGES[r][1], order), pass_batch, label, "");
    }
}

static void case_live(const allocator *a) {
  char label[64], size[24];
  for (size_t nbytes = MIB; nbytes <= 64 * MIB; nbytes *= 8) {
    snprintf(label, sizeof label, "8 live of %s, touched", size_name(size, nbytes));
    measure_and_drop(workload_make(a, LIVE, nbytes, nbytes, FIFO), pass_touched, label, "");
  }
}

static void case_zeroed(const allocator *a) {
  measure_and_drop(workload_make(a, 1, 64 * MIB, 64 * MIB, FIFO), pass_zeroed_untouched, "zeroed 64 MiB, untouched", "");
  measure_and_drop(workload_make(a, 1, 64 * MIB, 64 * MIB, FIFO), pass_zeroed_used, "zeroed 64 MiB, used", "");
}

/* 200 live tensors of 4 KiB to 4 MiB, each power of two as likely as the next: about 80 MiB live. */
static void case_trace(const allocator *a) {
  workload w = workload_make(a, 200, 0, 10, RANDOM);
  for (size_t i = 0; i < w.count; i++) w.sizes[i] = (4 * KIB << w.sizes[i]) - random_next() % KIB;
  w.pass = pass_trace;
  measure(&w, "tensor trace, 200 live of 4 KiB-4 MiB, touched", "");
  for (size_t i = 0; i < w.count; i++) a->release(a->context, w.blocks[i]);
  workload_drop(&w);
}

/* ---- two threads -------------------------------------------------------------------------------------------------------------------- */

static void *thread_pass(void *argument) {
  workload *w = argument;
  for (size_t passes = 0; passes < 16; passes++) w->pass(w);
  return NULL;
}

typedef struct thread_pair {
  workload own[2];
} thread_pair;

static void pass_two_threads(workload *w) {
  thread_pair *pair = (thread_pair *)w->blocks;
  pthread_t other;
  if (pthread_create(&other, NULL, thread_pass, &pair->own[1]) != 0) exit(1);
  thread_pass(&pair->own[0]);
  pthread_join(other, NULL);
}

/* Per block of one thread: two threads that do not disturb each other take as long as one. */
static void measure_two_threads(const allocator *a, size_t count, size_t low, size_t high, void (*pass)(workload *), const char *label) {
  thread_pair pair = {{workload_make(a, count, low, high, RANDOM), workload_make(a, count, low, high, RANDOM)}};
  workload both = {a, 16 * count, NULL, NULL, (void **)&pair, pass_two_threads};
  pair.own[0].pass = pair.own[1].pass = pass;
  measure(&both, label, "");
  workload_drop(&pair.own[0]);
  workload_drop(&pair.own[1]);
}

static void case_threads(const allocator *a) {
  measure_two_threads(a, BATCH, 64, 64 * KIB, pass_pairs, "two threads, pairs of 64 B-64 KiB");
  measure_two_threads(a, 1000, 64 * KIB, MIB, pass_batch, "two threads, batches of 1,000 of 64 KiB-1 MiB");
}

/* A single-producer single-consumer ring; each index is written by one side. */
typedef struct ring {
  _Alignas(64) _Atomic size_t head; /* blocks put in */
  _Alignas(64) _Atomic size_t tail; /* blocks taken out */
  _Alignas(64) void *slots[RING];
  const allocator *a;
  size_t count; /* blocks that will pass */
} ring;

static void *ring_consume(void *argument) {
  ring *r = argument;
  for (size_t i = 0; i < r->count; i++) {
    while (atomic_load_explicit(&r->head, memory_order_acquire) == i) sched_yield();
    void *block = r->slots[i % RING];
    atomic_store_explicit(&r->tail, i + 1, memory_order_release);
    r->a->release(r->a->context, block);
  }
  return NULL;
}

static void pass_handoff(workload *w) {
  static ring r;
  pthread_t consumer;
  atomic_store(&r.head, 0);
  atomic_store(&r.tail, 0);
  r.a = w->a;
  r.count = w->count;
  if (pthread_create(&consumer, NULL, ring_consume, &r) != 0) exit(1);
  for (size_t i = 0; i < w->count; i++) {
    void *block = checked(w->a->allocate(w->a->context, w->sizes[i % BATCH]));
    while (i - atomic_load_explicit(&r.tail, memory_order_acquire) == RING) sched_yield();
    r.slots[i % RING] = block;
    atomic_store_explicit(&r.head, i + 1, memory_order_release);
  }
  pthread_join(consumer, NULL);
}

static void case_handoff(const allocator *a) {
  workload w = workload_make(a, BATCH, 64, 64 * KIB, FIFO);
  w.count = 16 * BATCH;
  w.pass = pass_handoff;
  measure(&w, "A allocates, B frees, 64 B-64 KiB", "");
  workload_drop(&w);
}

const bench_case bench_cases[] = {
    {"pair", case_pair, 0},       {"batch", case_batch, 0},     {"mixed", case_mixed, 0},
    {"threads", case_threads, 0}, {"handoff", case_handoff, 0}, {"live", case_live, 1},
    {"zeroed", case_zeroed, 1},   {"trace", case_trace, 1},     {NULL, NULL, 0},
};
