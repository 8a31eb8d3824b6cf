/* cache.c - the stacks of free blocks that one thread holds for one pool.
 *
 * Its thread enters with a plain store to `busy` and a load of its slot; whoever collects sets `taken`, empties the slot, runs a
 * barrier on all threads (membarrier, 1 to 5 us) and looks at `busy`: one of the two sees the other, and the fast path pays no fence
 * and no test of its own. A collector never waits: a cache that is busy is left for the next time. Where the kernel has no membarrier,
 * a thread collects only its own caches and those of threads that ended.
 */
#include "modes.h"

#include <sched.h>

bool tci_cache_enter_wait(tci_cache *cache) {
  tc_pool *pool = cache->pool;
  for (;;) {
    tci_cache_enter(cache->thread, pool->index);
    if (likely(!__atomic_load_n(&cache->taken, __ATOMIC_SEQ_CST))) return true;
    tci_cache_exit(cache->thread);
    if (LOAD_ACQUIRE(pool->closed)) return false;
    pthread_mutex_lock(&pool->collect); /* whoever has taken the cache holds this */
    pthread_mutex_unlock(&pool->collect);
  }
}

tci_magazine *tci_bin_loaded(const tci_bin *bin) {
  return bin->base ? (tci_magazine *)((char *)bin->base - offsetof(tci_magazine, entries)) : NULL;
}

void tci_bin_set_spare(tci_bin *bin, tci_magazine *magazine) {
  bin->spare = magazine;
  STORE(bin->spare_count, magazine ? magazine->count : 0);
}

bool tci_slot_open(const tc_pool *pool) { return !LOAD(pool->closed) && !LOAD(pool->watched) && !pool->guard; }

void tci_bin_unload(tci_bin *bin, tci_magazine **list) {
  tci_magazine *both[2] = {tci_bin_loaded(bin), bin->spare};
  BUMP(bin->balance, -(int64_t)tci_bin_depth(bin));
  if (both[0]) both[0]->count = (uint32_t)(bin->top - bin->base);
  STORE(bin->top, NULL);
  STORE(bin->base, NULL);
  bin->end = NULL;
  tci_bin_set_spare(bin, NULL);
  for (int i = 0; i < 2; i++) {
    if (!both[i]) continue;
    both[i]->next = *list;
    *list = both[i];
  }
}

static uint64_t activity(const tci_bin *bin) { return LOAD(bin->allocations) + (uint64_t)(uintptr_t)LOAD(bin->top); }

static bool qualifies(const tci_cache *cache, unsigned index, bool idle_only) {
  return LOAD(cache->bins[index].base) && (!idle_only || cache->notes[index].seen == activity(&cache->bins[index]));
}

typedef struct unloaded { /* what leaves the caches on its way to the heap */
  tci_magazine *magazines;
  tci_line *lines;
} unloaded;

static void cache_unload(tci_cache *cache, bool idle_only, unloaded *out) {
  tci_lines_detach(cache, idle_only, &out->lines);
  for (unsigned index = 0; index < TCI_BINS; index++)
    if (qualifies(cache, index, idle_only)) tci_bin_unload(&cache->bins[index], &out->magazines);
}

static void drain(tc_pool *pool, unloaded out) {
  tci_lines_drain(pool, out.lines);
  for (tci_magazine *next; out.magazines; out.magazines = next) {
    next = out.magazines->next;
    tci_magazine_drain(pool, out.magazines);
  }
}

static bool may_unload(const tci_cache *cache, bool idle_only) {
  if (!tci_os_membarrier_ready() && cache->thread && cache->thread != tci_tls) return false;
  for (unsigned index = 0; index < TCI_BINS; index++)
    if (qualifies(cache, index, idle_only)) return true;
  return LOAD(cache->lines) != NULL;
}

static void note_activity(tci_cache *cache) {
  for (unsigned index = 0; index < TCI_BINS; index++) cache->notes[index].seen = activity(&cache->bins[index]);
}

static tci_cache **slot_of(const tci_cache *cache) { return &cache->thread->slots[cache->pool->index]; }

static void take(tci_cache *cache) {
  __atomic_store_n(&cache->taken, 1, __ATOMIC_SEQ_CST);
  if (cache->thread) __atomic_store_n(slot_of(cache), NULL, __ATOMIC_SEQ_CST);
}

/* After the barrier: is its thread outside, and did it not open its slot again in between? */
static bool is_taken(const tci_cache *cache) {
  return !cache->thread || (!__atomic_load_n(&cache->thread->busy, __ATOMIC_SEQ_CST) && !__atomic_load_n(slot_of(cache), __ATOMIC_SEQ_CST));
}

static void give_back(tci_cache *cache) {
  STORE_RELEASE(cache->taken, 0);
  if (cache->thread && tci_slot_open(cache->pool)) STORE_RELEASE(*slot_of(cache), cache);
}

void tci_cache_collect(tc_pool *pool, bool idle_only) {
  unloaded out = {NULL, NULL};
  bool any = false;
  pthread_mutex_lock(&pool->collect);
  for (tci_cache *cache = LOAD(pool->closed) ? NULL : pool->caches; cache; cache = cache->next)
    if (may_unload(cache, idle_only)) {
      any = true;
      take(cache);
    }
  if (any) tci_os_membarrier();
  for (tci_cache *cache = any ? pool->caches : NULL; cache; cache = cache->next) {
    if (!LOAD(cache->taken)) continue;
    if (is_taken(cache)) cache_unload(cache, idle_only, &out);
    give_back(cache);
  }
  for (tci_cache *cache = idle_only ? pool->caches : NULL; cache; cache = cache->next) note_activity(cache);
  pthread_mutex_unlock(&pool->collect);
  drain(pool, out);
  tci_depot_drain(pool, !idle_only);
  tci_held_drain(pool, idle_only);
}

void tci_cache_freeze(tc_pool *pool) {
  pthread_mutex_lock(&pool->collect);
  for (tci_cache *cache = pool->caches; cache; cache = cache->next) take(cache);
  tci_os_membarrier();
  for (tci_cache *cache = pool->caches; cache; cache = cache->next)
    while (!is_taken(cache)) { /* a few nanoseconds: inside nobody waits */
      sched_yield();
      take(cache);
      tci_os_membarrier();
    }
}

void tci_cache_thaw(tc_pool *pool) {
  for (tci_cache *cache = LOAD(pool->closed) ? NULL : pool->caches; cache; cache = cache->next) give_back(cache);
  pthread_mutex_unlock(&pool->collect);
}

void tci_cache_close(tc_pool *pool) {
  unloaded out = {NULL, NULL};
  STORE_RELEASE(pool->closed, 1);
  tci_cache_freeze(pool);
  for (tci_cache *cache = pool->caches; cache; cache = cache->next) cache_unload(cache, false, &out);
  tci_cache_thaw(pool);
  drain(pool, out);
  tci_depot_drain(pool, true);
  tci_held_drain(pool, false);
}

void tci_cache_watch(tc_pool *pool, bool watched) {
  pthread_mutex_lock(&pool->collect);
  STORE(pool->watched, watched);
  for (tci_cache *cache = pool->caches; cache; cache = cache->next)
    if (cache->thread) STORE_RELEASE(*slot_of(cache), tci_slot_open(pool) ? cache : NULL);
  pthread_mutex_unlock(&pool->collect);
}

void tci_cache_retire(tci_cache *cache) {
  unloaded out = {NULL, NULL};
  tc_pool *pool = cache->pool;
  tci_stats_publish(cache);
  if (tci_cache_enter_wait(cache)) {
    cache_unload(cache, false, &out);
    tci_cache_exit(cache->thread);
  }
  tci_lines_orphan(pool, out.lines);
  for (tci_magazine *next; out.magazines; out.magazines = next) {
    next = out.magazines->next;
    tci_depot_put(pool, out.magazines);
  }
  pthread_mutex_lock(&pool->collect);
  STORE(pool->threads, pool->threads - 1);
  cache->thread = NULL;
  cache->next_free = pool->free_caches;
  pool->free_caches = cache;
  pthread_mutex_unlock(&pool->collect);
}

void tci_cache_after_fork(tc_pool *pool) { /* the other threads are gone */
  STORE(pool->purging, 0);
  STORE(pool->trimming, 0);
  for (tci_cache *cache = pool->caches; cache; cache = cache->next) {
    if (!cache->thread || cache->thread == tci_tls) continue;
    cache->thread = NULL;
    STORE(pool->threads, pool->threads - 1);
    cache->next_free = pool->free_caches;
    pool->free_caches = cache;
  }
}

void tci_caches_free(tc_pool *pool) {
  for (tci_cache *cache; (cache = pool->caches);) {
    pool->caches = cache->next;
    tci_lines_free(cache->lines);
    tci_meta_free(META_OTHER, cache, sizeof *cache);
  }
}
