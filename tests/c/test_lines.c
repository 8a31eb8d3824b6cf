/* test_lines.c - threads that allocate at the same time write to lines of the caches that are theirs alone. */
#include <pthread.h>

#include "internal.h"
#include "support.h"

typedef struct taken {
  tc_pool *pool;
  pthread_barrier_t *both; /* neither thread ends, which would hand its blocks on, before the other has taken its own */
  void *block;
  size_t nbytes;
} taken;

static void *take_one(void *argument) {
  taken *t = argument;
  t->block = tc_pool_alloc(t->pool, t->nbytes);
  pthread_barrier_wait(t->both);
  return NULL;
}

static uintptr_t line_of(const void *block) {
  const tci_run *run = tci_page_map_get((uintptr_t)block);
  return (uintptr_t)&run->states[tci_run_word(run, (uintptr_t)block - run->base)] / TC_ALIGNMENT;
}

static void first_blocks_of_two_threads_have_their_state_words_in_two_lines(void) {
  for (size_t nbytes = 64; nbytes <= TCI_SMALL_MAX; nbytes += nbytes < 1024 ? 64 : nbytes / 16) {
    tc_pool *pool = pool_over(tc_upstream_os());
    pthread_barrier_t both;
    pthread_t threads[2];
    taken t[2];
    pthread_barrier_init(&both, NULL, 2);
    for (int i = 0; i < 2; i++) {
      t[i] = (taken){pool, &both, NULL, nbytes};
      CHECK(pthread_create(&threads[i], NULL, take_one, &t[i]) == 0, "the test has threads");
    }
    for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
    CHECK(t[0].block && t[1].block, "the pool has memory");
    CHECK(line_of(t[0].block) != line_of(t[1].block), "%zu bytes: what the two threads write of their blocks lies apart", nbytes);
    for (int i = 0; i < 2; i++) CHECK_STATUS(tc_pool_free(pool, t[i].block), TC_OK, "it is one of the pool's blocks");
    CHECK_STATUS(tc_pool_destroy(pool), TC_OK, "the pool is whole");
  }
}

static void no_address_inside_a_block_is_taken_for_another_block(void) {
  for (size_t nbytes = 64; nbytes <= TCI_SMALL_MAX; nbytes += nbytes < 1024 ? 64 : nbytes / 16) {
    tc_pool *pool = pool_over(tc_upstream_os());
    char *block = tc_pool_alloc(pool, nbytes), *next = tc_pool_alloc(pool, nbytes);
    CHECK(block && next, "the pool has memory");
    size_t capacity = capacity_of(block);
    for (size_t offset = 8; offset < capacity; offset += offset < 1024 ? 8 : 64)
      CHECK_STATUS(tc_pool_free(pool, block + offset), TC_INVALID_FREE, "%zu bytes at %zu: no block begins here", nbytes, offset);
    CHECK_STATUS(tc_pool_free(pool, block), TC_OK, "the block does");
    CHECK_STATUS(tc_pool_free(pool, block), TC_DOUBLE_FREE, "once");
    CHECK_STATUS(tc_pool_free(pool, next), TC_OK, "and its neighbour");
    CHECK_STATUS(tc_pool_destroy(pool), TC_OK, "the pool is whole");
  }
}

int main(void) {
  RUN_FAST(first_blocks_of_two_threads_have_their_state_words_in_two_lines);
  RUN(no_address_inside_a_block_is_taken_for_another_block);
  return 0;
}
