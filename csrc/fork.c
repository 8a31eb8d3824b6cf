/* fork.c - a forked child has usable pools: every lock is held while the process is copied, and no thread is inside a cache.
 *
 * The scavenger ends before (a child has one thread, and a parent that forks should have no hidden ones) and starts again with need.
 */
#include "modes.h"

#include <sched.h>

#define ROUNDS 1000 /* then the runs that another thread has out to purge are lost to the child */

static void pool_locks(tc_pool *pool, int (*act)(pthread_mutex_t *)) {
  for (unsigned bin = 0; bin < TCI_BINS; bin++) act(&pool->depots[bin].lock);
  act(&pool->learner.lock);
  if (pool->guard) act(&pool->guard->lock);
  act(&pool->heap.lock);
}

static bool lock_once(tc_pool *pool, bool wait) {
  tci_cache_freeze(pool); /* no thread is in the middle of a block's change when it vanishes */
  pool_locks(pool, pthread_mutex_lock);
  if (!wait || !LOAD(pool->purging)) return true;
  pool_locks(pool, pthread_mutex_unlock);
  tci_cache_thaw(pool);
  return false;
}

static void pool_lock(tc_pool *pool) {
  for (int round = 0; !lock_once(pool, round < ROUNDS); round++) sched_yield();
}

static void pool_unlock(tc_pool *pool) {
  pool_locks(pool, pthread_mutex_unlock);
  tci_cache_thaw(pool);
}

static void prepare(void) {
  tci_scavenger_fork(FORK_PREPARE);
  tci_registry_lock();
  tci_registry_each(pool_lock);
  tci_site_lock();
  tci_meta_lock();
}

static void resume(tci_fork_phase phase) {
  tci_meta_unlock();
  tci_site_unlock();
  tci_registry_each(pool_unlock);
  tci_registry_unlock();
  tci_scavenger_fork(phase);
}

static void parent(void) { resume(FORK_PARENT); }

/* What the child inherits of a device is not usable there. */
static void close_ordered(tc_pool *pool) {
  if (pool->order) STORE(pool->forked, 1);
}

static void child(void) {
  tci_registry_each(close_ordered);
  tci_registry_each(tci_cache_after_fork);
  tci_registry_after_fork();
  resume(FORK_CHILD);
}

static void fork_register(void) { pthread_atfork(prepare, parent, child); }

void tci_fork_register(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, fork_register);
}
