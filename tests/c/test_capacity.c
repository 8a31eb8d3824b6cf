/* test_capacity.c - what a pool holds from upstream: initial capacity, reserve, limit, trim and decay. */
#include "support.h"

static void initial_capacity_preallocates_the_eleven_sizes(void) {
  static const size_t capacities[] = {256 * KiB, 2 * MiB, 16 * MiB, 100 * MiB};
  for (size_t i = 0; i < sizeof capacities / sizeof *capacities; i++) {
    tc_upstream *upstream = fake_upstream((tc_fake_options){.backing = NULL});
    tc_pool_options options;
    tc_pool *pool;
    tc_pool_options_init(&options);
    options.upstream = upstream;
    options.initial_capacity = capacities[i];
    CHECK_STATUS(tc_pool_create(&options, &pool), TC_OK, "a pool of %zu bytes is made", capacities[i]);
    uint64_t before = counts_of(upstream).allocate_calls;
    CHECK(stats_of(pool).reserved.current >= capacities[i], "%" PRIu64 " bytes are reserved of the %zu asked for",
          stats_of(pool).reserved.current, capacities[i]);
    for (size_t nbytes = 64; nbytes <= 65536; nbytes *= 2) {
      void *block = tc_pool_alloc(pool, nbytes);
      CHECK(block != NULL, "a preallocated block of %zu bytes is to be had", nbytes);
      CHECK_STATUS(tc_pool_free(pool, block), TC_OK, "it is freed");
    }
    CHECK_EQUAL(counts_of(upstream).allocate_calls, before, "the eleven sizes need no upstream call on their first use");
    CHECK_EQUAL(stats_of(pool).misses, 0, "none of them went upstream");
    CHECK_EQUAL(stats_of(pool).hits, 11, "each of them was a hit");
    check_empties(pool);
    tc_pool_destroy(pool);
    check_returned(upstream);
  }
}

static void reserve_is_a_total_not_an_addition(void) {
  tc_upstream *upstream = fake_upstream((tc_fake_options){.backing = NULL});
  tc_pool_options options;
  tc_pool *pool;
  tc_pool_options_init(&options);
  options.upstream = upstream;
  options.initial_capacity = 16 * MiB;
  CHECK_STATUS(tc_pool_create(&options, &pool), TC_OK, "a pool of 16 MiB is made");
  CHECK_STATUS(tc_pool_reserve(pool, 32 * MiB), TC_OK, "32 MiB in total are reserved");
  size_t reserved = stats_of(pool).reserved.current;
  CHECK(reserved >= 32 * MiB && reserved < 48 * MiB, "%zu bytes are 32 MiB in total, not 32 MiB more", reserved);
  CHECK_STATUS(tc_pool_reserve(pool, 32 * MiB), TC_OK, "the same reservation again is met already");
  CHECK_STATUS(tc_pool_reserve(pool, 1), TC_OK, "a smaller reservation is met already");
  CHECK_STATUS(tc_pool_reserve(pool, 0), TC_OK, "a reservation of nothing is met already");
  CHECK_EQUAL(stats_of(pool).reserved.current, reserved, "a met reservation changes nothing");
  uint64_t before = counts_of(upstream).allocate_calls;
  void *blocks[24];
  for (size_t i = 0; i < 24; i++) CHECK((blocks[i] = tc_pool_alloc(pool, MiB)) != NULL, "a reserved MiB is to be had");
  CHECK_EQUAL(counts_of(upstream).allocate_calls, before, "24 of 32 reserved MiB need no upstream call");
  for (size_t i = 0; i < 24; i++) CHECK_STATUS(tc_pool_free(pool, blocks[i]), TC_OK, "it is freed");
  check_empties(pool);
  tc_pool_destroy(pool);
  check_returned(upstream);
}

static void a_limit_is_never_crossed(void) {
  static const size_t sizes[] = {64, 1000, 50000, 300000, 3000000};
  enum { LIMIT = 32 * 1024 * 1024, MOST = LIMIT / 64 };
  static void *blocks[MOST + 1];
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    tc_upstream *upstream = fake_upstream((tc_fake_options){.backing = NULL});
    tc_pool *pool = pool_over(upstream);
    CHECK_EQUAL(tc_pool_limit(pool), 0, "a pool has no limit unless it is given one");
    CHECK_EQUAL(tc_pool_set_limit(pool, LIMIT), 0, "setting a limit returns the old one");
    CHECK_EQUAL(tc_pool_limit(pool), LIMIT, "the limit is kept");
    size_t count = 0;
    while (count <= MOST && (blocks[count] = tc_pool_alloc(pool, sizes[i])) != NULL) count++;
    tc_stats full = stats_of(pool);
    CHECK(count <= MOST, "blocks of %zu bytes come to an end within the limit", sizes[i]);
    CHECK(count * sizes[i] >= LIMIT / 2, "at least half of the limit is to be had: %zu blocks of %zu bytes", count, sizes[i]);
    CHECK(full.reserved.peak <= LIMIT, "reserved bytes peak at %" PRIu64 ", within the limit", full.reserved.peak);
    CHECK_EQUAL(full.out_of_memory_failures, 1, "the refusal is counted");
    CHECK_STATUS(tc_pool_reserve(pool, 2 * (size_t)LIMIT), TC_OUT_OF_MEMORY, "a reservation beyond the limit is refused");
    check_at_rest(pool);
    CHECK_STATUS(tc_pool_free(pool, blocks[--count]), TC_OK, "one is freed");
    CHECK((blocks[count++] = tc_pool_alloc(pool, sizes[i])) != NULL, "what was freed is to be had again");
    while (count > 0) CHECK_STATUS(tc_pool_free(pool, blocks[--count]), TC_OK, "it is freed");
    check_empties(pool);
    tc_pool_destroy(pool);
    check_returned(upstream);
  }
}

static void a_lower_limit_trims_then_refuses_growth(void) {
  tc_upstream *upstream = fake_upstream((tc_fake_options){.backing = NULL});
  tc_pool *pool = pool_over(upstream);
  void *kept = tc_pool_alloc(pool, 16 * MiB), *freed = tc_pool_alloc(pool, 64 * MiB);
  CHECK(kept != NULL && freed != NULL, "80 MiB are to be had");
  CHECK_STATUS(tc_pool_free(pool, freed), TC_OK, "64 MiB of them are freed");
  CHECK_EQUAL(tc_pool_set_limit(pool, 48 * MiB), 0, "a limit below what is reserved is taken");
  CHECK(stats_of(pool).reserved.current <= 48 * MiB, "the cached bytes above the limit went back: %" PRIu64 " are left",
        stats_of(pool).reserved.current);
  CHECK_EQUAL(tc_pool_set_limit(pool, 8 * MiB), 48 * MiB, "a limit below what is live is taken");
  CHECK(tc_pool_alloc(pool, 32 * MiB) == NULL, "growth is refused");
  CHECK_EQUAL(stats_of(pool).requested.current, 16 * MiB, "live blocks stay");
  CHECK_STATUS(tc_pool_free(pool, kept), TC_OK, "a live block is freed as ever");
  CHECK((kept = tc_pool_alloc(pool, 4 * MiB)) != NULL, "what fits the limit is to be had");
  CHECK_EQUAL(tc_pool_set_limit(pool, 0), 8 * MiB, "the limit is lifted");
  CHECK((freed = tc_pool_alloc(pool, 64 * MiB)) != NULL, "without a limit the pool grows again");
  CHECK_STATUS(tc_pool_free(pool, freed), TC_OK, "it is freed");
  CHECK_STATUS(tc_pool_free(pool, kept), TC_OK, "it is freed");
  check_empties(pool);
  tc_pool_destroy(pool);
  check_returned(upstream);
}

static void trim_keeps_what_it_is_told_to(void) {
  enum { COUNT = 64 };
  tc_upstream *upstream = fake_upstream((tc_fake_options){.backing = NULL});
  tc_pool *pool = pool_over(upstream);
  void *blocks[COUNT];
  for (size_t i = 0; i < COUNT; i++) CHECK((blocks[i] = tc_pool_alloc(pool, 2 * MiB)) != NULL, "2 MiB are to be had");
  for (size_t i = 0; i < COUNT; i++) CHECK_STATUS(tc_pool_free(pool, blocks[i]), TC_OK, "they are freed");
  size_t cached = stats_of(pool).cached.current;
  CHECK(cached >= COUNT * 2 * MiB, "%zu freed bytes stay cached", cached);
  CHECK_EQUAL(tc_pool_trim(pool, SIZE_MAX), 0, "a trim that keeps everything gives nothing back");
  CHECK_EQUAL(stats_of(pool).cached.current, cached, "a trim that keeps everything changes nothing");
  size_t given = tc_pool_trim(pool, 32 * MiB), left = stats_of(pool).cached.current;
  CHECK(left <= 32 * MiB, "a trim to 32 MiB leaves %zu bytes", left);
  CHECK(given >= cached - left, "a trim tells how much went back: %zu", given);
  check_at_rest(pool);
  check_empties(pool);
  CHECK_EQUAL(tc_pool_trim(pool, 0), 0, "an empty pool has nothing to give back");
  tc_pool_destroy(pool);
  check_returned(upstream);
}

/* Bounded waiting, no speed asserted: the fact is that the pages go back while nobody calls the pool. */
static void decay_gives_pages_back_to_the_os(void) {
  static const size_t sizes[] = {1000, 60000, 600000, 64 * 1024 * 1024};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    size_t count = 64 * MiB / sizes[i], freed, now;
    tc_pool *pool = pool_over(NULL);
    void **blocks = calloc(count, sizeof *blocks);
    CHECK(tc_pool_set_decay(pool, 0.05) < 0.0 && tc_pool_decay(pool) > 0.0, "the decay is set, the old one returned");
    for (size_t k = 0; k < count; k++) {
      CHECK((blocks[k] = tc_pool_alloc(pool, sizes[i])) != NULL, "%zu bytes are to be had", sizes[i]);
      memset(blocks[k], 1, sizes[i]);
    }
    size_t full = resident_bytes();
    for (size_t k = 0; k < count; k++) CHECK_STATUS(tc_pool_free(pool, blocks[k]), TC_OK, "they are freed");
    freed = now = resident_bytes();
    for (int wait = 0; wait < 1000 && now + 48 * MiB > full; wait++) {
      sleep_ms(10);
      now = resident_bytes();
    }
    CHECK(now + 48 * MiB <= full, "of 64 MiB in blocks of %zu at least 48 went back: RSS %zu full, %zu freed, %zu ten seconds later", sizes[i],
          full, freed, now);
    check_at_rest(pool);
    check_empties(pool);
    tc_pool_destroy(pool);
    free(blocks);
  }
}

int main(void) {
  RUN(initial_capacity_preallocates_the_eleven_sizes);
  RUN(reserve_is_a_total_not_an_addition);
  RUN(a_limit_is_never_crossed);
  RUN(a_lower_limit_trims_then_refuses_growth);
  RUN(trim_keeps_what_it_is_told_to);
  RUN(decay_gives_pages_back_to_the_os);
  return 0;
}
