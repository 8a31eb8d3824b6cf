/* stats.c - one set of figures: counters live in the caches and are summed on reading; currents and peaks are published on slow paths.
 *
 * Reading takes no lock (safe in a signal handler): caches are only ever added while a pool lives. Between two publications a thread
 * notes its own high, so a peak is exact for one thread and off by at most the threads' magazines for several.
 */
#include "internal.h"

static void raise_to(uint64_t *peak, int64_t value) {
  uint64_t old = LOAD(*peak);
  while (value > 0 && (uint64_t)value > old &&
         !__atomic_compare_exchange_n(peak, &old, (uint64_t)value, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
    continue;
}

static void publish(int64_t *live, uint64_t *peak, int64_t current, int64_t *seen, int64_t *high) {
  int64_t before = ADD(*live, current - *seen);
  raise_to(peak, before + *high - *seen);
  STORE(*seen, current);
  STORE(*high, current);
}

void tci_stats_publish(tci_cache *cache) {
  tc_pool *pool = cache->pool;
  int64_t requested = (int64_t)(cache->requested_in - cache->requested_out);
  int64_t allocated = (int64_t)(cache->allocated_in - cache->allocated_out);
  publish(&pool->requested, &pool->requested_peak, requested, &cache->requested_seen, &cache->requested_high);
  publish(&pool->allocated, &pool->allocated_peak, allocated, &cache->allocated_seen, &cache->allocated_high);
  raise_to(&pool->budget, (int64_t)LOAD(pool->allocated_peak));
  raise_to(&pool->cached_peak, (int64_t)LOAD(pool->reserved) - LOAD(pool->allocated));
}

void tci_stats_reserved(tc_pool *pool) {
  int64_t reserved = (int64_t)LOAD(pool->reserved);
  raise_to(&pool->reserved_peak, reserved);
  raise_to(&pool->cached_peak, reserved - LOAD(pool->allocated));
}

/* The part of a statistic that the caches have not published yet. */
static void sum(const tc_pool *pool, tc_stats *stats) {
  int64_t requested_above = 0, allocated_above = 0;
  for (tci_cache *cache = LOAD_ACQUIRE(pool->caches); cache; cache = cache->next) {
    stats->requested.total_allocated += LOAD(cache->requested_in);
    stats->requested.total_freed += LOAD(cache->requested_out);
    stats->allocated.total_allocated += LOAD(cache->allocated_in);
    stats->allocated.total_freed += LOAD(cache->allocated_out);
    requested_above += LOAD(cache->requested_high) - LOAD(cache->requested_seen);
    allocated_above += LOAD(cache->allocated_high) - LOAD(cache->allocated_seen);
    for (unsigned bin = 0; bin < TCI_BINS; bin++) {
      stats->allocation_count += LOAD(cache->bins[bin].allocations);
      stats->deallocation_count += LOAD(cache->bins[bin].deallocations);
    }
  }
  stats->requested.peak = LOAD(pool->requested_peak);
  stats->allocated.peak = LOAD(pool->allocated_peak);
  raise_to(&stats->requested.peak, LOAD(pool->requested) + requested_above);
  raise_to(&stats->allocated.peak, LOAD(pool->allocated) + allocated_above);
}

static void finish(tc_stat *stat) {
  stat->current = stat->total_allocated > stat->total_freed ? stat->total_allocated - stat->total_freed : 0;
  raise_to(&stat->peak, (int64_t)stat->current);
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
  stats->cached.total_allocated = stats->reserved.total_allocated + stats->allocated.total_freed;
  stats->cached.total_freed = stats->reserved.total_freed + stats->allocated.total_allocated;
  stats->cached.peak = LOAD(pool->cached_peak);
  finish(&stats->cached);
  uint64_t misses = LOAD(pool->misses);
  stats->misses = misses;
  stats->hits = stats->allocation_count > misses ? stats->allocation_count - misses : 0;
  stats->upstream_calls = LOAD(pool->upstream_calls);
  stats->upstream_ns = LOAD(pool->upstream_ns);
  stats->purged_bytes = LOAD(pool->purged_bytes);
  stats->out_of_memory_retries = LOAD(pool->retries);
  stats->out_of_memory_failures = LOAD(pool->failures);
  stats->refused_deallocations = LOAD(pool->refused);
  stats->largest_free_block = (uint64_t)tci_heap_largest(pool) << TCI_PAGE_SHIFT;
  stats->free_run_bytes = LOAD(pool->free_run_bytes);
  stats->metadata_bytes = tci_meta_bytes();
}

void tc_pool_reset_peak(tc_pool *pool) {
  pthread_mutex_lock(&pool->collect);
  for (tci_cache *cache = pool->caches; cache; cache = cache->next) {
    STORE(cache->requested_high, (int64_t)(LOAD(cache->requested_in) - LOAD(cache->requested_out)));
    STORE(cache->allocated_high, (int64_t)(LOAD(cache->allocated_in) - LOAD(cache->allocated_out)));
  }
  pthread_mutex_unlock(&pool->collect);
  STORE(pool->requested_peak, 0);
  STORE(pool->allocated_peak, 0);
  STORE(pool->reserved_peak, LOAD(pool->reserved));
  STORE(pool->cached_peak, 0);
}

static size_t bin_size(const tc_pool *pool, unsigned bin) {
  if (bin < TCI_CLASSES) return pool->classes[bin].block_size;
  return ((size_t)16 + (bin - TCI_CLASSES) % 16) << (15 + (bin - TCI_CLASSES) / 16);
}

static uint64_t bin_cached(const tci_bin *bin) {
  tci_entry *top = LOAD(bin->top), *base = LOAD(bin->base);
  tci_magazine *spare = LOAD(bin->spare);
  return (top > base ? (uint64_t)(top - base) : 0) + (spare ? LOAD(spare->count) : 0);
}

static tc_class_stats class_stats(const tc_pool *pool, unsigned bin) {
  tc_class_stats stats = {.block_size = bin_size(pool, bin), .learned = bin >= TCI_FIXED_CLASSES && bin < TCI_CLASSES};
  uint64_t freed = 0, refills = 0;
  for (tci_cache *cache = LOAD_ACQUIRE(pool->caches); cache; cache = cache->next) {
    stats.allocations += LOAD(cache->bins[bin].allocations);
    freed += LOAD(cache->bins[bin].deallocations);
    refills += LOAD(cache->bins[bin].refills);
    stats.cached += bin_cached(&cache->bins[bin]);
  }
  if (bin < TCI_CLASSES) stats.cached += LOAD(pool->depots[bin].blocks) + LOAD(pool->classes[bin].free_blocks);
  stats.live = stats.allocations > freed ? stats.allocations - freed : 0;
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
  if (__atomic_exchange_n(&pool->above_watermark, above, __ATOMIC_RELAXED) < above)
    callback(pool, utilization, pool->watermark_context);
}

uint64_t tci_stats_live(const tc_pool *pool) {
  uint64_t live = 0;
  for (tci_cache *cache = LOAD_ACQUIRE(pool->caches); cache; cache = cache->next)
    live += LOAD(cache->allocated_in) - LOAD(cache->allocated_out);
  return live;
}
