/* streams.h - a stream-ordered pool on the fake device, and the oracle: each block that is handed out is claimed for its stream. */
#ifndef TENSORCORE_TESTS_STREAMS_H
#define TENSORCORE_TESTS_STREAMS_H

#include "support.h"

typedef struct rig {
  tc_upstream *device;
  tc_pool *pool;
} rig;

static inline rig rig_with(tc_fake_device_options device_options, size_t limit) {
  rig r = {0};
  tc_pool_options options;
  CHECK_STATUS(tc_upstream_fake_device_create(&device_options, &r.device), TC_OK, "a fake device is made");
  tc_pool_options_init(&options);
  options.upstream = r.device;
  options.limit = limit;
  CHECK_STATUS(tc_pool_create(&options, &r.pool), TC_OK, "a stream-ordered pool is made");
  CHECK(tc_pool_stream_ordered(r.pool), "it is stream-ordered");
  return r;
}

static inline rig rig_make(void) { return rig_with((tc_fake_device_options){0}, 0); }
static inline rig rig_pinned(void) { return rig_with((tc_fake_device_options){.host_memory = 1}, 0); }

static inline tc_fake_device_counts device_counts(const rig *r) {
  tc_fake_device_counts counts;
  tc_upstream_fake_device_counts(r->device, &counts);
  return counts;
}

/* A block that is claimed for its stream (or for the host), so that an early hand-over is counted; NULL where the pool refuses. */
static inline void *claimed(const rig *r, size_t nbytes, uintptr_t stream) {
  void *block = stream == TC_STREAM_OF_BLOCK ? tc_pool_alloc(r->pool, nbytes) : tc_pool_alloc_on(r->pool, nbytes, stream);
  int host = tc_pool_upstream(r->pool)->host_memory;
  if (block) CHECK(!tc_fake_device_claim(r->device, host ? TC_STREAM_OF_BLOCK : stream, block, nbytes), "%p was handed over early", block);
  return block;
}

static inline void work(const rig *r, uintptr_t stream, uint64_t ticks, const void *block, size_t nbytes) {
  CHECK_STATUS(tc_fake_device_enqueue(r->device, stream, ticks, block, nbytes), TC_OK, "work is enqueued");
}

static inline void free_on(const rig *r, void *block, uintptr_t stream) {
  CHECK_STATUS(tc_pool_free_on(r->pool, block, stream), TC_OK, "a block is freed on stream %zu", (size_t)stream);
}

static inline void device_fails(const rig *r, uint32_t calls, uint64_t at, uint64_t count) {
  tc_fake_device_options options = {.failing = calls, .fail_at = at, .fail_count = count};
  tc_upstream_fake_device_set(r->device, &options);
}

/* Everything was freed: the pool empties, nothing was early, and the device has all of it back. */
static inline void rig_end(rig *r) {
  check_empties(r->pool);
  CHECK_STATUS(tc_pool_destroy(r->pool), TC_OK, "the pool is destroyed");
  tc_fake_device_counts counts = device_counts(r);
  CHECK_EQUAL(counts.live_bytes, 0, "the device has its memory back");
  CHECK_EQUAL(counts.live_events, 0, "and its events");
  CHECK_EQUAL(counts.errors, 0, "each once, and whole");
  CHECK_EQUAL(counts.early, 0, "nothing was handed over early");
  tc_upstream_fake_device_destroy(r->device);
}

#endif /* TENSORCORE_TESTS_STREAMS_H */
