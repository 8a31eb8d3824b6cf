/* refill.c - a thread's stack that ran empty gets a full magazine, one that ran full an empty one: one lock per some 63 blocks.
 *
 * Two magazines per stack, so that a program that alternates at a magazine's edge takes no lock at all.
 */
#include "internal.h"

/* Load a magazine, hand back the one that was loaded with its count set. */
static tci_magazine *load(tci_bin *bin, tci_magazine *magazine) {
  tci_magazine *old = tci_bin_loaded(bin);
  if (old) old->count = (uint32_t)(bin->top - bin->base);
  STORE(bin->base, magazine->entries);
  STORE(bin->top, magazine->entries + magazine->count);
  bin->end = magazine->entries + magazine->capacity;
  return old;
}

bool tci_cache_refill(tci_cache *cache, unsigned class, size_t nbytes) {
  tci_bin *bin = &cache->bins[class];
  tc_pool *pool = cache->pool;
  if (!tci_cache_enter_wait(cache)) return false;
  if (bin->top != bin->base) return true;
  if (bin->spare_count) {
    tci_bin_set_spare(bin, load(bin, bin->spare));
    return true;
  }
  tci_cache_exit(cache->thread);
  tci_stats_publish_bin(cache, class);
  tci_magazine *magazine = tci_depot_get(pool, class);
  if (!magazine) magazine = tci_obtain_blocks(pool, class, nbytes, bin->refills);
  if (!magazine) return false;
  tci_class_learn(pool, nbytes, magazine->count * (size_t)pool->classes[class].block_size);
  if (!tci_cache_enter_wait(cache)) {
    tci_magazine_drain(pool, magazine);
    return false;
  }
  BUMP(bin->refills, 1);
  BUMP(bin->balance, magazine->count);
  tci_magazine *empty = bin->spare, *old = load(bin, magazine);
  if (!old) return true;
  tci_bin_set_spare(bin, old);
  if (!empty) return true;
  tci_cache_exit(cache->thread);
  tci_magazine_put(pool, empty);
  return tci_cache_refill(cache, class, nbytes); /* nearly always finds the block at once */
}

bool tci_cache_make_room(tci_cache *cache, unsigned index) {
  tci_bin *bin = &cache->bins[index];
  tc_pool *pool = cache->pool;
  if (!tci_cache_enter_wait(cache)) return false;
  if (bin->top != bin->end) return true;
  tci_magazine *spare = bin->spare;
  if (spare && spare->count == 0) {
    tci_bin_set_spare(bin, load(bin, spare));
    return true;
  }
  BUMP(bin->balance, -(int64_t)bin->spare_count);
  tci_bin_set_spare(bin, NULL);
  tci_cache_exit(cache->thread);
  tci_stats_publish_bin(cache, index);
  if (spare && index < TCI_CLASSES)
    tci_depot_put(pool, spare);
  else if (spare)
    tci_magazine_drain(pool, spare);
  tci_scavenger_wake(pool);
  tci_magazine *magazine = tci_magazine_get(pool, index);
  if (!magazine) return false;
  if (!tci_cache_enter_wait(cache)) {
    tci_magazine_put(pool, magazine);
    return false;
  }
  tci_bin_set_spare(bin, load(bin, magazine));
  return true;
}
