/* cache.c - the stacks of free blocks that one thread holds for one pool.
 *
 * Its thread enters with a plain store to `busy` and a look at `taken`; whoever collects sets `taken`, runs a barrier on all threads
 * (membarrier, 1 to 5 us) and looks at `busy`: one of the two sees the other, and the fast path pays no fence. Where the kernel has
 * no membarrier both sides use real fences. A collector never waits for the thread: what is busy is left for the next time.
 */
#include "internal.h"

#include <sched.h>

int tci_fences;

static tci_cache *cache_find_or_make(tc_pool *pool) {
  tci_cache *cache = pool->free_caches;
  if (cache) {
    pool->free_caches = cache->next_free;
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

tci_cache *tci_cache_get(tc_pool *pool) {
  tci_thread *thread = tci_thread_get();
  if (!thread) return NULL;
  tci_cache *cache = thread->caches[pool->index];
  if (likely(cache != NULL)) return cache;
  pthread_mutex_lock(&pool->collect);
  cache = cache_find_or_make(pool);
  if (cache) cache->thread = thread;
  pthread_mutex_unlock(&pool->collect);
  STORE(thread->caches[pool->index], cache);
  return cache;
}

bool tci_cache_enter_wait(tci_cache *cache) {
  while (!tci_cache_enter(cache)) {
    tci_cache_exit(cache);
    if (LOAD_ACQUIRE(cache->pool->closed)) return false;
    pthread_mutex_lock(&cache->pool->collect); /* whoever has taken the cache holds this */
    pthread_mutex_unlock(&cache->pool->collect);
  }
  return true;
}

static tci_magazine *loaded(const tci_bin *bin) {
  return bin->base ? (tci_magazine *)((char *)bin->base - offsetof(tci_magazine, entries)) : NULL;
}

/* Load a magazine, hand back the one that was loaded with its count set. */
static tci_magazine *load(tci_bin *bin, tci_magazine *magazine) {
  tci_magazine *old = loaded(bin);
  if (old) old->count = (uint32_t)(bin->top - bin->base);
  STORE(bin->base, magazine->entries);
  STORE(bin->top, magazine->entries + magazine->count);
  bin->end = magazine->entries + magazine->capacity;
  return old;
}

bool tci_cache_refill(tci_cache *cache, unsigned class) {
  tci_bin *bin = &cache->bins[class];
  tc_pool *pool = cache->pool;
  if (!tci_cache_enter_wait(cache)) return false;
  if (bin->top != bin->base) return true;
  if (bin->spare && bin->spare->count) {
    bin->spare = load(bin, bin->spare);
    return true;
  }
  tci_cache_exit(cache);
  tci_stats_publish(cache);
  tci_magazine *magazine = tci_depot_get(pool, class), *old;
  if (!magazine) magazine = tci_obtain_blocks(pool, class);
  if (!magazine) return false;
  if (!tci_cache_enter_wait(cache)) {
    tci_magazine_drain(pool, magazine);
    return false;
  }
  BUMP(bin->refills, 1);
  old = load(bin, magazine);
  if (!old) return true;
  tci_magazine *other = bin->spare; /* empty, or none */
  bin->spare = old;
  if (!other) return true;
  tci_cache_exit(cache);
  tci_magazine_put(pool, other);
  return tci_cache_refill(cache, class); /* nearly always finds the block at once */
}

bool tci_cache_make_room(tci_cache *cache, unsigned index) {
  tci_bin *bin = &cache->bins[index];
  tc_pool *pool = cache->pool;
  if (!tci_cache_enter_wait(cache)) return false;
  if (bin->top != bin->end) return true;
  tci_magazine *spare = bin->spare;
  if (spare && spare->count == 0) {
    bin->spare = load(bin, spare);
    return true;
  }
  bin->spare = NULL;
  tci_cache_exit(cache);
  tci_stats_publish(cache);
  if (spare && index < TCI_CLASSES)
    tci_depot_put(pool, spare);
  else if (spare)
    tci_magazine_drain(pool, spare);
  tci_magazine *magazine = tci_magazine_get(pool, index);
  if (!magazine) return false;
  if (!tci_cache_enter_wait(cache)) {
    tci_magazine_put(pool, magazine);
    return false;
  }
  bin->spare = load(bin, magazine);
  tci_scavenger_wake(pool);
  return true;
}

/* Unload a bin into the list; the cache is entered or taken. */
static void bin_unload(tci_bin *bin, tci_magazine **list) {
  tci_magazine *both[2] = {loaded(bin), bin->spare};
  if (both[0]) both[0]->count = (uint32_t)(bin->top - bin->base);
  STORE(bin->top, NULL);
  STORE(bin->base, NULL);
  bin->end = NULL;
  bin->spare = NULL;
  for (int i = 0; i < 2; i++) {
    if (!both[i]) continue;
    both[i]->next = *list;
    *list = both[i];
  }
}

static bool bin_idle(const tci_bin *bin) { return bin->seen == LOAD(bin->allocations) + LOAD(bin->deallocations); }

static void cache_unload(tci_cache *cache, bool idle_only, tci_magazine **list) {
  for (unsigned index = 0; index < TCI_BINS; index++) {
    tci_bin *bin = &cache->bins[index];
    if (bin->base && (!idle_only || bin_idle(bin))) bin_unload(bin, list);
  }
}

static void drain_list(tc_pool *pool, tci_magazine *list) {
  while (list) {
    tci_magazine *magazine = list;
    list = list->next;
    tci_magazine_drain(pool, magazine);
  }
}

static bool may_unload(const tci_cache *cache, bool idle_only) {
  for (unsigned index = 0; index < TCI_BINS; index++)
    if (LOAD(cache->bins[index].base) && (!idle_only || bin_idle(&cache->bins[index]))) return true;
  return false;
}

static void note_activity(tci_cache *cache) {
  for (unsigned index = 0; index < TCI_BINS; index++) {
    tci_bin *bin = &cache->bins[index];
    bin->seen = LOAD(bin->allocations) + LOAD(bin->deallocations);
  }
}

static void barrier(void) {
  if (TCI_TSAN || tci_fences)
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
  else
    tci_os_membarrier();
}

void tci_cache_collect(tc_pool *pool, bool idle_only) {
  tci_magazine *list = NULL;
  bool any = false;
  pthread_mutex_lock(&pool->collect);
  for (tci_cache *cache = LOAD(pool->closed) ? NULL : pool->caches; cache; cache = cache->next)
    if (may_unload(cache, idle_only)) {
      any = true;
      __atomic_store_n(&cache->taken, 1, __ATOMIC_SEQ_CST);
    }
  if (any) barrier();
  for (tci_cache *cache = any ? pool->caches : NULL; cache; cache = cache->next) {
    if (!LOAD(cache->taken)) continue;
    if (!__atomic_load_n(&cache->busy, __ATOMIC_SEQ_CST)) cache_unload(cache, idle_only, &list);
    STORE_RELEASE(cache->taken, 0);
  }
  for (tci_cache *cache = idle_only ? pool->caches : NULL; cache; cache = cache->next) note_activity(cache);
  pthread_mutex_unlock(&pool->collect);
  drain_list(pool, list);
  tci_depot_drain(pool, !idle_only);
}

/* The pool is closed: nobody enters any more; blocks go back as they are freed. Collect lock held by nobody. */
void tci_cache_close(tc_pool *pool) {
  tci_magazine *list = NULL;
  pthread_mutex_lock(&pool->collect);
  STORE_RELEASE(pool->closed, 1);
  for (tci_cache *cache = pool->caches; cache; cache = cache->next) __atomic_store_n(&cache->taken, 1, __ATOMIC_SEQ_CST);
  barrier();
  for (tci_cache *cache = pool->caches; cache; cache = cache->next) {
    while (__atomic_load_n(&cache->busy, __ATOMIC_SEQ_CST)) sched_yield(); /* a few nanoseconds: inside nobody waits */
    cache_unload(cache, false, &list);
  }
  pthread_mutex_unlock(&pool->collect);
  drain_list(pool, list);
  tci_depot_drain(pool, true);
}

void tci_cache_retire(tci_cache *cache) {
  tci_magazine *list = NULL;
  tc_pool *pool = cache->pool;
  tci_stats_publish(cache);
  if (tci_cache_enter_wait(cache)) {
    cache_unload(cache, false, &list);
    tci_cache_exit(cache);
  }
  while (list) {
    tci_magazine *magazine = list;
    list = list->next;
    if (magazine->bin < TCI_CLASSES && magazine->count)
      tci_depot_put(pool, magazine);
    else
      tci_magazine_drain(pool, magazine);
  }
  pthread_mutex_lock(&pool->collect);
  cache->thread = NULL;
  cache->next_free = pool->free_caches;
  pool->free_caches = cache;
  pthread_mutex_unlock(&pool->collect);
}

void tci_cache_after_fork(tc_pool *pool, tci_thread *survivor) { /* the other threads are gone, perhaps in the middle of a call */
  for (tci_cache *cache = pool->caches; cache; cache = cache->next) {
    if (!cache->thread || cache->thread == survivor) continue;
    STORE(cache->busy, 0);
    cache->thread = NULL;
    cache->next_free = pool->free_caches;
    pool->free_caches = cache;
  }
}

void tci_caches_free(tc_pool *pool) {
  for (tci_cache *cache; (cache = pool->caches);) {
    pool->caches = cache->next;
    tci_meta_free(META_OTHER, cache, sizeof *cache);
  }
}
