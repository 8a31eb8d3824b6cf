/* test_stream_random.c - random schedules on several streams: no block is handed to a stream before the work of earlier holders is known
 * to be done, none overlaps another, and every figure is 0 in the end; with failures of every call, and without the optional ones.
 */
#include "overlap.h"
#include "streams.h"

enum { STREAMS = 6, BLOCKS = 300, HANDLE = 100 };

static const size_t STEPS = 1000000 / SLOWER;

typedef struct held {
  char *block;
  size_t nbytes;
  uintptr_t stream;   /* it was allocated on; TC_STREAM_OF_BLOCK: on none */
  uintptr_t used[2];  /* further streams that were recorded */
  unsigned nused;
  bool orphan;        /* its stream was forgotten: no more work there */
} held;

typedef struct schedule {
  rig r;
  uint64_t seed;
  bool pinned, stubborn; /* stubborn: calls fail now and then */
  held blocks[BLOCKS];
  unsigned forgotten;
  size_t refused;
} schedule;

static uintptr_t random_stream(schedule *s) { return HANDLE + random_below(&s->seed, STREAMS); }

static size_t schedule_size(schedule *s) {
  size_t kind = random_below(&s->seed, 100);
  return kind < 70 ? random_size(&s->seed, 14) : kind < 95 ? random_size(&s->seed, 18) : random_size(&s->seed, 22);
}

static void block_get(schedule *s, held *h) {
  bool plain = s->pinned && random_below(&s->seed, 4) == 0;
  *h = (held){.nbytes = schedule_size(s), .stream = plain ? TC_STREAM_OF_BLOCK : random_stream(s)};
  h->block = claimed(&s->r, h->nbytes, h->stream);
  s->refused += h->block == NULL;
  if (h->block) overlap_claim(h->block, h->nbytes);
}

static void block_work(schedule *s, held *h) { /* on a stream that the pool knows of */
  size_t which = random_below(&s->seed, h->nused + 1);
  uintptr_t stream = which ? h->used[which - 1] : h->stream;
  if (which == 0 && (h->orphan || h->stream == TC_STREAM_OF_BLOCK)) return;
  size_t part = h->nbytes > 4096 ? 4096 : h->nbytes; /* the oracle takes time by the byte */
  work(&s->r, stream, random_below(&s->seed, 40), h->block + (random_below(&s->seed, 2) ? h->nbytes - part : 0), part);
}

static void block_record(schedule *s, held *h) {
  if (h->nused == 2) return;
  h->used[h->nused] = random_stream(s);
  CHECK_STATUS(tc_pool_record_stream(s->r.pool, h->block, h->used[h->nused]), TC_OK, "a stream is recorded");
  h->nused++;
}

static void block_drop(schedule *s, held *h) {
  uintptr_t stream = TC_STREAM_OF_BLOCK;
  if (!h->orphan && h->stream != TC_STREAM_OF_BLOCK && random_below(&s->seed, 8) == 0) { /* elsewhere, and its own stream is said */
    stream = random_stream(s);
    CHECK_STATUS(tc_pool_record_stream(s->r.pool, h->block, h->stream), TC_OK, "its own stream is recorded");
    work(&s->r, stream, random_below(&s->seed, 40), h->block, h->nbytes > 4096 ? 4096 : h->nbytes);
  }
  overlap_release(h->block, h->nbytes);
  CHECK_STATUS(tc_pool_free_sized_on(s->r.pool, h->block, h->nbytes, stream), TC_OK, "a block is freed");
  h->block = NULL;
}

/* A stream ends, and its handle comes back as another. */
static void stream_end(schedule *s) {
  uintptr_t stream = random_stream(s);
  if (s->forgotten++ >= 20) return;
  for (held *h = s->blocks; h < s->blocks + BLOCKS; h++) {
    if (!h->block) continue;
    for (unsigned i = 0; i < h->nused; i++)
      if (h->used[i] == stream) h->used[i] = h->used[--h->nused], i--;
    h->orphan |= h->stream == stream;
  }
  CHECK_STATUS(tc_pool_forget_stream(s->r.pool, stream), TC_OK, "a stream is forgotten");
  tc_fake_device_stream_destroy(s->r.device, stream);
  tc_fake_device_stream_create(s->r.device, stream);
}

static void step_rarely(schedule *s) {
  switch (random_below(&s->seed, 6)) {
  case 0:
    tc_pool_trim(s->r.pool, random_below(&s->seed, 3) ? 0 : 8 * MiB);
    break;
  case 1:
    tc_pool_trim_stream(s->r.pool, random_stream(s));
    break;
  case 2:
    tc_pool_drain(s->r.pool);
    break;
  case 3:
    stream_end(s);
    break;
  case 4:
    check_at_rest(s->r.pool);
    break;
  default:
    if (s->stubborn) device_fails(&s->r, 1u << random_below(&s->seed, 5) | 2, 1 + random_below(&s->seed, 20), 1 + random_below(&s->seed, 8));
  }
}

static void step(schedule *s) {
  held *h = &s->blocks[random_below(&s->seed, BLOCKS)];
  size_t what = random_below(&s->seed, 1000);
  if (what == 0)
    step_rarely(s);
  else if (what < 100)
    tc_fake_device_advance(s->r.device, random_below(&s->seed, 30));
  else if (!h->block)
    block_get(s, h);
  else if (what < 500)
    block_work(s, h);
  else if (what < 550)
    block_record(s, h);
  else
    block_drop(s, h);
}

static void schedule_run(tc_fake_device_options device, bool stubborn, size_t limit, uint64_t seed) {
  static schedule s;
  s = (schedule){.r = rig_with(device, limit), .seed = seed, .pinned = device.host_memory, .stubborn = stubborn};
  for (size_t i = 0; i < STEPS; i++) step(&s);
  check_at_rest(s.r.pool);
  for (held *h = s.blocks; h < s.blocks + BLOCKS; h++)
    if (h->block) block_drop(&s, h);
  device_fails(&s.r, 0, 0, 0);
  if (limit) CHECK(stubborn || s.refused < STEPS / 20, "%zu requests were refused", s.refused);
  tc_fake_device_advance(s.r.device, 1 << 30);
  tc_pool_drain(s.r.pool); /* twice: what waited for one stream may then be another's */
  tc_pool_drain(s.r.pool);
  rig_end(&s.r);
}

static void no_schedule_hands_a_block_over_early(void) { schedule_run((tc_fake_device_options){0}, false, 0, 1); }

static void nor_when_memory_is_short(void) { schedule_run((tc_fake_device_options){0}, false, 16 * MiB, 2); }

static void nor_where_streams_cannot_wait_for_each_other(void) {
  schedule_run((tc_fake_device_options){.missing = TC_FAKE_WAIT}, false, 16 * MiB, 3);
}

static void nor_where_nobody_can_wait_for_the_device(void) {
  schedule_run((tc_fake_device_options){.missing = TC_FAKE_WAIT | TC_FAKE_SYNCHRONIZE}, false, 24 * MiB, 4);
}

static void nor_where_calls_fail(void) { schedule_run((tc_fake_device_options){0}, true, 16 * MiB, 5); }

static void nor_where_addresses_are_not_aligned(void) { schedule_run((tc_fake_device_options){.alignment = 512}, true, 24 * MiB, 6); }

static void a_pinned_block_is_the_hosts_only_after_its_copies(void) { schedule_run((tc_fake_device_options){.host_memory = 1}, false, 0, 7); }

static void also_when_pinned_memory_is_short_and_calls_fail(void) {
  schedule_run((tc_fake_device_options){.host_memory = 1}, true, 16 * MiB, 8);
}

int main(void) {
  RUN(no_schedule_hands_a_block_over_early);
  RUN(nor_when_memory_is_short);
  RUN(nor_where_streams_cannot_wait_for_each_other);
  RUN(nor_where_nobody_can_wait_for_the_device);
  RUN(nor_where_calls_fail);
  RUN(nor_where_addresses_are_not_aligned);
  RUN(a_pinned_block_is_the_hosts_only_after_its_copies);
  RUN(also_when_pinned_memory_is_short_and_calls_fail);
  return 0;
}
