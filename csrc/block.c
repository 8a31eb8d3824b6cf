/* block.c - what is known of an address: which pool, which block, in use or not; and why a deallocation is refused. */
#include "modes.h"

static bool run_holds(const tci_run *run, uintptr_t address) {
  return run && LOAD(run->kind) >= RUN_SLAB && address >= run->start && address < run->start + (run->npages << TCI_PAGE_SHIFT);
}

/* The run whose pages hold the address, also where the page map knows its first page only. Cost: the runs before it in the segment. */
static tci_run *run_search(tci_segment *segment, uintptr_t address) {
  tci_run *run = tci_page_map_get(address);
  if (run_holds(run, address)) return run;
  uintptr_t page = segment->base;
  tci_heap_lock(segment->pool);
  for (; page < segment->base + segment->nbytes; page += run->npages << TCI_PAGE_SHIFT) {
    run = tci_page_map_get(page);
    if (!run || (address >= page && address < page + (run->npages << TCI_PAGE_SHIFT))) break;
  }
  tci_heap_unlock(segment->pool);
  return run_holds(run, address) ? run : NULL;
}

tc_pool *tc_pool_of(const void *ptr) {
  tci_segment *segment = tci_page_map_segment((uintptr_t)ptr);
  return segment && (uintptr_t)ptr - segment->base < segment->nbytes ? segment->pool : NULL;
}

/* As tc_block_find; returns the block's record, NULL: there is no block, or its pool keeps none. */
static const tci_record *find(const void *ptr, tc_block *block) {
  uintptr_t address = (uintptr_t)ptr;
  *block = (tc_block){.pool = tc_pool_of(ptr)};
  tci_run *run = block->pool ? run_search(tci_page_map_segment(address), address) : NULL;
  if (!run || address < run->base) return NULL;
  size_t size = run->block_size ? run->block_size : run->capacity, index = (address - run->base) / size;
  if (index >= run->nblocks) return NULL;
  uint32_t state = LOAD(*tci_run_state(run, index));
  block->start = (void *)(run->base + index * size);
  block->capacity = size;
  block->in_use = state != 0;
  if (state) block->requested = run->block_size ? state - 1 : LOAD(run->request);
  const tci_guard *guard = block->pool->guard;
  if (guard && guard->content && state) block->capacity = block->requested; /* behind it lies the canary */
  return tci_has_records(block->pool) ? tci_record_behind(block->pool, tci_run_record(run, index)) : NULL;
}

void tc_block_find(const void *ptr, tc_block *block) { find(ptr, block); }

static tc_status why(const tc_fault *fault) {
  const tc_block *block = &fault->block;
  if (block->pool != fault->pool || (uintptr_t)fault->address % TC_ALIGNMENT) return TC_INVALID_FREE;
  if (!block->start) return TC_DOUBLE_FREE; /* free memory of this pool */
  if (block->start != fault->address) return TC_INVALID_FREE;
  if (!block->in_use) return TC_DOUBLE_FREE;
  return fault->nbytes == block->requested ? TC_INVALID_FREE : TC_SIZE_MISMATCH;
}

tc_status tci_refuse(tc_pool *pool, uintptr_t address, size_t nbytes, const void *call) {
  tc_fault fault = {.pool = pool, .address = (void *)address, .nbytes = nbytes};
  if (!pool) return TC_INVALID_ARGUMENT;
  const tci_record *record = find(fault.address, &fault.block);
  ADD(pool->refused, 1);
  if (record) {
    fault.allocated = tci_mark_site(record->allocated);
    if (record->freed && !fault.block.in_use) fault.freed = tci_mark_site(record->freed);
    const tci_run *run = tci_page_map_get((uintptr_t)fault.block.start);
    if (!fault.block.in_use) fault.block.requested = run->block_size ? record->requested : LOAD(run->request);
  }
  fault.call = (tc_site){tci_tls->site ? tci_tls->site : call, tci_os_thread()};
  fault.status = why(&fault);
  return tci_fault_found(&fault);
}
