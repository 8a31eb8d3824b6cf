/* test_fork.c - fork while other threads allocate: the child has a usable pool, its parent's blocks and no lock held by nobody.
 *
 *   CHECK_FORKS=10000 test_fork      that many forks instead of 200; half as many more while memory decays
 *
 * A deadlock ends the test by an alarm: 60 seconds in a child, 240 in the parent, and a tenth of a second more for each fork asked for.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>

#include "support.h"

enum { WORKERS = 3, HELD = 64 };

static _Atomic(int) stop;
static size_t forks_asked = 200 / SLOWER;

typedef struct shared {
  tc_pool *pool;
  void *held[HELD]; /* allocated by another thread before the forks */
  size_t sizes[HELD];
} shared;

static void *hold_blocks(void *argument) {
  shared *all = argument;
  uint64_t seed = 7;
  for (size_t i = 0; i < HELD; i++) {
    all->sizes[i] = random_size(&seed, 20);
    CHECK((all->held[i] = tc_pool_alloc(all->pool, all->sizes[i])) != NULL, "%zu bytes are to be had", all->sizes[i]);
    pattern_write(all->held[i], all->sizes[i], i);
  }
  return NULL;
}

/* Every lock of the pool is taken and let go here: caches fill and empty, runs split and merge, segments come and go. */
static void *churn(void *argument) {
  shared *all = argument;
  uint64_t seed = (uintptr_t)&seed;
  void *blocks[200] = {0};
  for (size_t step = 0; !atomic_load(&stop); step++) {
    void **slot = &blocks[random_below(&seed, 200)];
    CHECK_STATUS(tc_pool_free(all->pool, *slot), TC_OK, "freed");
    CHECK((*slot = tc_pool_alloc(all->pool, random_size(&seed, 20))) != NULL, "memory is to be had");
    if (step % 1000 == 0) tc_pool_trim(all->pool, 0);
  }
  for (size_t i = 0; i < 200; i++) CHECK_STATUS(tc_pool_free(all->pool, blocks[i]), TC_OK, "freed");
  return NULL;
}

static void *allocate_in_child(void *argument) {
  void *block = tc_pool_alloc(argument, 3000);
  CHECK(block != NULL, "a thread of the child allocates");
  CHECK_STATUS(tc_pool_free(argument, block), TC_OK, "and frees");
  return NULL;
}

static void child_uses_the_pool(shared *all, size_t round) {
  uint64_t seed = round;
  void *blocks[300] = {0};
  for (size_t step = 0; step < 200; step++) {
    void **slot = &blocks[random_below(&seed, 300)];
    CHECK_STATUS(tc_pool_free(all->pool, *slot), TC_OK, "a block is freed in the child");
    CHECK((*slot = tc_pool_alloc_zeroed(all->pool, random_size(&seed, 18))) != NULL, "memory is to be had in the child");
  }
  for (size_t i = 0; i < 300; i++) CHECK_STATUS(tc_pool_free(all->pool, blocks[i]), TC_OK, "freed in the child");
  for (size_t i = 0; i < HELD; i++) {
    CHECK_EQUAL(pattern_verify(all->held[i], all->sizes[i], i), all->sizes[i], "the parent's block %zu is whole in the child", i);
    CHECK_STATUS(tc_pool_free_sized(all->pool, all->held[i], all->sizes[i]), TC_OK, "the parent's block is freed in the child");
    CHECK_STATUS(tc_pool_free(all->pool, all->held[i]), TC_DOUBLE_FREE, "once");
  }
  check_at_rest(all->pool);
#if !defined(__SANITIZE_THREAD__) /* which refuses to start threads in the forked child of a threaded process */
  pthread_t thread;
  CHECK_EQUAL(pthread_create(&thread, NULL, allocate_in_child, all->pool), 0, "the child starts a thread");
  CHECK_EQUAL(pthread_join(thread, NULL), 0, "and joins it");
#else
  allocate_in_child(all->pool);
#endif
  tc_pool *fresh = pool_over(NULL);
  void *block = tc_pool_alloc(fresh, MiB);
  CHECK(block != NULL, "the child makes a pool of its own");
  CHECK_STATUS(tc_pool_free(fresh, block), TC_OK, "and frees its block");
  check_empties(fresh);
  CHECK_STATUS(tc_pool_destroy(fresh), TC_OK, "and destroys it");
  tc_pool_trim(all->pool, 0);
  check_at_rest(all->pool);
}

static void fork_once(shared *all, size_t round) {
  int outcome = 0;
  pid_t child = fork();
  CHECK(child >= 0, "a child is forked");
  if (child == 0) {
    alarm(60);
    child_uses_the_pool(all, round);
    _exit(0);
  }
  CHECK(waitpid(child, &outcome, 0) == child, "the child is waited for");
  CHECK(WIFEXITED(outcome) && WEXITSTATUS(outcome) == 0, "child %zu ended well: exit %d, signal %d", round,
        WIFEXITED(outcome) ? WEXITSTATUS(outcome) : -1, WIFSIGNALED(outcome) ? WTERMSIG(outcome) : 0);
}

static void fork_with_decay(double decay, size_t forks) {
  pthread_t workers[WORKERS], holder;
  shared all = {.pool = pool_over(NULL)};
  tc_pool_set_decay(all.pool, decay);
  CHECK_EQUAL(pthread_create(&holder, NULL, hold_blocks, &all), 0, "a thread is started");
  CHECK_EQUAL(pthread_join(holder, NULL), 0, "it leaves its blocks");
  atomic_store(&stop, 0);
  for (size_t i = 0; i < WORKERS; i++) CHECK_EQUAL(pthread_create(&workers[i], NULL, churn, &all), 0, "a thread is started");
  for (size_t round = 0; round < forks; round++) fork_once(&all, round);
  atomic_store(&stop, 1);
  for (size_t i = 0; i < WORKERS; i++) CHECK_EQUAL(pthread_join(workers[i], NULL), 0, "a thread is joined");
  check_at_rest(all.pool);
  for (size_t i = 0; i < HELD; i++) {
    CHECK_EQUAL(pattern_verify(all.held[i], all.sizes[i], i), all.sizes[i], "the children left the parent's block %zu alone", i);
    CHECK_STATUS(tc_pool_free(all.pool, all.held[i]), TC_OK, "freed in the parent");
  }
  check_empties(all.pool);
  tc_pool_destroy(all.pool);
}

static void a_child_forked_while_threads_allocate_has_a_usable_pool(void) { fork_with_decay(-1.0, forks_asked); }

static void a_child_forked_while_memory_decays_has_a_usable_pool(void) { fork_with_decay(0.001, forks_asked / 2); }

static void a_grandchild_has_a_usable_pool(void) {
  tc_pool *pool = pool_over(NULL);
  void *block = tc_pool_alloc(pool, 5000);
  pattern_write(block, 5000, 1);
  int outcome = 0;
  pid_t child = fork();
  CHECK(child >= 0, "a child is forked");
  if (child == 0) {
    pid_t grandchild = fork();
    CHECK(grandchild >= 0, "a grandchild is forked");
    if (grandchild == 0) {
      CHECK_EQUAL(pattern_verify(block, 5000, 1), 5000, "the grandchild sees the block");
      CHECK_STATUS(tc_pool_free(pool, block), TC_OK, "and frees it");
      check_empties(pool);
      _exit(0);
    }
    CHECK(waitpid(grandchild, &outcome, 0) == grandchild, "the grandchild is waited for");
    _exit(WIFEXITED(outcome) ? WEXITSTATUS(outcome) : 1);
  }
  CHECK(waitpid(child, &outcome, 0) == child, "the child is waited for");
  CHECK(WIFEXITED(outcome) && WEXITSTATUS(outcome) == 0, "child and grandchild ended well");
  CHECK_STATUS(tc_pool_free(pool, block), TC_OK, "the block is still the parent's");
  check_empties(pool);
  tc_pool_destroy(pool);
}

int main(void) {
  const char *asked = getenv("CHECK_FORKS");
  if (asked != NULL) forks_asked = strtoul(asked, NULL, 10);
  CHECK(forks_asked > 0, "CHECK_FORKS is a number of forks: %s", asked);
  alarm(240 + (unsigned)(forks_asked / 10));
  RUN(a_child_forked_while_threads_allocate_has_a_usable_pool);
  RUN(a_child_forked_while_memory_decays_has_a_usable_pool);
  RUN(a_grandchild_has_a_usable_pool);
  return 0;
}
