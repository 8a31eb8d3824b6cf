/* bench_traces.c - what device-like traces reserve at most, by the rules of several pools, in multiples of what they hold live at most.
 *
 * The rules of others are simulated, not run: `cupy` rounds to 512 B, takes the best fit, splits it always, and gets a segment of the very
 * size (cupy/cuda/memory.pyx, 14.x: SingleDeviceMemoryPool); `pytorch` rounds to 512 B, keeps requests to 1 MiB in segments of 2 MiB,
 * those below 10 MiB in segments of 20 MiB, rounds larger ones to 2 MiB, and splits a large block only where 1 MiB is left
 * (c10/cuda/CUDACachingAllocator.cpp, 2.x: defaults, kSmallSize, kMinLargeAlloc, should_split); `power of two` rounds up and never splits.
 * None of them gives memory back before it is short, which here it never is. Limit: one stream that is never behind.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench_device.h"
#include "tensorcore.h"

#define MIB ((size_t)1 << 20)
enum { SLOTS = 4096 }; /* live blocks of a trace, at most */

/* ---- policies ----------------------------------------------------------------------------------------------------------------------- */

typedef struct piece { /* of a segment; pieces of one segment are chained by address */
  struct piece *before, *behind;
  struct piece *next_free, **link; /* of the free list */
  size_t nbytes;
  int small, is_free;
} piece;

typedef struct policy {
  const char *name;
  size_t (*round)(size_t nbytes);
  size_t (*segment)(size_t rounded);
  int (*splits)(size_t rounded, size_t rest);
  size_t small_max; /* requests to that size have segments of their own */
  tc_pool *pool;    /* the pool itself instead of rules */
  piece *free_list;
  size_t reserved, peak_reserved;
} policy;

static size_t up(size_t nbytes, size_t step) { return (nbytes + step - 1) / step * step; }
static size_t round_512(size_t nbytes) { return up(nbytes ? nbytes : 1, 512); }

static size_t round_power(size_t nbytes) {
  size_t size = 512;
  while (size < nbytes) size *= 2;
  return size;
}

static size_t segment_exact(size_t rounded) { return rounded; }
static size_t segment_pytorch(size_t rounded) { return rounded <= MIB ? 2 * MIB : rounded < 10 * MIB ? 20 * MIB : up(rounded, 2 * MIB); }
static int splits_always(size_t rounded, size_t rest) { return (void)rounded, rest > 0; }
static int splits_never(size_t rounded, size_t rest) { return (void)rounded, (void)rest, 0; }
static int splits_pytorch(size_t rounded, size_t rest) { return rounded <= MIB ? rest >= 512 : rest > MIB; }

static void free_insert(policy *p, piece *x) {
  x->is_free = 1;
  x->next_free = p->free_list;
  x->link = &p->free_list;
  if (p->free_list) p->free_list->link = &x->next_free;
  p->free_list = x;
}

static void free_remove(piece *x) {
  x->is_free = 0;
  *x->link = x->next_free;
  if (x->next_free) x->next_free->link = x->link;
}

static void merge_behind(piece *x) { /* with the free piece behind it */
  piece *other = x->behind;
  free_remove(other);
  x->nbytes += other->nbytes;
  x->behind = other->behind;
  if (x->behind) x->behind->before = x;
  free(other);
}

static piece *piece_make(size_t nbytes, int small) {
  piece *x = calloc(1, sizeof *x);
  if (!x) abort();
  x->nbytes = nbytes;
  x->small = small;
  return x;
}

static void *policy_take(policy *p, size_t nbytes) {
  if (p->pool) return tc_pool_alloc_on(p->pool, nbytes, 1000);
  size_t rounded = p->round(nbytes);
  int small = rounded <= p->small_max;
  piece *best = NULL;
  for (piece *x = p->free_list; x; x = x->next_free)
    if (x->small == small && x->nbytes >= rounded && (!best || x->nbytes < best->nbytes)) best = x;
  if (best && p->splits == splits_never && best->nbytes != rounded) best = NULL; /* its own size only */
  if (best) {
    free_remove(best);
  } else {
    best = piece_make(p->segment(rounded), small);
    p->reserved += best->nbytes;
    if (p->reserved > p->peak_reserved) p->peak_reserved = p->reserved;
  }
  if (p->splits(rounded, best->nbytes - rounded)) {
    piece *rest = piece_make(best->nbytes - rounded, small);
    rest->before = best;
    rest->behind = best->behind;
    if (rest->behind) rest->behind->before = rest;
    best->behind = rest;
    best->nbytes = rounded;
    free_insert(p, rest);
  }
  return best;
}

static void policy_give(policy *p, void *block) {
  if (p->pool) {
    if (tc_pool_free_on(p->pool, block, 1000) != TC_OK) abort();
    return;
  }
  piece *x = block;
  if (x->behind && x->behind->is_free) merge_behind(x);
  if (x->before && x->before->is_free) {
    x = x->before;
    free_insert(p, x->behind);
    merge_behind(x);
    return;
  }
  free_insert(p, x);
}

static size_t policy_peak(policy *p) {
  tc_stats stats;
  if (!p->pool) return p->peak_reserved;
  tc_pool_stats(p->pool, &stats);
  return (size_t)stats.reserved.peak;
}

static void policy_end(policy *p) { /* nothing is live: every segment is one free piece */
  while (p->free_list) {
    piece *x = p->free_list;
    free_remove(x);
    free(x);
  }
}

/* ---- traces ------------------------------------------------------------------------------------------------------------------------- */

typedef struct run {
  policy *p;
  void *blocks[SLOTS];
  size_t sizes[SLOTS], live, peak; /* bytes */
} run;

static void put(run *r, size_t slot, size_t nbytes) { /* a slot of 0 bytes is empty */
  if (r->blocks[slot]) policy_give(r->p, r->blocks[slot]);
  r->live -= r->sizes[slot];
  r->blocks[slot] = nbytes ? policy_take(r->p, nbytes) : NULL;
  if (nbytes && !r->blocks[slot]) abort();
  r->sizes[slot] = nbytes;
  r->live += nbytes;
  if (r->live > r->peak) r->peak = r->live;
}

static size_t between(size_t low, size_t high) { return low + bench_random() % (high - low + 1); }

/* Activations of 48 layers, forward and back, for batches of sequences of varying length; weights and two moments stay. */
static void trace_training(run *r) {
  enum { LAYERS = 48, WIDTH = 1024 };
  for (size_t i = 0; i < 3 * LAYERS; i++) put(r, i, (size_t)4 * WIDTH * WIDTH * 12 / 8);
  for (size_t step = 0; step < 60; step++) {
    size_t tokens = between(8, 32) * between(64, 512);
    for (size_t layer = 0; layer < LAYERS; layer++) {
      put(r, 200 + layer, tokens * WIDTH * 2);
      put(r, 300 + layer, tokens * WIDTH / 2);
      put(r, 400, tokens * WIDTH * 8); /* inside the layer, gone after it */
      put(r, 401, tokens * 64);
      put(r, 400, 0);
    }
    for (size_t layer = LAYERS; layer-- > 0;) {
      put(r, 402, tokens * WIDTH * 8);
      put(r, 403, (size_t)4 * WIDTH * WIDTH * 12 / 8);
      put(r, 402, 0);
      put(r, 200 + layer, 0);
      put(r, 300 + layer, 0);
    }
    put(r, 401, 0);
    put(r, 403, 0);
  }
}

/* Requests come and go; each holds a cache of keys and values that grows by doubling copies, and short-lived scratch. */
static void trace_inference(run *r) {
  enum { REQUESTS = 32 };
  size_t length[REQUESTS] = {0}, limit[REQUESTS] = {0};
  for (size_t i = 0; i < 40; i++) put(r, i, 24 * MIB);
  for (size_t step = 0; step < 6000; step++) {
    size_t q = bench_random() % REQUESTS;
    if (length[q] == 0) limit[q] = between(200, 4000), length[q] = between(16, 1000);
    if (length[q] >= limit[q]) {
      put(r, 100 + q, 0);
      length[q] = 0;
      continue;
    }
    length[q] += between(16, 200);
    size_t wanted = length[q] * 16384, slot = 100 + q;
    if (wanted > r->sizes[slot]) {
      put(r, 200, wanted + wanted / 4); /* the new one beside the old one, which is copied and goes */
      policy_give(r->p, r->blocks[200]);
      r->live -= r->sizes[200];
      r->blocks[200] = NULL, r->sizes[200] = 0;
      put(r, slot, wanted + wanted / 4);
    }
    put(r, 201, between(1, 64) * 4096);
    put(r, 202, length[q] * 128);
    put(r, 201, 0);
    put(r, 202, 0);
  }
}

/* Images of any size through filters: planes of float32, pyramids, tiles and histograms. */
static void trace_imaging(run *r) {
  for (size_t image = 0; image < 300; image++) {
    size_t pixels = between(800, 6000) * between(600, 4000), base = 10 * (image % 4);
    put(r, base, pixels * 3);
    put(r, base + 1, pixels * 12);
    put(r, base + 2, pixels * 4);
    for (size_t level = 0; level < 5; level++) put(r, 100 + level, pixels * 12 >> (2 * level));
    put(r, 110, pixels / 2 * 8 + 512);
    for (size_t tile = 0; tile < 64; tile++) put(r, 200 + tile, between(1000, 70000));
    put(r, base + 3, 256 * 4 * 3);
    put(r, 110, 0);
    for (size_t level = 0; level < 5; level++) put(r, 100 + level, 0);
    put(r, base + 1, 0);
  }
}

static const struct {
  const char *name;
  void (*play)(run *r);
} TRACES[] = {{"training, batches of varying length", trace_training},
              {"inference, growing caches", trace_inference},
              {"imaging pipeline", trace_imaging}};

static void play(const char *trace, void (*run_trace)(run *r), policy p) {
  run *r = calloc(1, sizeof *r);
  tc_upstream *device = NULL;
  if (!r) abort();
  if (!p.round) { /* the pool, on a device that has the memory */
    tc_pool_options options;
    tc_pool_options_init(&options);
    if (tc_upstream_fake_device_create(NULL, &device) != TC_OK) exit(1);
    options.upstream = device;
    if (tc_pool_create(&options, &p.pool) != TC_OK) exit(1);
  }
  r->p = &p;
  run_trace(r);
  for (size_t slot = 0; slot < SLOTS; slot++) put(r, slot, 0);
  size_t reserved = policy_peak(&p);
  double ratio = (double)reserved / (double)r->peak;
  printf("{\"label\": \"%s\", \"column\": \"%s\", \"ratio\": %.4f, \"peak\": %zu}\n", trace, p.name, ratio, r->peak);
  fflush(stdout);
  policy_end(&p);
  if (p.pool) tc_pool_destroy(p.pool), tc_upstream_fake_device_destroy(device);
  free(r);
}

void bench_fragmentation(void) {
  static const policy POLICIES[] = {
      {.name = "tensorcore"},
      {.name = "cupy", .round = round_512, .segment = segment_exact, .splits = splits_always},
      {.name = "pytorch", .round = round_512, .segment = segment_pytorch, .splits = splits_pytorch, .small_max = MIB},
      {.name = "power of two", .round = round_power, .segment = segment_exact, .splits = splits_never},
  };
  for (size_t t = 0; t < sizeof TRACES / sizeof *TRACES; t++)
    for (size_t p = 0; p < sizeof POLICIES / sizeof *POLICIES; p++) {
      bench_random_seed(t + 1); /* every policy sees the same trace */
      play(TRACES[t].name, TRACES[t].play, POLICIES[p]);
    }
}
