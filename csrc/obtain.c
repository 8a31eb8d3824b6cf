/* obtain.c - fresh runs and blocks for a cache that is empty: the heap, then upstream, then all that can be reclaimed.
 *
 * The order: warm free pages; clean free pages while the budget allows; blocks that lie idle in caches and depots; a new segment.
 * When the limit or the upstream refuses: collect -> search -> give back what is wholly free -> try again -> the user's callback,
 * as often as it says that something was freed -> give up. No lock is held in between.
 */
#include "modes.h"

#define CALLBACK_ROUNDS 64
#define RECLAIM_SHARE 32 /* times its own time until the next: what it empties has to be filled again */
#define SMALL_EXCESS ((size_t)3 << 20)
#define SMALL_EXCESS_THREAD ((size_t)2 << 20) /* a block or two of every size to 64 KiB */
#define COLLECT_STEP ((size_t)1 << 19)
#define REFILL_FIRST ((size_t)4 << 10)
#define REFILL_BYTES ((size_t)64 << 10)
#define LINE_WORDS ((uint32_t)(TC_ALIGNMENT / sizeof(uint32_t)))

static size_t idle_bytes(tc_pool *pool) { /* in caches, depots and unused corners of slabs */
  int64_t idle = (int64_t)(LOAD(pool->used_pages) << TCI_PAGE_SHIFT) - LOAD(pool->allocated);
  return idle > 0 ? (size_t)idle : 0;
}

/* Emptying the caches costs a barrier on all threads: only when a good deal has become idle since the last time. */
static bool collect_if_worth_it(tc_pool *pool) {
  size_t idle = idle_bytes(pool), floor = LOAD(pool->collect_floor);
  if (idle < floor) STORE(pool->collect_floor, floor = idle);
  if (idle - floor < COLLECT_STEP + (LOAD(pool->budget) >> 5)) return false;
  tci_cache_collect(pool, false);
  STORE(pool->collect_floor, idle_bytes(pool));
  return true;
}

/* Warm pages first. `any`: whatever the budget says; else *excess is what would have to go for the pages that are not warm. */
static tci_run *take(tc_pool *pool, size_t npages, bool any, size_t *excess) {
  tci_run *run = NULL;
  size_t cold = npages;
  tci_heap_lock(pool);
  *excess = 0;
  for (int dirty = 1; dirty >= 0 && !run; dirty--) {
    run = tci_heap_find(pool, npages, dirty, &cold);
    if (!run || !cold || any) continue;
    *excess = tci_purge_excess(pool, cold);
    if (*excess) run = NULL;
  }
  if (run)
    tci_heap_take(pool, run, npages);
  else if (!*excess)
    *excess = tci_purge_excess(pool, npages);
  tci_heap_unlock(pool);
  return run;
}

/* Threads that work out of step have each its own peak: what one has freed the other would have to be robbed of. */
static size_t small_excess(const tc_pool *pool) {
  uint32_t threads = LOAD(pool->threads);
  return SMALL_EXCESS + threads * SMALL_EXCESS_THREAD + (threads > 1 ? LOAD(pool->budget) / 2 : 0);
}

/* Over the budget, warm memory is looked for in the caches, and older pages go back. While the excess is small that takes a fifth of the
 * time at most: a program that cycles through many sizes then keeps a block or two of each instead of paying again and again. */
static tci_run *take_within_budget(tc_pool *pool, size_t npages) {
  size_t excess = 0;
  tci_run *run = take(pool, npages, false, &excess);
  if (run || !excess) return run;
  uint64_t started = tci_os_now_ns();
  bool small = excess << TCI_PAGE_SHIFT < small_excess(pool);
  if (small && started < LOAD(pool->reclaim_due)) return take(pool, npages, true, &excess);
  if (collect_if_worth_it(pool)) run = take(pool, npages, false, &excess);
  if (!run) {
    tci_purge(pool, excess << TCI_PAGE_SHIFT, LOAD(pool->tick) + 1);
    run = take(pool, npages, true, &excess);
  }
  uint64_t ended = tci_os_now_ns();
  STORE(pool->reclaim_due, ended + RECLAIM_SHARE * (ended - started));
  return run;
}

/* Before a pool that holds more than it ever had live grows further: a smaller run will do for a slab, and idle blocks may lie between
 * two free runs. */
static tci_run *make_do(tc_pool *pool, size_t npages, size_t fewest) {
  size_t wanted = npages << TCI_PAGE_SHIFT, budget = tci_budget_pages(pool, npages) << TCI_PAGE_SHIFT, excess;
  if (LOAD(pool->reserved) + wanted < budget + budget / 8 + small_excess(pool)) return NULL;
  tci_run *run = collect_if_worth_it(pool) ? take(pool, npages, true, &excess) : NULL;
  for (npages /= 2; !run && npages >= fewest; npages /= 2) run = take(pool, npages, true, &excess);
  return run;
}

static tci_run *grow(tc_pool *pool, size_t npages, size_t fewest) {
  size_t excess;
  ADD(pool->misses, 1);
  for (int round = 0; round < 8; round++) { /* another thread may take what this one brought */
    if (!tci_segment_grow(pool, npages << TCI_PAGE_SHIFT, fewest << TCI_PAGE_SHIFT)) return NULL;
    tci_run *run = take(pool, npages, true, &excess);
    if (!run && fewest < npages) run = take(pool, fewest, true, &excess);
    if (run) return run;
  }
  return NULL;
}

static tci_run *reclaim_and_take(tc_pool *pool, size_t npages, size_t fewest) {
  size_t excess;
  ADD(pool->retries, 1);
  tci_cache_collect(pool, false);
  tci_run *run = take(pool, npages, true, &excess);
  if (!run) run = take(pool, fewest, true, &excess);
  if (run) return run;
  STORE(pool->reserve_floor, 0);
  tci_release_whole(pool, SIZE_MAX, true);
  return grow(pool, fewest, fewest);
}

tci_run *tci_obtain(tc_pool *pool, size_t npages, size_t fewest, size_t nbytes) {
  tci_cache *cache = tci_tls->caches[pool->index];
  if (LOAD(pool->closed)) return NULL;
  if (cache) tci_stats_publish(cache); /* the budget goes by what is live now */
  tci_scavenger_wake(pool);
  tci_run *run = take_within_budget(pool, npages);
  if (!run) run = make_do(pool, npages, fewest);
  if (!run) run = grow(pool, npages, fewest);
  if (!run) run = reclaim_and_take(pool, npages, fewest);
  for (int attempt = 0; !run && attempt < CALLBACK_ROUNDS; attempt++) {
    tc_out_of_memory_callback callback = LOAD_ACQUIRE(pool->on_out_of_memory);
    if (!callback || !callback(pool, nbytes - tci_padding(pool), attempt, pool->on_out_of_memory_context)) break;
    run = reclaim_and_take(pool, npages, fewest);
  }
  if (!run) ADD(pool->failures, 1);
  return run;
}

tci_magazine *tci_obtain_blocks(tc_pool *pool, unsigned class, size_t nbytes, uint64_t refills) {
  const tci_class *c = &pool->classes[class];
  size_t bytes = refills < 4 ? REFILL_FIRST << refills : REFILL_BYTES; /* more for a class that asks again */
  uint32_t wanted = (uint32_t)(bytes / c->block_size);
  uint32_t line = c->nblocks == 1 ? 1 : LINE_WORDS >> c->spread; /* blocks whose state words share one: a thread takes them all */
  wanted = (uint32_t)tci_round_up(wanted ? wanted : 1, line);
  if (wanted > c->magazine) wanted = c->magazine < line ? c->magazine : c->magazine / line * line;
  tci_magazine *magazine = tci_depot_exchange(pool, class, NULL, false);
  if (!magazine) return NULL;
  if (c->nblocks > 1) {
    tci_heap_lock(pool);
    magazine->count = tci_slab_take(pool, class, magazine->entries, wanted);
    tci_heap_unlock(pool);
    if (magazine->count) return magazine;
  }
  size_t fewest = c->nblocks == 1 ? c->npages : tci_round_up(c->block_size, TCI_PAGE) >> TCI_PAGE_SHIFT;
  tci_run *run = tci_obtain(pool, c->npages, fewest, nbytes);
  if (run && c->nblocks > 1) {
    magazine->count = tci_slab_create(pool, class, run, magazine->entries, wanted);
  } else if (run) {
    tci_single_create(pool, class, run, magazine->entries);
    magazine->count = 1;
  }
  if (magazine->count) return magazine;
  tci_depot_put(pool, magazine);
  return NULL;
}
