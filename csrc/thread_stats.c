/* thread_stats.c - what the calling thread did with a pool: exact, from its own cache, and so without a lock.
 *
 * Costs about 1 us, since the counts lie in the size classes. It waits only for a collection that is inside this very cache.
 */
#include "internal.h"

static tc_thread_stats since_ever(const tci_cache *cache) { /* with the cache's former threads; entered */
  tc_stats sum = {0};
  tci_stats_sum(cache, &sum);
  return (tc_thread_stats){.requested_in = sum.requested.total_allocated,
                           .requested_out = sum.requested.total_freed,
                           .allocation_count = sum.allocation_count,
                           .deallocation_count = sum.deallocation_count};
}

static int64_t current_at_begin(const tci_cache *cache) { return (int64_t)(cache->own.requested_in - cache->own.requested_out); }

static int64_t peak(const tci_cache *cache) {
  int64_t high = cache->requested_high;
  return (high > cache->own.requested_peak ? high : cache->own.requested_peak) - current_at_begin(cache);
}

void tci_thread_stats_begin(tci_cache *cache) { /* of no thread: nobody moves its blocks */
  tci_stats_publish_requested(cache);
  cache->own = since_ever(cache);
  cache->own.requested_peak = current_at_begin(cache);
}

void tc_pool_thread_stats(const tc_pool *pool, tc_thread_stats *stats) {
  tci_cache *cache = tci_tls->caches[pool->index];
  memset(stats, 0, sizeof *stats);
  if (!cache) return;
  bool entered = tci_cache_enter_wait(cache); /* false: the pool was closed, and nobody moves its blocks */
  *stats = since_ever(cache);
  if (entered) tci_cache_exit(cache->thread);
  stats->requested_in -= cache->own.requested_in;
  stats->requested_out -= cache->own.requested_out;
  stats->allocation_count -= cache->own.allocation_count;
  stats->deallocation_count -= cache->own.deallocation_count;
  stats->requested_peak = peak(cache);
}

int64_t tc_pool_thread_set_peak(tc_pool *pool, int64_t value) {
  tci_cache *cache = tci_tls->caches[pool->index];
  if (!cache) return 0;
  int64_t old = peak(cache), begin = current_at_begin(cache);
  tci_stats_publish_requested(cache); /* the pool's peak keeps what it has seen, and the thread's high becomes what it holds */
  int64_t current = cache->requested_high;
  cache->own.requested_peak = value > current - begin ? value + begin : current;
  return old;
}
