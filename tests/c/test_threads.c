/* test_threads.c - several threads: frees across them, exits with full caches, one limit for all, pools that come and go meanwhile. */
#include <stdatomic.h>

#include "mailbox.h"
#include "overlap.h"
#include "support.h"

enum { THREADS = 4 };

typedef struct worker {
  pthread_t thread;
  tc_pool *pool;
  uint64_t seed;
  mailbox *boxes; /* THREADS of them */
  size_t nbytes, count;
  void **blocks; /* `count` of them */
} worker;

static void start_workers(worker *workers, size_t count, void *(*body)(void *)) {
  for (size_t i = 0; i < count; i++) CHECK_EQUAL(pthread_create(&workers[i].thread, NULL, body, &workers[i]), 0, "thread %zu is started", i);
}

static void join_workers(worker *workers, size_t count) {
  for (size_t i = 0; i < count; i++) CHECK_EQUAL(pthread_join(workers[i].thread, NULL), 0, "thread %zu is joined", i);
}

static void run_workers(worker *workers, size_t count, void *(*body)(void *)) {
  start_workers(workers, count, body);
  join_workers(workers, count);
}

static void parcel_free(tc_pool *pool, parcel taken) {
  CHECK_EQUAL(pattern_verify(taken.start, taken.nbytes, taken.stamp), taken.nbytes, "a block keeps its contents between threads");
  overlap_release(taken.start, capacity_of(taken.start));
  CHECK_STATUS(tc_pool_free_sized(pool, taken.start, taken.nbytes), TC_OK, "a block of another thread is freed");
}

static void *exchange(void *argument) {
  worker *self = argument;
  parcel taken;
  for (size_t step = 0; step < 60000 / SLOWER; step++) {
    mailbox *box = &self->boxes[random_below(&self->seed, THREADS)];
    if (random_below(&self->seed, 2)) {
      parcel made = {.nbytes = random_size(&self->seed, 16), .stamp = step};
      CHECK((made.start = tc_pool_alloc(self->pool, made.nbytes)) != NULL, "%zu bytes are to be had", made.nbytes);
      overlap_claim(made.start, capacity_of(made.start));
      pattern_write(made.start, made.nbytes, made.stamp);
      if (!mailbox_put(box, made)) parcel_free(self->pool, made);
    } else if (mailbox_take(box, &taken)) {
      parcel_free(self->pool, taken);
    }
  }
  return NULL;
}

static void blocks_are_freed_by_any_thread(void) {
  static mailbox boxes[THREADS];
  worker workers[THREADS];
  parcel taken;
  tc_pool *pool = pool_over(NULL);
  for (size_t i = 0; i < THREADS; i++) {
    mailbox_init(&boxes[i]);
    workers[i] = (worker){.pool = pool, .seed = i, .boxes = boxes};
  }
  run_workers(workers, THREADS, exchange);
  check_at_rest(pool);
  for (size_t i = 0; i < THREADS; i++)
    while (mailbox_take(&boxes[i], &taken)) parcel_free(pool, taken);
  check_empties(pool);
  tc_pool_destroy(pool);
}

static void *fill_and_free(void *argument) {
  worker *self = argument;
  for (size_t i = 0; i < self->count; i++)
    CHECK((self->blocks[i] = tc_pool_alloc(self->pool, self->nbytes)) != NULL, "%zu bytes are to be had", self->nbytes);
  for (size_t i = 0; i < self->count; i++) CHECK_STATUS(tc_pool_free(self->pool, self->blocks[i]), TC_OK, "freed");
  return NULL;
}

static void *fill(void *argument) {
  worker *self = argument;
  for (size_t i = 0; i < self->count; i++) {
    CHECK((self->blocks[i] = tc_pool_alloc(self->pool, self->nbytes)) != NULL, "%zu bytes are to be had", self->nbytes);
    pattern_write(self->blocks[i], self->nbytes, i);
  }
  return NULL;
}

static void a_thread_that_ends_leaves_its_cache_to_the_pool(void) {
  static void *blocks[20000];
  tc_pool *pool = pool_over(NULL);
  uint64_t reserved = 0;
  for (size_t round = 0; round < 40; round++) {
    worker one = {.pool = pool, .nbytes = (size_t)64 << round % 8 * 2, .blocks = blocks};
    one.count = 16 * MiB / one.nbytes < 20000 ? 16 * MiB / one.nbytes : 20000;
    run_workers(&one, 1, fill_and_free);
    check_at_rest(pool);
    if (round == 7) reserved = stats_of(pool).reserved.peak;
  }
  CHECK(stats_of(pool).reserved.peak <= 2 * reserved, "what threads leave is used again: the peak went from %" PRIu64 " to %" PRIu64, reserved,
        stats_of(pool).reserved.peak);
  check_empties(pool);
  tc_pool_destroy(pool);
}

static void blocks_outlive_the_thread_that_allocated_them(void) {
  static void *blocks[5000];
  tc_pool *pool = pool_over(NULL);
  for (size_t nbytes = 100; nbytes <= 100000; nbytes *= 10) {
    worker one = {.pool = pool, .nbytes = nbytes, .blocks = blocks, .count = 20 * MiB / nbytes < 5000 ? 20 * MiB / nbytes : 5000};
    run_workers(&one, 1, fill);
    for (size_t i = 0; i < one.count; i++) {
      CHECK_EQUAL(pattern_verify(blocks[i], nbytes, i), nbytes, "a dead thread's block keeps its contents");
      CHECK_STATUS(tc_pool_free_sized(pool, blocks[i], nbytes), TC_OK, "a dead thread's block is freed");
    }
    check_empties(pool);
  }
  tc_pool_destroy(pool);
}

static void thousands_of_short_threads_leave_nothing(void) {
  static void *blocks[THREADS][50];
  worker workers[THREADS];
  tc_pool *pool = pool_over(NULL);
  uint64_t metadata = 0;
  for (size_t round = 0; round < 1000 / SLOWER; round++) {
    for (size_t i = 0; i < THREADS; i++) workers[i] = (worker){.pool = pool, .nbytes = 64 + 1000 * i, .blocks = blocks[i], .count = 50};
    run_workers(workers, THREADS, fill_and_free);
    if (round == 20) metadata = stats_of(pool).metadata_bytes;
  }
  CHECK(stats_of(pool).metadata_bytes <= 2 * metadata, "metadata did not grow with the threads: from %" PRIu64 " to %" PRIu64, metadata,
        stats_of(pool).metadata_bytes);
  check_empties(pool);
  tc_pool_destroy(pool);
}

/* The size is drawn by chance; NULL is an answer, not a failure. */
static void *run_into_the_limit(void *argument) {
  worker *self = argument;
  size_t refused = 0;
  for (size_t round = 0; round < 30 / SLOWER + 1; round++) {
    size_t held = 0, misses = 0;
    while (held < self->count && misses < 10) {
      size_t nbytes = random_size(&self->seed, 20);
      void *block = tc_pool_alloc(self->pool, nbytes);
      if (block == NULL) {
        misses++;
        continue;
      }
      pattern_write(block, nbytes < 64 ? nbytes : 64, held);
      self->blocks[held++] = block;
    }
    refused += misses;
    while (held-- > 0) {
      tc_block found;
      tc_block_find(self->blocks[held], &found);
      size_t stamped = found.requested < 64 ? found.requested : 64;
      CHECK_EQUAL(pattern_verify(self->blocks[held], stamped, held), stamped, "a block at the limit keeps its contents");
      CHECK_STATUS(tc_pool_free(self->pool, self->blocks[held]), TC_OK, "a block at the limit is freed");
    }
  }
  self->count = refused;
  return NULL;
}

static void one_limit_holds_for_all_threads(void) {
  enum { MOST = 4000 };
  static void *blocks[THREADS][MOST];
  worker workers[THREADS];
  size_t refused = 0;
  tc_pool *pool = pool_over(NULL);
  tc_pool_set_limit(pool, 48 * MiB);
  for (size_t i = 0; i < THREADS; i++) workers[i] = (worker){.pool = pool, .seed = 100 + i, .blocks = blocks[i], .count = MOST};
  run_workers(workers, THREADS, run_into_the_limit);
  for (size_t i = 0; i < THREADS; i++) refused += workers[i].count;
  tc_stats s = stats_of(pool);
  CHECK(refused > 0, "the limit was met: %zu allocations were refused", refused);
  CHECK_EQUAL(s.out_of_memory_failures, refused, "each refusal is counted once");
  CHECK(s.reserved.peak <= 48 * MiB, "reserved bytes peaked at %" PRIu64 ", within the limit", s.reserved.peak);
  void *large = tc_pool_alloc(pool, 40 * MiB);
  CHECK(large != NULL, "when all is freed, other threads' caches are reclaimed for a large block");
  CHECK_STATUS(tc_pool_free(pool, large), TC_OK, "freed");
  check_empties(pool);
  tc_pool_destroy(pool);
}

static _Atomic(int) stop;

static void *use_until_stopped(void *argument) {
  worker *self = argument;
  while (!atomic_load(&stop)) {
    void *block = tc_pool_alloc(self->pool, 1 + random_size(&self->seed, 22));
    CHECK(block != NULL, "memory is to be had while the pool is trimmed and checked");
    *(char *)block = 1;
    CHECK_STATUS(tc_pool_free(self->pool, block), TC_OK, "freed");
  }
  return NULL;
}

static void control_calls_are_safe_while_threads_allocate(void) {
  worker workers[THREADS];
  tc_class_stats classes[512];
  tc_pool *pool = pool_over(NULL);
  atomic_store(&stop, 0);
  for (size_t i = 0; i < THREADS; i++) workers[i] = (worker){.pool = pool, .seed = 200 + i};
  start_workers(workers, THREADS, use_until_stopped);
  for (size_t i = 0; i < 400 / SLOWER; i++) {
    char message[256];
    tc_pool *other = pool_over(NULL);
    void *block = tc_pool_alloc(other, 1000);
    CHECK_STATUS(tc_pool_check(pool, message, sizeof message), TC_OK, "a check beside other threads finds nothing: %s", message);
    tc_pool_trim(pool, i % 3 * MiB);
    CHECK_STATUS(tc_pool_reserve(pool, i % 64 * MiB), TC_OK, "a reservation is met");
    tc_pool_set_decay(pool, i % 2 ? 0.001 : -1.0);
    CHECK(tc_pool_class_stats(pool, classes, 512) <= 512, "classes are counted");
    tc_pool_reset_peak(pool);
    CHECK(stats_of(pool).deallocation_count >> 62 == 0, "a count read beside other threads is a count: %" PRIu64,
          stats_of(pool).deallocation_count);
    CHECK_STATUS(tc_free(block), TC_OK, "another pool works beside it");
    CHECK_STATUS(tc_pool_destroy(other), TC_OK, "and goes");
  }
  atomic_store(&stop, 1);
  join_workers(workers, THREADS);
  check_empties(pool);
  tc_pool_destroy(pool);
}

static void a_thread_outlives_the_pools_it_used(void) {
  for (size_t i = 0; i < 50; i++) {
    static void *blocks[200];
    tc_pool *pool = pool_over(NULL);
    worker other = {.pool = pool, .nbytes = 1000, .blocks = blocks, .count = 200};
    run_workers(&other, 1, fill);
    void *mine = tc_pool_alloc(pool, 1000);
    CHECK_STATUS(tc_pool_destroy(pool), TC_OK, "a pool used by two threads is destroyed");
    CHECK_STATUS(tc_free(mine), TC_OK, "its blocks are freed");
    for (size_t k = 0; k < 200; k++) CHECK_STATUS(tc_free(blocks[k]), TC_OK, "by whichever thread");
    CHECK(tc_pool_of(mine) == NULL, "then the pool is gone, though this thread used it");
  }
}

int main(void) {
  RUN(blocks_are_freed_by_any_thread);
  RUN(a_thread_that_ends_leaves_its_cache_to_the_pool);
  RUN(blocks_outlive_the_thread_that_allocated_them);
  RUN(thousands_of_short_threads_leave_nothing);
  RUN(one_limit_holds_for_all_threads);
  RUN(control_calls_are_safe_while_threads_allocate);
  RUN(a_thread_outlives_the_pools_it_used);
  return 0;
}
