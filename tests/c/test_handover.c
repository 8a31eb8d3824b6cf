/* test_handover.c - caches are emptied from outside while their threads allocate: no block is ever with two threads.
 *
 * The worst case for the hand-over of cache.c: an owner does nothing but enter and leave, one thread nothing but collect and take what
 * it got. On two processors most runs fail without the collector's barrier (x86-64); tests/model is the proof.
 */
#include <pthread.h>
#include <stdatomic.h>

#include "forbid.h"
#include "internal.h"
#include "support.h"

enum { OWNERS = 1, TAKEN = 8, ROUNDS = 300000, BYTES = 64, LINES = 48 };

static tc_pool *pool;
static _Atomic(int) stop;
static _Atomic(uint64_t) pairs;

/* Stores that wait for a line which another processor has: those behind them, `busy` among them, wait in the store buffer. */
static struct {
  _Alignas(64) _Atomic(int) word;
} lines[LINES];

static void fill_store_buffer(int value) {
  for (size_t i = 0; i < LINES; i++) atomic_store_explicit(&lines[i].word, value, memory_order_relaxed);
}

/* The mark is what another thread that has the same block would overwrite. */
static void allocate_mark_free(uintptr_t mark) {
  _Atomic(uintptr_t) *block = tc_pool_alloc(pool, BYTES);
  CHECK(block != NULL, "memory is to be had");
  atomic_store_explicit(block, mark, memory_order_relaxed);
  CHECK(atomic_load_explicit(block, memory_order_relaxed) == mark, "a live block is its thread's alone");
  CHECK_STATUS(tc_pool_free(pool, (void *)block), TC_OK, "a live block is freed");
}

static void *enter_and_leave(void *argument) {
  uint64_t count = 0;
  for (; !atomic_load_explicit(&stop, memory_order_relaxed); count++) {
    fill_store_buffer(1);
    allocate_mark_free((uintptr_t)&count);
  }
  atomic_fetch_add(&pairs, count);
  return argument;
}

static void collect_and_take(void) {
  _Atomic(uintptr_t) *blocks[TAKEN];
  fill_store_buffer(2);
  tci_cache_collect(pool, false);
  for (size_t i = 0; i < TAKEN; i++) {
    CHECK((blocks[i] = tc_pool_alloc(pool, BYTES)) != NULL, "memory is to be had");
    atomic_store_explicit(blocks[i], i, memory_order_relaxed);
  }
  for (size_t i = 0; i < TAKEN; i++) {
    CHECK(atomic_load_explicit(blocks[i], memory_order_relaxed) == i, "a block that was collected is with one thread");
    CHECK_STATUS(tc_pool_free(pool, (void *)blocks[i]), TC_OK, "a live block is freed");
  }
}

static void hand_over(void (*meanwhile)(void)) {
  pthread_t owners[OWNERS];
  pool = pool_over(NULL);
  atomic_store(&stop, 0);
  atomic_store(&pairs, 0);
  for (size_t i = 0; i < OWNERS; i++) CHECK_EQUAL(pthread_create(&owners[i], NULL, enter_and_leave, NULL), 0, "a thread is started");
  time_t end = time(NULL) + 2; /* seconds: a collection takes 1 ms where there is no membarrier */
  for (size_t round = 0; round < ROUNDS / SLOWER && (!meanwhile || time(NULL) < end); round++) {
    if (round == 10 && meanwhile) meanwhile();
    collect_and_take();
    if (round % 64 == 0) check_pool(pool); /* freezes all caches */
    if (round % 100 == 0) tc_pool_warn_at(pool, 0.5, NULL, NULL); /* opens and shuts all slots */
  }
  atomic_store(&stop, 1);
  for (size_t i = 0; i < OWNERS; i++) CHECK_EQUAL(pthread_join(owners[i], NULL), 0, "a thread is joined");
  CHECK(atomic_load(&pairs) > 0, "the owners allocated meanwhile");
  check_empties(pool);
  CHECK_STATUS(tc_pool_destroy(pool), TC_OK, "the pool is destroyed");
}

static void caches_are_emptied_while_their_threads_allocate(void) { hand_over(NULL); }

#ifdef CAN_FORBID
static void caches_are_safe_when_a_filter_forbids_membarrier(void) { hand_over(forbid_membarrier); } /* for good: the last test */
#endif

int main(void) {
  alarm(240);
  RUN(caches_are_emptied_while_their_threads_allocate);
#ifdef CAN_FORBID
  RUN(caches_are_safe_when_a_filter_forbids_membarrier);
#endif
  return 0;
}
