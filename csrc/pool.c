/* pool.c - the entry points: pick the class, try the thread's cache, else refill; check, then push.
 *
 * A hit reads the thread's pointer, its cache, one bin and one state word, and writes plain stores only: 3 to 5 ns.
 */
#include "modes.h"
#include "streams.h"

/* The call site of an entry point. Left to itself gcc reads it before the fast path, at the cost of an instruction and a register. */
#if defined(__x86_64__)
static inline __attribute__((always_inline)) const void *caller_at(char *frame_end) {
  __asm__ volatile("" : "+r"(frame_end));
  return *(const void **)(void *)(frame_end - sizeof(void *));
}
#define CALLER caller_at(__builtin_dwarf_cfa()) /* of the function that this is inlined into */
#else
#define CALLER __builtin_return_address(0)
#endif

static inline void *pop(tci_cache *cache, tci_bin *bin, size_t nbytes) { /* entered, not empty */
  tci_entry *entry = bin->top - 1;
  STORE(bin->top, entry);
  void *block = entry->block;
  STORE(*entry->u.state, 1 + (uint32_t)nbytes);
  BUMP(bin->allocations, 1);
  tci_stats_in(cache, nbytes);
  return block;
}

static __attribute__((noinline)) void *alloc_slow(tc_pool *pool, uint32_t bin_offset, size_t nbytes) {
  if (pool->order) return tci_ordered_alloc(pool, nbytes, TC_DEVICE_ALIGNMENT, TCI_NO_STREAM);
  unsigned class = tci_bin_index(bin_offset);
  tci_cache *cache = tci_cache_get(pool);
  if (!cache || !tci_cache_refill(cache, class, nbytes)) return NULL;
  void *block = pop(cache, &cache->bins[class], nbytes);
  tci_cache_exit(cache->thread);
  if (LOAD(pool->watched)) tci_stats_watermark(pool);
  return block;
}

static inline __attribute__((always_inline)) void *alloc_class(tc_pool *pool, uint32_t bin_offset, size_t nbytes) {
  tci_thread *thread = tci_tls;
  tci_cache *cache = tci_cache_enter(thread, pool->index);
  if (likely(cache != NULL)) {
    tci_bin *bin = tci_bin_at(cache, bin_offset);
    if (likely(bin->top != bin->base)) {
      void *block = pop(cache, bin, nbytes);
      tci_cache_exit(thread);
      return block;
    }
  }
  if (!cache && pool->guard) return tci_guarded_alloc(pool, nbytes, CALLER);
  tci_cache_exit(thread);
  return alloc_slow(pool, bin_offset, nbytes);
}

static __attribute__((noinline)) void *alloc_large_slow(tc_pool *pool, size_t nbytes, const void *call) {
  if (pool->guard) return tci_guarded_alloc_any(pool, nbytes, TC_ALIGNMENT, false, call);
  if (pool->order) return tci_ordered_alloc(pool, nbytes, TC_DEVICE_ALIGNMENT, TCI_NO_STREAM);
  void *block = tci_large_alloc(pool, nbytes, TC_ALIGNMENT, false);
  if (LOAD(pool->watched)) tci_stats_watermark(pool);
  return block;
}

static __attribute__((noinline)) void *alloc_large(tc_pool *pool, size_t nbytes) {
  unsigned class = tci_large_class(nbytes);
  if (unlikely(class >= TCI_LARGE_CLASSES)) return alloc_large_slow(pool, nbytes, __builtin_return_address(0)); /* it is jumped to */
  tci_thread *thread = tci_tls;
  tci_cache *cache = tci_cache_enter(thread, pool->index);
  if (likely(cache != NULL)) {
    tci_bin *bin = tci_bin_at(cache, tci_bin_offset(TCI_CLASSES + class));
    if (likely(bin->top != bin->base && tci_large_fits(bin->top[-1].u.run, nbytes))) {
      tci_run *run = bin->top[-1].u.run;
      STORE(bin->top, bin->top - 1);
      tci_run_set_bin(run, TCI_CLASSES + class);
      STORE(run->request, nbytes);
      STORE(run->state, 1);
      tci_stats_in(cache, nbytes);
      BUMP(cache->large_in, run->capacity);
      BUMP(bin->allocations, 1);
      tci_cache_exit(thread);
      return (void *)run->base;
    }
  }
  tci_cache_exit(thread);
  return alloc_large_slow(pool, nbytes, __builtin_return_address(0)); /* it is jumped to */
}

void *tc_pool_alloc(tc_pool *pool, size_t nbytes) {
  if (unlikely(pool == NULL)) return NULL;
  if (likely(nbytes <= TCI_SMALL_MAX)) return alloc_class(pool, LOAD_ACQUIRE(pool->bin_of[(nbytes + 63) >> TCI_GRANULE_SHIFT]), nbytes);
  return alloc_large(pool, nbytes);
}

void *tc_pool_alloc_zeroed(tc_pool *pool, size_t nbytes) {
  if (!pool || !pool->upstream.host_memory) return NULL;
  if (pool->guard) return tci_guarded_alloc_any(pool, nbytes, TC_ALIGNMENT, true, CALLER);
  if (nbytes > TCI_SMALL_MAX && !pool->order) return tci_large_alloc(pool, nbytes, TC_ALIGNMENT, true);
  void *block = tc_pool_alloc(pool, nbytes);
  return block ? memset(block, 0, nbytes) : NULL;
}

void *tc_pool_alloc_aligned(tc_pool *pool, size_t nbytes, size_t alignment) {
  if (!pool || !alignment || alignment & (alignment - 1) || alignment > TCI_SLOT) return NULL;
  if (pool->order) return tci_ordered_alloc(pool, nbytes, alignment, TCI_NO_STREAM);
  if (pool->guard) return tci_guarded_alloc_any(pool, nbytes, alignment > TC_ALIGNMENT ? alignment : TC_ALIGNMENT, false, CALLER);
  if (alignment <= TC_ALIGNMENT) return tc_pool_alloc(pool, nbytes);
  size_t rounded = tci_round_up(nbytes ? nbytes : 1, alignment);
  if (rounded < nbytes) return NULL;
  if (alignment <= TCI_PAGE && rounded < TCI_COLOUR_MIN / 2) { /* slabs start on a page: a class of whole alignments will do */
    unsigned class = tci_class_of_size(rounded);
    while (pool->classes[class].block_size % alignment) class++;
    return alloc_class(pool, tci_bin_offset(class), nbytes);
  }
  return tci_large_alloc(pool, nbytes, alignment, false);
}

static inline void push(tci_bin *bin, void *block, void *state_or_run) { /* entered, with room */
  *bin->top = (tci_entry){.block = block, .u.state = state_or_run};
  STORE(bin->top, bin->top + 1);
}

static bool free_small_slow(tc_pool *pool, tci_cache *cache, tci_run *run, tci_entry entry) {
  bool keep = !LOAD(run->draining) && tci_cache_make_room(cache, run->bin);
  if (!keep && !tci_cache_enter_wait(cache)) return false;
  tci_stats_out(cache, (size_t)*entry.u.state - 1);
  STORE(*entry.u.state, 0);
  if (keep)
    push(&cache->bins[run->bin], entry.block, entry.u.state);
  else
    BUMP(cache->bins[run->bin].balance, -1);
  tci_cache_exit(cache->thread);
  if (!keep) tci_slab_give(pool, &entry, 1);
  return true;
}

static __attribute__((noinline)) tc_status free_slow(tc_pool *pool, tci_run *run, void *block, uint32_t *state) {
  if (pool->order) return tci_ordered_free(pool, block, false, 0, TC_STREAM_OF_BLOCK); /* its size was checked */
  tci_cache *cache = tci_cache_get(pool);
  if (!cache) return TC_OUT_OF_MEMORY; /* of the core's own records: nothing is changed */
  tci_entry entry = {.block = block, .u.state = state};
  if (run->kind == RUN_LARGE ? tci_large_free_slow(cache, run) : free_small_slow(pool, cache, run, entry)) {
    if (LOAD(pool->watched)) tci_stats_watermark(pool);
  } else {
    tci_free_closed(pool, cache, run, entry);
  }
  return TC_OK;
}

static __attribute__((noinline)) tc_status free_large(tc_pool *pool, tci_run *run, void *block, bool sized, size_t nbytes) {
  if (sized && nbytes != run->request) return tci_refuse(pool, (uintptr_t)block, nbytes, __builtin_return_address(0)); /* it is jumped to */
  tci_thread *thread = tci_tls;
  tci_cache *cache = tci_cache_enter(thread, pool->index);
  if (likely(cache != NULL)) {
    tci_bin *bin = tci_bin_at(cache, run->bin_offset);
    if (likely(bin->top != bin->end)) {
      STORE(run->state, 0);
      push(bin, block, run);
      tci_stats_out(cache, run->request);
      BUMP(cache->large_out, run->capacity);
      tci_cache_exit(thread);
      return TC_OK;
    }
  }
  if (!cache && pool->guard) return tci_guarded_free(pool, run, block, &run->state, __builtin_return_address(0));
  tci_cache_exit(thread);
  return free_slow(pool, run, block, &run->state);
}

static inline __attribute__((always_inline)) tc_status free_block(tc_pool *pool, tci_run *run, uintptr_t address, bool sized, size_t nbytes) {
  uint64_t word = tci_run_word(run, address - run->base);
  if (unlikely(word >= LOAD(run->nwords))) return tci_refuse(pool, address, nbytes, CALLER);
  uint32_t *state = &run->states[word], value = LOAD(*state), bin_offset = LOAD(run->bin_offset);
  if (unlikely(value == 0)) return tci_refuse(pool, address, nbytes, CALLER);
  if (unlikely(bin_offset >= tci_bin_offset(TCI_CLASSES))) return free_large(pool, run, (void *)address, sized, nbytes);
  size_t requested = (size_t)value - 1;
  if (sized && unlikely(nbytes != requested)) return tci_refuse(pool, address, nbytes, CALLER);
  tci_thread *thread = tci_tls;
  tci_cache *cache = tci_cache_enter(thread, pool->index);
  if (likely(cache != NULL)) {
    tci_bin *bin = tci_bin_at(cache, bin_offset);
    if (likely(bin->top != bin->end)) {
      STORE(*state, 0);
      push(bin, (void *)address, state);
      tci_stats_out(cache, requested);
      tci_cache_exit(thread);
      return TC_OK;
    }
  }
  if (!cache && pool->guard) return tci_guarded_free(pool, run, (void *)address, state, CALLER);
  tci_cache_exit(thread);
  return free_slow(pool, run, (void *)address, state);
}

static inline __attribute__((always_inline)) tc_status free_of_pool(tc_pool *pool, void *ptr, bool sized, size_t nbytes) {
  tci_run *run = tci_page_map_get((uintptr_t)ptr);
  if (unlikely(!run || run->pool != pool)) return ptr ? tci_refuse(pool, (uintptr_t)ptr, nbytes, CALLER) : TC_OK;
  return free_block(pool, run, (uintptr_t)ptr, sized, nbytes);
}

tc_status tc_pool_free_sized(tc_pool *pool, void *ptr, size_t nbytes) { return free_of_pool(pool, ptr, true, nbytes); }

tc_status tc_pool_free(tc_pool *pool, void *ptr) { return free_of_pool(pool, ptr, false, 0); }

tc_status tc_free(void *ptr) {
  tci_run *run = tci_page_map_get((uintptr_t)ptr);
  tc_pool *pool = likely(run != NULL) ? run->pool : NULL;
  if (unlikely(!pool)) return ptr ? TC_INVALID_FREE : TC_OK;
  return free_block(pool, run, (uintptr_t)ptr, false, 0);
}

static bool resize_in_place(tc_pool *pool, tci_run *run, uint32_t *state, size_t requested, size_t nbytes) {
  if (run->kind == RUN_LARGE) return tci_large_resize(pool, run, nbytes);
  tci_cache *cache = tci_cache_get(pool);
  if (!cache || nbytes > run->block_size || nbytes < run->block_size / 2) return false;
  STORE(*state, 1 + (uint32_t)nbytes);
  tci_stats_out(cache, requested);
  tci_stats_in(cache, nbytes);
  return true;
}

/* Always another block, so that a pointer to the old one is found. */
static void *realloc_guarded(tc_pool *pool, tci_run *run, uint32_t *state, const tc_block *old, size_t nbytes, const void *call) {
  void *fresh = tci_guarded_alloc_any(pool, nbytes, TC_ALIGNMENT, false, call);
  tc_fault fault;
  if (!fresh) return NULL;
  memcpy(fresh, old->start, old->requested < nbytes ? old->requested : nbytes);
  tci_cache_enter(tci_tls, pool->index);
  tc_status status = tci_guarded_free(pool, run, old->start, state, call);
  if (status != TC_OK && tc_last_fault(&fault)) tci_fault_deliver(&fault);
  return fresh;
}

void *tc_pool_realloc(tc_pool *pool, void *ptr, size_t nbytes) {
  if (!ptr) return tc_pool_alloc(pool, nbytes);
  tc_block block;
  tc_block_find(ptr, &block);
  if (!pool || block.pool != pool || !block.in_use || block.start != ptr || !pool->upstream.host_memory || pool->order) {
    tci_refuse(pool, (uintptr_t)ptr, 0, CALLER);
    return NULL;
  }
  tci_run *run = tci_page_map_get((uintptr_t)ptr);
  uint32_t *state = &run->states[tci_run_word(run, (uintptr_t)ptr - run->base)];
  if (pool->guard) return realloc_guarded(pool, run, state, &block, nbytes, CALLER);
  if (resize_in_place(pool, run, state, block.requested, nbytes)) return ptr;
  char *fresh = tc_pool_alloc(pool, nbytes);
  if (!fresh) return NULL;
  size_t kept = block.requested < nbytes ? block.requested : nbytes;
  tci_run *to = tci_page_map_get((uintptr_t)fresh);
  if (to->kind == RUN_LARGE && run->kind == RUN_LARGE && tci_large_move(to, run, kept))
    fresh = (char *)to->base;
  else
    memcpy(fresh, ptr, kept);
  tc_pool_free(pool, ptr);
  return fresh;
}
