/* bench_device.c - measures a stream-ordered pool on the fake device: `bench_device [--quick] [--case NAME]`, a line of JSON per row.
 *
 * The floor is the same loop with an uncontended mutex around nothing (`harness`). Limit: no device, so neither what an event costs nor
 * what a kernel does to the caches is in a figure; the fragmentation cases count bytes and take no time.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench_device.h"
#include "tensorcore.h"

enum { LIVE = 100000, OPERATIONS = 200000, REPETITIONS = 5, FIRST_STREAM = 1000 };

static size_t operations = OPERATIONS;
static int repetitions = REPETITIONS;

static uint64_t random_state = 0x9E3779B97F4A7C15u;

uint64_t bench_random(void) { /* xorshift64, Marsaglia 2003 */
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return random_state;
}

void bench_random_seed(uint64_t seed) { random_state = 0x9E3779B97F4A7C15u * (2 * seed + 1); }

static void *checked(void *memory) {
  if (memory != NULL) return memory;
  fprintf(stderr, "bench_device: out of memory\n");
  exit(1);
}

static int compare(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* ---- what is timed ------------------------------------------------------------------------------------------------------------------ */

typedef struct bench {
  tc_upstream *device;
  tc_pool *pool; /* NULL: the harness */
  pthread_mutex_t lock;
  size_t streams, nbytes;
  void **live; /* LIVE blocks, each on the stream of its index */
} bench;

static uintptr_t stream_of(const bench *b, size_t i) { return FIRST_STREAM + i % b->streams * 64; }

static void *take(bench *b, size_t nbytes, uintptr_t stream) {
  if (b->pool) return checked(tc_pool_alloc_on(b->pool, nbytes, stream));
  pthread_mutex_lock(&b->lock);
  pthread_mutex_unlock(&b->lock);
  return b;
}

static void give(bench *b, void *block, uintptr_t stream) {
  if (b->pool) {
    if (tc_pool_free_on(b->pool, block, stream) != TC_OK) abort();
    return;
  }
  pthread_mutex_lock(&b->lock);
  pthread_mutex_unlock(&b->lock);
}

static void pass_pairs(bench *b) { /* on one stream after the other */
  for (size_t i = 0; i < operations; i++) {
    uintptr_t stream = stream_of(b, i);
    give(b, take(b, b->nbytes, stream), stream);
  }
}

static void pass_replace(bench *b) { /* a live block in a random place goes, and a new one comes on its stream */
  for (size_t i = 0; i < operations; i++) {
    size_t at = bench_random() % LIVE;
    uintptr_t stream = stream_of(b, at);
    give(b, b->live[at], stream);
    b->live[at] = take(b, b->nbytes, stream);
  }
}

static bench bench_make(int is_harness, size_t streams, size_t nbytes) {
  bench b = {.streams = streams, .nbytes = nbytes, .live = checked(malloc(LIVE * sizeof(void *)))};
  pthread_mutex_init(&b.lock, NULL);
  tc_pool_options options;
  tc_pool_options_init(&options);
  if (!is_harness) {
    if (tc_upstream_fake_device_create(NULL, &b.device) != TC_OK) exit(1);
    options.upstream = b.device;
    if (tc_pool_create(&options, &b.pool) != TC_OK) exit(1);
  }
  for (size_t i = 0; i < LIVE; i++) b.live[i] = take(&b, nbytes, stream_of(&b, i));
  return b;
}

static void bench_drop(bench *b) {
  for (size_t i = 0; i < LIVE; i++) give(b, b->live[i], stream_of(b, i));
  if (b->pool && tc_pool_destroy(b->pool) != TC_OK) abort();
  if (b->device) tc_upstream_fake_device_destroy(b->device);
  pthread_mutex_destroy(&b->lock);
  free(b->live);
}

static double measure(void (*pass)(bench *), bench *b) { /* ns per pair, the median repetition */
  double times[REPETITIONS];
  pass(b);
  for (int i = 0; i < repetitions; i++) {
    double start = bench_now();
    pass(b);
    times[i] = (bench_now() - start) / (double)operations * 1e9;
  }
  qsort(times, (size_t)repetitions, sizeof *times, compare);
  return times[repetitions / 2];
}

/* ---- cases -------------------------------------------------------------------------------------------------------------------------- */

static const size_t STREAMS[] = {1, 10, 100, 1000};
static const size_t SIZES[] = {512, 8192, 65536, 1 << 20};
static const char *const SIZE_NAMES[] = {"512 B", "8 KiB", "64 KiB", "1 MiB"};
enum { STREAM_COUNTS = sizeof STREAMS / sizeof *STREAMS, SIZE_COUNT = sizeof SIZES / sizeof *SIZES };

static void curve(void (*pass)(bench *), const char *what) {
  for (size_t size = 0; size < SIZE_COUNT; size++)
    for (size_t i = 0; i < STREAM_COUNTS; i++) {
      char label[96];
      snprintf(label, sizeof label, "%s of %s, %zu stream%s", what, SIZE_NAMES[size], STREAMS[i], STREAMS[i] > 1 ? "s" : "");
      for (int is_harness = 1; is_harness >= 0; is_harness--) {
        bench b = bench_make(is_harness, STREAMS[i], SIZES[size]);
        printf("{\"label\": \"%s\", \"column\": \"%s\", \"ns\": %.3f}\n", label, is_harness ? "harness" : "tensorcore", measure(pass, &b));
        fflush(stdout);
        bench_drop(&b);
      }
    }
}

static void case_pair(void) { curve(pass_pairs, "pairs"); }
static void case_replace(void) { curve(pass_replace, "blocks"); }

static const struct {
  const char *name;
  void (*run)(void);
} CASES[] = {{"pair", case_pair}, {"replace", case_replace}, {"fragmentation", bench_fragmentation}};

static int usage_error(void) {
  fprintf(stderr, "usage: bench_device [--quick] [--case NAME]\ncases:");
  for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) fprintf(stderr, " %s", CASES[i].name);
  fprintf(stderr, "\n");
  return 2;
}

int main(int argc, char **argv) {
  const char *only = NULL;
  int found = 0;
  for (int i = 1; i < argc; i++) {
    if (strcmp(argv[i], "--quick") == 0) {
      operations = OPERATIONS / 20;
      repetitions = 1;
    } else if (strcmp(argv[i], "--case") == 0 && i + 1 < argc) {
      only = argv[++i];
    } else {
      return usage_error();
    }
  }
  for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++)
    if (!only || strcmp(only, CASES[i].name) == 0) CASES[i].run(), found = 1;
  return found ? 0 : usage_error();
}
