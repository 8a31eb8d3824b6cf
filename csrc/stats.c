/* stats.c - one set of figures: counters live in the caches and are summed on reading; currents and peaks are published on slow paths.
 *
 * Reading takes no lock (safe in a signal handler): caches are only ever added while a pool lives. Between two publications a thread
 * notes its own high of requested bytes, so that peak is exact for one thread and off by at most the threads' magazines for several.
 * The peak of allocated bytes is sampled when a cache exchanges blocks with the pool, and never below the peak of requested bytes.
 */
#include "streams.h"

static void raise_to(uint64_t *peak, int64_t value) {
  uint64_t old = LOAD(*peak);
  while (value > 0 && (uint64_t)value > old &&
         !__atomic_compare_exchange_n(peak, &old, (uint64_t)value, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
    continue;
}

static int64_t requested_now(const tci_cache *cache) {
  return LOAD(cache->requested_high) - (int64_t)(LOAD(cache->requested_mark) - LOAD(cache->requested_in));
}

/* How far the cache's requested bytes rose above what it published. */
static int64_t requested_above(const tci_cache *cache) {
  int64_t high = LOAD(cache->requested_high);
  return (high == LOAD(cache->high_ignored) ? requested_now(cache) : high) - LOAD(cache->requested_seen);
}

void tci_stats_publish_requested(tci_cache *cache) {
  tc_pool *pool = cache->pool;
  int64_t current = requested_now(cache), before = ADD(pool->requested, current - cache->requested_seen);
  raise_to(&pool->requested_peak, before + requested_above(cache));
  if (cache->requested_high > cache->own.requested_peak) cache->own.requested_peak = cache->requested_high;
  STORE(cache->requested_seen, current);
  STORE(cache->requested_high, current);
  STORE(cache->requested_mark, cache->requested_in);
  STORE(cache->high_ignored, INT64_MIN);
  raise_to(&pool->cached_peak, (int64_t)LOAD(pool->reserved) - LOAD(pool->allocated));
}

static int64_t unpublished(tci_cache *cache, unsigned bin) { /* bytes; marked as published */
  if (bin >= TCI_CLASSES) {
    int64_t live = (int64_t)(cache->large_in - cache->large_out), change = live - cache->large_published;
    cache->large_published = live;
    return change;
  }
  int64_t live = tci_bin_live(&cache->bins[bin]), change = live - cache->notes[bin].published;
  cache->notes[bin].published = live;
  return change * LOAD(cache->pool->classes[bin].block_size);
}

void tci_stats_publish_bin(tci_cache *cache, unsigned bin) {
  ADD(cache->pool->allocated, unpublished(cache, bin));
  tci_stats_publish_requested(cache);
}

void tci_stats_publish(tci_cache *cache) {
  int64_t change = 0;
  for (unsigned bin = 0; bin <= TCI_CLASSES; bin++) change += unpublished(cache, bin);
  ADD(cache->pool->allocated, change);
  raise_to(&cache->pool->allocated_peak, LOAD(cache->pool->allocated));
  raise_to(&cache->pool->budget, LOAD(cache->pool->allocated));
  tci_stats_publish_requested(cache);
}

void tci_stats_reserved(tc_pool *pool) {
  int64_t reserved = (int64_t)LOAD(pool->reserved);
  raise_to(&pool->reserved_peak, reserved);
  raise_to(&pool->cached_peak, reserved - LOAD(pool->allocated));
}

static uint64_t counted_size(const tc_pool *pool, unsigned bin) { /* 0: its blocks' capacities are counted one by one */
  return bin < TCI_CLASSES && !pool->order ? LOAD(pool->classes[bin].block_size) : 0;
}

void tci_stats_sum(const tci_cache *cache, tc_stats *stats) {
  stats->requested.total_allocated += LOAD(cache->requested_in);
  stats->requested.total_freed += LOAD(cache->requested_in) - (uint64_t)requested_now(cache);
  stats->allocated.total_allocated += LOAD(cache->large_in);
  stats->allocated.total_freed += LOAD(cache->large_out);
  for (unsigned bin = 0; bin < TCI_BINS; bin++) {
    uint64_t allocations = LOAD(cache->bins[bin].allocations);
    uint64_t deallocations = allocations - (uint64_t)tci_bin_live(&cache->bins[bin]);
    stats->allocation_count += allocations;
    stats->deallocation_count += deallocations;
    uint64_t block_size = counted_size(cache->pool, bin);
    stats->allocated.total_allocated += allocations * block_size;
    stats->allocated.total_freed += deallocations * block_size;
  }
}

static void sum(const tc_pool *pool, tc_stats *stats) {
  int64_t above = 0; /* highs that the caches have not published yet */
  for (tci_cache *cache = LOAD_ACQUIRE(pool->caches); cache; cache = cache->next) {
    tci_stats_sum(cache, stats);
    above += requested_above(cache);
  }
  stats->requested.peak = LOAD(pool->requested_peak);
  raise_to(&stats->requested.peak, LOAD(pool->requested) + above);
  stats->allocated.peak = LOAD(pool->allocated_peak);
  raise_to(&stats->allocated.peak, (int64_t)stats->requested.peak);
}

static void finish(tc_stat *stat) {
  stat->current = stat->total_allocated > stat->total_freed ? stat->total_allocated - stat->total_freed : 0;
  raise_to(&stat->peak, (int64_t)stat->current);
}

static void pending(const tci_order *order, tc_stat *stat) {
  stat->total_freed = LOAD(order->pending_out);
  stat->total_allocated = LOAD(order->pending_in);
  stat->peak = LOAD(order->pending_peak);
  finish(stat);
}

void tc_pool_stats(const tc_pool *pool, tc_stats *stats) {
  memset(stats, 0, sizeof *stats);
  sum(pool, stats);
  finish(&stats->requested);
  finish(&stats->allocated);
  stats->reserved.total_freed = LOAD(pool->reserved_out);
  stats->reserved.total_allocated = stats->reserved.total_freed + LOAD(pool->reserved);
  stats->reserved.peak = LOAD(pool->reserved_peak);
  finish(&stats->reserved);
  if (pool->order) pending(pool->order, &stats->pending);
  stats->cached.total_allocated = stats->reserved.total_allocated + stats->allocated.total_freed + stats->pending.total_freed;
  stats->cached.total_freed = stats->reserved.total_freed + stats->allocated.total_allocated + stats->pending.total_allocated;
  stats->cached.peak = LOAD(pool->cached_peak);
  finish(&stats->cached);
  if (stats->deallocation_count > stats->allocation_count) stats->deallocation_count = stats->allocation_count; /* torn by traffic */
  uint64_t misses = LOAD(pool->misses);
  stats->misses = misses;
  stats->hits = stats->allocation_count > misses ? stats->allocation_count - misses : 0;
  stats->upstream_calls = LOAD(pool->upstream_calls);
  stats->upstream_ns = LOAD(pool->upstream_ns);
  stats->purged_bytes = LOAD(pool->purged_bytes);
  stats->out_of_memory_retries = LOAD(pool->retries);
  stats->out_of_memory_failures = LOAD(pool->failures);
  stats->refused_deallocations = LOAD(pool->refused);
  stats->largest_free_block = (uint64_t)tci_heap_largest((tc_pool *)(uintptr_t)pool) << TCI_PAGE_SHIFT;
  stats->free_run_bytes = (uint64_t)LOAD(pool->free_pages) << TCI_PAGE_SHIFT;
  stats->metadata_bytes = tci_meta_bytes();
}

void tc_pool_reset_peak(tc_pool *pool) {
  tci_cache *own = pool->order ? pool->order->ledger : tci_tls->caches[pool->index];
  if (pool->order) {
    tci_heap_lock(pool);
    tci_stats_publish_requested(own);
    STORE(pool->order->pending_peak, pool->order->pending_in - pool->order->pending_out);
    tci_heap_unlock(pool);
  } else if (own) {
    tci_stats_publish(own);
  }
  for (tci_cache *cache = LOAD_ACQUIRE(pool->caches); cache; cache = cache->next)
    if (cache != own) STORE(cache->high_ignored, LOAD(cache->requested_high));
  STORE(pool->requested_peak, 0);
  STORE(pool->allocated_peak, 0);
  STORE(pool->reserved_peak, LOAD(pool->reserved));
  STORE(pool->cached_peak, 0);
}

static size_t bin_size(const tc_pool *pool, unsigned bin) {
  if (bin < TCI_CLASSES) return LOAD(pool->classes[bin].block_size);
  if (bin == TCI_CLASSES) return TCI_SMALL_MAX + 1;
  return ((size_t)16 + (bin - TCI_CLASSES) % 16) << (15 + (bin - TCI_CLASSES) / 16);
}

static tc_class_stats class_stats(const tc_pool *pool, unsigned bin) {
  tc_class_stats stats = {.block_size = bin_size(pool, bin), .learned = bin >= TCI_FIXED_CLASSES && bin < TCI_CLASSES};
  uint64_t refills = 0;
  int64_t live = 0;
  for (tci_cache *cache = LOAD_ACQUIRE(pool->caches); cache; cache = cache->next) {
    stats.allocations += LOAD(cache->bins[bin].allocations);
    live += tci_bin_live(&cache->bins[bin]);
    refills += LOAD(cache->bins[bin].refills);
    stats.cached += tci_bin_depth(&cache->bins[bin]);
  }
  stats.cached += LOAD(pool->depots[bin].blocks) + (bin < TCI_CLASSES ? LOAD(pool->classes[bin].free_blocks) : 0);
  if (pool->order && bin < TCI_BUCKETS) stats.cached += LOAD(pool->order->cached[bin]);
  stats.live = live > 0 ? (uint64_t)live : 0;
  stats.hits = stats.allocations > refills ? stats.allocations - refills : 0;
  return stats;
}

size_t tc_pool_class_stats(const tc_pool *pool, tc_class_stats *classes, size_t capacity) {
  size_t count = 0;
  for (unsigned bin = 0; bin < TCI_BINS; bin++) {
    tc_class_stats stats = class_stats(pool, bin);
    if (!stats.allocations && !stats.cached) continue;
    if (count < capacity) {
      size_t at = count;
      for (; at > 0 && classes[at - 1].block_size > stats.block_size; at--) classes[at] = classes[at - 1];
      classes[at] = stats;
    }
    count++;
  }
  return count;
}

void tci_stats_watermark(tc_pool *pool) {
  tc_watermark_callback callback = LOAD_ACQUIRE(pool->on_watermark);
  uint64_t allocated = tci_stats_live(pool), reserved = LOAD(pool->reserved);
  if (!callback || !reserved) return;
  double utilization = (double)allocated / (double)reserved;
  uint32_t above = utilization >= pool->watermark;
  if (__atomic_exchange_n(&pool->above_watermark, above, __ATOMIC_RELAXED) < above) callback(pool, utilization, pool->watermark_context);
}

uint64_t tci_stats_live(const tc_pool *pool) {
  int64_t live = 0;
  for (tci_cache *cache = LOAD_ACQUIRE(pool->caches); cache; cache = cache->next) {
    live += (int64_t)(LOAD(cache->large_in) - LOAD(cache->large_out));
    for (unsigned class = 0; class < TCI_CLASSES; class++) live += tci_bin_live(&cache->bins[class]) * (int64_t)counted_size(pool, class);
  }
  return live > 0 ? (uint64_t)live : 0;
}
