/* test_stream_pinned.c - memory that both the CPU and a device read: a block waits for the streams it was for; the figures of such pools. */
#include "streams.h"

enum { A = 16, B = 17 };

static void a_block_waits_for_the_stream_it_was_allocated_for(void) {
  rig r = rig_pinned();
  char *block = claimed(&r, 5000, A);
  memset(block, 1, 5000);
  work(&r, A, 100, block, 5000);
  free_on(&r, block, TC_STREAM_OF_BLOCK);
  CHECK_EQUAL(stats_of(r.pool).pending.current, 5120, "a copy of it is under way");
  void *other = claimed(&r, 5000, A);
  CHECK(other != block, "not even the same stream has it: the CPU would write into what is being copied");
  tc_fake_device_advance(r.device, 100);
  CHECK_EQUAL(tc_pool_drain(r.pool), 5120, "until the copy is done");
  free_on(&r, other, A);
  rig_end(&r);
}

static void a_block_waits_for_the_stream_it_is_freed_on(void) {
  rig r = rig_pinned();
  void *block = claimed(&r, 2 * MiB, TC_STREAM_OF_BLOCK);
  work(&r, B, 100, block, 2 * MiB);
  free_on(&r, block, B);
  CHECK_EQUAL(stats_of(r.pool).pending.current, 2 * MiB, "B copies");
  tc_fake_device_advance(r.device, 100);
  void *again = claimed(&r, 2 * MiB, A);
  CHECK(again == block, "then it is had again before the pool grows");
  free_on(&r, again, A);
  rig_end(&r);
}

static void a_block_of_the_host_alone_waits_for_nothing(void) {
  rig r = rig_pinned();
  char *block = tc_pool_alloc_zeroed(r.pool, 700000);
  CHECK_EQUAL(first_nonzero(block, 700000), 700000, "a zeroed block is zero");
  memset(block, 7, 700000);
  CHECK_STATUS(tc_pool_free(r.pool, block), TC_OK, "freed");
  CHECK_EQUAL(stats_of(r.pool).pending.current, 0, "nothing is pending");
  char *again = tc_pool_alloc_zeroed(r.pool, 700000);
  CHECK(again == block, "it is had again at once");
  CHECK_EQUAL(first_nonzero(again, 700000), 700000, "and cleared");
  CHECK(tc_pool_realloc(r.pool, again, 100) == NULL, "such blocks are not reallocated");
  CHECK_STATUS(tc_pool_record_stream(r.pool, again, A), TC_OK, "unless a stream is recorded");
  work(&r, A, 10, again, 700000);
  CHECK_STATUS(tc_pool_free(r.pool, again), TC_OK, "freed");
  CHECK(stats_of(r.pool).pending.current > 0, "now it waits");
  rig_end(&r);
}

static void pinned_sizes_are_exact(void) {
  rig r = rig_pinned();
  void *block = claimed(&r, 33 * MiB, A);
  CHECK_EQUAL(capacity_of(block), 33 * MiB, "33 MiB take no 64");
  CHECK_EQUAL(stats_of(r.pool).reserved.current, 34 * MiB, "but for whole huge pages of the segment");
  free_on(&r, block, A);
  rig_end(&r);
}

static void events_are_recorded_at_the_free_and_a_burst_of_frees_shares_some(void) {
  enum { BLOCKS = 500 };
  rig r = rig_pinned();
  void *blocks[BLOCKS];
  for (size_t i = 0; i < BLOCKS; i++) {
    blocks[i] = claimed(&r, 4096, A);
    work(&r, A, 1, blocks[i], 4096);
  }
  for (size_t i = 0; i < BLOCKS; i++) free_on(&r, blocks[i], A);
  tc_fake_device_counts counts = device_counts(&r);
  CHECK(counts.record_calls >= 1 && counts.record_calls <= 8, "%" PRIu64 " events for 500 frees", counts.record_calls);
  tc_fake_device_advance(r.device, BLOCKS);
  CHECK_EQUAL(tc_pool_drain(r.pool), BLOCKS * 4096, "and one more for the rest");
  rig_end(&r);
}

/* ---- figures ------------------------------------------------------------------------------------------------------------------------- */

static unsigned warnings;

static void warn(tc_pool *pool, double utilization, void *context) {
  CHECK(pool != NULL && context == &warnings && utilization >= 0.5, "a warning at %g", utilization);
  warnings++;
}

static void the_figures_of_a_stream_ordered_pool_add_up(void) {
  rig r = rig_make();
  tc_class_stats classes[64];
  void *small = claimed(&r, 700, A), *medium = claimed(&r, 100000, A), *large = claimed(&r, 3 * MiB, B);
  tc_stats stats = stats_of(r.pool);
  CHECK_EQUAL(stats.requested.current, 700 + 100000 + 3 * MiB, "requested is what was asked for");
  CHECK_EQUAL(stats.allocated.current, 1024 + 102400 + 3 * MiB, "allocated are the blocks' capacities");
  CHECK_EQUAL(stats.reserved.current, device_counts(&r).live_bytes, "reserved is what the device gave");
  CHECK_EQUAL(stats.misses, 2, "one segment for small ones, one for the large one");
  CHECK_EQUAL(tc_pool_class_stats(r.pool, classes, 64), 3, "three classes saw traffic");
  CHECK_EQUAL(classes[0].block_size, 1024, "the smallest");
  CHECK_EQUAL(classes[0].live, 1, "has a block");
  CHECK_EQUAL(classes[0].allocations - classes[0].hits, 1, "which was no hit");
  free_on(&r, large, B);
  stats = stats_of(r.pool);
  CHECK_EQUAL(stats.allocated.peak, 1024 + 102400 + 3 * MiB, "the peak stays");
  tc_pool_reset_peak(r.pool);
  stats = stats_of(r.pool);
  CHECK_EQUAL(stats.allocated.peak, stats.allocated.current, "until it is reset");
  CHECK_EQUAL(stats.requested.peak, 100700, "that of requested bytes too");
  large = claimed(&r, MiB, B);
  free_on(&r, large, B);
  CHECK_EQUAL(stats_of(r.pool).requested.peak, 100700 + MiB, "and rises again");
  check_at_rest(r.pool);
  tc_pool_warn_at(r.pool, 0.5, warn, &warnings);
  large = claimed(&r, 3 * MiB, B);
  CHECK_EQUAL(warnings, 1, "the watermark is watched");
  free_on(&r, small, A), free_on(&r, medium, A), free_on(&r, large, B);
  tc_pool_warn_at(r.pool, 0, NULL, NULL);
  CHECK(tc_pool_set_decay(r.pool, 1.0) < 0 && tc_pool_decay(r.pool) < 0, "nothing decays");
  rig_end(&r);
}

static void an_initial_capacity_is_reserved_and_used(void) {
  tc_upstream *device;
  tc_pool *pool;
  tc_pool_options options;
  CHECK_STATUS(tc_upstream_fake_device_create(NULL, &device), TC_OK, "a device");
  tc_pool_options_init(&options);
  options.upstream = device;
  options.initial_capacity = 64 * MiB;
  options.device = 3;
  CHECK_STATUS(tc_pool_create(&options, &pool), TC_OK, "a pool");
  CHECK_EQUAL(tc_pool_device(pool), 3, "it remembers the device's number");
  CHECK_EQUAL(stats_of(pool).reserved.current, 64 * MiB, "64 MiB are held");
  void *block = tc_pool_alloc_on(pool, 5 * MiB, A), *all = tc_pool_alloc_on(pool, 59 * MiB, A);
  CHECK(block && all, "for whatever is asked for");
  CHECK_EQUAL(stats_of(pool).misses, 0, "without going upstream");
  CHECK_STATUS(tc_pool_free_on(pool, block, A), TC_OK, "freed");
  CHECK_STATUS(tc_pool_free_on(pool, all, A), TC_OK, "freed");
  check_empties(pool);
  tc_pool_destroy(pool);
  tc_upstream_fake_device_destroy(device);
}

int main(void) {
  RUN(a_block_waits_for_the_stream_it_was_allocated_for);
  RUN(a_block_waits_for_the_stream_it_is_freed_on);
  RUN(a_block_of_the_host_alone_waits_for_nothing);
  RUN(pinned_sizes_are_exact);
  RUN(events_are_recorded_at_the_free_and_a_burst_of_frees_shares_some);
  RUN(the_figures_of_a_stream_ordered_pool_add_up);
  RUN(an_initial_capacity_is_reserved_and_used);
  return 0;
}
