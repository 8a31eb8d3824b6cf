/* test_pools.c - several pools at once: separate, countable, limited in number, and gone without a trace when destroyed. */
#include "overlap.h"
#include "support.h"

static void a_pool_has_the_name_and_upstream_it_was_given(void) {
  static const char long_name[] = "a name of more than sixty-three characters, of which only the first sixty-three are kept";
  tc_upstream *upstream = fake_upstream((tc_fake_options){.backing = NULL});
  tc_pool_options options;
  tc_pool *named, *unnamed;
  tc_pool_options_init(&options);
  options.name = long_name;
  options.upstream = upstream;
  CHECK_STATUS(tc_pool_create(&options, &named), TC_OK, "a pool is made");
  CHECK_STATUS(tc_pool_create(NULL, &unnamed), TC_OK, "a pool of defaults is made");
  CHECK(strlen(tc_pool_name(named)) == 63 && strncmp(tc_pool_name(named), long_name, 63) == 0, "'%s' are 63 characters of the name",
        tc_pool_name(named));
  CHECK(strncmp(tc_pool_name(unnamed), "pool-", 5) == 0, "'%s' is the name of a pool that was given none", tc_pool_name(unnamed));
  CHECK(tc_pool_upstream(named)->allocate == upstream->allocate, "a pool tells its upstream");
  CHECK(strcmp(tc_pool_upstream(unnamed)->name, "os") == 0, "the default upstream is '%s'", tc_pool_upstream(unnamed)->name);
  CHECK_EQUAL(tc_pool_limit(unnamed), 0, "by default there is no limit");
  CHECK(tc_pool_decay(unnamed) > 9.99 && tc_pool_decay(unnamed) < 10.01, "the default decay is %g seconds", tc_pool_decay(unnamed));
  tc_pool_destroy(named);
  tc_pool_destroy(unnamed);
  check_returned(upstream);
}

static void missing_pools_and_handles_are_refused(void) {
  tc_stats stats;
  CHECK_STATUS(tc_pool_create(NULL, NULL), TC_INVALID_ARGUMENT, "a pool needs a place for its handle");
  CHECK(tc_pool_alloc(NULL, 1) == NULL, "no pool, no block");
  CHECK(tc_pool_alloc_zeroed(NULL, 1) == NULL, "no pool, no zeroed block");
  CHECK(tc_pool_alloc_aligned(NULL, 1, 64) == NULL, "no pool, no aligned block");
  CHECK(tc_pool_realloc(NULL, NULL, 1) == NULL, "no pool, no reallocation");
  CHECK_STATUS(tc_pool_free(NULL, &stats), TC_INVALID_ARGUMENT, "freeing needs a pool");
  CHECK_STATUS(tc_pool_reserve(NULL, 1), TC_INVALID_ARGUMENT, "reserving needs a pool");
  CHECK_STATUS(tc_pool_check(NULL, NULL, 0), TC_INVALID_ARGUMENT, "checking needs a pool");
  CHECK_STATUS(tc_pool_destroy(NULL), TC_INVALID_ARGUMENT, "destroying needs a pool");
  CHECK_EQUAL(tc_pool_trim(NULL, 0), 0, "no pool has nothing to give back");
}

static void a_hundred_pools_work_side_by_side(void) {
  enum { POOLS = 100, BLOCKS = 40 };
  static tc_pool *pools[POOLS];
  static void *blocks[POOLS][BLOCKS];
  static size_t sizes[POOLS][BLOCKS];
  uint64_t seed = 3;
  for (size_t p = 0; p < POOLS; p++) pools[p] = pool_over(NULL);
  for (size_t b = 0; b < BLOCKS; b++) {
    for (size_t p = 0; p < POOLS; p++) {
      sizes[p][b] = random_size(&seed, 18);
      CHECK((blocks[p][b] = tc_pool_alloc(pools[p], sizes[p][b])) != NULL, "pool %zu has %zu bytes", p, sizes[p][b]);
      CHECK(tc_pool_of(blocks[p][b]) == pools[p], "a block belongs to pool %zu", p);
      overlap_claim(blocks[p][b], capacity_of(blocks[p][b]));
      pattern_write(blocks[p][b], sizes[p][b], p * BLOCKS + b);
    }
  }
  for (size_t p = 0; p < POOLS; p++) {
    for (size_t b = 0; b < BLOCKS; b++) {
      CHECK_EQUAL(pattern_verify(blocks[p][b], sizes[p][b], p * BLOCKS + b), sizes[p][b], "pool %zu keeps its contents", p);
      overlap_release(blocks[p][b], capacity_of(blocks[p][b]));
      CHECK_STATUS(tc_pool_free(pools[(p + 1) % POOLS], blocks[p][b]), TC_INVALID_FREE, "another pool refuses the block");
      CHECK_STATUS(b % 2 ? tc_free(blocks[p][b]) : tc_pool_free(pools[p], blocks[p][b]), TC_OK, "its own takes it");
    }
  }
  for (size_t p = 0; p < POOLS; p++) {
    CHECK_EQUAL(stats_of(pools[p]).allocation_count, BLOCKS, "pool %zu counted its own blocks only", p);
    check_empties(pools[p]);
    CHECK_STATUS(tc_pool_destroy(pools[p]), TC_OK, "pool %zu is destroyed", p);
  }
}

static void one_pool_too_many_is_refused(void) {
  static tc_pool *pools[TC_MAX_POOLS + 1];
  static void *blocks[TC_MAX_POOLS + 1];
  tc_upstream *upstream = fake_upstream((tc_fake_options){.backing = NULL});
  tc_pool_options options;
  size_t count = 0;
  tc_status status = TC_OK;
  tc_pool_options_init(&options);
  options.upstream = upstream;
  while (count <= TC_MAX_POOLS && (status = tc_pool_create(&options, &pools[count])) == TC_OK) {
    CHECK((blocks[count] = tc_pool_alloc(pools[count], 100)) != NULL, "pool %zu has a block", count);
    count++;
  }
  CHECK_STATUS(status, TC_TOO_MANY_POOLS, "after %zu pools the next is refused", count);
  CHECK_EQUAL(count, TC_MAX_POOLS, "TC_MAX_POOLS pools can be alive");
  CHECK_STATUS(tc_pool_free(pools[0], blocks[0]), TC_OK, "the first pool gets its block back");
  CHECK_STATUS(tc_pool_destroy(pools[0]), TC_OK, "the first pool is destroyed");
  CHECK_STATUS(tc_pool_create(&options, &pools[0]), TC_OK, "its place is free for another");
  CHECK((blocks[0] = tc_pool_alloc(pools[0], 100)) != NULL, "the new pool works");
  for (size_t p = 0; p < count; p++) {
    check_at_rest(pools[p]);
    CHECK_EQUAL(stats_of(pools[p]).requested.current, 100, "pool %zu has one block of 100 bytes", p);
    CHECK(tc_pool_of(blocks[p]) == pools[p], "the block belongs to pool %zu", p);
    CHECK_STATUS(tc_free(blocks[p]), TC_OK, "the block of pool %zu is freed", p);
    CHECK_STATUS(tc_pool_destroy(pools[p]), TC_OK, "pool %zu is destroyed", p);
  }
  check_returned(upstream);
}

static void cycles_of_pools_leak_nothing(void) {
  tc_upstream *upstream = fake_upstream((tc_fake_options){.backing = tc_upstream_os()});
  uint64_t metadata = 0;
  size_t resident = 0;
  for (size_t cycle = 0; cycle < 2000 / SLOWER; cycle++) {
    tc_pool *pool = pool_over(upstream);
    void *small = tc_pool_alloc(pool, 100), *large = tc_pool_alloc(pool, 3 * MiB), *cached = tc_pool_alloc(pool, 5000);
    CHECK(small != NULL && large != NULL && cached != NULL, "each new pool works");
    memset(cached, 1, 5000);
    CHECK_STATUS(tc_pool_free(pool, cached), TC_OK, "one block stays cached until the end");
    CHECK_STATUS(tc_pool_free(pool, large), TC_OK, "the large one too");
    if (cycle % 2) {
      CHECK_STATUS(tc_pool_destroy(pool), TC_OK, "a pool with a live block is destroyed");
      CHECK_STATUS(tc_free(small), TC_OK, "the block outlived its pool");
    } else {
      CHECK_STATUS(tc_pool_free(pool, small), TC_OK, "the block goes before its pool");
      CHECK_STATUS(tc_pool_destroy(pool), TC_OK, "an empty pool is destroyed");
    }
    CHECK(tc_pool_of(small) == NULL, "no pool is left that owns the block");
    tc_fake_counts counts;
    tc_upstream_fake_counts(upstream, &counts);
    CHECK_EQUAL(counts.live_bytes, 0, "cycle %zu gave everything back upstream", cycle);
    if (cycle == 100) {
      pool = pool_over(upstream);
      metadata = stats_of(pool).metadata_bytes;
      resident = resident_bytes();
      tc_pool_destroy(pool);
    }
  }
  tc_pool *last = pool_over(upstream);
  CHECK(stats_of(last).metadata_bytes <= metadata, "metadata did not grow from %" PRIu64 " to %" PRIu64, metadata,
        stats_of(last).metadata_bytes);
  CHECK(resident_bytes() < resident + 8 * MiB, "the process did not grow from %zu to %zu bytes", resident, resident_bytes());
  tc_pool_destroy(last);
  check_returned(upstream);
}

static void blocks_outlive_their_pool(void) {
  static const size_t sizes[] = {0, 1, 100, 5000, 70000, 900000, 10000000};
  enum { COUNT = sizeof sizes / sizeof *sizes };
  tc_upstream *upstream = fake_upstream((tc_fake_options){.backing = tc_upstream_os()});
  tc_pool *pool = pool_over(upstream);
  void *blocks[COUNT];
  for (size_t i = 0; i < COUNT; i++) {
    CHECK((blocks[i] = tc_pool_alloc(pool, sizes[i])) != NULL, "%zu bytes are to be had", sizes[i]);
    pattern_write(blocks[i], sizes[i], i);
  }
  CHECK_STATUS(tc_pool_destroy(pool), TC_OK, "a pool with live blocks is destroyed");
  CHECK(tc_pool_alloc(pool, 100) == NULL && tc_pool_alloc(pool, MiB) == NULL, "a destroyed pool hands out nothing");
  CHECK_STATUS(tc_pool_reserve(pool, MiB), TC_CLOSED, "a destroyed pool reserves nothing");
  for (size_t i = 0; i < COUNT; i++) {
    CHECK(tc_pool_of(blocks[i]) != NULL, "a live block of %zu bytes is still known", sizes[i]);
    CHECK_EQUAL(pattern_verify(blocks[i], sizes[i], i), sizes[i], "a live block of %zu bytes keeps its contents", sizes[i]);
    CHECK_STATUS(i % 2 ? tc_free(blocks[i]) : tc_pool_free(pool, blocks[i]), TC_OK, "a live block of %zu bytes is freed", sizes[i]);
  }
  for (size_t i = 0; i < COUNT; i++) CHECK_STATUS(tc_free(blocks[i]), TC_INVALID_FREE, "the pool went with its last block");
  check_returned(upstream);
}

int main(void) {
  RUN(a_pool_has_the_name_and_upstream_it_was_given);
  RUN(missing_pools_and_handles_are_refused);
  RUN(a_hundred_pools_work_side_by_side);
  RUN(cycles_of_pools_leak_nothing);
  RUN(blocks_outlive_their_pool);
  RUN(one_pool_too_many_is_refused);
  return 0;
}
