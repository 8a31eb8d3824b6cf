/* refill.c - a thread's stack that ran empty gets a full magazine, one that ran full an empty one: one lock per 64 blocks, or a MiB.
 *
 * Two magazines per stack, so that a program that alternates at a magazine's edge takes no lock at all. A stack that fills up without
 * an allocation in between belongs to a thread that frees what others allocate: it keeps nothing back.
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

void tci_bin_swap(tci_bin *bin) { tci_bin_set_spare(bin, load(bin, bin->spare)); }

tci_magazine *tci_bin_take_spare(tci_bin *bin) {
  tci_magazine *spare = bin->spare;
  if (spare) spare->next = NULL;
  BUMP(bin->balance, -(int64_t)bin->spare_count);
  tci_bin_set_spare(bin, NULL);
  return spare;
}

bool tci_cache_load(tci_cache *cache, tci_magazine *magazine) {
  tci_bin *bin = &cache->bins[magazine->bin];
  tci_magazine *spare;
  do { /* an upstream or a callback of the user's may have freed blocks here meanwhile */
    if (!tci_cache_enter_wait(cache)) {
      tci_magazine_drain(cache->pool, magazine);
      return false;
    }
    spare = tci_bin_take_spare(bin);
    if (spare) {
      tci_cache_exit(cache->thread);
      tci_depot_put(cache->pool, spare);
    }
  } while (spare);
  BUMP(bin->balance, magazine->count);
  tci_bin_set_spare(bin, load(bin, magazine));
  return true;
}

bool tci_cache_refill(tci_cache *cache, unsigned class, size_t nbytes) {
  tci_bin *bin = &cache->bins[class];
  tc_pool *pool = cache->pool;
  if (!tci_cache_enter_wait(cache)) return false;
  while (bin->top == bin->base) { /* nearly always once */
    if (bin->spare_count) {
      tci_bin_swap(bin);
      return true;
    }
    tci_magazine *empty = tci_bin_take_spare(bin);
    tci_cache_exit(cache->thread);
    tci_stats_publish_bin(cache, class);
    tci_magazine *magazine = tci_depot_exchange(pool, class, empty, true);
    if (!magazine) magazine = tci_obtain_blocks(pool, class, nbytes, bin->refills);
    if (!magazine) return false;
    tci_class_learn(pool, nbytes, magazine->count * (size_t)pool->classes[class].block_size);
    if (!tci_cache_load(cache, magazine)) return false;
    BUMP(bin->refills, 1);
  }
  return true;
}

bool tci_cache_make_room(tci_cache *cache, unsigned index) {
  tci_bin *bin = &cache->bins[index];
  tc_pool *pool = cache->pool;
  tci_magazine *list = NULL;
  if (!tci_cache_enter_wait(cache)) return false;
  if (bin->top != bin->end) return true;
  bool one_way = bin->allocations == cache->notes[index].full_at;
  cache->notes[index].full_at = bin->allocations;
  if (!one_way && bin->spare && !bin->spare_count) {
    tci_bin_swap(bin);
    return true;
  }
  if (one_way) {
    tci_bin_unload(bin, &list);
    STORE(pool->handover_tick, LOAD(pool->tick));
  } else {
    list = tci_bin_take_spare(bin);
  }
  tci_cache_exit(cache->thread);
  tci_stats_publish_bin(cache, index);
  tci_magazine *magazine = tci_depot_exchange(pool, index, list, false);
  tci_scavenger_wake(pool);
  return magazine && tci_cache_load(cache, magazine);
}
