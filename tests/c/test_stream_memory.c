/* test_stream_memory.c - a stream-ordered pool short of memory: what it does before it refuses, what goes back, and what failures cost. */
#include "streams.h"

enum { A = 16, B = 17, C = 18, ALL_CALLS = TC_FAKE_ALLOCATE | TC_FAKE_RECORD | TC_FAKE_QUERY | TC_FAKE_WAIT | TC_FAKE_SYNCHRONIZE };

/* ---- before it refuses --------------------------------------------------------------------------------------------------------------- */

static void a_stream_is_made_to_wait_before_the_host_is(void) {
  rig r = rig_with((tc_fake_device_options){0}, 8 * MiB);
  void *block = claimed(&r, 3 * MiB, A), *rest = claimed(&r, 3 * MiB, A);
  work(&r, A, 100, block, 3 * MiB);
  free_on(&r, block, A);
  void *other = claimed(&r, 3 * MiB, B);
  CHECK(other == block, "B has A's block");
  CHECK_EQUAL(device_counts(&r).wait_calls, 1, "after the work of A, by order on the device");
  CHECK_EQUAL(device_counts(&r).synchronize_calls, 0, "and nobody waited on the host");
  free_on(&r, other, B);
  free_on(&r, rest, A);
  rig_end(&r);
}

static void what_several_streams_freed_is_merged_before_a_request_is_refused(void) {
  rig r = rig_with((tc_fake_device_options){0}, 32 * MiB);
  void *blocks[8];
  CHECK_STATUS(tc_pool_reserve(r.pool, 32 * MiB), TC_OK, "one segment of the limit");
  for (size_t i = 0; i < 8; i++) {
    blocks[i] = claimed(&r, 4 * MiB, A + i);
    work(&r, A + i, 100, blocks[i], 4 * MiB);
  }
  for (size_t i = 0; i < 8; i++) free_on(&r, blocks[i], A + i);
  void *whole = claimed(&r, 32 * MiB, A + 9);
  CHECK(whole != NULL, "all of it fits when the device is done");
  CHECK_EQUAL(device_counts(&r).synchronize_calls, 1, "for which the host waited once");
  CHECK_EQUAL(stats_of(r.pool).out_of_memory_failures, 0, "nothing was refused");
  free_on(&r, whole, A + 9);
  rig_end(&r);
}

static void segments_of_the_wrong_size_go_back_before_a_request_is_refused(void) {
  rig r = rig_with((tc_fake_device_options){.capacity = 64 * MiB}, 0);
  void *blocks[6];
  for (size_t i = 0; i < 6; i++) blocks[i] = claimed(&r, 10 * MiB, A);
  for (size_t i = 0; i < 6; i++) free_on(&r, blocks[i], A);
  void *large = claimed(&r, 60 * MiB, A);
  CHECK(large != NULL, "the device has 64 MiB, though in pieces of 10 until now");
  CHECK_EQUAL(stats_of(r.pool).reserved.current, 60 * MiB, "which went back");
  free_on(&r, large, A);
  rig_end(&r);
}

static void a_small_request_takes_from_a_large_segment_before_it_is_refused(void) {
  rig r = rig_with((tc_fake_device_options){0}, 8 * MiB);
  void *large = claimed(&r, 5 * MiB, A), *small = claimed(&r, 1000, A), *medium = claimed(&r, 200000, A);
  CHECK(large && small && medium, "there is room in what the large one left");
  CHECK_EQUAL(stats_of(r.pool).reserved.current <= 8 * MiB, 1, "within the limit");
  free_on(&r, large, A), free_on(&r, small, A), free_on(&r, medium, A);
  CHECK_STATUS(tc_pool_reserve(r.pool, 8 * MiB), TC_OK, "the whole limit in large segments");
  small = claimed(&r, 1000, A);
  CHECK(small != NULL, "a small one has room there too");
  free_on(&r, small, A);
  rig_end(&r);
}

static int free_a_block(tc_pool *pool, size_t nbytes, int attempt, void *context) {
  void **block = context;
  CHECK_EQUAL(nbytes, 6 * MiB, "the callback is told what is wanted");
  CHECK_EQUAL(attempt, 0, "and that it was not asked before");
  if (!*block) return 0;
  CHECK_STATUS(tc_pool_free(pool, *block), TC_OK, "it frees a block");
  *block = NULL;
  return 1;
}

static void the_callback_is_asked_then_the_request_refused_with_the_largest_free_block(void) {
  rig r = rig_with((tc_fake_device_options){0}, 8 * MiB);
  void *block = claimed(&r, 6 * MiB, A), *held = block;
  tc_pool_on_out_of_memory(r.pool, free_a_block, &held);
  void *second = claimed(&r, 6 * MiB, B);
  CHECK(second != NULL, "what the callback freed was enough");
  CHECK(claimed(&r, 6 * MiB, A) == NULL, "the next time it has nothing to free");
  tc_stats stats = stats_of(r.pool);
  CHECK_EQUAL(stats.out_of_memory_failures, 1, "one refusal");
  CHECK(stats.out_of_memory_retries >= 3, "%" PRIu64 " rounds", stats.out_of_memory_retries);
  CHECK_EQUAL(stats.largest_free_block, 0, "and no free block at all");
  free_on(&r, second, B);
  CHECK_EQUAL(stats_of(r.pool).largest_free_block, 6 * MiB, "a stream's free block counts among the free ones");
  tc_pool_on_out_of_memory(r.pool, NULL, NULL);
  rig_end(&r);
}

static void a_fitting_block_is_found_among_thousands_of_its_bin(void) {
  enum { BLOCKS = 400 };
  rig r = rig_make();
  void *blocks[BLOCKS], *walls[BLOCKS];
  CHECK_STATUS(tc_pool_reserve(r.pool, BLOCKS * (2 * MiB)), TC_OK, "one segment for all");
  for (size_t i = 0; i < BLOCKS; i++) {
    size_t npages = 264 - (i == 0); /* the first is the smallest: only a look at all of the bin finds the others' sizes */
    blocks[i] = claimed(&r, (i == BLOCKS / 2 ? 270 : npages) * 4096, A);
    walls[i] = claimed(&r, 160 * 4096, A);
  }
  tc_stats before = stats_of(r.pool);
  tc_pool_set_limit(r.pool, before.reserved.current);
  void *fill[1024];
  size_t filled = 0;
  for (void *more; (more = claimed(&r, 600 * KiB, A));) fill[filled++] = more;
  for (size_t i = 0; i < BLOCKS; i++) free_on(&r, blocks[i], A);
  void *fitting = claimed(&r, 270 * 4096, A);
  CHECK(fitting == blocks[BLOCKS / 2], "the only free block of that size is found, not %p", fitting);
  free_on(&r, fitting, A);
  for (size_t i = 0; i < BLOCKS; i++) free_on(&r, walls[i], A);
  while (filled) free_on(&r, fill[--filled], A);
  rig_end(&r);
}

/* ---- streams that end ------------------------------------------------------------------------------------------------------------------ */

static void a_forgotten_streams_handle_is_another_stream(void) {
  rig r = rig_make();
  void *block = claimed(&r, MiB, A), *live = claimed(&r, MiB, A);
  work(&r, A, 100, block, MiB);
  work(&r, A, 100, live, MiB);
  free_on(&r, block, A);
  CHECK_STATUS(tc_pool_forget_stream(r.pool, A), TC_OK, "the pool is told");
  CHECK_STATUS(tc_pool_forget_stream(r.pool, A), TC_OK, "twice does no harm, nor does a stream that it never saw");
  tc_fake_device_stream_destroy(r.device, A);
  tc_fake_device_stream_create(r.device, A);
  void *fresh = claimed(&r, MiB, A);
  CHECK(fresh != block, "the new stream of that handle does not have the old one's block");
  free_on(&r, live, TC_STREAM_OF_BLOCK);
  void *second = claimed(&r, MiB, A);
  CHECK(second != live, "nor what was freed after it ended");
  tc_fake_device_advance(r.device, 200);
  tc_pool_drain(r.pool);
  tc_pool_trim_stream(r.pool, A);
  CHECK_EQUAL(stats_of(r.pool).reserved.current, 2 * MiB, "once its work is done its memory is everybody's, and goes back");
  free_on(&r, fresh, A);
  free_on(&r, second, A);
  rig_end(&r);
}

static void a_stream_destroyed_without_a_word_loses_no_memory(void) {
  rig r = rig_with((tc_fake_device_options){0}, 8 * MiB);
  CHECK_STATUS(tc_pool_reserve(r.pool, 8 * MiB), TC_OK, "one segment of the limit");
  void *block = claimed(&r, 6 * MiB, A), *pending = claimed(&r, 600 * KiB, B);
  work(&r, A, 100, block, 6 * MiB);
  CHECK_STATUS(tc_pool_record_stream(r.pool, pending, A), TC_OK, "a block of B is used on A");
  work(&r, A, 100, pending, 600 * KiB);
  free_on(&r, block, A);
  tc_fake_device_stream_destroy(r.device, A);
  free_on(&r, pending, B);
  CHECK_EQUAL(tc_pool_drain(r.pool), 0, "no event can tell how far A is");
  void *other = claimed(&r, 6 * MiB, B);
  CHECK(other != NULL, "B has the memory after the device was waited for");
  CHECK(device_counts(&r).synchronize_calls > 0, "by the host");
  CHECK_EQUAL(stats_of(r.pool).pending.current, 0, "and nothing waits any more");
  free_on(&r, other, B);
  rig_end(&r);
}

static void streams_that_own_nothing_are_forgotten_by_themselves(void) {
  rig r = rig_make();
  size_t before = 0;
  for (size_t i = 0; i < 20000 / SLOWER; i++) {
    void *block = claimed(&r, 5000, 1000 + i);
    free_on(&r, block, 1000 + i);
    if (i % 1000 == 999) tc_pool_trim(r.pool, 0);
    if (i == 9999 / SLOWER) before = stats_of(r.pool).metadata_bytes;
  }
  CHECK(stats_of(r.pool).metadata_bytes <= before + 4 * MiB, "records of %zu bytes grew by the fake's own at most: %zu", before,
        (size_t)stats_of(r.pool).metadata_bytes);
  rig_end(&r);
}

/* ---- what goes back -------------------------------------------------------------------------------------------------------------------- */

static void trimming_a_stream_gives_back_what_it_is_done_with(void) {
  rig r = rig_make();
  void *a = claimed(&r, 4 * MiB, A), *b = claimed(&r, 4 * MiB, B), *small = claimed(&r, 1000, A);
  work(&r, A, 10, a, 4 * MiB);
  work(&r, B, 10, b, 4 * MiB);
  free_on(&r, a, A), free_on(&r, b, B), free_on(&r, small, A);
  CHECK_EQUAL(tc_pool_trim_stream(r.pool, C), 0, "an unknown stream has nothing");
  CHECK_EQUAL(tc_pool_trim_stream(r.pool, A), 0, "A is still at work");
  tc_fake_device_advance(r.device, 10);
  CHECK_EQUAL(tc_pool_trim_stream(r.pool, A), 6 * MiB, "then its segments go, the one of small blocks too");
  CHECK_EQUAL(stats_of(r.pool).reserved.current, 4 * MiB, "and B's stays");
  CHECK_EQUAL(device_counts(&r).synchronize_calls, 0, "nobody waited");
  CHECK_EQUAL(tc_pool_trim(r.pool, 0), 4 * MiB, "a trim of everything has that too");
  rig_end(&r);
}

static void a_pool_whose_sizes_change_does_not_keep_a_segment_of_each(void) {
  rig r = rig_make();
  for (size_t i = 0; i < 50; i++) {
    void *block = claimed(&r, (50 + i) * MiB, A);
    free_on(&r, block, A);
  }
  tc_stats stats = stats_of(r.pool);
  CHECK(stats.reserved.peak <= stats.allocated.peak + stats.allocated.peak / 16 + 8 * MiB,
        "reserved %" PRIu64 " at most, where %" PRIu64 " were live at most", stats.reserved.peak, stats.allocated.peak);
  rig_end(&r);
}

static void a_pool_destroyed_with_live_and_pending_blocks_ends_with_the_last(void) {
  for (int broken = 0; broken < 2; broken++) {
    rig r = rig_make();
    void *live = claimed(&r, 3000, A), *large = claimed(&r, 3 * MiB, B), *pending = claimed(&r, 2 * MiB, A);
    tc_pool_record_stream(r.pool, pending, C);
    tc_pool_record_stream(r.pool, live, C);
    work(&r, C, 100, pending, 2 * MiB);
    work(&r, C, 100, live, 3000);
    free_on(&r, pending, A);
    if (broken) device_fails(&r, ALL_CALLS & ~TC_FAKE_ALLOCATE, 1, 1000);
    CHECK_STATUS(tc_pool_destroy(r.pool), TC_OK, "the pool is destroyed");
    CHECK_STATUS(tc_pool_destroy(r.pool), TC_CLOSED, "once");
    CHECK_STATUS(tc_pool_status(r.pool), TC_CLOSED, "and says so");
    CHECK(tc_pool_alloc_on(r.pool, 1, A) == NULL, "it refuses to allocate");
    CHECK_STATUS(tc_pool_free_on(r.pool, large, B), TC_OK, "its blocks can be freed");
    CHECK(device_counts(&r).live_bytes > 0, "it lasts while one lives");
    CHECK_STATUS(tc_pool_free_on(r.pool, live, A), TC_OK, "the last");
    CHECK_EQUAL(device_counts(&r).live_bytes + device_counts(&r).live_events + device_counts(&r).errors, 0, "then all went back, once");
    tc_upstream_fake_device_destroy(r.device);
  }
}

/* ---- failures ---------------------------------------------------------------------------------------------------------------------------- */

static void program(const rig *r) { /* uses every call of the upstream; any may fail */
  void *blocks[40] = {0};
  for (size_t i = 0; i < 120; i++) {
    void **slot = &blocks[i * 7 % 40];
    uintptr_t stream = A + i % 3;
    if (*slot) {
      if (i % 4 == 0) CHECK_STATUS(tc_pool_record_stream(r->pool, *slot, C), TC_OK, "recorded");
      free_on(r, *slot, TC_STREAM_OF_BLOCK);
    }
    size_t nbytes = i % 5 ? 1000 * (i + 1) : (i % 3 + 1) * MiB;
    *slot = claimed(r, nbytes, stream);
    if (*slot) work(r, stream, 5, *slot, nbytes);
    if (i % 10 == 0) tc_fake_device_advance(r->device, 3);
    if (i == 60) CHECK_STATUS(tc_pool_forget_stream(r->pool, B), TC_OK, "forgotten");
    if (i == 61) tc_fake_device_stream_destroy(r->device, B), tc_fake_device_stream_create(r->device, B);
    if (i == 80) tc_pool_trim(r->pool, 0);
  }
  for (size_t i = 0; i < 40; i++)
    if (blocks[i]) free_on(r, blocks[i], TC_STREAM_OF_BLOCK);
  check_at_rest(r->pool);
}

static void a_failure_of_any_call_of_the_upstream_harms_nothing(void) {
  for (uint32_t call = 1; call <= TC_FAKE_SYNCHRONIZE; call *= 2) {
    uint64_t at = 0, failures = 0;
    for (bool failed = true; failed;) {
      for (uint64_t count = 1; count < 2000; count += 1999) { /* alone, and with all after it */
        rig r = rig_with((tc_fake_device_options){0}, 10 * MiB);
        device_fails(&r, call, at + 1, count);
        program(&r);
        failed = device_counts(&r).failures > 0;
        failures += failed;
        device_fails(&r, 0, 0, 0);
        rig_end(&r);
      }
      at++;
    }
    CHECK(failures > 1, "call %u is used %zu times", call, (size_t)failures);
  }
}

static void memory_at_addresses_that_are_not_aligned_is_used_and_goes_back(void) {
  rig r = rig_with((tc_fake_device_options){.alignment = 512}, 16 * MiB);
  char *small = claimed(&r, 700, A), *large = claimed(&r, 3 * MiB, A);
  CHECK(small && large && (uintptr_t)small % 512 == 0, "blocks are aligned");
  CHECK_EQUAL(stats_of(r.pool).reserved.current, device_counts(&r).live_bytes, "what is lost for that counts as reserved");
  CHECK_EQUAL(stats_of(r.pool).reserved.current, 10 * MiB, "2 MiB a segment");
  CHECK(claimed(&r, 5 * MiB, A) == NULL, "and against the limit");
  CHECK(tc_pool_of(small) == r.pool && tc_pool_of(large + 3 * MiB - 1) == r.pool, "addresses are known");
  free_on(&r, small, A), free_on(&r, large, A);
  rig_end(&r);
}

int main(void) {
  RUN(a_stream_is_made_to_wait_before_the_host_is);
  RUN(what_several_streams_freed_is_merged_before_a_request_is_refused);
  RUN(segments_of_the_wrong_size_go_back_before_a_request_is_refused);
  RUN(a_small_request_takes_from_a_large_segment_before_it_is_refused);
  RUN(the_callback_is_asked_then_the_request_refused_with_the_largest_free_block);
  RUN(a_fitting_block_is_found_among_thousands_of_its_bin);
  RUN(a_forgotten_streams_handle_is_another_stream);
  RUN(a_stream_destroyed_without_a_word_loses_no_memory);
  RUN(streams_that_own_nothing_are_forgotten_by_themselves);
  RUN(trimming_a_stream_gives_back_what_it_is_done_with);
  RUN(a_pool_whose_sizes_change_does_not_keep_a_segment_of_each);
  RUN(a_pool_destroyed_with_live_and_pending_blocks_ends_with_the_last);
  RUN(a_failure_of_any_call_of_the_upstream_harms_nothing);
  RUN(memory_at_addresses_that_are_not_aligned_is_used_and_goes_back);
  return 0;
}
