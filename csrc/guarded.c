/* guarded.c - allocation and deallocation in a pool with a mode: what pool.c hands on, with the mode's work around the same bins.
 *
 * Everything that tc_pool_check looks at (state, record, canary, poison) changes while the cache is entered. Hardened: a pair costs up
 * to twice a fast one; a block between guard pages some microseconds. Short ways read only what they must and leave the rest to long ones.
 */
#include "modes.h"

static inline bool is_taken(const tci_cache *cache) { return unlikely(__atomic_load_n(&cache->taken, __ATOMIC_SEQ_CST)); }

static inline tci_cache *cache_of(tc_pool *pool) {
  tci_cache *cache = tci_tls->caches[pool->index];
  return likely(cache != NULL) ? cache : tci_cache_get(pool);
}

/* Is it this block's turn to lie between guard pages? On average one in `every`, at no fixed distance. */
static bool guard_due(const tci_guard *guard, tci_cache *cache) {
  if (likely(cache->until_guarded > 1)) {
    cache->until_guarded--;
    return false;
  }
  if (!guard->lines && !guard->every) return false;
  if (!guard->every) {
    cache->until_guarded = UINT32_MAX;
    return false;
  }
  bool first = cache->until_guarded == 0 && guard->every > 1;
  cache->until_guarded = 1 + tci_random(cache) % (2 * guard->every - 1);
  return !first;
}

/* ---- large blocks, and blocks between guard pages ------------------------------------------------------------------------------- */

/* A free block's damage, found before it is used again. */
static void report_damage(const tci_run *run, tci_record *record, const void *block, tci_cache *cache, const void *call) {
  const tci_guard *guard = run->pool->guard;
  tc_fault fault = tci_fault_of(run, record, block, tci_poison_damage(guard, block, run->block_size ? run->block_size : run->capacity));
  fault.call = tci_mark_site(tci_mark(cache->thread, call));
  tci_fault_deliver(&fault);
}

static tci_run *run_obtain(tci_cache *cache, size_t nbytes, size_t alignment, bool guarded, bool *fresh, const void *call) {
  const tci_guard *guard = cache->pool->guard;
  for (;;) {
    tci_run *run = tci_large_obtain(cache, nbytes + TCI_CANARY, alignment, guarded, fresh);
    if (!run) return NULL;
    tci_record *record = tci_run_record(run, 0);
    if (!(record->freed & 1) || tci_poison_intact(guard, (void *)run->base, run->capacity)) return run;
    report_damage(run, record, (void *)run->base, cache, call);
    tci_run_release(cache->pool, run); /* whoever wrote to it may do so again */
  }
}

static void *run_alloc(tci_cache *cache, size_t nbytes, size_t alignment, bool zeroed, bool guarded, const void *call) {
  bool fresh;
  if (nbytes > (size_t)1 << 47) return NULL;
  tci_run *run = run_obtain(cache, nbytes, alignment, guarded, &fresh, call);
  if (!run || !tci_cache_enter_wait(cache)) {
    if (run) tci_run_release(cache->pool, run);
    return NULL;
  }
  tci_record *record = tci_run_record(run, 0);
  STORE(record->freed, 0); /* from here on nobody else looks at the content */
  tci_cache_exit(cache->thread);
  if (zeroed) tci_large_clear(run, nbytes);
  if (!tci_cache_enter_wait(cache)) {
    tci_run_release(cache->pool, run);
    return NULL;
  }
  record->allocated = tci_mark(cache->thread, call);
  if (cache->pool->guard->content) {
    size_t room = run->capacity - nbytes;
    memcpy((char *)run->base + nbytes, cache->pool->guard->canary, room < TCI_CANARY ? room : TCI_CANARY);
  }
  tci_large_hand_out(cache, run, nbytes, fresh);
  tci_cache_exit(cache->thread);
  if (fresh) tci_stats_publish_bin(cache, TCI_CLASSES);
  return (void *)run->base;
}

/* A large block is poisoned outside the cache, which may take long: `freed` is set before and keeps tc_pool_check from its canary. */
static bool run_free(tci_cache *cache, tci_run *run, const void *call) {
  tc_pool *pool = cache->pool;
  tci_record *record = tci_run_record(run, 0);
  if (!tci_cache_enter_wait(cache)) return false;
  record->requested = (uint32_t)run->request;
  STORE(record->freed, tci_mark(cache->thread, call));
  tci_cache_exit(cache->thread);
  if (pool->guard->content && pool->options.zero_on_free) memset((void *)run->base, 0, run->request);
  if (pool->guard->content && !run->guarded) {
    tci_poison(pool->guard, (void *)run->base, run->capacity);
    STORE(record->freed, record->freed | 1);
  }
  return tci_large_free_slow(cache, run);
}

/* ---- small blocks ------------------------------------------------------------------------------------------------------------------- */

/* The class for a padded request; TCI_CLASSES: none, it takes a run. */
static unsigned class_of(tc_pool *pool, size_t padded, size_t alignment) {
  if (likely(alignment <= TC_ALIGNMENT && padded <= TCI_SMALL_MAX))
    return tci_bin_index(LOAD_ACQUIRE(pool->bin_of[(padded + 63) >> TCI_GRANULE_SHIFT]));
  size_t rounded = tci_round_up(padded, alignment);
  if (alignment > TCI_PAGE || rounded >= TCI_COLOUR_MIN / 2) return TCI_CLASSES;
  unsigned class = tci_class_of_size(rounded);
  while (pool->classes[class].block_size % alignment) class++;
  return class;
}

static void *small_alloc(tci_cache *cache, unsigned class, size_t nbytes, const void *call) {
  tc_pool *pool = cache->pool;
  const tci_guard *guard = pool->guard;
  tci_bin *bin = &cache->bins[class];
  for (;;) {
    if (!tci_cache_enter_wait(cache)) return NULL;
    if (unlikely(bin->top == bin->base)) {
      tci_cache_exit(cache->thread);
      if (!tci_cache_refill(cache, class, nbytes + TCI_CANARY)) return NULL;
    }
    tci_entry entry = bin->top[-1];
    STORE(bin->top, bin->top - 1);
    tci_run *run = tci_page_map_get((uintptr_t)entry.block);
    tci_record *record = entry.u.record;
    bool damaged = record->freed & 1 && !tci_poison_intact(guard, entry.block, run->block_size);
    if (likely(!damaged)) {
      record->allocated = tci_mark(cache->thread, call);
      if (guard->content) tci_canary_write(guard, (char *)entry.block + nbytes);
      STORE(*tci_record_state(record), 1 + (uint32_t)nbytes);
      BUMP(bin->allocations, 1);
      tci_stats_in(cache, nbytes);
      tci_cache_exit(cache->thread);
      return entry.block;
    }
    BUMP(bin->balance, -1);
    tci_cache_exit(cache->thread);
    report_damage(run, record, entry.block, cache, call);
    record->freed &= ~(uint64_t)1; /* once */
    tci_slab_give(pool, &entry, 1); /* whoever wrote to it may do so again */
  }
}

void *tci_guarded_alloc_any(tc_pool *pool, size_t nbytes, size_t alignment, bool zeroed, const void *call) {
  const tci_guard *guard = pool->guard;
  tci_cache *cache = cache_of(pool);
  if (unlikely(!cache || nbytes > (size_t)1 << 47)) return NULL;
  unsigned class = class_of(pool, nbytes + TCI_CANARY, alignment);
  bool guarded = guard_due(guard, cache);
  void *block;
  if (unlikely(guarded || class == TCI_CLASSES)) {
    block = run_alloc(cache, nbytes, alignment, zeroed, guard->pages, call);
  } else {
    block = small_alloc(cache, class, nbytes, call);
    if (zeroed && block) memset(block, 0, nbytes);
  }
  if (unlikely(LOAD(pool->watched))) tci_stats_watermark(pool);
  return block;
}

/* The short way of hardened: an ordinary small block, with poison that is intact. All else takes the long way, which starts anew. */
__attribute__((aligned(64))) void *tci_guarded_alloc(tc_pool *pool, size_t nbytes, const void *call) {
  tci_thread *thread = tci_tls;
  tci_cache *cache = thread->caches[pool->index];
  if (unlikely(!cache || cache->until_guarded <= 1 || nbytes > TCI_SMALL_MAX - TCI_CANARY || thread->site || LOAD(pool->watched))) goto any;
  tci_bin *bin = tci_bin_at(cache, LOAD_ACQUIRE(pool->bin_of[(nbytes + TCI_CANARY + 63) >> TCI_GRANULE_SHIFT]));
  if (unlikely(is_taken(cache) || bin->top == bin->base)) goto any;
  tci_entry *entry = bin->top - 1;
  char *block = entry->block;
  if (unlikely(!tci_poison_head_intact(block))) goto any;
  tci_record *record = entry->u.record;
  STORE(bin->top, entry);
  record->allocated = (uint64_t)(uintptr_t)call << 16 | thread->mark;
  tci_canary_write(pool->guard, block + nbytes);
  STORE(*tci_record_state(record), 1 + (uint32_t)nbytes);
  BUMP(bin->allocations, 1);
  tci_stats_in(cache, nbytes);
  cache->until_guarded--;
  tci_cache_exit(thread);
  return block;
any:
  tci_cache_exit(thread);
  return tci_guarded_alloc_any(pool, nbytes, TC_ALIGNMENT, false, call);
}

/* ---- what comes back ---------------------------------------------------------------------------------------------------------------- */

/* Into the stack; entered, not entered afterwards. */
static void push(tci_cache *cache, unsigned index, tci_entry entry) {
  tci_bin *bin = &cache->bins[index];
  bool draining = LOAD(tci_page_map_get((uintptr_t)entry.block)->draining);
  if (draining || bin->top == bin->end) {
    tci_cache_exit(cache->thread);
    if (draining || !tci_cache_make_room(cache, index)) {
      tci_guard_inspect(cache->pool, &entry, 1, false);
      tci_slab_give(cache->pool, &entry, 1);
      return;
    }
  }
  *bin->top = entry;
  STORE(bin->top, bin->top + 1);
  BUMP(bin->balance, 1);
  tci_cache_exit(cache->thread);
}

/* A block that has come back: into the thread's line, and whoever waited at its place into the stack. Entered, not afterwards. */
static __attribute__((noinline)) tc_status retire(tci_cache *cache, unsigned index, tci_entry entry) {
  tci_line *line = cache->lines ? cache->lines->of[index] : NULL;
  BUMP(cache->bins[index].balance, -1);
  if (line) {
    tci_entry *place = tci_line_place(line), oldest = *place;
    line->turn += line->step;
    *place = entry;
    entry = oldest;
  }
  if (entry.block)
    push(cache, index, entry);
  else
    tci_cache_exit(cache->thread);
  if (unlikely(LOAD(cache->pool->watched))) tci_stats_watermark(cache->pool);
  return TC_OK;
}

static bool small_free(tci_cache *cache, tci_run *run, tci_entry entry, const void *call) {
  tc_pool *pool = cache->pool;
  const tci_guard *guard = pool->guard;
  tci_record *record = entry.u.record;
  uint32_t *state = tci_record_state(record), requested = *state - 1;
  tci_lines *lines = LOAD(cache->lines);
  if (guard->lines && !(lines && LOAD(lines->of[run->bin]))) tci_line_make(cache, run->bin); /* a collector may just take it away */
  if (!tci_cache_enter_wait(cache)) return false;
  if (guard->content) {
    if (pool->options.zero_on_free) memset(entry.block, 0, requested);
    tci_poison(guard, entry.block, run->block_size);
  }
  record->requested = requested;
  record->freed = tci_mark(cache->thread, call) | guard->content;
  STORE(*state, 0);
  tci_stats_out(cache, requested);
  retire(cache, run->bin, entry);
  return true;
}

static __attribute__((noinline)) tc_status report_overflow(tci_run *run, void *block, uint64_t index, tci_cache *cache, const void *call) {
  size_t requested = run->block_size ? (size_t)run->states[index] - 1 : run->request;
  tc_fault fault = tci_fault_of(run, tci_run_record(run, index), block, tci_canary_damage(run, block, requested));
  fault.call = tci_mark_site(tci_mark(cache->thread, call));
  return tci_fault_found(&fault);
}

static __attribute__((noinline)) tc_status free_any(tc_pool *pool, tci_run *run, void *block, uint64_t index, const void *call) {
  const tci_guard *guard = pool->guard;
  tci_cache *cache = cache_of(pool);
  bool large = run->kind == RUN_LARGE;
  tci_entry entry = {.block = block, .u.record = large ? NULL : tci_record_at(run, index)};
  tc_status status = TC_OK;
  if (!cache) return TC_OUT_OF_MEMORY; /* of the core's own records: nothing is changed */
  size_t requested = large ? run->request : (size_t)run->states[index] - 1;
  if (guard->content && tci_canary_damage(run, block, requested)) status = report_overflow(run, block, index, cache, call);
  if (!(large ? run_free(cache, run, call) : small_free(cache, run, entry, call))) tci_free_closed(pool, cache, run, entry);
  return status;
}

/* The short way of hardened: an ordinary small block with a whole canary. */
__attribute__((aligned(64))) tc_status tci_guarded_free(tc_pool *pool, tci_run *run, void *block, uint32_t *state, const void *call) {
  tci_thread *thread = tci_tls;
  tci_cache *cache = thread->caches[pool->index];
  uint32_t bin_offset = LOAD(run->bin_offset);
  if (unlikely(!cache || !cache->lines || bin_offset >= tci_bin_offset(TCI_CLASSES) || thread->site || LOAD(pool->watched) || is_taken(cache)))
    goto any;
  uint32_t requested = *state - 1;
  if (unlikely(!tci_canary_intact(pool->guard, (char *)block + requested))) goto any;
  tci_line *line = cache->lines->of[run->bin];
  if (unlikely(!line)) goto any;
  tci_record *record = (tci_record *)(void *)run->records + (state - run->states);
  tci_poison_head(block);
  record->requested = requested;
  record->freed = (uint64_t)(uintptr_t)call << 16 | thread->mark | 1;
  STORE(*state, 0);
  tci_stats_out(cache, requested);
  tci_bin *bin = tci_bin_at(cache, bin_offset);
  tci_entry *place = tci_line_place(line), *top = bin->top;
  void *oldest = place->block;
  if (unlikely(!oldest || top == bin->end)) return retire(cache, run->bin, (tci_entry){block, {.record = record}});
  line->turn += line->step;
  STORE(top->block, oldest);
  STORE(top->u.record, place->u.record);
  STORE(bin->top, top + 1);
  STORE(place->block, block);
  STORE(place->u.record, record);
  tci_cache_exit(thread);
  return TC_OK;
any:
  tci_cache_exit(thread);
  return free_any(pool, run, block, (uint64_t)(state - run->states), call);
}
