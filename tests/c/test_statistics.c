/* test_statistics.c - the figures: invariants at rest, totals, peaks, hits and misses, per class, learned sizes, watermark. */
#include "support.h"

enum { MANY = 4096 };
static void *blocks[MANY];

static void allocate_many(tc_pool *pool, size_t count, size_t nbytes) {
  for (size_t i = 0; i < count; i++) CHECK((blocks[i] = tc_pool_alloc(pool, nbytes)) != NULL, "%zu bytes are to be had", nbytes);
}

static void free_many(tc_pool *pool, size_t count) {
  for (size_t i = 0; i < count; i++) CHECK_STATUS(tc_pool_free(pool, blocks[i]), TC_OK, "block %zu is freed", i);
}

static void a_new_pool_has_done_nothing(void) {
  tc_pool *pool = pool_over(NULL);
  tc_stats s = stats_of(pool);
  CHECK_EQUAL(s.allocation_count + s.deallocation_count + s.hits + s.misses + s.upstream_calls, 0, "nothing has happened yet");
  CHECK_EQUAL(s.requested.peak + s.allocated.peak + s.reserved.peak, 0, "nothing was held yet");
  CHECK_EQUAL(tc_pool_class_stats(pool, NULL, 0), 0, "no class has traffic yet");
  check_empties(pool);
  tc_pool_destroy(pool);
}

static void invariants_hold_after_every_step(void) {
  enum { SLOTS = 200 };
  static size_t sizes[SLOTS];
  uint64_t seed = 17, requested = 0, live = 0, allocations = 0;
  tc_pool *pool = pool_over(NULL);
  memset(blocks, 0, sizeof blocks);
  for (size_t step = 0; step < 8000 / SLOWER; step++) {
    size_t at = random_below(&seed, SLOTS);
    if (blocks[at] != NULL) {
      CHECK_STATUS(tc_pool_free(pool, blocks[at]), TC_OK, "a live block is freed");
      requested -= sizes[at];
      live--;
      blocks[at] = NULL;
    } else {
      sizes[at] = random_size(&seed, 21);
      CHECK((blocks[at] = tc_pool_alloc(pool, sizes[at])) != NULL, "%zu bytes are to be had", sizes[at]);
      requested += sizes[at];
      live++;
      allocations++;
    }
    if (step % 1000 == 0) tc_pool_trim(pool, 16 * MiB);
    check_at_rest(pool);
    tc_stats s = stats_of(pool);
    CHECK_EQUAL(s.requested.current, requested, "requested is the sum of the live requests");
    CHECK_EQUAL(s.allocation_count, allocations, "allocations are counted");
    CHECK_EQUAL(s.allocation_count - s.deallocation_count, live, "the difference of the counts is what lives");
    CHECK_EQUAL(s.hits + s.misses, s.allocation_count, "an allocation is a hit or a miss");
    CHECK(s.largest_free_block <= s.free_run_bytes, "the largest free run %" PRIu64 " is one of %" PRIu64, s.largest_free_block,
          s.free_run_bytes);
    CHECK(s.free_run_bytes <= s.cached.current, "free runs %" PRIu64 " are part of the cache %" PRIu64, s.free_run_bytes, s.cached.current);
  }
  for (size_t at = 0; at < SLOTS; at++) CHECK_STATUS(tc_pool_free(pool, blocks[at]), TC_OK, "the rest is freed");
  check_empties(pool);
  tc_pool_destroy(pool);
}

static void allocated_is_the_sum_of_the_capacities(void) {
  uint64_t seed = 23, capacities = 0;
  tc_pool *pool = pool_over(NULL);
  for (size_t i = 0; i < 1000; i++) {
    size_t nbytes = random_size(&seed, 20);
    CHECK((blocks[i] = tc_pool_alloc(pool, nbytes)) != NULL, "%zu bytes are to be had", nbytes);
    capacities += capacity_of(blocks[i]);
  }
  CHECK_EQUAL(stats_of(pool).allocated.current, capacities, "allocated is the sum of the live capacities");
  CHECK_EQUAL(stats_of(pool).allocated.total_allocated, capacities, "and so far their total");
  free_many(pool, 1000);
  CHECK_EQUAL(stats_of(pool).allocated.current, 0, "nothing is allocated when everything is freed");
  CHECK_EQUAL(stats_of(pool).allocated.total_freed, capacities, "and the total freed is the total allocated");
  check_empties(pool);
  tc_pool_destroy(pool);
}

static void peaks_remember_until_they_are_reset(void) {
  tc_pool *pool = pool_over(NULL);
  allocate_many(pool, 64, MiB);
  uint64_t allocated = stats_of(pool).allocated.current, reserved = stats_of(pool).reserved.current;
  free_many(pool, 64);
  tc_pool_trim(pool, 0);
  tc_stats s = stats_of(pool);
  CHECK_EQUAL(s.requested.peak, 64 * MiB, "the requested peak is what was live at once");
  CHECK(s.allocated.peak >= s.requested.peak && s.allocated.peak <= allocated,
        "the allocated peak %" PRIu64 " lies between %" PRIu64 " requested and the %" PRIu64 " that were allocated", s.allocated.peak,
        s.requested.peak, allocated);
  CHECK_EQUAL(s.reserved.peak, reserved, "the reserved peak too");
  CHECK_EQUAL(s.reserved.current, 0, "while nothing is held any more");
  void *small = tc_pool_alloc(pool, 1000);
  tc_pool_reset_peak(pool);
  s = stats_of(pool);
  CHECK_EQUAL(s.requested.peak, 1000, "after a reset the peak is the current value");
  CHECK_EQUAL(s.allocated.peak, s.allocated.current, "of allocated bytes too");
  CHECK_EQUAL(s.reserved.peak, s.reserved.current, "of reserved bytes too");
  CHECK_EQUAL(s.requested.total_allocated, 64 * MiB + 1000, "totals are never reset");
  CHECK_STATUS(tc_pool_free(pool, small), TC_OK, "freed");
  check_empties(pool);
  tc_pool_destroy(pool);
}

/* One thread's peaks are exact; those of several threads at once may exceed the true one by what each had at its own height. */
static void a_peak_between_two_readings_is_not_lost(void) {
  tc_pool *pool = pool_over(NULL);
  for (size_t nbytes = 64; nbytes <= MiB; nbytes *= 8) {
    tc_pool_reset_peak(pool);
    size_t count = 32 * MiB / nbytes < MANY ? 32 * MiB / nbytes : MANY;
    allocate_many(pool, count, nbytes);
    free_many(pool, count);
    CHECK(stats_of(pool).requested.peak >= count * nbytes, "%zu blocks of %zu bytes were live at once; the peak says %" PRIu64, count, nbytes,
          stats_of(pool).requested.peak);
    CHECK(stats_of(pool).allocated.peak >= count * nbytes, "allocated peaked at least there: %" PRIu64, stats_of(pool).allocated.peak);
  }
  check_empties(pool);
  tc_pool_destroy(pool);
}

static void recycled_blocks_are_hits(void) {
  tc_pool *pool = pool_over(NULL);
  for (size_t nbytes = 64; nbytes <= 64 * MiB; nbytes *= 16) {
    void *block = tc_pool_alloc(pool, nbytes);
    CHECK_STATUS(tc_pool_free(pool, block), TC_OK, "freed");
    tc_stats before = stats_of(pool);
    for (size_t i = 0; i < 100; i++) {
      CHECK((block = tc_pool_alloc(pool, nbytes)) != NULL, "%zu bytes are to be had", nbytes);
      CHECK_STATUS(tc_pool_free(pool, block), TC_OK, "freed");
    }
    tc_stats after = stats_of(pool);
    CHECK_EQUAL(after.hits, before.hits + 100, "a recycled block of %zu bytes is a hit", nbytes);
    CHECK_EQUAL(after.misses, before.misses, "and no miss");
    CHECK_EQUAL(after.upstream_calls, before.upstream_calls, "and calls no upstream");
  }
  check_empties(pool);
  tc_pool_destroy(pool);
}

static void classes_add_up_to_the_totals(void) {
  enum { CLASSES = 512 };
  static tc_class_stats classes[CLASSES];
  uint64_t seed = 31, live = 0, allocations = 0, smallest = 0;
  tc_pool *pool = pool_over(NULL);
  for (size_t i = 0; i < 2000; i++) CHECK((blocks[i] = tc_pool_alloc(pool, random_size(&seed, 21))) != NULL, "memory is to be had");
  for (size_t i = 0; i < 1000; i++) CHECK_STATUS(tc_pool_free(pool, blocks[i]), TC_OK, "half is freed");
  size_t count = tc_pool_class_stats(pool, classes, CLASSES);
  CHECK(count > 0 && count <= CLASSES, "%zu classes have traffic", count);
  CHECK_EQUAL(tc_pool_class_stats(pool, NULL, 0), count, "asking how many writes nothing");
  tc_class_stats first = {0};
  CHECK_EQUAL(tc_pool_class_stats(pool, &first, 1), count, "a short array is filled, the count is the whole");
  CHECK_EQUAL(first.block_size, classes[0].block_size, "the smallest class comes first");
  for (size_t i = 0; i < count; i++) {
    CHECK(i == 0 || classes[i].block_size > classes[i - 1].block_size, "classes ascend: %zu", classes[i].block_size);
    CHECK(classes[i].hits <= classes[i].allocations, "hits are allocations of class %zu", classes[i].block_size);
    CHECK(classes[i].live <= classes[i].allocations, "live blocks were allocated in class %zu", classes[i].block_size);
    CHECK(classes[i].allocations + classes[i].cached > 0, "class %zu has traffic or cached blocks", classes[i].block_size);
    live += classes[i].live;
    allocations += classes[i].allocations;
    smallest += classes[i].live * classes[i].block_size;
  }
  tc_stats s = stats_of(pool);
  CHECK_EQUAL(live, 1000, "the classes' live blocks are all live blocks");
  CHECK_EQUAL(allocations, s.allocation_count, "the classes' allocations are all allocations");
  CHECK(smallest <= s.allocated.current, "the classes' live bytes are at most the allocated bytes %" PRIu64, s.allocated.current);
  for (size_t i = 1000; i < 2000; i++) CHECK_STATUS(tc_pool_free(pool, blocks[i]), TC_OK, "the rest is freed");
  check_empties(pool);
  count = tc_pool_class_stats(pool, classes, CLASSES);
  for (size_t i = 0; i < count; i++) {
    CHECK_EQUAL(classes[i].live, 0, "class %zu has no live block in an empty pool", classes[i].block_size);
    CHECK_EQUAL(classes[i].cached, 0, "class %zu has no cached block in an empty pool", classes[i].block_size);
  }
  tc_pool_destroy(pool);
}

static double capacity_ratio(int learn) {
  tc_class_stats classes[64];
  tc_pool_options options;
  tc_pool *pool;
  int learned = 0;
  tc_pool_options_init(&options);
  options.learn = learn;
  CHECK_STATUS(tc_pool_create(&options, &pool), TC_OK, "a pool is made");
  for (size_t round = 0; round < 200; round++) {
    allocate_many(pool, 100, 80000);
    free_many(pool, 100);
  }
  allocate_many(pool, 100, 80000);
  tc_stats s = stats_of(pool);
  size_t count = tc_pool_class_stats(pool, classes, 64);
  CHECK(count <= 64, "one size makes few classes");
  for (size_t i = 0; i < count; i++) {
    learned += classes[i].learned;
    if (classes[i].learned)
      CHECK(classes[i].block_size >= 80000 && classes[i].block_size < 81920, "the learned class of %zu bytes fits 80,000 better",
            classes[i].block_size);
  }
  CHECK_EQUAL(learned, learn, "a pool that learns learned the one size");
  check_at_rest(pool);
  free_many(pool, 100);
  check_empties(pool);
  tc_pool_destroy(pool);
  return (double)s.allocated.current / (double)s.requested.current;
}

static void a_size_asked_for_often_gets_its_own_class(void) {
  double plain = capacity_ratio(0), learned = capacity_ratio(1);
  CHECK(plain >= 1.02, "80,000 bytes fit their plain class badly: %.4f", plain);
  CHECK(learned < 1.005, "and their learned class well: %.4f", learned);
}

static void count_warning(tc_pool *pool, double utilization, void *context) {
  tc_stats s = stats_of(pool); /* allowed: no lock is held */
  CHECK(s.reserved.current > 0 && utilization >= 0.5 && utilization <= 1.0, "the warning carries a ratio of %.3f", utilization);
  ++*(unsigned *)context;
}

static void a_warning_comes_once_per_crossing(void) {
  unsigned warnings = 0;
  tc_pool *pool = pool_over(NULL);
  CHECK_STATUS(tc_pool_reserve(pool, 64 * MiB), TC_OK, "64 MiB are reserved");
  tc_pool_warn_at(pool, 0.5, count_warning, &warnings);
  for (unsigned crossing = 1; crossing <= 3; crossing++) {
    allocate_many(pool, 16, MiB);
    CHECK_EQUAL(warnings, crossing - 1, "a quarter is below the ratio");
    for (size_t i = 16; i < 56; i++) CHECK((blocks[i] = tc_pool_alloc(pool, MiB)) != NULL, "reserved memory is to be had");
    CHECK_EQUAL(warnings, crossing, "rising above the ratio warns once");
    free_many(pool, 56);
    CHECK_EQUAL(warnings, crossing, "falling below it warns not at all");
  }
  tc_pool_warn_at(pool, 0.5, NULL, NULL);
  allocate_many(pool, 56, MiB);
  CHECK_EQUAL(warnings, 3, "a warning taken back doesn't come");
  free_many(pool, 56);
  check_empties(pool);
  tc_pool_destroy(pool);
}

int main(void) {
  RUN(a_new_pool_has_done_nothing);
  RUN(invariants_hold_after_every_step);
  RUN_FAST(allocated_is_the_sum_of_the_capacities);
  RUN(peaks_remember_until_they_are_reset);
  RUN(a_peak_between_two_readings_is_not_lost);
  RUN_FAST(recycled_blocks_are_hits);
  RUN_FAST(classes_add_up_to_the_totals);
  RUN(a_size_asked_for_often_gets_its_own_class);
  RUN_FAST(a_warning_comes_once_per_crossing);
  return 0;
}
