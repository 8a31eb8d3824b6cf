/* stress.c - every call of the interface, from several threads at once, at random; contents and overlaps checked, all counters 0 at the end.
 *
 *   stress [--seed S] [--ops N | --seconds T] [--threads N]        defaults: seed 1, a million operations, 4 threads
 *
 * Works in rounds: in each, N new threads take over what the last ones held, and end with full caches; between rounds the pools are
 * checked at rest. The same seed gives each thread the same choices, but not the same order between threads.
 */
#include "mailbox.h"
#include "overlap.h"
#include "support.h"

enum { POOLS = 2, SLOTS = 200, MAX_THREADS = 64, ROUND_OPS = 10000 };
static const size_t POOL_1_LIMIT = 64 * 1024 * 1024; /* bytes */

typedef struct held {
  parcel block; /* start NULL: an empty slot */
  size_t pool;
} held;

typedef struct worker {
  pthread_t thread;
  uint64_t seed, stamp;
  held slots[SLOTS];
} worker;

static tc_pool *pools[POOLS];          /* 0: of the system, unlimited; 1: a fake over it, limited, failing now and then */
static mailbox boxes[POOLS];           /* one a pool */
static worker workers[MAX_THREADS];
static size_t thread_count = 4;

static void hold(worker *self, held *slot, void *start, size_t nbytes) {
  if (start == NULL) {
    CHECK_EQUAL(slot->pool, 1, "only the limited pool refuses %zu bytes", nbytes);
    return;
  }
  slot->block = (parcel){start, nbytes, ++self->stamp};
  overlap_claim(start, capacity_of(start));
  CHECK(tc_pool_of(start) == pools[slot->pool], "a new block belongs to its pool");
  sample_write(start, nbytes, slot->block.stamp);
}

static void allocate(worker *self, held *slot) {
  size_t nbytes = random_size(&self->seed, random_below(&self->seed, 64) ? 17 : 23);
  slot->pool = random_below(&self->seed, POOLS);
  tc_pool *pool = pools[slot->pool];
  switch (random_below(&self->seed, 8)) {
  case 0: {
    unsigned char *start = tc_pool_alloc_zeroed(pool, nbytes);
    if (start != NULL && nbytes <= 65536) CHECK_EQUAL(first_nonzero(start, nbytes), nbytes, "zeroed bytes are zero");
    for (size_t at = 0; start != NULL && at < nbytes; at += 4096) CHECK(start[at] == 0, "zeroed pages are zero at %zu", at);
    hold(self, slot, start, nbytes);
    break;
  }
  case 1: {
    size_t alignment = (size_t)1 << random_below(&self->seed, 22);
    void *start = tc_pool_alloc_aligned(pool, nbytes, alignment);
    CHECK((uintptr_t)start % alignment == 0, "%p is aligned to %zu", start, alignment);
    hold(self, slot, start, nbytes);
    break;
  }
  case 2:
    hold(self, slot, tc_pool_realloc(pool, NULL, nbytes), nbytes);
    break;
  case 3:
    hold(self, slot, tc_pool_alloc(pool, 80000), 80000);
    break; /* a size to learn */
  default:
    hold(self, slot, tc_pool_alloc(pool, nbytes), nbytes);
  }
}

static void release(worker *self, held *slot) {
  parcel block = slot->block;
  tc_pool *pool = pools[slot->pool];
  CHECK(sample_verify(block.start, block.nbytes, block.nbytes, block.stamp), "a block of %zu bytes keeps its contents", block.nbytes);
  overlap_release(block.start, capacity_of(block.start));
  size_t way = random_below(&self->seed, 3);
  CHECK_STATUS(way == 0   ? tc_free(block.start)
               : way == 1 ? tc_pool_free(pool, block.start)
                          : tc_pool_free_sized(pool, block.start, block.nbytes),
               TC_OK, "a live block of %zu bytes is freed", block.nbytes);
  slot->block.start = NULL;
}

static void reallocate(worker *self, held *slot) {
  parcel old = slot->block;
  size_t nbytes = random_size(&self->seed, random_below(&self->seed, 64) ? 17 : 23), kept = nbytes < old.nbytes ? nbytes : old.nbytes;
  overlap_release(old.start, capacity_of(old.start));
  void *start = tc_pool_realloc(pools[slot->pool], old.start, nbytes);
  if (start == NULL) {
    overlap_claim(old.start, capacity_of(old.start));
    CHECK_EQUAL(slot->pool, 1, "only the limited pool refuses to grow a block to %zu bytes", nbytes);
    CHECK(sample_verify(old.start, old.nbytes, old.nbytes, old.stamp), "a refused reallocation leaves the block as it was");
    return;
  }
  CHECK(sample_verify(start, old.nbytes, kept, old.stamp), "from %zu to %zu bytes what fits is kept", old.nbytes, nbytes);
  hold(self, slot, start, nbytes);
}

/* Only addresses that stay ours: a block freed twice could be another thread's by then. */
static void offend(held *slot) {
  char *start = slot->block.start;
  tc_pool *ours = pools[slot->pool], *other = pools[1 - slot->pool];
  CHECK_STATUS(tc_pool_free(ours, start + 1), TC_INVALID_FREE, "an address inside a block is refused");
  CHECK_STATUS(tc_pool_free_sized(ours, start, slot->block.nbytes + 1), TC_SIZE_MISMATCH, "a wrong size is refused");
  CHECK_STATUS(tc_pool_free(other, start), TC_INVALID_FREE, "another pool's block is refused");
  CHECK_STATUS(tc_free(slot), TC_INVALID_FREE, "an address of nobody is refused");
}

static void exchange(worker *self, held *slot) {
  parcel received;
  size_t pool = random_below(&self->seed, POOLS);
  if (slot->block.start != NULL) {
    if (mailbox_put(&boxes[slot->pool], slot->block)) slot->block.start = NULL;
  } else if (mailbox_take(&boxes[pool], &received)) {
    *slot = (held){received, pool};
  }
}

static void control(worker *self) {
  tc_class_stats classes[16];
  tc_pool *pool = pools[random_below(&self->seed, POOLS)];
  char message[256] = "";
  switch (random_below(&self->seed, 8)) {
  case 0:
    tc_pool_trim(pool, random_size(&self->seed, 25));
    break;
  case 1:
    CHECK(tc_pool_reserve(pool, random_size(&self->seed, 25)) != TC_INVALID_ARGUMENT, "a reservation is met or refused");
    break;
  case 2:
    tc_pool_set_decay(pool, (double)random_below(&self->seed, 4) / 1000.0);
    break;
  case 3:
    tc_pool_set_limit(pools[1], POOL_1_LIMIT - random_size(&self->seed, 24));
    break;
  case 4:
    tc_pool_reset_peak(pool);
    break;
  case 5:
    CHECK(tc_pool_class_stats(pool, classes, 16) < 1000, "classes are counted");
    break;
  case 6:
    CHECK(stats_of(pool).allocation_count > 0, "statistics are read");
    break;
  default:
    CHECK(tc_pool_check(pool, message, sizeof message) == TC_OK, "the metadata is consistent, but: %s", message);
  }
}

static void *work(void *argument) {
  worker *self = argument;
  for (size_t step = 0; step < ROUND_OPS; step++) {
    held *slot = &self->slots[random_below(&self->seed, SLOTS)];
    size_t what = random_below(&self->seed, 1000);
    if (what < 3)
      control(self);
    else if (what < 100)
      exchange(self, slot);
    else if (slot->block.start == NULL)
      allocate(self, slot);
    else if (what < 200)
      reallocate(self, slot);
    else if (what < 250)
      offend(slot);
    else
      release(self, slot);
  }
  return NULL;
}

static void run_round(tc_upstream *fake, uint64_t round) {
  tc_fake_options failing = {.fail_at = round % 2 ? 0 : 20 + round % 50, .fail_count = 1 + round % 5};
  tc_upstream_fake_set(fake, &failing);
  for (size_t i = 0; i < thread_count; i++)
    CHECK_EQUAL(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0, "thread %zu is started", i);
  for (size_t i = 0; i < thread_count; i++) CHECK_EQUAL(pthread_join(workers[i].thread, NULL), 0, "thread %zu is joined", i);
  for (size_t p = 0; p < POOLS; p++) check_at_rest(pools[p]);
}

static void empty_slots(void) {
  for (size_t i = 0; i < thread_count; i++)
    for (size_t at = 0; at < SLOTS; at++)
      if (workers[i].slots[at].block.start != NULL) release(&workers[i], &workers[i].slots[at]);
  for (size_t p = 0; p < POOLS; p++)
    for (held slot = {.pool = p}; mailbox_take(&boxes[p], &slot.block);) release(&workers[0], &slot);
}

static uint64_t number_after(char **argument, char **end) {
  char *rest = NULL;
  uint64_t value = argument + 1 < end ? strtoull(argument[1], &rest, 0) : 0;
  CHECK(rest != NULL && *rest == '\0' && rest != argument[1], "%s is followed by a number", *argument);
  return value;
}

int main(int argc, char **argv) {
  uint64_t seed = 1, ops = 1000000 / SLOWER, seconds = 0, rounds = 0;
  for (char **argument = argv + 1; argument < argv + argc; argument += 2) {
    uint64_t value = number_after(argument, argv + argc);
    if (strcmp(*argument, "--seed") == 0)
      seed = value;
    else if (strcmp(*argument, "--ops") == 0)
      ops = value;
    else if (strcmp(*argument, "--seconds") == 0)
      seconds = value;
    else if (strcmp(*argument, "--threads") == 0)
      thread_count = value;
    else
      CHECK(0, "%s is one of --seed, --ops, --seconds, --threads", *argument);
  }
  CHECK(thread_count >= 1 && thread_count <= MAX_THREADS, "%zu threads are 1 to %d", thread_count, MAX_THREADS);
  printf("seed %" PRIu64 ", %zu threads\n", seed, thread_count);
  fflush(stdout);

  tc_upstream *fake = NULL;
  tc_fake_options over_system = {.backing = tc_upstream_os()};
  CHECK_STATUS(tc_upstream_fake_create(&over_system, &fake), TC_OK, "a fake upstream is made");
  pools[0] = pool_over(NULL);
  pools[1] = pool_over(fake);
  tc_pool_set_limit(pools[1], POOL_1_LIMIT);
  for (size_t p = 0; p < POOLS; p++) mailbox_init(&boxes[p]);
  for (size_t i = 0; i < thread_count; i++) workers[i].seed = seed * MAX_THREADS + i, workers[i].stamp = i << 40;

  time_t end = time(NULL) + (time_t)seconds;
  while (seconds ? time(NULL) < end : rounds * ROUND_OPS * thread_count < ops) run_round(fake, rounds++);
  empty_slots();
  for (size_t p = 0; p < POOLS; p++) check_empties(pools[p]);
  for (size_t p = 0; p < POOLS; p++) CHECK_STATUS(tc_pool_destroy(pools[p]), TC_OK, "pool %zu is destroyed", p);
  tc_fake_counts counts;
  tc_upstream_fake_counts(fake, &counts);
  CHECK_EQUAL(counts.live_bytes + counts.errors, 0, "everything went back upstream, nothing else did");
  tc_upstream_fake_destroy(fake);
  printf("%" PRIu64 " operations in %" PRIu64 " rounds: every counter is 0, every block kept its contents\n", rounds * ROUND_OPS * thread_count,
         rounds);
  return 0;
}
