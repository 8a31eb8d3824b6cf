/* page_map.c - from an address to the run and the segment that hold it.
 *
 * Two levels: a root of 2^16 leaves of 4 GiB each. A leaf is 8 MiB of addresses, of which only the parts in use become memory
 * (8 B a page, 0.2 %). A look-up is two loads and takes no lock; leaves are never unmapped.
 */
#include "internal.h"

tci_leaf *tci_root[TCI_LEAVES];

static bool leaf_ensure(uintptr_t address) {
  tci_leaf **slot = &tci_root[address >> TCI_LEAF_SHIFT], *none = NULL;
  if (LOAD_ACQUIRE(*slot)) return true;
  tci_leaf *leaf = tci_os_map(sizeof *leaf, tci_os_page_size());
  if (!leaf) return false;
  if (!__atomic_compare_exchange_n(slot, &none, leaf, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) tci_os_unmap(leaf, sizeof *leaf);
  return true;
}

static void slots_set(const tci_segment *segment, tci_segment *value) {
  for (uintptr_t slot = segment->base; slot < segment->base + segment->nbytes; slot += TCI_SLOT)
    STORE_RELEASE(tci_root[slot >> TCI_LEAF_SHIFT]->segments[(slot >> TCI_SLOT_SHIFT) & (TCI_LEAF_SLOTS - 1)], value);
}

bool tci_page_map_add(tci_segment *segment) {
  uintptr_t end = segment->base + segment->nbytes;
  if (end < segment->base || (end - 1) >> 48) return false;
  for (uintptr_t leaf = segment->base >> TCI_LEAF_SHIFT; leaf <= (end - 1) >> TCI_LEAF_SHIFT; leaf++)
    if (!leaf_ensure(leaf << TCI_LEAF_SHIFT)) return false;
  slots_set(segment, segment);
  return true;
}

void tci_page_map_remove(tci_segment *segment) {
  slots_set(segment, NULL);
  for (uintptr_t page = segment->base; page < segment->base + segment->nbytes; page += TCI_PAGE) tci_page_map_set(page, NULL);
}
