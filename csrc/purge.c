/* purge.c - memory that goes back: dirty pages of free runs, and segments that are wholly free.
 *
 * Also the budget that keeps a pool's memory from outgrowing the program's: before fresh pages are touched, what is resident stays
 * within the peak of the live blocks plus 1/32 and 768 KiB; older free pages go first. In the steady state nothing grows, nothing goes.
 * A run is out of its bin while the system works on it, so no lock is held.
 */
#include "modes.h"

#define LOOK 32 /* runs */
#define SLACK_PAGES 192
#define HANDOVER_PAGES 4096 /* a thread */

size_t tci_budget_pages(const tc_pool *pool, size_t npages) {
  size_t live = ((size_t)LOAD(pool->allocated) >> TCI_PAGE_SHIFT) + npages, peak = LOAD(pool->budget) >> TCI_PAGE_SHIFT;
  size_t allowed = live > peak ? live : peak;
  allowed += allowed / 32 + SLACK_PAGES + (pool->guard ? 2 * pool->guard->quarantine >> TCI_PAGE_SHIFT : 0);
  uint32_t threads = LOAD(pool->threads);
  if (threads > 1 && LOAD(pool->tick) - LOAD(pool->handover_tick) <= 1) allowed += (size_t)threads * HANDOVER_PAGES;
  return allowed;
}

size_t tci_purge_excess(tc_pool *pool, size_t npages) {
  size_t resident = pool->heap.used + pool->heap.dirty + npages - (pool->heap.untouched >> TCI_PAGE_SHIFT);
  size_t allowed = tci_budget_pages(pool, npages);
  return resident > allowed ? resident - allowed : 0;
}

static bool is_whole(const tci_run *run) { return run->npages << TCI_PAGE_SHIFT == run->segment->nbytes; }

static bool may_release(tc_pool *pool, const tci_run *run) {
  return is_whole(run) && LOAD(pool->reserved) - run->segment->nbytes >= LOAD(pool->reserve_floor);
}

typedef struct span {
  uintptr_t start, end;
} span;

/* In whole pages of the system: with the clean ones beside it where the run has them, else without the piece at that end. */
static span span_of(const tc_pool *pool, const tci_run *run, size_t first, size_t last) {
  size_t page = pool->upstream.host_memory && tci_os_page_size() > TCI_PAGE ? tci_os_page_size() : TCI_PAGE;
  uintptr_t run_end = run->start + (run->npages << TCI_PAGE_SHIFT);
  uintptr_t low = run->start + (first << TCI_PAGE_SHIFT), high = run->start + (last << TCI_PAGE_SHIFT);
  span s = {low & ~(page - 1), tci_round_up(high, page)};
  if (s.start < run->start) s.start = tci_round_up(low, page);
  if (s.end > run_end) s.end = high & ~(page - 1);
  return s;
}

static void span_clean(tc_pool *pool, tci_run *run, span s) {
  uint8_t *flags = tci_run_dirty_bytes(run) + ((s.start - run->start) >> TCI_PAGE_SHIFT);
  size_t pages = (s.end - s.start) >> TCI_PAGE_SHIFT;
  for (size_t i = 0; i < pages; i++) run->dirty -= flags[i] != 0;
  tci_heap_lock(pool); /* whoever takes a run beside this one looks at the flags of a huge page that they share */
  memset(flags, 0, pages);
  tci_heap_unlock(pool);
}

/* Purge spans of dirty pages of a busy run, from its end, until nbytes went; the bytes. */
static size_t purge_spans(tc_pool *pool, tci_run *run, size_t nbytes, bool *refused) {
  const uint8_t *dirty = tci_run_dirty_bytes(run);
  size_t done = 0;
  for (size_t last = run->npages; last > 0 && done < nbytes;) {
    if (!dirty[last - 1]) {
      last--;
      continue;
    }
    size_t first = last;
    while (first > 0 && dirty[first - 1]) first--;
    span s = span_of(pool, run, first, last);
    if (s.end > s.start) {
      if (s.end - s.start > nbytes - done) { /* only as much as is asked for, in whole huge pages */
        uintptr_t later = (s.end - (nbytes - done)) & ~(TCI_SLOT - 1);
        s.start = later > s.start ? later : s.start;
      }
      *refused = tci_upstream_purge(pool, s.start, s.end - s.start) != 0;
      if (*refused) break;
      span_clean(pool, run, s);
      done += s.end - s.start;
    }
    last = first;
  }
  return done;
}

/* The oldest run; where only part of the memory has to go, rather one with whole huge pages to give: a part splits them. */
static tci_run *victim(tci_heap *heap, bool part, uint32_t oldest_kept) {
  tci_run *run = heap->sets[1].oldest;
  for (int i = 0; part && run && i < LOOK; run = run->newer, i++)
    if ((int32_t)(run->stamp - oldest_kept) < 0 && run->dirty >= 2 * (TCI_SLOT >> TCI_PAGE_SHIFT)) return run;
  run = heap->sets[1].oldest;
  return run && (int32_t)(run->stamp - oldest_kept) < 0 ? run : NULL;
}

size_t tci_purge(tc_pool *pool, size_t nbytes, uint32_t oldest_kept) {
  size_t done = 0;
  ADD(pool->purging, 1);
  while (done < nbytes) {
    tci_heap_lock(pool);
    tci_run *run = victim(&pool->heap, nbytes != SIZE_MAX, oldest_kept);
    if (run) tci_heap_take_run(pool, run);
    tci_heap_unlock(pool);
    if (!run) break;
    if (nbytes - done >= run->segment->nbytes && may_release(pool, run)) {
      done += run->dirty << TCI_PAGE_SHIFT;
      tci_segment_release(pool, run);
      continue;
    }
    bool refused = false;
    size_t went = purge_spans(pool, run, nbytes - done, &refused);
    done += went;
    run->no_whole_page = !went && !refused;
    tci_heap_lock(pool);
    tci_heap_give(pool, run, refused ? LOAD(pool->tick) : run->stamp);
    tci_heap_unlock(pool);
    if (refused) break;
  }
  __atomic_fetch_sub(&pool->purging, 1, __ATOMIC_RELEASE);
  return done;
}

/* A free run that is a whole segment, taken; NULL: none may go. */
static tci_run *take_whole(tc_pool *pool, size_t at_most, bool warm) {
  tci_run *found = NULL;
  tci_heap_lock(pool);
  for (tci_segment *segment = pool->heap.segments; segment && !found; segment = segment->next) {
    tci_run *run = tci_page_map_get(segment->base);
    bool goes = run && LOAD(run->kind) == RUN_FREE && (warm || (!run->dirty && !run->set));
    if (goes && segment->nbytes <= at_most && may_release(pool, run)) found = run;
  }
  if (found) tci_heap_take_run(pool, found);
  tci_heap_unlock(pool);
  return found;
}

static bool suits_better(const tci_run *run, const tci_run *best, size_t nbytes) {
  if (!best) return true;
  bool enough = run->segment->nbytes >= nbytes, best_enough = best->segment->nbytes >= nbytes;
  if (enough != best_enough) return enough;
  return enough ? run->npages < best->npages : run->npages > best->npages;
}

size_t tci_release_one(tc_pool *pool, size_t nbytes) {
  tci_run *best = NULL;
  ADD(pool->purging, 1);
  tci_heap_lock(pool);
  for (tci_segment *segment = pool->heap.segments; segment; segment = segment->next) {
    tci_run *run = tci_page_map_get(segment->base);
    bool goes = run && LOAD(run->kind) == RUN_FREE && !run->set && may_release(pool, run);
    if (goes && suits_better(run, best, nbytes)) best = run;
  }
  if (best) tci_heap_take_run(pool, best);
  tci_heap_unlock(pool);
  size_t done = best ? best->npages << TCI_PAGE_SHIFT : 0;
  if (best) tci_segment_release(pool, best);
  __atomic_fetch_sub(&pool->purging, 1, __ATOMIC_RELEASE);
  return done;
}

size_t tci_release_whole(tc_pool *pool, size_t nbytes, bool warm) {
  size_t done = 0;
  ADD(pool->purging, 1);
  for (tci_run *run; (run = take_whole(pool, nbytes - done, warm));) {
    done += run->npages << TCI_PAGE_SHIFT;
    tci_segment_release(pool, run);
  }
  __atomic_fetch_sub(&pool->purging, 1, __ATOMIC_RELEASE);
  return done;
}
