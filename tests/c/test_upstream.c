/* test_upstream.c - the pool and its upstream: made-up addresses are never touched, and a failure at any call harms nothing. */
#include "overlap.h"
#include "support.h"

enum { SLOTS = 48, STEPS = 400 };

typedef struct held {
  void *start;
  size_t nbytes;
} held;

static void made_up_addresses_are_never_touched(void) {
  static held slots[SLOTS];
  uint64_t seed = 41;
  tc_upstream *upstream = fake_upstream((tc_fake_options){.backing = NULL});
  CHECK_EQUAL(upstream->host_memory, 0, "made-up addresses are no host memory");
  tc_pool *pool = pool_over(upstream);
  for (size_t step = 0; step < 30000 / SLOWER; step++) {
    held *slot = &slots[random_below(&seed, SLOTS)];
    if (slot->start != NULL) {
      overlap_release(slot->start, capacity_of(slot->start));
      CHECK_STATUS(tc_pool_free_sized(pool, slot->start, slot->nbytes), TC_OK, "a made-up block is freed");
      slot->start = NULL;
    } else {
      slot->nbytes = random_size(&seed, 30); /* up to 1 GiB: more than the machine has, in all */
      slot->start = step % 5 ? tc_pool_alloc(pool, slot->nbytes) : tc_pool_alloc_aligned(pool, slot->nbytes, 2 * MiB);
      CHECK(slot->start != NULL, "%zu made-up bytes are to be had", slot->nbytes);
      overlap_claim(slot->start, capacity_of(slot->start));
    }
    if (step % 5000 == 0) tc_pool_trim(pool, step % 10000 ? 0 : 64 * MiB);
  }
  check_at_rest(pool);
  CHECK_EQUAL(stats_of(pool).reserved.current, counts_of(upstream).live_bytes, "reserved is what upstream gave");
  for (size_t at = 0; at < SLOTS; at++) {
    if (slots[at].start == NULL) continue;
    overlap_release(slots[at].start, capacity_of(slots[at].start));
    CHECK_STATUS(tc_pool_free(pool, slots[at].start), TC_OK, "freed");
  }
  check_empties(pool);
  tc_pool_destroy(pool);
  check_returned(upstream);
}

static void host_only_calls_are_refused_on_made_up_memory(void) {
  tc_upstream *upstream = fake_upstream((tc_fake_options){.backing = NULL});
  tc_pool *pool = pool_over(upstream);
  void *block = tc_pool_alloc(pool, 1000);
  CHECK(block != NULL, "made-up memory is to be had");
  CHECK(tc_pool_alloc_zeroed(pool, 1000) == NULL, "made-up memory can't be cleared");
  CHECK(tc_pool_alloc_zeroed(pool, 10 * MiB) == NULL, "nor much of it");
  CHECK(tc_pool_realloc(pool, block, 100000) == NULL, "made-up memory can't be moved");
  CHECK_STATUS(tc_pool_free_sized(pool, block, 1000), TC_OK, "the block is what it was");
  check_empties(pool);
  tc_pool_destroy(pool);
  check_returned(upstream);
}

/* One step of the fixed sequence. A refused allocation leaves the slot empty, a refused reallocation leaves it as it was. */
static void sequence_step(tc_pool *pool, held *slot, uint64_t stamp, uint64_t *seed) {
  size_t nbytes = random_size(seed, 22), what = random_below(seed, 8);
  if (slot->start == NULL) {
    slot->nbytes = nbytes;
    slot->start = what < 4   ? tc_pool_alloc(pool, nbytes)
                  : what < 6 ? tc_pool_alloc_zeroed(pool, nbytes)
                             : tc_pool_alloc_aligned(pool, nbytes, (size_t)64 << (what * 2));
    if (slot->start == NULL) return;
    overlap_claim(slot->start, capacity_of(slot->start));
    if (what >= 4 && what < 6) CHECK_EQUAL(first_nonzero(slot->start, nbytes), nbytes, "zeroed bytes are zero, failures or not");
    sample_write(slot->start, nbytes, stamp);
  } else if (what < 3) {
    size_t before = slot->nbytes, kept = nbytes < before ? nbytes : before;
    overlap_release(slot->start, capacity_of(slot->start));
    void *moved = tc_pool_realloc(pool, slot->start, nbytes);
    if (moved == NULL) kept = before;
    if (moved != NULL) *slot = (held){moved, nbytes};
    overlap_claim(slot->start, capacity_of(slot->start));
    CHECK(sample_verify(slot->start, before, kept, stamp), "contents survive a reallocation, failed or not");
    sample_write(slot->start, slot->nbytes, stamp);
  } else {
    CHECK(sample_verify(slot->start, slot->nbytes, slot->nbytes, stamp), "contents are whole when freed");
    overlap_release(slot->start, capacity_of(slot->start));
    CHECK_STATUS(tc_pool_free_sized(pool, slot->start, slot->nbytes), TC_OK, "a live block is freed");
    slot->start = NULL;
  }
}

/* The same calls each time, but for what the failures change; every call of the upstream is a chance to fail. */
static void run_sequence(const tc_upstream *upstream, uint64_t fail_at, uint64_t fail_count) {
  static held slots[SLOTS];
  uint64_t seed = 43;
  tc_pool_options options;
  tc_pool *pool = NULL;
  memset(slots, 0, sizeof slots);
  tc_pool_options_init(&options);
  options.upstream = upstream;
  options.decay = -1.0;
  options.initial_capacity = 4 * MiB;
  tc_status status = tc_pool_create(&options, &pool);
  if (status != TC_OK) {
    CHECK_STATUS(status, TC_OUT_OF_MEMORY, "a pool whose initial capacity is refused is not made (failure at %" PRIu64 ")", fail_at);
    CHECK(fail_at > 0 && fail_count > 0, "which happens only when upstream fails");
    return;
  }
  for (size_t step = 0; step < STEPS; step++) {
    size_t at = random_below(&seed, SLOTS);
    sequence_step(pool, &slots[at], at, &seed);
    if (step % 50 == 49) {
      tc_pool_trim(pool, step % 100 == 99 ? 0 : 4 * MiB);
      check_at_rest(pool);
    }
    if (step % 200 == 150) {
      status = tc_pool_reserve(pool, 64 * MiB);
      CHECK(status == TC_OK || status == TC_OUT_OF_MEMORY, "a reservation is met or refused: %s", tc_status_string(status));
    }
  }
  for (size_t at = 0; at < SLOTS; at++) {
    if (slots[at].start == NULL) continue;
    CHECK(sample_verify(slots[at].start, slots[at].nbytes, slots[at].nbytes, at), "contents are whole at the end");
    overlap_release(slots[at].start, capacity_of(slots[at].start));
    CHECK_STATUS(tc_pool_free_sized(pool, slots[at].start, slots[at].nbytes), TC_OK, "a live block is freed");
  }
  check_empties(pool);
  CHECK_STATUS(tc_pool_destroy(pool), TC_OK, "the pool is destroyed");
}

static void a_failure_at_any_upstream_call_harms_nothing(void) {
  tc_fake_options options = {.backing = tc_upstream_os()};
  tc_upstream *upstream = fake_upstream(options);
  run_sequence(upstream, 0, 0);
  tc_fake_counts whole = counts_of(upstream);
  uint64_t calls = whole.allocate_calls + whole.purge_calls, failures = 0;
  CHECK(calls >= 20, "the sequence gives %" PRIu64 " chances to fail", calls);
  printf("%" PRIu64 " upstream calls ", calls);
  fflush(stdout);
  for (uint64_t k = 1; k <= calls; k += SLOWER) {
    for (int lasting = 0; lasting <= 1; lasting++) {
      options.fail_at = k;
      options.fail_count = lasting ? UINT64_MAX : 1;
      tc_upstream_fake_set(upstream, &options);
      uint64_t before = counts_of(upstream).failures;
      run_sequence(upstream, k, options.fail_count);
      CHECK_EQUAL(counts_of(upstream).live_bytes, 0, "with a failure at call %" PRIu64 " everything goes back upstream", k);
      CHECK_EQUAL(counts_of(upstream).errors, 0, "with a failure at call %" PRIu64 " nothing wrong goes back", k);
      failures += counts_of(upstream).failures - before;
    }
  }
  CHECK(failures >= 2 * (calls / SLOWER), "%" PRIu64 " failures were seen, at least two for each of %" PRIu64 " calls", failures, calls);
  check_returned(upstream);
}

static void the_upstreams_capacity_is_a_limit(void) {
  static void *blocks[1024];
  tc_upstream *upstream = fake_upstream((tc_fake_options){.backing = NULL, .capacity = 64 * MiB});
  tc_pool *pool = pool_over(upstream);
  size_t count = 0;
  while (count < 1024 && (blocks[count] = tc_pool_alloc(pool, 300000)) != NULL) count++;
  CHECK(count * 300000 >= 32 * MiB && count * 300000 <= 64 * MiB, "%zu blocks of 300,000 bytes fill 64 MiB", count);
  CHECK(counts_of(upstream).peak_bytes <= 64 * MiB, "the capacity was never exceeded");
  CHECK(stats_of(pool).out_of_memory_retries > 0, "the pool tried to reclaim before it gave up");
  CHECK_EQUAL(stats_of(pool).out_of_memory_failures, 1, "then it gave up once");
  for (size_t i = 0; i < count; i++) CHECK_STATUS(tc_pool_free(pool, blocks[i]), TC_OK, "freed");
  CHECK((blocks[0] = tc_pool_alloc(pool, 48 * MiB)) != NULL, "cached small blocks are reclaimed for a large one");
  CHECK_STATUS(tc_pool_free(pool, blocks[0]), TC_OK, "freed");
  check_empties(pool);
  tc_pool_destroy(pool);
  check_returned(upstream);
}

/* ---- an upstream that frees ---------------------------------------------------------------------------------------------------------- */

enum { FREED_MOST = 300 };

static struct {
  tc_pool *pool;
  void *held[3000];
  size_t count, frees; /* blocks; how many go at each call */
  bool inside;
} reentrant;

/* As cudaMalloc through Python may: a garbage collection there frees arrays of the very pool that asks. */
static void *allocate_and_free(void *context, size_t nbytes, size_t alignment) {
  (void)context;
  if (reentrant.pool && !reentrant.inside) {
    reentrant.inside = true;
    for (size_t i = 0; i < reentrant.frees && reentrant.count; i++)
      CHECK_STATUS(tc_pool_free(reentrant.pool, reentrant.held[--reentrant.count]), TC_OK, "freed inside the upstream");
    reentrant.inside = false;
  }
  return tc_upstream_os()->allocate(NULL, nbytes, alignment);
}

static void give_back_to_the_system(void *context, void *address, size_t nbytes) { tc_upstream_os()->deallocate(context, address, nbytes); }

static void blocks_freed_inside_the_upstream_are_not_lost(void) {
  tc_upstream upstream = {.name = "reentrant", .allocate = allocate_and_free, .deallocate = give_back_to_the_system, .host_memory = 1};
  for (size_t nbytes = 1024; nbytes <= 512 * KiB; nbytes *= 8)
    for (reentrant.frees = 1; reentrant.frees < FREED_MOST; reentrant.frees += 7) {
      reentrant.pool = pool_over(&upstream);
      for (size_t i = 0; i < 3000; i++) {
        void *block = tc_pool_alloc(reentrant.pool, nbytes);
        CHECK(block != NULL, "memory is to be had");
        reentrant.held[reentrant.count++] = block;
      }
      check_pool(reentrant.pool);
      while (reentrant.count) CHECK_STATUS(tc_pool_free(reentrant.pool, reentrant.held[--reentrant.count]), TC_OK, "freed");
      check_empties(reentrant.pool);
      CHECK_STATUS(tc_pool_destroy(reentrant.pool), TC_OK, "the pool is destroyed");
      reentrant.pool = NULL;
    }
}

int main(void) {
  RUN(made_up_addresses_are_never_touched);
  RUN(host_only_calls_are_refused_on_made_up_memory);
  RUN(a_failure_at_any_upstream_call_harms_nothing);
  RUN(the_upstreams_capacity_is_a_limit);
  RUN(blocks_freed_inside_the_upstream_are_not_lost);
  return 0;
}
