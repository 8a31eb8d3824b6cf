/* thread.c - which threads and pools there are: a thread's caches, its exit, the pools' slots.
 *
 * A thread is one 8-byte pointer in thread-local storage (initial-exec: a look-up is one load; a larger object would not dlopen). Its
 * record holds the cache of every pool by the pool's slot, so a look-up costs the same with one pool and with a thousand.
 */
#include "modes.h"

#include <sched.h>

static tci_thread no_thread; /* no caches: what a thread starts with, so the fast path needs no check */
_Thread_local tci_thread *tci_tls __attribute__((tls_model("initial-exec"))) = &no_thread;

static struct {
  pthread_mutex_t lock; /* the highest of all */
  pthread_once_t once;
  pthread_key_t key;
  bool usable;
  tci_thread *threads;
  tc_pool *pools[TC_MAX_POOLS];
  uint32_t npools; /* slots ever used */
} registry = {.lock = PTHREAD_MUTEX_INITIALIZER, .once = PTHREAD_ONCE_INIT};

static void thread_unlink(tci_thread *thread) {
  if (thread->next) thread->next->previous = thread->previous;
  *(thread->previous ? &thread->previous->next : &registry.threads) = thread->next;
}

static void thread_exit(void *argument) {
  tci_thread *thread = argument;
  pthread_mutex_lock(&registry.lock);
  for (uint32_t slot = 0; slot < registry.npools; slot++)
    if (thread->caches[slot]) tci_cache_retire(thread->caches[slot]);
  thread_unlink(thread);
  tci_tls = &no_thread; /* a later destructor that allocates starts anew */
  pthread_mutex_unlock(&registry.lock);
  tci_meta_free(META_OTHER, thread, sizeof *thread);
}

static void registry_init(void) {
  tci_os_membarrier_probe();
  registry.usable = pthread_key_create(&registry.key, thread_exit) == 0; /* else nobody would empty a thread's caches */
}

tci_thread *tci_thread_get(void) {
  if (likely(tci_tls != &no_thread)) return tci_tls;
  tci_thread *thread = tci_meta_alloc(META_OTHER, sizeof *thread);
  if (!thread || pthread_setspecific(registry.key, thread) != 0) {
    if (thread) tci_meta_free(META_OTHER, thread, sizeof *thread);
    return NULL;
  }
  thread->mark = tci_thread_number() << 1;
  pthread_mutex_lock(&registry.lock);
  thread->next = registry.threads;
  if (thread->next) thread->next->previous = thread;
  registry.threads = thread;
  pthread_mutex_unlock(&registry.lock);
  tci_tls = thread;
  return thread;
}

static tci_cache *cache_find_or_make(tc_pool *pool) {
  tci_cache *cache = pool->free_caches;
  if (cache) {
    pool->free_caches = cache->next_free;
    tci_thread_stats_begin(cache);
    return cache;
  }
  cache = tci_meta_alloc(META_OTHER, sizeof *cache);
  if (!cache) return NULL;
  cache->pool = pool;
  cache->taken = LOAD(pool->closed);
  cache->next = pool->caches;
  STORE_RELEASE(pool->caches, cache);
  return cache;
}

void tc_site_set(const void *site) {
  tci_thread *thread = tci_thread_get();
  if (thread) thread->site = site;
}

tci_cache *tci_cache_get(tc_pool *pool) {
  tci_thread *thread = tci_thread_get();
  if (!thread) return NULL;
  tci_cache *cache = thread->caches[pool->index];
  if (likely(cache != NULL)) return cache;
  pthread_mutex_lock(&pool->collect);
  cache = cache_find_or_make(pool);
  if (cache) {
    cache->thread = thread;
    STORE(pool->threads, pool->threads + 1);
  }
  thread->caches[pool->index] = cache;
  STORE(thread->slots[pool->index], tci_slot_open(pool) ? cache : NULL);
  pthread_mutex_unlock(&pool->collect);
  return cache;
}

tc_status tci_registry_add(tc_pool *pool) {
  pthread_once(&registry.once, registry_init);
  if (!registry.usable) return TC_OUT_OF_MEMORY;
  pthread_mutex_lock(&registry.lock);
  uint32_t slot = 0;
  while (slot < TC_MAX_POOLS && registry.pools[slot]) slot++;
  if (slot < TC_MAX_POOLS) {
    pool->index = slot;
    registry.pools[slot] = pool;
    if (slot >= registry.npools) registry.npools = slot + 1;
  }
  pthread_mutex_unlock(&registry.lock);
  return slot < TC_MAX_POOLS ? TC_OK : TC_TOO_MANY_POOLS;
}

void tci_registry_remove(tc_pool *pool) {
  pthread_mutex_lock(&registry.lock);
  for (tci_thread *thread = registry.threads; thread; thread = thread->next) {
    STORE(thread->slots[pool->index], NULL);
    STORE(thread->caches[pool->index], NULL);
  }
  registry.pools[pool->index] = NULL;
  pthread_mutex_unlock(&registry.lock);
  while (LOAD_ACQUIRE(pool->pins)) sched_yield(); /* the scavenger is at work in it */
}

tc_pool *tci_registry_next(uint32_t *slot) {
  tc_pool *pool = NULL;
  pthread_mutex_lock(&registry.lock);
  while (!pool && *slot < registry.npools) pool = registry.pools[(*slot)++];
  if (pool) ADD(pool->pins, 1);
  pthread_mutex_unlock(&registry.lock);
  return pool;
}

void tci_registry_unpin(tc_pool *pool) { __atomic_fetch_sub(&pool->pins, 1, __ATOMIC_RELEASE); }

void tci_registry_lock(void) { pthread_mutex_lock(&registry.lock); }
void tci_registry_unlock(void) { pthread_mutex_unlock(&registry.lock); }

void tci_registry_each(void (*visit)(tc_pool *pool)) {
  for (uint32_t slot = 0; slot < registry.npools; slot++)
    if (registry.pools[slot]) visit(registry.pools[slot]);
}

void tci_registry_after_fork(void) {
  tci_thread *survivor = tci_tls;
  registry.threads = survivor == &no_thread ? NULL : survivor; /* records of the others: a few KB, left */
  if (registry.threads) {
    survivor->previous = survivor->next = NULL;
    survivor->mark = tci_thread_number() << 1; /* the system gave it another one */
  }
  tci_os_membarrier_probe();
}
