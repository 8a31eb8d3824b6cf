/* depot.c - whole magazines of free blocks, per size class: what threads exchange. One lock per class and some 63 blocks.
 *
 * What nobody needed during a tick (the least that lay here) goes back to the heap: a class keeps what its demand wants.
 */
#include "internal.h"

static uint32_t capacity_of(const tc_pool *pool, unsigned bin) {
  if (bin < TCI_CLASSES) return pool->classes[bin].magazine;
  size_t log2 = 19 + (bin - TCI_CLASSES) / 16, step = (bin - TCI_CLASSES) % 16;
  return tci_large_magazine(((size_t)1 << log2) + (step << (log2 - 4)));
}

static size_t magazine_bytes(uint32_t capacity) { return sizeof(tci_magazine) + capacity * sizeof(tci_entry); }

tci_magazine *tci_magazine_get(tc_pool *pool, unsigned bin) {
  tci_magazine *magazine = NULL;
  if (bin < TCI_CLASSES) {
    tci_depot *depot = &pool->depots[bin];
    pthread_mutex_lock(&depot->lock);
    magazine = depot->empty;
    if (magazine) depot->empty = magazine->next;
    pthread_mutex_unlock(&depot->lock);
    if (magazine) return magazine;
  }
  uint32_t capacity = capacity_of(pool, bin);
  magazine = tci_meta_alloc(META_OTHER, magazine_bytes(capacity));
  if (!magazine) return NULL;
  magazine->capacity = capacity;
  magazine->bin = bin;
  return magazine;
}

void tci_magazine_put(tc_pool *pool, tci_magazine *magazine) {
  magazine->count = 0;
  if (magazine->bin >= TCI_CLASSES) {
    tci_meta_free(META_OTHER, magazine, magazine_bytes(magazine->capacity));
    return;
  }
  tci_depot *depot = &pool->depots[magazine->bin];
  pthread_mutex_lock(&depot->lock);
  magazine->next = depot->empty;
  depot->empty = magazine;
  pthread_mutex_unlock(&depot->lock);
}

tci_magazine *tci_depot_get(tc_pool *pool, unsigned class) {
  tci_depot *depot = &pool->depots[class];
  pthread_mutex_lock(&depot->lock);
  tci_magazine *magazine = depot->full;
  if (magazine) {
    depot->full = magazine->next;
    STORE(depot->blocks, depot->blocks - magazine->count);
    STORE(depot->count, depot->count - 1);
    if (depot->count < depot->low) depot->low = depot->count;
  }
  pthread_mutex_unlock(&depot->lock);
  return magazine;
}

void tci_depot_put(tc_pool *pool, tci_magazine *magazine) {
  tci_depot *depot = &pool->depots[magazine->bin];
  pthread_mutex_lock(&depot->lock);
  magazine->next = depot->full;
  depot->full = magazine;
  STORE(depot->count, depot->count + 1);
  STORE(depot->blocks, depot->blocks + magazine->count);
  pthread_mutex_unlock(&depot->lock);
}

void tci_magazine_drain(tc_pool *pool, tci_magazine *magazine) {
  if (magazine->bin < TCI_CLASSES) {
    tci_slab_give(pool, magazine->entries, magazine->count);
  } else {
    for (uint32_t i = 0; i < magazine->count; i++) tci_run_release(pool, magazine->entries[i].u.run);
  }
  tci_magazine_put(pool, magazine);
}

void tci_depot_drain(tc_pool *pool, bool all) {
  for (unsigned class = 0; class < TCI_CLASSES; class++) {
    tci_depot *depot = &pool->depots[class];
    if (!LOAD(depot->count)) continue;
    pthread_mutex_lock(&depot->lock);
    uint32_t surplus = all ? depot->count : depot->low;
    depot->low = depot->count - surplus;
    pthread_mutex_unlock(&depot->lock);
    for (tci_magazine *magazine; surplus-- && (magazine = tci_depot_get(pool, class));) tci_magazine_drain(pool, magazine);
  }
}

void tci_depot_free(tc_pool *pool) {
  for (unsigned class = 0; class < TCI_CLASSES; class++) {
    tci_depot *depot = &pool->depots[class];
    for (tci_magazine *magazine; (magazine = depot->empty);) {
      depot->empty = magazine->next;
      tci_meta_free(META_OTHER, magazine, magazine_bytes(magazine->capacity));
    }
    pthread_mutex_destroy(&depot->lock);
  }
}
