/* check.c - walks all records of a pool and says which invariant is broken. For tests and for a user in doubt: everybody waits. */
#include <stdio.h>

#include "modes.h"
#include "streams.h"

#define FAULTS 64 /* in one walk; more show in the next */

typedef struct check {
  tc_pool *pool;
  char *message;
  size_t size;
  bool broken;
  size_t used, free, dirty, live, listed; /* pages, pages, pages, blocks, blocks of slabs neither in use nor held by the heap */
  tc_fault faults[FAULTS]; /* damage in the blocks of a pool with a mode */
  unsigned nfaults;
} check;

#define EXPECT(c, condition, ...)                                       \
  do {                                                                  \
    if (!(condition) && !(c)->broken) {                                 \
      (c)->broken = true;                                               \
      if ((c)->message) snprintf((c)->message, (c)->size, __VA_ARGS__); \
    }                                                                   \
  } while (0)

static void check_free_run(check *c, const tci_run *run, const tci_run *before) {
  const uint8_t *bytes = tci_run_dirty_bytes(run);
  size_t dirty = 0;
  bool after_free = before && LOAD(before->kind) == RUN_FREE && before->set == run->set;
  for (size_t i = 0; i < run->npages && !c->pool->order; i++) dirty += bytes[i] != 0;
  EXPECT(c, dirty == run->dirty, "free run %#zx: %zu dirty pages, %zu recorded", (size_t)run->start, dirty, run->dirty);
  EXPECT(c, !after_free, "free run %#zx was not merged with the one before it", (size_t)run->start);
  EXPECT(c, tci_page_map_get(run->start + ((run->npages - 1) << TCI_PAGE_SHIFT)) == run, "free run %#zx: last page is not mapped",
         (size_t)run->start);
  c->free += run->npages;
  c->dirty += dirty;
}

/* Canary of a block in use, poison of a free one. The caches are frozen. */
static void check_content(check *c, const tci_run *run, uint32_t index) {
  const tci_guard *guard = c->pool->guard;
  if (!guard || !guard->content || c->nfaults == FAULTS) return;
  size_t capacity = run->block_size ? run->block_size : run->capacity;
  char *block = (char *)run->base + (size_t)index * capacity;
  tci_record *record = tci_run_record(run, index);
  const char *damage = NULL;
  uint32_t state = LOAD(*tci_run_state(run, index));
  if (state && run->kind == RUN_LARGE)
    damage = LOAD(record->freed) ? NULL : tci_canary_damage(run, block, LOAD(run->request)); /* `freed`: it is just coming back */
  else if (state)
    damage = tci_canary_damage(run, block, state - 1);
  else if (LOAD(record->freed) & 1)
    damage = tci_poison_damage(guard, block, capacity);
  if (!damage) return;
  c->faults[c->nfaults++] = tci_fault_of(run, record, block, damage);
  if (!state) STORE(record->freed, record->freed & ~(uint64_t)1); /* once */
}

static void check_slab(check *c, const tci_run *slab) {
  uint32_t nfree = 0;
  for (uint32_t i = 0; i < slab->nblocks; i++) {
    bool held = slab->free_bits[i / 64] >> i % 64 & 1, used = LOAD(*tci_run_state(slab, i)) != 0;
    EXPECT(c, !(held && used), "slab %#zx: block %u is both in use and free", (size_t)slab->start, i);
    nfree += held;
    c->live += used;
    c->listed += !held && !used;
    check_content(c, slab, i);
  }
  EXPECT(c, nfree == slab->nfree, "slab %#zx: %u free blocks, %u recorded", (size_t)slab->start, nfree, slab->nfree);
  EXPECT(c, (size_t)slab->nblocks * slab->block_size <= slab->npages << TCI_PAGE_SHIFT, "slab %#zx: blocks beyond its pages",
         (size_t)slab->start);
  for (size_t page = 0; page < slab->npages; page++)
    EXPECT(c, tci_page_map_get(slab->start + (page << TCI_PAGE_SHIFT)) == slab, "slab %#zx: page %zu maps elsewhere", (size_t)slab->start,
           page);
}

static void check_segment(check *c, tci_segment *segment) {
  tci_run *before = NULL;
  uintptr_t page = segment->base, end = segment->base + segment->nbytes;
  while (page < end && !c->broken) {
    tci_run *run = tci_page_map_get(page);
    EXPECT(c, run && run->start == page && run->npages && run->segment == segment, "segment %#zx: page %#zx belongs to no run",
           (size_t)segment->base, (size_t)page);
    if (c->broken) return;
    bool is_free = LOAD(run->kind) == RUN_FREE;
    if (is_free)
      check_free_run(c, run, before);
    else
      c->used += run->npages;
    if (LOAD(run->kind) == RUN_SLAB) check_slab(c, run);
    if (LOAD_ACQUIRE(run->kind) == RUN_SINGLE || LOAD_ACQUIRE(run->kind) == RUN_LARGE) { /* whoever made it held no lock */
      c->live += LOAD(run->state) != 0;
      check_content(c, run, 0);
    }
    before = run;
    page += run->npages << TCI_PAGE_SHIFT;
  }
  EXPECT(c, c->broken || page == end, "segment %#zx: its last run ends beyond it", (size_t)segment->base);
}

static size_t check_set(check *c, const tci_run_set *set, bool of_stream, size_t *unlisted) { /* pages in its bins */
  size_t pages = 0;
  for (unsigned bin = 0; bin < TCI_RUN_BINS; bin++) {
    bool filled = set->filled[bin / 64] >> bin % 64 & 1;
    EXPECT(c, filled == (set->bins[bin] != NULL), "bin %u: its bit is wrong", bin);
    for (tci_run *run = set->bins[bin]; run; run = run->next) {
      bool belongs = of_stream ? run->set == set : !run->set && (run->dirty > 0) == (set == &c->pool->heap.sets[1]);
      EXPECT(c, LOAD(run->kind) == RUN_FREE && belongs, "bin %u holds run %#zx of another kind", bin, (size_t)run->start);
      pages += run->npages;
      if (run->no_whole_page) *unlisted += run->dirty;
    }
  }
  return pages;
}

static void check_bins(check *c) {
  size_t pages = 0, dirty = 0;
  for (int set = 0; set < 2; set++) pages += check_set(c, &c->pool->heap.sets[set], false, &dirty);
  for (tci_run_set *set = c->pool->heap.streams; set; set = set->next) pages += check_set(c, set, true, &dirty);
  for (tci_run *run = c->pool->heap.sets[1].oldest; run; run = run->newer) dirty += run->dirty;
  EXPECT(c, pages == c->free, "the bins hold %zu free pages, the segments %zu", pages, c->free);
  EXPECT(c, dirty == c->dirty, "the list by age holds %zu dirty pages, the segments %zu", dirty, c->dirty);
}

/* What lies in the lists of one stream: of the right kind, by generation. Its pending bytes are added. */
static void check_tickets(check *c, const tci_tickets *list, const tci_stream *stream, bool waiting, size_t *count, size_t *pending) {
  for (const tci_ticket *ticket = list->oldest; ticket; ticket = ticket->newer) {
    const tci_run *run = ticket->run;
    size_t index = tci_ticket_index(run, ticket);
    bool small = LOAD(run->kind) == RUN_SLAB, held = small && run->free_bits[index / 64] >> index % 64 & 1;
    EXPECT(c, index < run->nblocks && !LOAD(*tci_run_state(run, index)) && !held,
           "run %#zx: block %zu lies in a list and is in use or in its slab", (size_t)run->start, index);
    EXPECT(c, waiting ? ticket->uses && ticket->uses->stream == stream : small && ticket->stream == stream,
           "run %#zx: block %zu lies in the list of another stream", (size_t)run->start, index);
    EXPECT(c, ticket->generation > stream->passed && (!ticket->newer || ticket->newer->generation >= ticket->generation),
           "run %#zx: block %zu lies in a list though its generation passed, or out of order", (size_t)run->start, index);
    if (c->broken) return;
    *count += small;
    if (waiting) *pending += small ? run->block_size : run->capacity;
  }
}

static void check_streams(check *c) {
  const tci_order *order = c->pool->order;
  size_t listed = 0, pending = 0, noted = (size_t)(order->pending_in - order->pending_out);
  for (unsigned class = 0; class < TCI_BUCKETS; class++) {
    size_t count = 0;
    for (tci_run_set *set = c->pool->heap.streams; set; set = set->next)
      check_tickets(c, &tci_stream_of_runs(set)->buckets[class], tci_stream_of_runs(set), false, &count, &pending);
    EXPECT(c, count == order->cached[class], "the buckets of class %u hold %zu blocks, %zu recorded", class, count,
           (size_t)order->cached[class]);
    listed += count;
  }
  for (tci_run_set *set = c->pool->heap.streams; set; set = set->next) {
    tci_stream *stream = tci_stream_of_runs(set);
    check_tickets(c, &stream->waiting, stream, true, &listed, &pending);
    for (const tci_run *run = set->oldest; run; run = run->newer)
      EXPECT(c, run->generation > stream->passed && (!run->newer || run->newer->generation >= run->generation),
             "run %#zx is one stream's though its generation passed, or out of order", (size_t)run->start);
  }
  EXPECT(c, pending == noted, "the lists hold %zu pending bytes, %zu recorded", pending, noted);
  EXPECT(c, listed == c->listed, "the lists hold %zu blocks of slabs, the slabs miss %zu", listed, c->listed);
}

static size_t blocks_live(const tc_pool *pool) { /* by the counters */
  int64_t live = 0;
  for (tci_cache *cache = pool->caches; cache; cache = cache->next)
    for (unsigned bin = 0; bin < TCI_BINS; bin++) live += tci_bin_live(&cache->bins[bin]);
  return (size_t)live;
}

static void walk(check *c) {
  size_t bytes = 0;
  tc_pool *pool = c->pool;
  tci_cache_freeze(pool); /* so that counters and blocks agree, with traffic beside it too */
  tci_heap_lock(pool);
  for (tci_segment *segment = pool->heap.segments; segment; segment = segment->next) {
    check_segment(c, segment);
    bytes += segment->nbytes;
  }
  if (!c->broken) {
    check_bins(c);
    if (pool->order) check_streams(c);
    EXPECT(c, c->used == pool->heap.used && c->free == pool->heap.free && c->dirty == pool->heap.dirty,
           "heap counts %zu used, %zu free, %zu dirty pages; found %zu, %zu, %zu", pool->heap.used, pool->heap.free, pool->heap.dirty, c->used,
           c->free, c->dirty);
    EXPECT(c, bytes == pool->heap.bytes, "segments hold %zu bytes, %zu recorded", bytes, pool->heap.bytes);
    size_t live = blocks_live(pool);
    EXPECT(c, c->live == live, "%zu blocks are marked in use, the counters say %zu", c->live, live);
  }
  tci_heap_unlock(pool);
  tci_cache_thaw(pool);
}

tc_status tc_pool_check(tc_pool *pool, char *message, size_t message_size) {
  check c = {.pool = pool, .message = message_size ? message : NULL, .size = message_size};
  if (!pool) return TC_INVALID_ARGUMENT;
  walk(&c);
  if (c.broken) return TC_CORRUPT;
  if (!c.nfaults) return TC_OK;
  if (c.message) tc_fault_describe(&c.faults[0], message, message_size);
  for (unsigned i = 1; i < c.nfaults; i++) tci_fault_deliver(&c.faults[i]);
  return tci_fault_found(&c.faults[0]);
}

void tci_guard_walk(tc_pool *pool) {
  check c = {.pool = pool};
  if (!pool->guard || !pool->guard->content) return;
  walk(&c);
  for (unsigned i = 0; i < c.nfaults; i++) tci_fault_deliver(&c.faults[i]);
}
