/* addresses.h - from an address to its run and its segment: page_map.c's part of internal.h, which includes it.
 *
 * Two loads a look-up; readers take no lock.
 */
#ifndef TCI_ADDRESSES_H
#define TCI_ADDRESSES_H

/* ---- page_map.c ------------------------------------------------------------------------------------------------------------------ */
#define TCI_LEAF_SHIFT 32
#define TCI_LEAF_PAGES ((size_t)1 << (TCI_LEAF_SHIFT - TCI_PAGE_SHIFT))
#define TCI_LEAF_SLOTS ((size_t)1 << (TCI_LEAF_SHIFT - TCI_SLOT_SHIFT))
#define TCI_LEAVES ((size_t)1 << 16) /* 48 bits of addresses */
typedef struct tci_leaf {
  tci_run *pages[TCI_LEAF_PAGES];        /* the run; within free and large runs only the first and last pages count */
  tci_segment *segments[TCI_LEAF_SLOTS]; /* the segment */
} tci_leaf;
extern tci_leaf *tci_root[TCI_LEAVES];
bool tci_page_map_add(tci_segment *segment);
void tci_page_map_remove(tci_segment *segment);

static inline tci_run *tci_page_map_get(uintptr_t address) {
  uintptr_t high = address >> TCI_LEAF_SHIFT;
  if (unlikely(high >= TCI_LEAVES)) return NULL;
  tci_leaf *leaf = LOAD_ACQUIRE(tci_root[high]);
  return likely(leaf != NULL) ? LOAD_ACQUIRE(leaf->pages[(address >> TCI_PAGE_SHIFT) & (TCI_LEAF_PAGES - 1)]) : NULL;
}
static inline void tci_page_map_set(uintptr_t address, tci_run *run) { /* the address lies in a segment that was added */
  STORE_RELEASE(tci_root[address >> TCI_LEAF_SHIFT]->pages[(address >> TCI_PAGE_SHIFT) & (TCI_LEAF_PAGES - 1)], run);
}
static inline tci_segment *tci_page_map_segment(uintptr_t address) {
  if (unlikely(address >> 48)) return NULL;
  tci_leaf *leaf = LOAD_ACQUIRE(tci_root[address >> TCI_LEAF_SHIFT]);
  return leaf ? LOAD_ACQUIRE(leaf->segments[(address >> TCI_SLOT_SHIFT) & (TCI_LEAF_SLOTS - 1)]) : NULL;
}

#endif
