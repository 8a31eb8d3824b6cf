/* test_thread_stats.c - one thread's own figures: exact at every step, a peak that nests, a beginning at 0, frees by others, collections. */
#include <pthread.h>
#include <sched.h>

#include "support.h"

static tc_thread_stats mine(const tc_pool *pool) {
  tc_thread_stats stats;
  tc_pool_thread_stats(pool, &stats);
  return stats;
}

static int64_t held(const tc_pool *pool) {
  tc_thread_stats s = mine(pool);
  return (int64_t)(s.requested_in - s.requested_out);
}

static void in_a_thread(void *(*body)(void *), void *argument) {
  pthread_t thread;
  CHECK_EQUAL(pthread_create(&thread, NULL, body, argument), 0, "a thread starts");
  CHECK_EQUAL(pthread_join(thread, NULL), 0, "and ends");
}

static void *check_nothing_done(void *pool) {
  tc_thread_stats s = mine(pool);
  CHECK_EQUAL(s.requested_in + s.requested_out + s.allocation_count + s.deallocation_count, 0, "the thread did nothing yet");
  CHECK_EQUAL(s.requested_peak, 0, "and held nothing");
  CHECK_EQUAL(tc_pool_thread_set_peak(pool, 1000), 0, "there is no peak to set before the first use");
  CHECK_EQUAL(mine(pool).requested_peak, 0, "and none was set");
  return NULL;
}

static void a_thread_begins_at_0(void) {
  tc_pool *pool = pool_over(NULL);
  check_nothing_done(pool);
  void *block = tc_pool_alloc(pool, 1000);
  in_a_thread(check_nothing_done, pool);
  CHECK_STATUS(tc_pool_free(pool, block), TC_OK, "freed");
  tc_pool_destroy(pool);
}

/* Any sizes in any order, large ones and reallocations too, with trims between: the figures are those of a model at every step. */
static void figures_are_exact_after_every_step(void) {
  enum { SLOTS = 100 };
  static void *blocks[SLOTS];
  static size_t sizes[SLOTS];
  uint64_t seed = 7;
  tc_thread_stats want = {0};
  tc_pool *pool = pool_over(NULL);
  for (size_t step = 0; step < 8000 / SLOWER; step++) {
    size_t at = random_below(&seed, SLOTS), nbytes = random_size(&seed, 22);
    if (blocks[at] == NULL) {
      CHECK((blocks[at] = tc_pool_alloc(pool, nbytes)) != NULL, "%zu bytes are to be had", nbytes);
      sizes[at] = nbytes;
      want.requested_in += nbytes;
      want.allocation_count++;
    } else {
      CHECK_STATUS(tc_pool_free(pool, blocks[at]), TC_OK, "a live block is freed");
      blocks[at] = NULL;
      want.requested_out += sizes[at];
      want.deallocation_count++;
    }
    int64_t now = (int64_t)(want.requested_in - want.requested_out);
    if (now > want.requested_peak) want.requested_peak = now;
    if (step % 500 == 0) tc_pool_trim(pool, 0);
    if (step % 700 == 0) {
      CHECK_EQUAL(tc_pool_thread_set_peak(pool, INT64_MIN), want.requested_peak, "setting returns the old peak");
      want.requested_peak = now;
    }
    tc_thread_stats got = mine(pool);
    CHECK_EQUAL(got.requested_in, want.requested_in, "bytes in at step %zu", step);
    CHECK_EQUAL(got.requested_out, want.requested_out, "bytes out at step %zu", step);
    CHECK_EQUAL(got.requested_peak, want.requested_peak, "the peak at step %zu", step);
    CHECK_EQUAL(got.allocation_count, want.allocation_count, "allocations at step %zu", step);
    CHECK_EQUAL(got.deallocation_count, want.deallocation_count, "deallocations at step %zu", step);
  }
  for (size_t at = 0; at < SLOTS; at++) CHECK_STATUS(tc_pool_free(pool, blocks[at]), TC_OK, "the rest is freed");
  CHECK_EQUAL(held(pool), 0, "a thread that freed everything holds nothing");
  check_empties(pool);
  tc_pool_destroy(pool);
}

static void a_resized_block_counts_with_its_new_size(void) {
  tc_pool *pool = pool_over(NULL);
  void *block = tc_pool_alloc(pool, 1000);
  for (size_t nbytes = 1000; nbytes <= 8 * MiB; nbytes = nbytes * 5 / 4) {
    CHECK((block = tc_pool_realloc(pool, block, nbytes)) != NULL, "it grows to %zu bytes", nbytes);
    CHECK_EQUAL(held(pool), nbytes, "the thread holds the new size");
    CHECK((size_t)mine(pool).requested_peak >= nbytes, "which is its peak at least");
  }
  CHECK_STATUS(tc_pool_free(pool, block), TC_OK, "freed");
  CHECK_EQUAL(held(pool), 0, "nothing is left");
  tc_pool_destroy(pool);
}

static void peaks_nest(void) {
  tc_pool *pool = pool_over(NULL);
  void *kept = tc_pool_alloc(pool, 1000), *high = tc_pool_alloc(pool, 5000);
  CHECK_STATUS(tc_pool_free(pool, high), TC_OK, "freed");
  int64_t outer = tc_pool_thread_set_peak(pool, INT64_MIN);
  CHECK_EQUAL(outer, 6000, "the outer measurement saw both");
  CHECK_EQUAL(mine(pool).requested_peak, 1000, "an inner one begins with what is held");
  void *inside = tc_pool_alloc(pool, 2000);
  CHECK_STATUS(tc_pool_free(pool, inside), TC_OK, "freed");
  int64_t inner = mine(pool).requested_peak;
  CHECK_EQUAL(inner, 3000, "and has a peak of its own");
  CHECK_EQUAL(tc_pool_thread_set_peak(pool, outer > inner ? outer : inner), 3000, "which setting returns");
  CHECK_EQUAL(mine(pool).requested_peak, 6000, "the outer measurement goes on with the larger one");
  CHECK_STATUS(tc_pool_free(pool, kept), TC_OK, "freed");
  tc_pool_destroy(pool);
}

static void *reset_the_pools_peak(void *pool) {
  tc_pool_reset_peak(pool);
  return NULL;
}

static void the_pools_peak_and_the_threads_are_two(void) {
  tc_pool *pool = pool_over(NULL);
  void *block = tc_pool_alloc(pool, 5000);
  CHECK_STATUS(tc_pool_free(pool, block), TC_OK, "freed");
  tc_pool_thread_set_peak(pool, INT64_MIN);
  CHECK_EQUAL(stats_of(pool).requested.peak, 5000, "setting the thread's peak leaves the pool's");
  block = tc_pool_alloc(pool, 4000);
  CHECK_STATUS(tc_pool_free(pool, block), TC_OK, "freed");
  tc_pool_reset_peak(pool);
  CHECK_EQUAL(mine(pool).requested_peak, 4000, "resetting the pool's peak leaves the thread's");
  in_a_thread(reset_the_pools_peak, pool);
  CHECK_EQUAL(mine(pool).requested_peak, 4000, "from another thread too");
  CHECK_EQUAL(stats_of(pool).requested.peak, 0, "while the pool's begins anew");
  tc_pool_destroy(pool);
}

/* ---- several threads ------------------------------------------------------------------------------------------------------------ */

typedef struct handed {
  tc_pool *pool;
  void *block;
} handed;

static void *free_what_was_handed(void *argument) {
  handed *to_free = argument;
  CHECK_STATUS(tc_pool_free(to_free->pool, to_free->block), TC_OK, "a block of another thread is freed");
  CHECK_EQUAL(held(to_free->pool), (int64_t)-3000, "it counts where it was freed");
  CHECK_EQUAL(mine(to_free->pool).deallocation_count, 1, "as a deallocation");
  CHECK_EQUAL(mine(to_free->pool).requested_peak, 0, "and raises no peak");
  return NULL;
}

static void a_block_freed_elsewhere_stays_with_its_thread(void) {
  tc_pool *pool = pool_over(NULL);
  in_a_thread(free_what_was_handed, &(handed){pool, tc_pool_alloc(pool, 3000)});
  CHECK_EQUAL(held(pool), 3000, "the thread that allocated it counts it still");
  CHECK_EQUAL(mine(pool).deallocation_count, 0, "since it freed nothing");
  check_empties(pool);
  tc_pool_destroy(pool);
}

static void *leave_a_block(void *argument) {
  handed *left = argument;
  left->block = tc_pool_alloc(left->pool, 7000);
  CHECK_EQUAL(held(left->pool), 7000, "the thread begins at 0 and has its own block alone");
  CHECK_EQUAL(mine(left->pool).requested_peak, 7000, "which is its peak");
  CHECK_EQUAL(mine(left->pool).allocation_count, 1, "and its one allocation");
  return NULL;
}

static void a_thread_that_takes_over_a_cache_begins_at_0(void) {
  tc_pool *pool = pool_over(NULL);
  handed left[5];
  for (size_t i = 0; i < 5; i++) {
    left[i].pool = pool;
    in_a_thread(leave_a_block, &left[i]); /* one after the other: they use one cache */
  }
  CHECK_EQUAL(stats_of(pool).requested.current, 5 * 7000, "the pool counts them all");
  for (size_t i = 0; i < 5; i++) CHECK_STATUS(tc_pool_free(pool, left[i].block), TC_OK, "freed");
  CHECK_EQUAL(held(pool), (int64_t)(-5 * 7000), "by a thread that allocated none");
  check_empties(pool);
  tc_pool_destroy(pool);
}

static int stop;

static void *trim_until_told(void *pool) {
  while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE)) tc_pool_trim(pool, 0), sched_yield();
  return NULL;
}

static void figures_stay_exact_while_another_thread_collects(void) {
  enum { COUNT = 200 };
  static void *blocks[COUNT];
  tc_pool *pool = pool_over(NULL);
  pthread_t trimmer;
  __atomic_store_n(&stop, 0, __ATOMIC_RELEASE);
  CHECK_EQUAL(pthread_create(&trimmer, NULL, trim_until_told, pool), 0, "a thread starts");
  for (uint64_t round = 0; round < 200 / SLOWER; round++) {
    for (size_t i = 0; i < COUNT; i++) {
      CHECK((blocks[i] = tc_pool_alloc(pool, 1000)) != NULL, "memory is to be had");
      CHECK_EQUAL(mine(pool).allocation_count, round * COUNT + i + 1, "every allocation is counted at once");
    }
    CHECK_EQUAL(held(pool), COUNT * 1000, "the thread holds what it asked for");
    CHECK_EQUAL(mine(pool).requested_peak, COUNT * 1000, "and never more");
    for (size_t i = 0; i < COUNT; i++) {
      CHECK_STATUS(tc_pool_free(pool, blocks[i]), TC_OK, "freed");
      CHECK_EQUAL(mine(pool).deallocation_count, round * COUNT + i + 1, "every deallocation is counted at once");
    }
  }
  __atomic_store_n(&stop, 1, __ATOMIC_RELEASE);
  CHECK_EQUAL(pthread_join(trimmer, NULL), 0, "it ends");
  check_empties(pool);
  tc_pool_destroy(pool);
}

int main(void) {
  RUN(a_thread_begins_at_0);
  RUN(figures_are_exact_after_every_step);
  RUN(a_resized_block_counts_with_its_new_size);
  RUN(peaks_nest);
  RUN(the_pools_peak_and_the_threads_are_two);
  RUN(a_block_freed_elsewhere_stays_with_its_thread);
  RUN(a_thread_that_takes_over_a_cache_begins_at_0);
  RUN(figures_stay_exact_while_another_thread_collects);
  return 0;
}
