/* depot.c - whole magazines of free blocks, per size class: what threads exchange. One lock per class and up to 64 blocks, or a MiB.
 *
 * What nobody needed during a tick (the least that lay here) goes back to the heap: a class keeps what its demand wants.
 */
#include "modes.h"

static uint32_t capacity_of(const tc_pool *pool, unsigned bin) {
  if (bin < TCI_CLASSES) return pool->classes[bin].magazine;
  size_t log2 = 19 + (bin - TCI_CLASSES) / 16, step = (bin - TCI_CLASSES) % 16;
  return tci_large_magazine(((size_t)1 << log2) + (step << (log2 - 4)));
}

static size_t magazine_bytes(uint32_t capacity) { return sizeof(tci_magazine) + capacity * sizeof(tci_entry); }

static tci_magazine *magazine_make(tc_pool *pool, unsigned bin) {
  uint32_t capacity = capacity_of(pool, bin);
  tci_magazine *magazine = tci_meta_alloc(META_OTHER, magazine_bytes(capacity));
  if (!magazine) return NULL;
  magazine->capacity = capacity;
  magazine->bin = bin;
  return magazine;
}

static void put(tci_depot *depot, tci_magazine *list) { /* lock held */
  for (tci_magazine *next; list; list = next) {
    next = list->next;
    tci_magazine **head = list->count ? &depot->full : &depot->empty;
    STORE(depot->count, depot->count + (list->count > 0));
    STORE(depot->blocks, depot->blocks + list->count);
    list->next = *head;
    *head = list;
  }
}

static tci_magazine *get(tci_depot *depot, bool full) { /* lock held */
  tci_magazine **head = full ? &depot->full : &depot->empty, *magazine = *head;
  if (!magazine) return NULL;
  *head = magazine->next;
  magazine->next = NULL;
  if (full) {
    STORE(depot->blocks, depot->blocks - magazine->count);
    STORE(depot->count, depot->count - 1);
    if (depot->count < depot->low) depot->low = depot->count;
  }
  return magazine;
}

tci_magazine *tci_depot_exchange(tc_pool *pool, unsigned bin, tci_magazine *list, bool full) {
  tci_depot *depot = &pool->depots[bin];
  pthread_mutex_lock(&depot->lock);
  put(depot, list);
  tci_magazine *magazine = get(depot, full);
  pthread_mutex_unlock(&depot->lock);
  return magazine || full ? magazine : magazine_make(pool, bin);
}

void tci_depot_put(tc_pool *pool, tci_magazine *magazine) {
  tci_depot *depot = &pool->depots[magazine->bin];
  magazine->next = NULL;
  pthread_mutex_lock(&depot->lock);
  put(depot, magazine);
  pthread_mutex_unlock(&depot->lock);
}

void tci_magazine_drain(tc_pool *pool, tci_magazine *magazine) {
  tci_guard_inspect(pool, magazine->entries, magazine->count, magazine->bin >= TCI_CLASSES);
  if (magazine->bin < TCI_CLASSES) {
    tci_slab_give(pool, magazine->entries, magazine->count);
  } else {
    for (uint32_t i = 0; i < magazine->count; i++) tci_run_release(pool, magazine->entries[i].u.run);
  }
  magazine->count = 0;
  tci_depot_put(pool, magazine);
}

void tci_depot_drain(tc_pool *pool, bool all) {
  for (unsigned bin = 0; bin < TCI_BINS; bin++) {
    tci_depot *depot = &pool->depots[bin];
    if (!LOAD(depot->count)) continue;
    pthread_mutex_lock(&depot->lock);
    uint32_t surplus = all ? depot->count : depot->low;
    depot->low = depot->count - surplus;
    pthread_mutex_unlock(&depot->lock);
    for (tci_magazine *magazine; surplus-- && (magazine = tci_depot_exchange(pool, bin, NULL, true));) tci_magazine_drain(pool, magazine);
  }
}

void tci_depot_free(tc_pool *pool) {
  for (unsigned bin = 0; bin < TCI_BINS; bin++) {
    tci_depot *depot = &pool->depots[bin];
    for (tci_magazine *magazine; (magazine = depot->empty);) {
      depot->empty = magazine->next;
      tci_meta_free(META_OTHER, magazine, magazine_bytes(magazine->capacity));
    }
    pthread_mutex_destroy(&depot->lock);
  }
}
