/* large.c - blocks above 512 KiB, and blocks with an alignment of their own: one page run each.
 *
 * A thread keeps a few per size range, so a pair costs the same at every size up to 1 GiB. Zeroing clears only pages that may hold
 * data; growing takes the free run behind the block, or moves the pages by page tables (mremap) instead of the bytes.
 */
#include "modes.h"

#define MOVE_MIN ((size_t)4 << 20) /* below, copying costs less than two page-table walks and a split mapping */

static unsigned bin_of(size_t nbytes) { /* the last one also counts what no bin holds */
  unsigned class = nbytes > TCI_SMALL_MAX ? tci_large_class(nbytes) : TCI_LARGE_CLASSES;
  return TCI_CLASSES + (class < TCI_LARGE_CLASSES ? class : TCI_LARGE_CLASSES - 1);
}

/* Out of the loaded magazine, the newest that fits; in nobody's hands until it is handed out. */
static tci_run *loaded_run(tci_bin *bin, size_t nbytes) { /* entered */
  for (tci_entry *entry = bin->top; entry != bin->base;) {
    entry--;
    tci_run *run = entry->u.run;
    if (!tci_large_fits(run, nbytes)) continue;
    memmove(entry, entry + 1, (size_t)(bin->top - entry - 1) * sizeof *entry);
    STORE(bin->top, bin->top - 1);
    BUMP(bin->balance, -1);
    return run;
  }
  return NULL;
}

static tci_run *cached_run(tci_cache *cache, size_t nbytes) {
  unsigned class = tci_large_class(nbytes), index = TCI_CLASSES + class;
  if (class >= TCI_LARGE_CLASSES || !tci_cache_enter_wait(cache)) return NULL;
  tci_bin *bin = &cache->bins[index];
  for (;;) {
    tci_run *run = loaded_run(bin, nbytes);
    if (!run && bin->spare_count) {
      tci_bin_swap(bin);
      run = loaded_run(bin, nbytes);
    }
    bool search = !run && !bin->spare_count;
    tci_magazine *empty = search ? tci_bin_take_spare(bin) : NULL;
    tci_cache_exit(cache->thread);
    tci_magazine *magazine = search ? tci_depot_exchange(cache->pool, index, empty, true) : NULL;
    if (!magazine || !tci_cache_load(cache, magazine)) return run;
  }
}

static size_t pages_of(size_t nbytes) { return (nbytes + TCI_PAGE - 1) >> TCI_PAGE_SHIFT; }

static void place(tci_run *run, size_t nbytes, size_t alignment, size_t colour) {
  size_t room = ((run->npages << TCI_PAGE_SHIFT) - nbytes) & ~(size_t)(TC_ALIGNMENT - 1);
  run->base = alignment <= TC_ALIGNMENT ? run->start + (room < colour ? room : colour) : tci_round_up(run->start, alignment);
  run->capacity = run->start + (run->npages << TCI_PAGE_SHIFT) - run->base;
}

/* A new block: aligned as asked, else at an offset that differs from block to block (equal offsets collide in the caches). */
static tci_run *fresh_run(tc_pool *pool, size_t nbytes, size_t alignment, bool guarded) {
  size_t fewest = pages_of(nbytes ? nbytes : 1), npages = fewest;
  size_t colour = (size_t)ADD(pool->colour, 1) * 21 * 64 % TCI_PAGE;
  if (guarded)
    fewest = npages = tci_guarded_pages(nbytes, alignment);
  else if (alignment > TCI_PAGE)
    fewest = npages = fewest + (alignment >> TCI_PAGE_SHIFT) - 1;
  else if (alignment <= TC_ALIGNMENT && nbytes >= TCI_COLOUR_MIN)
    npages = pages_of(nbytes + colour);
  tci_run *run = tci_obtain(pool, npages, fewest, nbytes);
  if (!run) return NULL;
  if (guarded && !tci_guarded_run(pool, run, nbytes - TCI_CANARY, alignment)) return fresh_run(pool, nbytes, alignment, false);
  if (!guarded) place(run, nbytes, alignment, colour);
  run->states = &run->state;
  STORE(run->state, 0);
  memset(run->records, 0, pool->record_bytes);
  run->block_size = 0;
  run->inverse = 1;
  run->shift = 0;
  run->zero_known = 1;
  tci_run_set_blocks(run, 1, 0);
  STORE_RELEASE(run->kind, RUN_LARGE);
  tci_page_map_set(run->base, run);
  return run;
}

/* Clear what may hold data: by the pages' own record in a fresh run, by what is resident in a used one. */
void tci_large_clear(tci_run *run, size_t nbytes) {
  if (!run->zero_known) {
    tci_os_clear((void *)run->base, nbytes);
    return;
  }
  const uint8_t *dirty = tci_run_dirty_bytes(run);
  uintptr_t end = run->base + nbytes;
  for (size_t page = 0; page < run->npages;) {
    size_t last = page;
    while (last < run->npages && dirty[last] & TCI_PAGE_DATA) last++;
    uintptr_t from = run->start + (page << TCI_PAGE_SHIFT), to = run->start + (last << TCI_PAGE_SHIFT);
    from = from < run->base ? run->base : from;
    to = to > end ? end : to;
    if (to > from) memset((void *)from, 0, to - from);
    page = last + (last == page);
  }
}

void tci_large_hand_out(tci_cache *cache, tci_run *run, size_t nbytes, bool fresh) {
  tci_bin *bin = &cache->bins[run->bin];
  run->zero_known = 0;
  BUMP(bin->refills, fresh);
  BUMP(bin->balance, 1);
  STORE(run->request, nbytes);
  STORE(run->state, 1);
  tci_stats_in(cache, nbytes);
  BUMP(cache->large_in, run->capacity);
  BUMP(bin->allocations, 1);
}

static void take_back(tci_cache *cache, tci_run *run) { /* entered */
  STORE(run->state, 0);
  tci_stats_out(cache, run->request);
  BUMP(cache->large_out, run->capacity);
}

tci_run *tci_large_obtain(tci_cache *cache, size_t nbytes, size_t alignment, bool guarded, bool *fresh) {
  if (nbytes > (size_t)1 << 47) return NULL;
  bool plain = !guarded && alignment <= TC_ALIGNMENT && nbytes > TCI_SMALL_MAX;
  tci_run *run = plain ? cached_run(cache, nbytes) : NULL;
  *fresh = run == NULL;
  if (!run) run = fresh_run(cache->pool, nbytes, alignment, guarded);
  if (run) tci_run_set_bin(run, bin_of(plain ? nbytes : 0));
  return run;
}

void *tci_large_alloc(tc_pool *pool, size_t nbytes, size_t alignment, bool zeroed) {
  tci_cache *cache = tci_cache_get(pool);
  bool fresh;
  tci_run *run = cache ? tci_large_obtain(cache, nbytes, alignment, false, &fresh) : NULL;
  if (!run) return NULL;
  if (zeroed) tci_large_clear(run, nbytes);
  if (!tci_cache_enter_wait(cache)) {
    tci_run_release(pool, run);
    return NULL;
  }
  tci_large_hand_out(cache, run, nbytes, fresh);
  tci_cache_exit(cache->thread);
  if (fresh) tci_stats_publish_bin(cache, TCI_CLASSES);
  return (void *)run->base;
}

bool tci_large_free_slow(tci_cache *cache, tci_run *run) {
  tci_bin *bin = &cache->bins[run->bin];
  tc_pool *pool = cache->pool;
  bool keep = !run->guarded && tci_large_class(run->request | (TCI_SMALL_MAX + 1)) < TCI_LARGE_CLASSES && tci_cache_make_room(cache, run->bin);
  if (!keep && !tci_cache_enter_wait(cache)) return false;
  take_back(cache, run);
  if (keep) {
    *bin->top = (tci_entry){.block = (void *)run->base, .u.run = run};
    STORE(bin->top, bin->top + 1);
    tci_cache_exit(cache->thread);
    return true;
  }
  BUMP(bin->balance, -1);
  tci_cache_exit(cache->thread);
  tci_stats_publish_bin(cache, TCI_CLASSES);
  if (run->guarded)
    tci_held_push(pool, run);
  else
    tci_run_release(pool, run);
  tci_scavenger_wake(pool);
  return true;
}

bool tci_large_resize(tc_pool *pool, tci_run *run, size_t nbytes) {
  size_t npages = pages_of(run->base - run->start + nbytes);
  tci_cache *cache = tci_cache_get(pool);
  if (!cache || nbytes <= TCI_SMALL_MAX) return false;
  size_t requested = run->request, capacity = run->capacity;
  bool grown = npages > run->npages, shrunk = npages < run->npages - run->npages / 8;
  if (grown || shrunk) {
    tci_heap_lock(pool);
    bool done = grown ? tci_heap_extend(pool, run, npages) : (tci_heap_shrink(pool, run, npages), true);
    tci_heap_unlock(pool);
    if (!done) return false;
  }
  run->capacity = run->start + (run->npages << TCI_PAGE_SHIFT) - run->base;
  unsigned bin = bin_of(nbytes);
  BUMP(cache->bins[run->bin].balance, -1);
  BUMP(cache->bins[bin].balance, 1);
  tci_run_set_bin(run, bin);
  tci_stats_out(cache, requested); /* as if freed and allocated, without the counts */
  BUMP(cache->large_out, capacity);
  BUMP(cache->large_in, run->capacity);
  tci_stats_in(cache, nbytes);
  STORE(run->request, nbytes);
  return true;
}

bool tci_large_move(tci_run *to, tci_run *from, size_t nbytes) {
  size_t offset = from->base - from->start, page = tci_os_page_size();
  if (nbytes < MOVE_MIN || from->kind != RUN_LARGE || to->kind != RUN_LARGE || !to->pool->upstream.host_memory) return false;
  if ((from->start | to->start) & (page - 1)) return false;
  size_t moved = tci_round_up(offset + nbytes, page);
  size_t capacity = (to->npages << TCI_PAGE_SHIFT) - offset;
  tci_cache *cache = tci_cache_get(to->pool);
  if (capacity < to->request || moved > from->npages << TCI_PAGE_SHIFT || !cache) return false;
  tci_os_move_pages((char *)to->start, (char *)from->start, moved);
  to->base = to->start + offset;
  BUMP(cache->large_out, to->capacity);
  BUMP(cache->large_in, capacity);
  to->capacity = capacity;
  return true;
}
