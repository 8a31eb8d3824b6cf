/* test_stream_order.c - who gets a freed block, and when: the same stream at once, others after an event, and nobody before. */
#include "streams.h"

enum { A = 16, B = 17, C = 18 }; /* streams */

static void a_block_is_at_once_reusable_on_the_stream_it_was_freed_on(void) {
  static const size_t sizes[] = {0, 1, 512, 5000, 32768, 32769, 300000, 524288, 524289, 5 * MiB};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    rig r = rig_make();
    void *block = claimed(&r, sizes[i], A);
    work(&r, A, 100, block, sizes[i]);
    free_on(&r, block, A);
    void *again = claimed(&r, sizes[i], A);
    CHECK(again == block, "%zu bytes: %p again, not %p", sizes[i], block, again);
    free_on(&r, again, TC_STREAM_OF_BLOCK);
    CHECK_EQUAL(device_counts(&r).record_calls, 0, "no event was needed");
    rig_end(&r);
  }
}

static void another_stream_has_it_only_after_its_event_has_passed(void) {
  static const size_t sizes[] = {512, 5000, 100000, MiB}; /* several in a segment: a whole one could go back */
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    rig r = rig_with((tc_fake_device_options){.missing = TC_FAKE_WAIT | TC_FAKE_SYNCHRONIZE}, 4 * MiB);
    void *blocks[8192], *next;
    size_t count = 0;
    while ((next = claimed(&r, sizes[i], A))) blocks[count++] = next;
    void *block = blocks[count / 2];
    work(&r, A, 100, block, sizes[i]);
    free_on(&r, block, A);
    CHECK(claimed(&r, sizes[i], B) == NULL, "%zu bytes: stream A is still at work on the only free block", sizes[i]);
    tc_fake_device_advance(r.device, 99);
    CHECK(claimed(&r, sizes[i], B) == NULL, "and a tick before its end");
    tc_fake_device_advance(r.device, 1);
    CHECK(claimed(&r, sizes[i], B) == block, "then B has it");
    while (count) free_on(&r, blocks[--count], TC_STREAM_OF_BLOCK);
    tc_pool_drain(r.pool);
    rig_end(&r);
  }
}

static void an_idle_streams_blocks_are_taken_before_the_pool_grows(void) {
  rig r = rig_make();
  void *block = claimed(&r, 8 * MiB, A);
  free_on(&r, block, A);
  void *other = claimed(&r, 8 * MiB, B);
  CHECK(other == block, "stream A had nothing to do, so B has its block");
  CHECK_EQUAL(stats_of(r.pool).misses, 1, "the pool went upstream once");
  CHECK_EQUAL(device_counts(&r).record_calls, 1, "for one event");
  free_on(&r, other, B);
  rig_end(&r);
}

static void one_event_stands_for_all_that_a_stream_freed(void) {
  enum { BLOCKS = 200 };
  rig r = rig_make();
  void *blocks[BLOCKS];
  for (size_t i = 0; i < BLOCKS; i++) {
    blocks[i] = claimed(&r, MiB, A);
    work(&r, A, 1, blocks[i], MiB);
  }
  for (size_t i = 0; i < BLOCKS; i++) free_on(&r, blocks[i], A);
  CHECK_EQUAL(device_counts(&r).record_calls, 0, "nobody else asked so far");
  tc_fake_device_advance(r.device, BLOCKS);
  for (size_t i = 0; i < BLOCKS; i++) blocks[i] = claimed(&r, MiB, B);
  CHECK_EQUAL(device_counts(&r).record_calls, 1, "one event was recorded");
  for (size_t i = 0; i < BLOCKS; i++) free_on(&r, blocks[i], B);
  rig_end(&r);
}

static void a_recorded_stream_keeps_the_block_from_everybody_until_it_has_passed(void) {
  static const size_t sizes[] = {2000, 200000, 4 * MiB};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    rig r = rig_make();
    void *block = claimed(&r, sizes[i], A), *later[64];
    size_t capacity = capacity_of(block);
    CHECK_STATUS(tc_pool_record_stream(r.pool, block, B), TC_OK, "the block is used on B too");
    CHECK_STATUS(tc_pool_record_stream(r.pool, block, B), TC_OK, "saying it twice is saying it once");
    CHECK_STATUS(tc_pool_record_stream(r.pool, block, C), TC_OK, "and on C");
    CHECK_STATUS(tc_pool_record_stream(r.pool, block, A), TC_OK, "its own stream needs no saying");
    work(&r, B, 50, block, sizes[i]);
    work(&r, C, 80, block, sizes[i]);
    free_on(&r, block, A);
    CHECK_EQUAL(stats_of(r.pool).pending.current, capacity, "it is pending");
    check_at_rest(r.pool);
    for (size_t k = 0; k < 64; k++) {
      later[k] = claimed(&r, sizes[i], k % 2 ? A : B);
      CHECK(later[k] != block, "nobody has it now");
      if (k == 20) tc_fake_device_advance(r.device, 50);
    }
    CHECK_EQUAL(tc_pool_drain(r.pool), 0, "C is still at work");
    tc_fake_device_advance(r.device, 30);
    CHECK_EQUAL(tc_pool_drain(r.pool), capacity, "then it stops being pending");
    CHECK_EQUAL(stats_of(r.pool).pending.current, 0, "nothing waits");
    for (size_t k = 0; k < 64; k++) free_on(&r, later[k], TC_STREAM_OF_BLOCK);
    rig_end(&r);
  }
}

static void a_block_may_be_freed_on_another_stream_than_its_own(void) {
  rig r = rig_make();
  void *block = claimed(&r, MiB, A);
  work(&r, B, 10, block, MiB);
  free_on(&r, block, B);
  void *own = claimed(&r, MiB, A);
  CHECK(own != block, "A waits for B now");
  CHECK(claimed(&r, MiB, B) == block, "B has it at once");
  free_on(&r, block, B);
  free_on(&r, own, A);
  rig_end(&r);
}

static void plain_calls_are_on_stream_0_and_the_streams_of_their_blocks(void) {
  rig r = rig_make();
  void *block = tc_pool_alloc(r.pool, 3000);
  work(&r, 0, 10, block, 3000);
  CHECK_STATUS(tc_free(block), TC_OK, "freed without a word of streams");
  CHECK(tc_pool_alloc_on(r.pool, 3000, 0) == block, "it is stream 0's");
  CHECK_STATUS(tc_pool_free_sized(r.pool, block, 2999), TC_SIZE_MISMATCH, "the size is checked");
  CHECK_STATUS(tc_pool_free_sized(r.pool, block, 3000), TC_OK, "and right");
  block = tc_pool_alloc_on(r.pool, 3000, A);
  CHECK_STATUS(tc_pool_free(r.pool, block), TC_OK, "freed on its own stream");
  CHECK(tc_pool_alloc_on(r.pool, 3000, A) == block, "which has it again");
  CHECK(tc_pool_realloc(r.pool, block, 6000) == NULL, "no block of a device is reallocated");
  CHECK(tc_pool_alloc_zeroed(r.pool, 100) == NULL, "nor cleared");
  free_on(&r, block, A);
  rig_end(&r);
}

static void each_thread_has_its_own_of_the_stream_that_means_the_threads_own(void);

static void small_and_large_blocks_come_from_different_segments(void) {
  rig r = rig_make();
  void *large = claimed(&r, 64 * MiB, A);
  free_on(&r, large, A);
  void *small = claimed(&r, 512, A), *medium = claimed(&r, 512 * KiB, A);
  CHECK(tc_pool_trim(r.pool, 0) >= 64 * MiB, "a small array does not pin the large segment");
  CHECK_EQUAL(stats_of(r.pool).reserved.current, 2 * MiB, "it lies in one of 2 MiB");
  free_on(&r, small, A);
  free_on(&r, medium, A);
  rig_end(&r);
}

static void blocks_are_aligned_to_512_and_more_where_asked(void) {
  rig r = rig_make();
  uint64_t seed = 4;
  void *blocks[600];
  for (size_t i = 0; i < 600; i++) {
    size_t alignment = (size_t)1 << random_below(&seed, 22), nbytes = random_size(&seed, 21);
    blocks[i] = tc_pool_alloc_aligned_on(r.pool, nbytes, alignment, A + i % 3);
    CHECK(blocks[i] && (uintptr_t)blocks[i] % (alignment < 512 ? 512 : alignment) == 0, "%p is aligned to %zu", blocks[i], alignment);
    CHECK(capacity_of(blocks[i]) >= nbytes, "%zu bytes fit", nbytes);
  }
  check_at_rest(r.pool);
  for (size_t i = 0; i < 600; i++) free_on(&r, blocks[i], TC_STREAM_OF_BLOCK);
  CHECK(tc_pool_alloc_aligned_on(r.pool, 1, 3, A) == NULL && tc_pool_alloc_aligned_on(r.pool, 1, 0, A) == NULL, "3 and 0 are no alignments");
  CHECK(tc_pool_alloc_aligned_on(r.pool, 1, 4 * MiB, A) == NULL, "4 MiB is too much");
  rig_end(&r);
}

static void page_runs_are_of_the_exact_size(void) {
  rig r = rig_make();
  for (size_t nbytes = 40000; nbytes < 64 * MiB; nbytes += nbytes / 3 + 4097) {
    void *block = claimed(&r, nbytes, A);
    CHECK(capacity_of(block) - nbytes < 4096, "%zu bytes take %zu", nbytes, capacity_of(block));
    free_on(&r, block, A);
  }
  rig_end(&r);
}

static void wrong_frees_are_refused_and_change_nothing(void) {
  rig r = rig_make(), other = rig_make();
  char *block = claimed(&r, 3000, A), *large = claimed(&r, 3 * MiB, A);
  CHECK_STATUS(tc_pool_free_on(r.pool, NULL, A), TC_OK, "NULL is nothing");
  CHECK_STATUS(tc_pool_free_on(r.pool, block + 512, A), TC_INVALID_FREE, "no block starts there");
  CHECK_STATUS(tc_pool_free_on(r.pool, block + 1, A), TC_INVALID_FREE, "nor there");
  CHECK_STATUS(tc_pool_free_on(other.pool, block, A), TC_INVALID_FREE, "another device's pool does not take it");
  CHECK_STATUS(tc_pool_free_sized_on(r.pool, block, 3001, A), TC_SIZE_MISMATCH, "3,000 bytes were asked for");
  CHECK_STATUS(tc_pool_free_sized_on(r.pool, large, MiB, A), TC_SIZE_MISMATCH, "3 MiB were");
  CHECK_STATUS(tc_pool_record_stream(r.pool, block + 512, B), TC_INVALID_FREE, "nor is it recorded");
  CHECK_STATUS(tc_pool_record_stream(r.pool, block, TC_STREAM_OF_BLOCK), TC_INVALID_ARGUMENT, "that is no stream");
  CHECK(tc_pool_alloc_on(r.pool, 1, TC_STREAM_OF_BLOCK) == NULL, "nor is it for an allocation");
  check_at_rest(r.pool);
  CHECK_STATUS(tc_pool_record_stream(r.pool, large, B), TC_OK, "large is used on B");
  work(&r, B, 5, large, 3 * MiB);
  free_on(&r, block, A);
  free_on(&r, large, A);
  CHECK_STATUS(tc_pool_free_on(r.pool, block, A), TC_DOUBLE_FREE, "it lies in a bucket");
  CHECK_STATUS(tc_pool_free_on(r.pool, large, A), TC_DOUBLE_FREE, "it is pending");
  CHECK_STATUS(tc_pool_record_stream(r.pool, large, A), TC_DOUBLE_FREE, "and cannot be recorded any more");
  CHECK(tc_pool_alloc_on(r.pool, (size_t)1 << 48, A) == NULL && tc_pool_alloc_on(r.pool, SIZE_MAX, A) == NULL, "no machine has that");
  rig_end(&r);
  rig_end(&other);
}

static void pools_without_streams_refuse_these_calls(void) {
  tc_pool *pool = pool_over(NULL);
  void *block = tc_pool_alloc(pool, 100);
  CHECK_EQUAL(tc_pool_stream_ordered(pool), 0, "a host pool has no streams");
  CHECK(tc_pool_alloc_on(pool, 100, A) == NULL && tc_pool_alloc_aligned_on(pool, 100, 512, A) == NULL, "nothing is allocated on one");
  CHECK_STATUS(tc_pool_free_on(pool, block, A), TC_INVALID_ARGUMENT, "freed");
  CHECK_STATUS(tc_pool_free_sized_on(pool, block, 100, A), TC_INVALID_ARGUMENT, "freed with a size");
  CHECK_STATUS(tc_pool_record_stream(pool, block, A), TC_INVALID_ARGUMENT, "recorded");
  CHECK_STATUS(tc_pool_forget_stream(pool, A), TC_INVALID_ARGUMENT, "or forgotten");
  CHECK_EQUAL(tc_pool_drain(pool) + tc_pool_trim_stream(pool, A), 0, "drained or trimmed");
  CHECK_EQUAL(tc_pool_device(pool), -1, "it serves the host");
  CHECK_STATUS(tc_pool_free(pool, block), TC_OK, "the block is whole");
  tc_pool_destroy(pool);
  tc_upstream half = *tc_upstream_os();
  tc_pool_options options;
  tc_pool_options_init(&options);
  options.upstream = &half;
  half.event_record = (void *(*)(void *, uintptr_t))(uintptr_t)1;
  CHECK_STATUS(tc_pool_create(&options, &pool), TC_INVALID_ARGUMENT, "an upstream has all of event_record, _query and _destroy or none");
}

/* ---- a thread's own stream ---------------------------------------------------------------------------------------------------------- */

#include <pthread.h>

static void *take_on_own_stream(void *argument) {
  rig *r = argument;
  void *block = claimed(r, 6 * MiB, 2);
  work(r, 2, 1000, block, 6 * MiB);
  free_on(r, block, 2);
  return block;
}

static void each_thread_has_its_own_of_the_stream_that_means_the_threads_own(void) {
  rig r = rig_make();
  pthread_t thread;
  void *theirs, *mine = claimed(&r, 6 * MiB, 2);
  CHECK_EQUAL(pthread_create(&thread, NULL, take_on_own_stream, &r), 0, "a thread is started");
  CHECK_EQUAL(pthread_join(thread, &theirs), 0, "and joined");
  free_on(&r, mine, 2);
  CHECK(claimed(&r, 6 * MiB, 2) == mine, "what this thread freed is this thread's");
  void *more = claimed(&r, 6 * MiB, 2);
  CHECK(more != theirs, "what the other one freed is not, though its stream has the same handle");
  tc_fake_device_advance(r.device, 1000);
  void *passed = claimed(&r, 6 * MiB, 2);
  CHECK(passed == theirs, "before it has passed: it said so itself when it was freed");
  free_on(&r, mine, 2), free_on(&r, more, 2), free_on(&r, passed, 2);
  rig_end(&r);
}

int main(void) {
  RUN(a_block_is_at_once_reusable_on_the_stream_it_was_freed_on);
  RUN(another_stream_has_it_only_after_its_event_has_passed);
  RUN(an_idle_streams_blocks_are_taken_before_the_pool_grows);
  RUN(one_event_stands_for_all_that_a_stream_freed);
  RUN(a_recorded_stream_keeps_the_block_from_everybody_until_it_has_passed);
  RUN(a_block_may_be_freed_on_another_stream_than_its_own);
  RUN(plain_calls_are_on_stream_0_and_the_streams_of_their_blocks);
  RUN(each_thread_has_its_own_of_the_stream_that_means_the_threads_own);
  RUN(small_and_large_blocks_come_from_different_segments);
  RUN(blocks_are_aligned_to_512_and_more_where_asked);
  RUN(page_runs_are_of_the_exact_size);
  RUN(wrong_frees_are_refused_and_change_nothing);
  RUN(pools_without_streams_refuse_these_calls);
  return 0;
}
