/* test_out_of_memory.c - the ladder: the pool reclaims what it can alone, then asks the callback, then gives up; each once and in order. */
#include "support.h"

enum { LIMIT = 32 * 1024 * 1024, MOST = 4096 };

typedef struct ladder {
  tc_pool *pool;
  void **blocks; /* what the callback frees, one a call */
  size_t count;
  int calls, give_up_at; /* the callback's answer is 0 from this attempt on */
  size_t nbytes;         /* of the request that ran out */
} ladder;

static int free_one(tc_pool *pool, size_t nbytes, int attempt, void *context) {
  ladder *state = context;
  CHECK(pool == state->pool, "the callback gets its pool");
  CHECK_EQUAL(nbytes, state->nbytes, "the callback is told what was asked for");
  CHECK_EQUAL(attempt, state->calls, "attempts count from 0");
  /* a page more than the request: where large blocks start inside a page differs */
  CHECK(stats_of(pool).largest_free_block < nbytes + 8192, "the pool searched first: %" PRIu64 " free bytes in one run would not do",
        stats_of(pool).largest_free_block);
  check_pool(pool); /* allowed: no lock is held */
  state->calls++;
  if (attempt >= state->give_up_at) return 0;
  if (state->count > 0) CHECK_STATUS(tc_pool_free(pool, state->blocks[--state->count]), TC_OK, "the callback frees a block");
  return 1;
}

static tc_pool *limited_pool(void) {
  tc_pool *pool = pool_over(NULL);
  tc_pool_set_limit(pool, LIMIT);
  return pool;
}

static size_t fill(tc_pool *pool, void **blocks, size_t nbytes) {
  size_t count = 0;
  while (count < MOST && (blocks[count] = tc_pool_alloc(pool, nbytes)) != NULL) count++;
  CHECK(count > 0 && count < MOST, "blocks of %zu bytes fill the limit after %zu", nbytes, count);
  return count;
}

static void free_all(tc_pool *pool, void **blocks, size_t count) {
  for (size_t i = 0; i < count; i++) CHECK_STATUS(tc_pool_free(pool, blocks[i]), TC_OK, "freed");
  check_empties(pool);
  tc_pool_destroy(pool);
}

static void what_is_cached_is_reclaimed_without_asking(void) {
  static void *blocks[MOST];
  tc_pool *pool = limited_pool();
  ladder state = {.pool = pool, .give_up_at = 0};
  for (size_t nbytes = 16 * KiB; nbytes <= MiB; nbytes *= 4) {
    size_t count = fill(pool, blocks, nbytes);
    for (size_t i = 0; i < count; i++) CHECK_STATUS(tc_pool_free(pool, blocks[i]), TC_OK, "freed");
    tc_pool_on_out_of_memory(pool, free_one, &state);
    void *large = tc_pool_alloc(pool, LIMIT / 2);
    CHECK(large != NULL, "half of the limit is to be had from freed blocks of %zu bytes", nbytes);
    CHECK_STATUS(tc_pool_free(pool, large), TC_OK, "freed");
    tc_pool_on_out_of_memory(pool, NULL, NULL);
  }
  CHECK_EQUAL(state.calls, 0, "the callback was never asked");
  free_all(pool, blocks, 0);
}

static void the_callback_is_asked_until_it_has_freed_enough(void) {
  static void *blocks[MOST];
  tc_pool *pool = limited_pool();
  size_t count = fill(pool, blocks, MiB);
  uint64_t failures = stats_of(pool).out_of_memory_failures, retries = stats_of(pool).out_of_memory_retries;
  ladder state = {.pool = pool, .blocks = blocks, .count = count, .give_up_at = MOST, .nbytes = 4 * MiB};
  tc_pool_on_out_of_memory(pool, free_one, &state);
  void *large = tc_pool_alloc(pool, 4 * MiB);
  CHECK(large != NULL, "4 MiB are to be had after %d blocks of 1 MiB were freed", state.calls);
  CHECK(state.calls >= 2 && state.calls <= 16, "the callback was asked %d times, not more often than needed", state.calls);
  CHECK_EQUAL(stats_of(pool).out_of_memory_failures, failures, "an allocation that succeeded is no failure");
  CHECK(stats_of(pool).out_of_memory_retries >= retries + (unsigned)state.calls, "each round is counted: %" PRIu64,
        stats_of(pool).out_of_memory_retries);
  CHECK_STATUS(tc_pool_free(pool, large), TC_OK, "freed");
  free_all(pool, blocks, state.count);
}

static void the_callback_gives_up(void) {
  static void *blocks[MOST];
  tc_pool *pool = limited_pool();
  size_t count = fill(pool, blocks, MiB);
  uint64_t failures = stats_of(pool).out_of_memory_failures;
  ladder state = {.pool = pool, .give_up_at = 3, .nbytes = 2 * MiB};
  tc_pool_on_out_of_memory(pool, free_one, &state);
  CHECK(tc_pool_alloc(pool, 2 * MiB) == NULL, "2 MiB are not to be had");
  CHECK_EQUAL(state.calls, 4, "the callback was asked until it gave up");
  CHECK_EQUAL(stats_of(pool).out_of_memory_failures, failures + 1, "one allocation failed");
  state.calls = 0;
  CHECK(tc_pool_realloc(pool, blocks[0], 2 * MiB) == NULL, "nor by reallocation");
  CHECK_EQUAL(state.calls, 4, "which asks the callback, too");
  tc_pool_on_out_of_memory(pool, NULL, NULL);
  CHECK(tc_pool_alloc(pool, 2 * MiB) == NULL, "nor without a callback");
  CHECK_EQUAL(state.calls, 4, "which is asked no more");
  free_all(pool, blocks, count);
}

static int raise_limit(tc_pool *pool, size_t nbytes, int attempt, void *context) {
  (void)context;
  tc_pool_set_limit(pool, tc_pool_limit(pool) + nbytes + 4 * MiB);
  return attempt == 0;
}

static void the_callback_may_raise_the_limit(void) {
  static void *blocks[MOST];
  tc_pool *pool = limited_pool();
  size_t count = fill(pool, blocks, MiB);
  tc_pool_on_out_of_memory(pool, raise_limit, NULL);
  CHECK((blocks[count] = tc_pool_alloc(pool, 8 * MiB)) != NULL, "8 MiB are to be had after the limit was raised");
  free_all(pool, blocks, count + 1);
}

static int allocate_again(tc_pool *pool, size_t nbytes, int attempt, void *context) {
  int *depth = context;
  CHECK(attempt == 0, "a callback that gave up is not asked again for the same request");
  if (++*depth == 1) CHECK(tc_pool_alloc(pool, nbytes) == NULL, "an allocation inside the callback fails like the one outside");
  return 0;
}

static void the_callback_may_allocate(void) {
  static void *blocks[MOST];
  int depth = 0;
  tc_pool *pool = limited_pool();
  size_t count = fill(pool, blocks, MiB);
  tc_pool_on_out_of_memory(pool, allocate_again, &depth);
  CHECK(tc_pool_alloc(pool, 2 * MiB) == NULL, "2 MiB are not to be had");
  CHECK(depth >= 1 && depth <= 2, "the callback was entered %d times", depth);
  free_all(pool, blocks, count);
}

int main(void) {
  RUN(what_is_cached_is_reclaimed_without_asking);
  RUN(the_callback_is_asked_until_it_has_freed_enough);
  RUN(the_callback_gives_up);
  RUN(the_callback_may_raise_the_limit);
  RUN(the_callback_may_allocate);
  return 0;
}
