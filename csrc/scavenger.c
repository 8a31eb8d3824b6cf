/* scavenger.c - one thread for all pools that returns what stays unused for `decay` seconds.
 *
 * It ticks eight times per decay: what lay idle in a cache or depot for a tick goes to the heap, what lay in the heap for eight ticks
 * goes back. In between it looks whether a control group's limit is near. It ends when there is nothing left to watch, and before a
 * fork, and starts again with the next slow path; without a thread to be had, memory returns by trim and by the budget alone. A tick
 * costs some microseconds; the fast path never knows.
 */
#include <pthread.h>
#include <signal.h>
#include <time.h>

#include "internal.h"

#define SHORTEST_NS 5000000u

static struct {
  pthread_mutex_t lock;
  pthread_cond_t wake;
  pthread_t thread;
  uint32_t running; /* changed under the lock */
  bool joinable, stop;
} scavenger = {.lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};

static uint64_t interval_of(const tc_pool *pool) {
  uint64_t ns = (uint64_t)LOAD(pool->decay_ns) / TCI_TICKS;
  return ns < SHORTEST_NS ? SHORTEST_NS : ns;
}

static bool has_work(const tc_pool *pool) {
  return LOAD(pool->decay_ns) >= 0 && (LOAD(pool->used_pages) || LOAD(pool->dirty_pages) || LOAD(pool->reserved) > LOAD(pool->reserve_floor));
}

static void tick(tc_pool *pool) {
  uint32_t now = ADD(pool->tick, 1) + 1;
  __atomic_fetch_add(&pool->purging, 1, __ATOMIC_SEQ_CST); /* then a look at `trimming`; tc_pool_trim does it the other way round */
  tci_cache_collect(pool, true);
  if (!__atomic_load_n(&pool->trimming, __ATOMIC_SEQ_CST)) {
    tci_purge(pool, SIZE_MAX, LOAD(pool->decay_ns) > 0 ? now - TCI_TICKS + 1 : now + 1);
    tci_release_whole(pool, SIZE_MAX, false);
  }
  __atomic_fetch_sub(&pool->purging, 1, __ATOMIC_RELEASE);
}

/* Tick what is due; the time of the next tick, 0: nothing to watch. */
static uint64_t visit_pools(void) {
  uint64_t next = 0;
  uint32_t slot = 0;
  for (tc_pool *pool; (pool = tci_registry_next(&slot)); tci_registry_unpin(pool)) {
    if (!has_work(pool)) continue;
    uint64_t now = tci_os_now_ns(), due = LOAD(pool->tick_due), interval = interval_of(pool);
    if (due && now >= due) tick(pool);
    if (!due || now >= due || due > now + interval) STORE(pool->tick_due, due = now + interval);
    if (has_work(pool) && (!next || due < next)) next = due;
  }
  uint64_t watch = next ? tci_pressure_watch() : 0;
  return watch && watch < next ? watch : next;
}

static void sleep_until(uint64_t ns) { /* lock held */
  struct timespec until;
  clock_gettime(CLOCK_REALTIME, &until);
  uint64_t now = tci_os_now_ns(), wait = ns > now ? ns - now : 0;
  wait += (uint64_t)until.tv_nsec;
  until.tv_sec += (time_t)(wait / 1000000000u);
  until.tv_nsec = (long)(wait % 1000000000u);
  pthread_cond_timedwait(&scavenger.wake, &scavenger.lock, &until);
}

static void *scavenger_main(void *argument) {
  (void)argument;
  pthread_mutex_lock(&scavenger.lock);
  while (!scavenger.stop) {
    pthread_mutex_unlock(&scavenger.lock);
    uint64_t next = visit_pools();
    pthread_mutex_lock(&scavenger.lock);
    if (scavenger.stop) break;
    if (next) {
      sleep_until(next);
      continue;
    }
    STORE(scavenger.running, 0); /* then look again: whoever came before this line saw it running */
    tci_fence();
    pthread_mutex_unlock(&scavenger.lock);
    next = visit_pools();
    pthread_mutex_lock(&scavenger.lock);
    if (scavenger.stop || LOAD(scavenger.running)) break; /* another thread took over */
    if (!next) {
      if (scavenger.joinable) pthread_detach(pthread_self());
      scavenger.joinable = false;
      break;
    }
    STORE(scavenger.running, 1);
  }
  pthread_mutex_unlock(&scavenger.lock);
  return NULL;
}

static void start(void) { /* lock held */
  sigset_t all, old;
  if (scavenger.joinable) pthread_detach(scavenger.thread); /* it is about to end */
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &old); /* the thread inherits it: no signal handler runs there */
  scavenger.stop = false;
  STORE(scavenger.running, pthread_create(&scavenger.thread, NULL, scavenger_main, NULL) == 0);
  scavenger.joinable = scavenger.running;
  pthread_sigmask(SIG_SETMASK, &old, NULL);
}

void tci_scavenger_wake(tc_pool *pool) {
  tci_pressure_check(pool);
  if (LOAD(pool->decay_ns) < 0) return;
  tci_fence();
  if (likely(LOAD(scavenger.running) && LOAD(pool->tick_due))) return;
  pthread_mutex_lock(&scavenger.lock);
  if (!scavenger.running)
    start();
  else
    pthread_cond_signal(&scavenger.wake); /* a pool it has not seen: its tick may be due sooner */
  pthread_mutex_unlock(&scavenger.lock);
}

void tci_scavenger_fork(tci_fork_phase phase) {
  if (phase == FORK_PREPARE) {
    pthread_mutex_lock(&scavenger.lock);
    while (scavenger.joinable) {
      pthread_t thread = scavenger.thread;
      scavenger.stop = true;
      scavenger.joinable = false;
      pthread_cond_signal(&scavenger.wake);
      pthread_mutex_unlock(&scavenger.lock);
      pthread_join(thread, NULL);
      pthread_mutex_lock(&scavenger.lock); /* kept until after the fork */
    }
    STORE(scavenger.running, 0);
    return;
  }
  if (phase == FORK_CHILD) pthread_cond_init(&scavenger.wake, NULL);
  pthread_mutex_unlock(&scavenger.lock);
}
