/* pool.c - the entry points: pick the class, try the thread's cache, else refill; check, then push.
 *
 * A hit reads the thread's pointer, its cache, one bin and one state word, and writes plain stores only: 3 to 5 ns.
 */
#include "internal.h"

static inline tci_cache *cache_of(tc_pool *pool) { return tci_tls->caches[pool->index]; }

static inline void *pop(tci_cache *cache, tci_bin *bin, size_t nbytes, size_t block_size) { /* entered, not empty */
  tci_entry *entry = bin->top - 1;
  STORE(bin->top, entry);
  void *block = entry->block;
  STORE(*entry->u.state, (uint16_t)(1 + block_size - nbytes));
  tci_stats_in(cache, nbytes, block_size);
  BUMP(bin->allocations, 1);
  tci_cache_exit(cache);
  return block;
}

static __attribute__((noinline)) void *alloc_slow(tc_pool *pool, unsigned class, size_t nbytes) {
  tci_cache *cache = tci_cache_get(pool);
  if (!cache || !tci_cache_refill(cache, class)) return NULL;
  return pop(cache, &cache->bins[class], nbytes, pool->classes[class].block_size);
}

static void *alloc_class(tc_pool *pool, unsigned class, size_t nbytes) {
  tci_cache *cache = cache_of(pool);
  void *block;
  if (unlikely(cache == NULL)) return alloc_slow(pool, class, nbytes);
  tci_bin *bin = &cache->bins[class];
  if (likely(tci_cache_enter(cache) && bin->top != bin->base)) {
    block = pop(cache, bin, nbytes, pool->classes[class].block_size);
  } else {
    tci_cache_exit(cache);
    block = alloc_slow(pool, class, nbytes);
  }
  if (unlikely((bin->allocations & 63) == 0)) tci_class_learn(pool, nbytes);
  if (unlikely(pool->watched)) tci_stats_watermark(pool);
  return block;
}

static inline tci_run *pop_large(tci_cache *cache, size_t nbytes) {
  unsigned class = tci_large_class(nbytes);
  if (unlikely(!cache || class >= TCI_LARGE_CLASSES)) return NULL;
  tci_bin *bin = &cache->bins[TCI_CLASSES + class];
  tci_run *run = NULL;
  if (likely(tci_cache_enter(cache) && bin->top != bin->base && tci_large_fits(bin->top[-1].u.run, nbytes))) {
    run = bin->top[-1].u.run;
    STORE(bin->top, bin->top - 1);
    run->bin = (uint16_t)(TCI_CLASSES + class);
    STORE(run->request, nbytes);
    STORE(run->state, 1);
    tci_stats_in(cache, nbytes, run->capacity);
    BUMP(bin->allocations, 1);
  }
  tci_cache_exit(cache);
  return run;
}

static void *alloc_large(tc_pool *pool, size_t nbytes) {
  tci_run *run = pop_large(cache_of(pool), nbytes);
  void *block = likely(run != NULL) ? (void *)run->base : tci_large_alloc(pool, nbytes, TC_ALIGNMENT, false);
  if (unlikely(pool->watched)) tci_stats_watermark(pool);
  return block;
}

void *tc_pool_alloc(tc_pool *pool, size_t nbytes) {
  if (likely(nbytes <= TCI_SMALL_MAX)) return alloc_class(pool, LOAD_ACQUIRE(pool->class_of[(nbytes + 63) >> TCI_GRANULE_SHIFT]), nbytes);
  return alloc_large(pool, nbytes);
}

void *tc_pool_alloc_zeroed(tc_pool *pool, size_t nbytes) {
  if (!pool->upstream.host_memory) return NULL;
  if (nbytes > TCI_SMALL_MAX) return tci_large_alloc(pool, nbytes, TC_ALIGNMENT, true);
  void *block = tc_pool_alloc(pool, nbytes);
  return block ? memset(block, 0, nbytes) : NULL;
}

void *tc_pool_alloc_aligned(tc_pool *pool, size_t nbytes, size_t alignment) {
  if (alignment & (alignment - 1) || alignment > TCI_SLOT) return NULL;
  if (alignment <= TC_ALIGNMENT) return tc_pool_alloc(pool, nbytes);
  size_t rounded = tci_round_up(nbytes ? nbytes : 1, alignment);
  if (rounded < nbytes) return NULL;
  if (alignment <= TCI_PAGE && rounded < TCI_COLOUR_MIN / 2) { /* slabs start on a page: a class of whole alignments will do */
    unsigned class = tci_class_of_size(rounded);
    while (pool->classes[class].block_size % alignment) class++;
    return alloc_class(pool, class, nbytes);
  }
  return tci_large_alloc(pool, nbytes, alignment, false);
}

static inline void push(tci_cache *cache, tci_bin *bin, tci_entry entry, size_t requested, size_t block_size) { /* entered, with room */
  *bin->top = entry;
  STORE(bin->top, bin->top + 1);
  tci_stats_out(cache, requested, block_size);
  BUMP(bin->deallocations, 1);
  tci_cache_exit(cache);
}

/* The pool was destroyed: the block goes to the heap at once, and the pool with its last block. */
static tc_status free_closed(tc_pool *pool, tci_cache *cache, tci_run *run, tci_entry entry, size_t requested) {
  pthread_mutex_lock(&pool->collect);
  tci_stats_out(cache, requested, run->block_size ? run->block_size : run->capacity);
  BUMP(cache->bins[run->bin].deallocations, 1);
  if (run->block_size)
    tci_slab_give(pool, &entry, 1);
  else
    tci_run_release(pool, run);
  bool last = tci_stats_live(pool) == 0;
  pthread_mutex_unlock(&pool->collect);
  if (last) tci_pool_finish(pool);
  return TC_OK;
}

static __attribute__((noinline)) tc_status free_slow(tc_pool *pool, tci_run *run, tci_entry entry, size_t requested) {
  tci_cache *cache = tci_cache_get(pool);
  if (!cache) return TC_OUT_OF_MEMORY; /* of the core's own records: the state word is untouched */
  uint32_t index = (uint32_t)((uintptr_t)entry.block - run->base) / (run->block_size ? run->block_size : 1);
  STORE(run->states[index], 0);
  if (unlikely(LOAD(pool->closed))) return free_closed(pool, cache, run, entry, requested);
  if (run->kind == RUN_LARGE) return tci_large_free_slow(cache, run);
  if (tci_cache_make_room(cache, run->bin)) {
    push(cache, &cache->bins[run->bin], entry, requested, run->block_size);
    return TC_OK;
  }
  tci_stats_out(cache, requested, run->block_size);
  BUMP(cache->bins[run->bin].deallocations, 1);
  tci_slab_give(pool, &entry, 1);
  return TC_OK;
}

#define ANY_SIZE SIZE_MAX

static inline tc_status free_block(tc_pool *pool, tci_run *run, uintptr_t address, size_t nbytes) {
  uint64_t offset = address - run->base, index = offset * run->reciprocal >> 32;
  if (unlikely(index >= LOAD(run->nblocks) || index * run->block_size != offset)) return tci_refuse(pool, address, nbytes);
  uint16_t *state = &run->states[index], value = LOAD(*state);
  if (unlikely(value == 0)) return tci_refuse(pool, address, nbytes);
  bool small = likely(run->block_size != 0);
  size_t requested = small ? run->block_size + 1 - (size_t)value : run->request;
  if (unlikely(nbytes != ANY_SIZE && nbytes != requested)) return tci_refuse(pool, address, nbytes);
  tci_entry entry = {.block = (void *)address, .u.state = state};
  if (!small) entry.u.run = run;
  tci_cache *cache = cache_of(pool);
  if (unlikely(cache == NULL)) return free_slow(pool, run, entry, requested);
  tci_bin *bin = &cache->bins[run->bin];
  if (unlikely(!tci_cache_enter(cache) || bin->top == bin->end)) {
    tci_cache_exit(cache);
    return free_slow(pool, run, entry, requested);
  }
  STORE(*state, 0);
  push(cache, bin, entry, requested, small ? run->block_size : run->capacity);
  if (unlikely(pool->watched)) tci_stats_watermark(pool);
  return TC_OK;
}

tc_status tc_pool_free_sized(tc_pool *pool, void *ptr, size_t nbytes) {
  if (unlikely(ptr == NULL)) return TC_OK;
  tci_run *run = tci_page_map_get((uintptr_t)ptr);
  if (unlikely(!run || run->pool != pool)) return tci_refuse(pool, (uintptr_t)ptr, nbytes);
  return free_block(pool, run, (uintptr_t)ptr, nbytes);
}

tc_status tc_pool_free(tc_pool *pool, void *ptr) { return tc_pool_free_sized(pool, ptr, ANY_SIZE); }

tc_status tc_free(void *ptr) {
  if (unlikely(ptr == NULL)) return TC_OK;
  tci_run *run = tci_page_map_get((uintptr_t)ptr);
  tc_pool *pool = run ? run->pool : NULL;
  if (unlikely(!pool)) return TC_INVALID_FREE;
  return free_block(pool, run, (uintptr_t)ptr, ANY_SIZE);
}

static bool resize_in_place(tc_pool *pool, tci_run *run, uint16_t *state, size_t requested, size_t nbytes) {
  if (run->kind == RUN_LARGE) return tci_large_resize(pool, run, nbytes);
  tci_cache *cache = tci_cache_get(pool);
  if (!cache || nbytes > run->block_size || nbytes < run->block_size / 2) return false;
  STORE(*state, (uint16_t)(1 + run->block_size - nbytes));
  tci_stats_out(cache, requested, run->block_size);
  tci_stats_in(cache, nbytes, run->block_size);
  return true;
}

void *tc_pool_realloc(tc_pool *pool, void *ptr, size_t nbytes) {
  if (!ptr) return tc_pool_alloc(pool, nbytes);
  tc_block block;
  tc_block_find(ptr, &block);
  if (block.pool != pool || !block.in_use || block.start != ptr || !pool->upstream.host_memory) {
    tci_refuse(pool, (uintptr_t)ptr, ANY_SIZE);
    return NULL;
  }
  tci_run *run = tci_page_map_get((uintptr_t)ptr);
  uint64_t index = ((uintptr_t)ptr - run->base) * (uint64_t)run->reciprocal >> 32;
  if (resize_in_place(pool, run, &run->states[index], block.requested, nbytes)) return ptr;
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
