/* bench_memory.c - what the host benchmark measures in bytes: residency, fragmentation, growth under drifting sizes, records.
 *
 * Residency is the process's (VmRSS, VmHWM) over what it was when the case began, so it holds whatever the allocator keeps for itself. The
 * statistics of a pool are the pool's own; a peer's capacity is what malloc_usable_size says. Limit: one pool, one or two threads.
 */
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "bench.h"
#include "tensorcore.h"
#include "workloads.h"

enum { PAGE = 4096, HOT = 8, SHAPES = 48 };
#define SETTLE_SECONDS 0.3
#define IDLE_SECONDS 1.5

uint64_t bench_operations = 100000000;

static size_t status_bytes(const char *field) {
  char line[256];
  unsigned long kib = 0;
  FILE *file = fopen("/proc/self/status", "r");
  size_t length = strlen(field);
  while (file != NULL && fgets(line, sizeof line, file) != NULL)
    if (strncmp(line, field, length) == 0) kib = strtoul(line + length, NULL, 10);
  if (file != NULL) fclose(file);
  return kib * KIB;
}

static void touch(void *block, size_t nbytes) {
  for (size_t i = 0; i < nbytes; i += PAGE) ((volatile char *)block)[i] = 1;
}

/* ---- live blocks that are replaced at random ----------------------------------------------------------------------------------------- */

typedef struct live_set {
  const allocator *a;
  size_t count;
  struct {
    void *block;
    size_t nbytes;
  } *slots;                        /* `count` of them */
  uint64_t requested, peak;        /* bytes */
  uint64_t allocated;              /* bytes of capacity */
  double requested_sum, allocated_sum; /* over the samples */
} live_set;

static live_set live_make(const allocator *a, size_t count) {
  live_set live = {.a = a, .count = count, .slots = calloc(count, sizeof *live.slots)};
  if (live.slots == NULL) exit(1);
  return live;
}

static void live_drop(live_set *live, size_t slot) {
  if (live->slots[slot].block == NULL) return;
  live->requested -= live->slots[slot].nbytes;
  live->allocated -= live->a->usable(live->a->context, live->slots[slot].block);
  live->a->release(live->a->context, live->slots[slot].block);
  live->slots[slot].block = NULL;
}

static void live_replace(live_set *live, size_t slot, size_t nbytes, int written) {
  live_drop(live, slot);
  void *block = live->a->allocate(live->a->context, nbytes);
  if (block == NULL) {
    fprintf(stderr, "bench_host: out of memory\n");
    exit(1);
  }
  if (written) touch(block, nbytes);
  live->slots[slot].block = block;
  live->slots[slot].nbytes = nbytes;
  live->requested += nbytes;
  live->allocated += live->a->usable(live->a->context, block);
  if (live->requested > live->peak) live->peak = live->requested;
}

static void live_sample(live_set *live) {
  live->requested_sum += (double)live->requested;
  live->allocated_sum += (double)live->allocated;
}

static void live_free(live_set *live) {
  for (size_t slot = 0; slot < live->count; slot++) live_drop(live, slot);
}

static double of(double part, double whole) { return whole > 0 ? part / whole : 0; }

/* ---- residency ----------------------------------------------------------------------------------------------------------------------- */

/* Some 126 MiB of tensors of 4 KiB to 4 MiB, all written to, replaced one by one at random. */
static void tensor_trace(live_set *live, size_t operations) {
  for (size_t i = 0; i < operations; i++) {
    size_t slot = i < live->count ? i : workload_below(live->count);
    live_replace(live, slot, workload_between(4 * KIB, 4 * MIB), 1);
    while (live->requested > 126 * MIB) live_drop(live, workload_below(live->count));
  }
}

typedef struct hot_loop {
  const allocator *a;
  _Atomic int stop;
  _Atomic uint64_t passes, faults; /* after it has settled */
} hot_loop;

static uint64_t thread_faults(void) {
  struct rusage usage;
  getrusage(RUSAGE_THREAD, &usage);
  return (uint64_t)usage.ru_minflt;
}

static void hot_pass(const allocator *a) { /* eight temporaries of 1 MiB */
  void *blocks[HOT];
  for (int i = 0; i < HOT; i++) {
    blocks[i] = a->allocate(a->context, MIB);
    touch(blocks[i], MIB);
  }
  for (int i = 0; i < HOT; i++) a->release(a->context, blocks[i]);
}

static void *hot_run(void *argument) {
  hot_loop *hot = argument;
  double settled = bench_now() + SETTLE_SECONDS;
  while (bench_now() < settled) hot_pass(hot->a);
  for (uint64_t before = thread_faults(); !atomic_load(&hot->stop);) {
    hot_pass(hot->a);
    atomic_store(&hot->faults, thread_faults() - before);
    atomic_fetch_add(&hot->passes, 1);
  }
  return NULL;
}

static void case_residency(const allocator *a) {
  workload_seed = 42;
  live_set live = live_make(a, 160);
  size_t operations = bench_operations < 1000000 ? 4000 : 40000, start = status_bytes("VmRSS:");
  tensor_trace(&live, operations);
  size_t peak = status_bytes("VmHWM:");
  bench_value("peak RSS / live, 126 MiB of tensors", of((double)(peak - start), (double)live.peak), "ratio");
  live_free(&live);
  bench_sleep(IDLE_SECONDS);
  bench_value("RSS over the start, all freed and 1.5 s idle", (double)((int64_t)status_bytes("VmRSS:") - (int64_t)start) / (double)MIB, "MiB");

  hot_loop hot = {.a = a};
  pthread_t thread;
  tensor_trace(&live, operations / 4);
  if (pthread_create(&thread, NULL, hot_run, &hot) != 0) exit(1);
  bench_sleep(SETTLE_SECONDS / 2);
  live_free(&live);
  bench_sleep(IDLE_SECONDS + SETTLE_SECONDS);
  double resident = (double)((int64_t)status_bytes("VmRSS:") - (int64_t)start);
  atomic_store(&hot.stop, 1);
  pthread_join(thread, NULL);
  bench_value("the same beside a loop over 8 MiB of temporaries", (resident - (double)(HOT * MIB)) / (double)MIB, "MiB");
  bench_value("page faults of that loop a pass of 8 MiB", of((double)hot.faults, (double)hot.passes), "faults");
  free(live.slots);
}

/* ---- fragmentation ------------------------------------------------------------------------------------------------------------------- */

static void trace_run(live_set *live, size_t operations, size_t (*size)(void)) {
  for (size_t i = 0; i < operations; i++) {
    live_replace(live, i < live->count ? i : workload_below(live->count), size(), 0);
    if (i >= operations / 2 && i % 64 == 0) live_sample(live);
  }
}

static size_t shapes[SHAPES];
static size_t size_of_shape(void) { return shapes[workload_below(SHAPES)]; }
static size_t size_of_tensor(void) { return (4 * KIB << workload_below(11)) - workload_below(KIB); } /* just below powers of two */
static size_t size_of_anything(void) { return workload_between(KIB, 256 * KIB); }

static void shapes_draw(void) { /* what one program uses: a few dozen sizes, arbitrary, each again and again; in 8 bytes */
  for (size_t i = 0; i < SHAPES; i++) shapes[i] = workload_between(KIB, 4 * MIB) & ~(size_t)7;
}

static void fragmentation_row(const allocator *a, const char *label, size_t count, size_t operations, size_t (*size)(void)) {
  workload_seed = 7;
  shapes_draw();
  live_set live = live_make(a, count);
  trace_run(&live, operations, size);
  bench_value(label, 100 * (1 - of(live.requested_sum, live.allocated_sum)), "%");
  live_free(&live);
  free(live.slots);
}

static void case_fragmentation(const allocator *a) {
  double worst = 0;
  for (size_t nbytes = 513; nbytes <= 4 * MIB; nbytes += nbytes < 16 * KIB ? 1 : nbytes / 1024 * 8 + 1) {
    void *block = a->allocate(a->context, nbytes);
    double lost = 1 - of((double)nbytes, (double)a->usable(a->context, block));
    worst = lost > worst ? lost : worst;
    a->release(a->context, block);
  }
  bench_value("worst size above 512 B", 100 * worst, "%");
  size_t operations = bench_operations < 1000000 ? 40000 : 400000;
  fragmentation_row(a, "tensor trace, 200 live of 4 KiB-4 MiB", 200, operations, size_of_tensor);
  fragmentation_row(a, "a program's 48 sizes, 1 KiB-4 MiB", 1000, operations, size_of_shape);
  fragmentation_row(a, "any size, 1 KiB-256 KiB", 4000, operations, size_of_anything);
}

/* ---- a long run ---------------------------------------------------------------------------------------------------------------------- */

static void case_drift(const allocator *a) {
  workload_seed = 1234;
  live_set live = live_make(a, 8192);
  size_t start = status_bytes("VmRSS:");
  double began = bench_now();
  for (uint64_t i = 0; i < bench_operations; i++)
    live_replace(&live, workload_below(live.count), workload_drifting((double)i / (double)bench_operations), 1);
  double ns = 1e9 * (bench_now() - began) / (double)bench_operations;
  bench_value("peak RSS / peak live, sizes drifting", of((double)(status_bytes("VmHWM:") - start), (double)live.peak), "ratio");
  if (a->pool(a->context) != NULL) {
    tc_stats s;
    tc_pool_stats(a->pool(a->context), &s);
    bench_value("reserved / peak live, the same", of((double)s.reserved.peak, (double)live.peak), "ratio");
  }
  bench_value("time an operation, the same", ns, "ns");
  live_free(&live);
  free(live.slots);
}

/* ---- records ------------------------------------------------------------------------------------------------------------------------- */

static void records_row(const allocator *a, const char *label, size_t count, size_t low, size_t high) {
  workload_seed = 99;
  tc_stats s;
  live_set live = live_make(a, count);
  for (size_t i = 0; i < 4 * count; i++) live_replace(&live, i % count, workload_between(low, high), 0);
  tc_pool_stats(a->pool(a->context), &s);
  /* the map from addresses to runs counts 8 bytes a page of 4 KiB beside */
  bench_value(label, 100 * of((double)s.metadata_bytes + (double)s.reserved.current / 512, (double)s.reserved.current), "%");
  live_free(&live);
  tc_pool_trim(a->pool(a->context), 0);
  free(live.slots);
}

static void case_records(const allocator *a) { /* largest blocks first: records are kept for reuse */
  if (a->pool(a->context) == NULL) return;
  records_row(a, "records / reserved, 256 MiB of 64 KiB-4 MiB", 256, 64 * KIB, 4 * MIB);
  records_row(a, "records / reserved, 256 MiB of 4 KiB-64 KiB", 10000, 4 * KIB, 64 * KIB);
  records_row(a, "records / reserved, 256 MiB of 512 B-4 KiB", 200000, 512, 4 * KIB);
}

const bench_case bench_memory[] = {
    {"residency", case_residency, 1},
    {"fragmentation", case_fragmentation, 1},
    {"drift", case_drift, 1},
    {"records", case_records, 1},
    {NULL, NULL, 0},
};
