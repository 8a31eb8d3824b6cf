/* slab.c - blocks of one class inside a run, and runs that are one block.
 *
 * A slab's header holds a state word a block and a bit a block: 1 = the heap holds it (not in use, in no magazine). Blocks are taken
 * in order of address. A slab whose blocks all came back becomes a free run again. Cost: 10 to 20 ns a block, a magazine per lock.
 */
#include "modes.h"

/* Partial slabs lie in lists by how full they are, the fullest are taken from first: the others have time to empty. */
static unsigned fill_of(const tci_run *slab) { return slab->nfree * TCI_FILLS / (slab->nblocks + 1); }

static void partial_remove(tc_pool *pool, tci_run *slab) {
  if (slab->next) slab->next->previous = slab->previous;
  *(slab->previous ? &slab->previous->next : &pool->classes[slab->bin].partial[slab->fill]) = slab->next;
  slab->previous = slab->next = NULL;
}

static void partial_insert(tc_pool *pool, tci_run *slab) {
  slab->fill = (uint8_t)fill_of(slab);
  tci_run **head = &pool->classes[slab->bin].partial[slab->fill];
  slab->previous = NULL;
  slab->next = *head;
  if (*head) (*head)->previous = slab;
  *head = slab;
}

static void partial_move(tc_pool *pool, tci_run *slab) { /* its nfree changed, and is not 0 */
  if (fill_of(slab) == slab->fill) return;
  partial_remove(pool, slab);
  partial_insert(pool, slab);
}

static tci_run *partial_fullest(const tci_class *class) {
  for (unsigned fill = 0; fill < TCI_FILLS; fill++)
    if (class->partial[fill]) return class->partial[fill];
  return NULL;
}

static tci_entry entry_of(tci_run *run, uint32_t index) {
  tci_entry entry = {.block = (void *)(run->base + (uintptr_t)index * run->block_size), .u.state = tci_run_state(run, index)};
  if (!run->pool->guard) return entry;
  tci_record *record = tci_record_at(run, index);
  record->to_state = (int32_t)((char *)entry.u.state - (char *)record);
  entry.u.record = record;
  return entry;
}

void tci_single_create(tc_pool *pool, unsigned class, tci_run *run, tci_entry *entry) {
  const tci_class *c = &pool->classes[class];
  size_t colour = c->block_size >= TCI_COLOUR_MIN ? (size_t)ADD(pool->colour, 1) * 21 * 64 % TCI_PAGE : 0;
  run->base = run->start + colour;
  run->states = &run->state;
  STORE(run->state, 0);
  memset(run->records, 0, pool->record_bytes);
  run->block_size = c->block_size;
  run->inverse = 1;
  run->shift = 0;
  tci_run_set_bin(run, class);
  tci_run_set_blocks(run, 1, 0);
  STORE_RELEASE(run->kind, RUN_SINGLE);
  *entry = entry_of(run, 0);
}

static uint32_t index_of(const tci_run *run, const tci_entry *entry) {
  return (uint32_t)((run->pool->guard ? tci_record_state(entry->u.record) : entry->u.state) - run->states) >> run->spread;
}

static void drain(tci_run *slab, bool on) {
  STORE(slab->draining, on);
  STORE(slab->bin_offset, tci_bin_offset(on ? TCI_NO_CLASS : slab->bin)); /* a free that reads the old one keeps one block more */
}

/* Blocks of one slab, lowest addresses first, the lowest last in `entries`: a stack hands that out first. */
static uint32_t slab_take(tci_run *slab, tci_entry *end, uint32_t count) {
  uint32_t taken = 0, last = 0;
  if (LOAD(slab->draining)) drain(slab, false);
  for (uint32_t word = slab->hint; taken < count && slab->nfree; word++) {
    uint64_t bits = slab->free_bits[word];
    for (; bits && taken < count; bits &= bits - 1, taken++, slab->nfree--) {
      uint32_t index = word * 64 + (uint32_t)__builtin_ctzll(bits);
      last = index;
      *--end = entry_of(slab, index);
    }
    slab->free_bits[word] = bits;
    slab->hint = word;
  }
  if (taken && last >= slab->touched) {
    slab->pool->heap.untouched -= (size_t)(last + 1 - slab->touched) * slab->block_size;
    slab->touched = last + 1;
  }
  return taken;
}

/* The blocks taken lie at the end of the first `count` entries. */
uint32_t tci_slab_take_from(tc_pool *pool, tci_run *slab, tci_entry *entries, uint32_t count) {
  uint32_t taken = slab_take(slab, entries + count, count);
  BUMP(pool->classes[slab->bin].free_blocks, -(uint64_t)taken);
  if (slab->nfree == 0)
    partial_remove(pool, slab);
  else
    partial_move(pool, slab);
  return taken;
}

static void entries_close_up(tci_entry *entries, uint32_t count, uint32_t taken) {
  if (taken && taken < count) memmove(entries, entries + count - taken, taken * sizeof *entries);
}

uint32_t tci_slab_take(tc_pool *pool, unsigned class, tci_entry *entries, uint32_t count) {
  uint32_t taken = 0;
  for (tci_run *slab; taken < count && (slab = partial_fullest(&pool->classes[class]));)
    taken += tci_slab_take_from(pool, slab, entries, count - taken);
  entries_close_up(entries, count, taken);
  return taken;
}

tci_run *tci_slab_build(tc_pool *pool, unsigned class, tci_run *run) {
  const tci_class *c = &pool->classes[class];
  size_t room = (run->npages << TCI_PAGE_SHIFT) / c->block_size;
  uint32_t nblocks = room < c->nblocks ? (uint32_t)room : c->nblocks;
  unsigned spread = pool->record_bytes ? 0 : c->spread;
  size_t words = (nblocks + 63) / 64, states = tci_round_up((nblocks << spread) * sizeof(uint32_t), 8);
  size_t before = tci_round_up(sizeof(tci_run) + words * 8, TC_ALIGNMENT) - sizeof(tci_run); /* the states start a line */
  tci_run *slab = tci_run_create(pool, before + states, nblocks);
  if (!slab) {
    tci_heap_give(pool, run, LOAD(pool->tick));
    return NULL;
  }
  slab->segment = run->segment;
  slab->base = slab->start = run->start;
  slab->npages = run->npages;
  slab->free_bits = (uint64_t *)(slab + 1);
  slab->states = (uint32_t *)(void *)((char *)(slab + 1) + before);
  for (size_t word = 0; word < words; word++) slab->free_bits[word] = ~(uint64_t)0;
  if (nblocks % 64) slab->free_bits[words - 1] = ((uint64_t)1 << nblocks % 64) - 1;
  slab->block_size = c->block_size;
  slab->inverse = c->inverse;
  slab->shift = (uint8_t)(c->shift - spread);
  slab->nfree = nblocks;
  tci_run_set_blocks(slab, nblocks, spread);
  tci_run_set_bin(slab, class);
  STORE(slab->kind, RUN_SLAB);
  tci_run_destroy(run);
  for (size_t page = 0; page < slab->npages; page++) tci_page_map_set(slab->start + (page << TCI_PAGE_SHIFT), slab);
  partial_insert(pool, slab);
  BUMP(pool->classes[class].free_blocks, slab->nfree);
  pool->classes[class].blocks += slab->nblocks;
  pool->heap.untouched += (size_t)slab->nblocks * slab->block_size;
  return slab;
}

uint32_t tci_slab_create(tc_pool *pool, unsigned class, tci_run *run, tci_entry *entries, uint32_t count) {
  tci_heap_lock(pool);
  tci_run *slab = tci_slab_build(pool, class, run);
  /* At once: a slab of which nobody took a block would never come back. */
  uint32_t taken = slab ? tci_slab_take_from(pool, slab, entries, count) : 0;
  entries_close_up(entries, count, taken);
  tci_heap_unlock(pool);
  return taken;
}

/* heap lock held */
static void run_give(tc_pool *pool, tci_run *run) {
  if (!pool->order) {
    memset(tci_run_dirty_bytes(run), TCI_PAGE_DATA | TCI_PAGE_RESIDENT, run->npages);
    run->dirty = run->npages;
  }
  tci_run_set_blocks(run, 0, 0);
  STORE(run->draining, 0);
  STORE(run->kind, RUN_BUSY);
  tci_heap_give(pool, run, LOAD(pool->tick));
}

static bool guards_lifted(tci_run *run) {
  size_t page = tci_os_page_size() > TCI_PAGE ? tci_os_page_size() : TCI_PAGE;
  uintptr_t first = tci_round_up(run->start, page), end = (run->start + (run->npages << TCI_PAGE_SHIFT)) & ~(page - 1);
  if (tci_os_protect((void *)first, end - first, 1) != 0) return false;
  run->guarded = 0;
  return true;
}

void tci_run_release(tc_pool *pool, tci_run *run) {
  if (run->guarded && !guards_lifted(run)) return; /* more mappings than the system allows: its pages stay out of use */
  tci_heap_lock(pool);
  run_give(pool, run);
  tci_heap_unlock(pool);
}

/* A thread's cache hands a block out again soon after it came back, wherever it lies, so the slabs of a class that is asked for less and
 * less would all stay, with a few blocks each. Where an eighth is free the emptiest start to drain, as many as the others make up for. */
static void class_thin_out(tci_class *class) {
  uint64_t room = class->free_blocks, moved = 0;
  for (unsigned fill = TCI_FILLS; fill-- > 0 && moved <= room;)
    for (tci_run *slab = class->partial[fill]; slab; slab = slab->next) {
      room -= slab->nfree;
      moved += slab->nblocks - slab->nfree;
      if (moved > room) break;
      if (!LOAD(slab->draining)) drain(slab, true);
    }
}

static void class_watch(tci_class *class) { /* heap lock held; blocks came back */
  uint64_t least = class->blocks / 8 + 2 * class->nblocks, next = class->free_blocks + class->blocks / 16;
  if (class->free_blocks > class->thin_at && class->free_blocks > least) {
    class_thin_out(class);
    class->thin_at = next;
  }
  if (class->thin_at > next) class->thin_at = next;
}

void tci_slab_put(tc_pool *pool, tci_run *slab, uint32_t index) {
  if (slab->nfree++ == 0)
    partial_insert(pool, slab);
  else
    partial_move(pool, slab);
  slab->free_bits[index / 64] |= (uint64_t)1 << index % 64;
  if (index / 64 < slab->hint) slab->hint = index / 64;
  tci_class *class = &pool->classes[slab->bin];
  BUMP(class->free_blocks, 1);
  if (slab->nfree < slab->nblocks) {
    if (!pool->order) class_watch(class); /* there, a slab gives its blocks to nobody's cache */
    return;
  }
  partial_remove(pool, slab);
  BUMP(class->free_blocks, -(uint64_t)slab->nblocks);
  class->blocks -= slab->nblocks;
  pool->heap.untouched -= (size_t)(slab->nblocks - slab->touched) * slab->block_size;
  run_give(pool, slab);
}

void tci_slab_give(tc_pool *pool, const tci_entry *entries, uint32_t count) {
  tci_heap_lock(pool);
  for (uint32_t i = 0; i < count; i++) {
    tci_run *run = tci_page_map_get((uintptr_t)entries[i].block);
    if (run->kind == RUN_SINGLE)
      run_give(pool, run);
    else
      tci_slab_put(pool, run, index_of(run, &entries[i]));
  }
  tci_heap_unlock(pool);
}
