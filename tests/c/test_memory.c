/* test_memory.c - bounds on memory that hold on any machine: fragmentation, growth under drifting sizes, records.
 *
 * The upstream is a fake with made-up addresses, so nothing depends on pages or on time. `tensorcore bench memory` has the figures.
 * CHECK_OPERATIONS=100000000 makes the run with drifting sizes a long one.
 */
#include "bench/workloads.h"
#include "support.h"

enum { SHAPES = 48, LIVE = 8192 };

static tc_upstream *fake;

static tc_pool *pool_made(int learn) {
  tc_pool_options options;
  tc_pool *pool = NULL;
  CHECK_STATUS(tc_upstream_fake_create(NULL, &fake), TC_OK, "a fake upstream is made");
  tc_pool_options_init(&options);
  options.upstream = fake;
  options.decay = -1;
  options.learn = learn;
  CHECK_STATUS(tc_pool_create(&options, &pool), TC_OK, "a pool is created");
  return pool;
}

static void pool_ended(tc_pool *pool) {
  check_empties(pool);
  CHECK_STATUS(tc_pool_destroy(pool), TC_OK, "the pool is destroyed");
  tc_upstream_fake_destroy(fake);
}

/* ---- fragmentation ------------------------------------------------------------------------------------------------------------------- */

static void no_size_above_512_bytes_loses_more_than_an_eighth(void) {
  tc_pool *pool = pool_made(1);
  for (size_t nbytes = 513; nbytes <= 16 * MiB; nbytes += nbytes < 64 * KiB ? 1 : nbytes / 512) {
    void *block = tc_pool_alloc(pool, nbytes);
    size_t lost = capacity_of(block) - nbytes;
    CHECK(lost * 8 <= capacity_of(block), "%zu bytes lie in a block of %zu", nbytes, capacity_of(block));
    CHECK_STATUS(tc_pool_free(pool, block), TC_OK, "freed");
  }
  pool_ended(pool);
}

static size_t shapes[SHAPES];
static size_t size_of_shape(void) { return shapes[workload_below(SHAPES)]; }
static size_t size_of_tensor(void) { return (4 * KiB << workload_below(11)) - workload_below(KiB); }
static size_t size_of_anything(void) { return workload_between(KiB, 256 * KiB); }

/* Blocks replaced at random; the mean of 1 - requested / allocated over the later half, in percent. */
static double lost_percent(int learn, size_t (*size)(void)) {
  enum { COUNT = 1000, OPERATIONS = 60000 };
  static void *blocks[COUNT];
  double requested = 0, allocated = 0;
  tc_pool *pool = pool_made(learn);
  workload_seed = 7;
  for (size_t i = 0; i < SHAPES; i++) shapes[i] = workload_between(KiB, 4 * MiB) & ~(size_t)7;
  for (size_t i = 0; i < OPERATIONS; i++) {
    size_t slot = workload_below(COUNT);
    CHECK_STATUS(tc_pool_free(pool, blocks[slot]), TC_OK, "freed");
    CHECK((blocks[slot] = tc_pool_alloc(pool, size())) != NULL, "memory is to be had");
    if (i < OPERATIONS / 2 || i % 100) continue;
    tc_stats s = stats_of(pool);
    requested += (double)s.requested.current, allocated += (double)s.allocated.current;
  }
  for (size_t slot = 0; slot < COUNT; slot++) {
    CHECK_STATUS(tc_pool_free(pool, blocks[slot]), TC_OK, "freed");
    blocks[slot] = NULL;
  }
  pool_ended(pool);
  return 100 * (1 - requested / allocated);
}

static void traces_lose_six_percent_at_most_and_two_once_their_sizes_are_known(void) {
  static const struct {
    const char *name;
    size_t (*size)(void);
    double before, after; /* percent */
  } traces[] = {
      {"tensors just below powers of two", size_of_tensor, 6, 2},
      {"the 48 sizes of a program", size_of_shape, 6, 2},
      {"any size", size_of_anything, 6, 6}, /* no size comes back: nothing is to be learned */
  };
  for (size_t i = 0; i < sizeof traces / sizeof *traces; i++) {
    double before = lost_percent(0, traces[i].size), after = lost_percent(1, traces[i].size);
    CHECK(before <= traces[i].before, "%s: %.2f %% are lost without learning", traces[i].name, before);
    CHECK(after <= traces[i].after, "%s: %.2f %% are lost with it", traces[i].name, after);
  }
}

/* ---- growth -------------------------------------------------------------------------------------------------------------------------- */

static void sizes_that_drift_leave_reserved_within_a_quarter_of_the_peak(void) {
  static void *blocks[LIVE];
  const char *asked = getenv("CHECK_OPERATIONS");
  size_t operations = asked != NULL ? strtoull(asked, NULL, 10) : 2000000 / SLOWER;
  tc_pool *pool = pool_made(1);
  workload_seed = 1234;
  for (size_t i = 0; i < operations; i++) {
    size_t slot = workload_below(LIVE);
    CHECK_STATUS(tc_pool_free(pool, blocks[slot]), TC_OK, "freed");
    CHECK((blocks[slot] = tc_pool_alloc(pool, workload_drifting((double)i / (double)operations))) != NULL, "memory is to be had");
  }
  tc_stats s = stats_of(pool);
  CHECK(s.reserved.peak <= s.requested.peak + s.requested.peak / 4, "reserved at most %" PRIu64 " KiB, live at most %" PRIu64,
        s.reserved.peak / KiB, s.requested.peak / KiB);
  for (size_t slot = 0; slot < LIVE; slot++) CHECK_STATUS(tc_pool_free(pool, blocks[slot]), TC_OK, "freed");
  pool_ended(pool);
}

/* ---- records ------------------------------------------------------------------------------------------------------------------------- */

static void records_take_one_and_a_half_percent_of_what_is_reserved_at_most(void) {
  static const struct {
    size_t count, low, high;
  } pools[] = {{256, 64 * KiB, 4 * MiB}, {10000, 4 * KiB, 64 * KiB}, {200000, 512, 4 * KiB}}; /* larger blocks first: records are kept */
  static void *blocks[200000];
  for (size_t i = 0; i < sizeof pools / sizeof *pools; i++) {
    tc_pool *pool = pool_made(1);
    workload_seed = 99;
    for (size_t slot = 0; slot < pools[i].count; slot++)
      CHECK((blocks[slot] = tc_pool_alloc(pool, workload_between(pools[i].low, pools[i].high))) != NULL, "memory is to be had");
    tc_stats s = stats_of(pool);
    uint64_t map = s.reserved.current / 512; /* from addresses to runs: 8 bytes a page of 4 KiB */
    CHECK(1000 * (s.metadata_bytes + map) <= 15 * s.reserved.current, "%" PRIu64 " of %" PRIu64 " KiB, with blocks of %zu to %zu bytes",
          (s.metadata_bytes + map) / KiB, s.reserved.current / KiB, pools[i].low, pools[i].high);
    for (size_t slot = 0; slot < pools[i].count; slot++) CHECK_STATUS(tc_pool_free(pool, blocks[slot]), TC_OK, "freed");
    pool_ended(pool);
  }
}

int main(void) {
  RUN(records_take_one_and_a_half_percent_of_what_is_reserved_at_most); /* first: records are shared and kept */
  RUN(no_size_above_512_bytes_loses_more_than_an_eighth);
  RUN(traces_lose_six_percent_at_most_and_two_once_their_sizes_are_known);
  RUN(sizes_that_drift_leave_reserved_within_a_quarter_of_the_peak);
  return 0;
}
