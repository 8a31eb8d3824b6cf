/* ordered.c - the entry points of stream-ordered pools: find the stream, take or hand back its block, count.
 *
 * One short lock, the heap's, around everything but the upstream: a hit pops or pushes a bucket of the stream, 30 to 60 ns a pair. Such
 * a pool has no thread caches: its slots stay empty, so that the calls of host pools come here by their slow path alone.
 */
#include "modes.h"
#include "streams.h"

#define EAGER 8 /* streams of one block for which an event is recorded at once */

/* ---- figures: one cache that no thread has, as a ledger; all capacities count as a large block's --------------------------------------- */

static unsigned ledger_bin(const tc_pool *pool, size_t nbytes) {
  if (nbytes <= TCI_SMALL_MAX) return tci_bin_index(pool->bin_of[(nbytes + 63) >> TCI_GRANULE_SHIFT]);
  unsigned class = tci_large_class(nbytes);
  return TCI_CLASSES + (class < TCI_LARGE_CLASSES ? class : TCI_LARGE_CLASSES - 1);
}

static void count_in(tc_pool *pool, size_t nbytes, size_t capacity) {
  tci_cache *ledger = pool->order->ledger;
  tci_bin *bin = &ledger->bins[ledger_bin(pool, nbytes)];
  BUMP(bin->allocations, 1);
  BUMP(bin->balance, 1);
  tci_stats_in(ledger, nbytes);
  BUMP(ledger->large_in, capacity);
  int64_t allocated = pool->allocated + (int64_t)capacity;
  STORE(pool->allocated, allocated);
  if ((uint64_t)allocated > LOAD(pool->allocated_peak)) STORE(pool->allocated_peak, (uint64_t)allocated);
  if ((uint64_t)allocated > LOAD(pool->budget)) STORE(pool->budget, (uint64_t)allocated);
}

static void count_out(tc_pool *pool, size_t nbytes, size_t capacity) {
  tci_cache *ledger = pool->order->ledger;
  BUMP(ledger->bins[ledger_bin(pool, nbytes)].balance, -1);
  tci_stats_out(ledger, nbytes);
  BUMP(ledger->large_out, capacity);
  STORE(pool->allocated, pool->allocated - (int64_t)capacity);
}

/* ---- allocate -------------------------------------------------------------------------------------------------------------------- */

static bool need_init(const tc_pool *pool, tci_need *need, size_t nbytes, size_t alignment) {
  alignment = alignment < TC_DEVICE_ALIGNMENT ? TC_DEVICE_ALIGNMENT : alignment;
  if (nbytes > (size_t)1 << 47) return false;
  size_t rounded = alignment > TC_DEVICE_ALIGNMENT ? tci_round_up(nbytes ? nbytes : 1, alignment) : nbytes;
  *need = (tci_need){.nbytes = nbytes, .alignment = alignment, .class = TCI_BUCKETS};
  if (rounded <= TCI_SINGLE_MIN && alignment <= TCI_PAGE) { /* slabs start on a page: a class of whole alignments will do */
    unsigned class = tci_bin_index(pool->bin_of[(rounded + 63) >> TCI_GRANULE_SHIFT]);
    while (pool->classes[class].block_size % alignment) class++;
    if (class < TCI_BUCKETS) {
      need->class = class;
      need->npages = pool->classes[class].npages;
      need->first_bin = TCI_SMALL_BINS;
      return true;
    }
  }
  size_t padding = alignment > TCI_PAGE ? alignment - TCI_PAGE : 0;
  need->npages = (tci_round_up(nbytes ? nbytes : 1, TCI_PAGE) + padding) >> TCI_PAGE_SHIFT;
  need->first_bin = need->npages << TCI_PAGE_SHIFT <= TCI_SMALL_MAX ? TCI_SMALL_BINS : 0;
  return true;
}

static void *hand_out(tc_pool *pool, const tci_ticket *ticket, size_t nbytes) {
  tci_run *run = ticket->run;
  if (run->kind == RUN_LARGE) {
    STORE(run->request, nbytes);
    STORE(run->state, 1);
    count_in(pool, nbytes, run->capacity);
    return (void *)run->base;
  }
  uint32_t index = tci_ticket_index(run, ticket);
  STORE(run->states[index], 1 + (uint32_t)nbytes);
  count_in(pool, nbytes, run->block_size);
  return (void *)(run->base + (uintptr_t)index * run->block_size);
}

static bool is_refusing(const tc_pool *pool) { return LOAD(pool->closed) || LOAD(pool->forked); }

/* Where the CPU reuses the memory, the stream that a block is for is one that it waits for. */
static bool use_from_start(tc_pool *pool, tci_ticket *ticket, uintptr_t handle) {
  if (!pool->order->host || handle == TCI_NO_STREAM) return true;
  tci_stream *stream = tci_stream_get(pool, handle);
  return stream && tci_stream_use(ticket, stream);
}

static tci_ticket *take_or_supply(tc_pool *pool, tci_stream *stream, const tci_need *need) {
  tci_ticket *ticket = tci_supply_take(pool, stream, need);
  if (likely(ticket != NULL)) return ticket;
  stream->users++;
  ticket = tci_supply(pool, stream, need);
  stream->users--;
  if (ticket) BUMP(pool->order->ledger->bins[ledger_bin(pool, need->nbytes)].refills, 1);
  return ticket;
}

void *tci_ordered_alloc(tc_pool *pool, size_t nbytes, size_t alignment, uintptr_t handle) {
  tci_need need;
  void *block = NULL;
  if (is_refusing(pool) || !need_init(pool, &need, nbytes, alignment)) return NULL;
  const tci_thread *thread = tci_has_records(pool) ? tci_thread_get() : NULL;
  tci_heap_lock(pool);
  tci_stream *stream = pool->order->host;
  if (!stream) stream = tci_stream_get(pool, handle == TCI_NO_STREAM ? 0 : handle);
  tci_ticket *ticket = stream ? take_or_supply(pool, stream, &need) : NULL;
  if (ticket && use_from_start(pool, ticket, handle)) {
    block = hand_out(pool, ticket, nbytes);
    if (thread) tci_record_behind(pool, ticket)->allocated = tci_mark(thread, __builtin_return_address(0)); /* it is jumped to */
  } else if (ticket) {
    tci_stream_free_block(pool, ticket);
  }
  tci_heap_unlock(pool);
  if (LOAD(pool->watched)) tci_stats_watermark(pool);
  return block;
}

void *tc_pool_alloc_on(tc_pool *pool, size_t nbytes, uintptr_t stream) {
  if (!pool || !pool->order || stream == TC_STREAM_OF_BLOCK) return NULL;
  return tci_ordered_alloc(pool, nbytes, TC_DEVICE_ALIGNMENT, stream);
}

void *tc_pool_alloc_aligned_on(tc_pool *pool, size_t nbytes, size_t alignment, uintptr_t stream) {
  if (!pool || !pool->order || stream == TC_STREAM_OF_BLOCK) return NULL;
  if (!alignment || alignment & (alignment - 1) || alignment > TCI_SLOT) return NULL;
  return tci_ordered_alloc(pool, nbytes, alignment, stream);
}

/* ---- free ------------------------------------------------------------------------------------------------------------------------ */

/* Of a block in use that starts there; NULL: there is none. */
static tci_ticket *ticket_at(const tc_pool *pool, const void *ptr, size_t *requested) {
  tci_run *run = tci_page_map_get((uintptr_t)ptr);
  if (!run || run->pool != pool) return NULL;
  uint64_t index = tci_run_word(run, (uintptr_t)ptr - run->base);
  if (index >= LOAD(run->nwords) || !run->states[index]) return NULL;
  *requested = run->kind == RUN_LARGE ? run->request : run->states[index] - 1;
  return tci_run_record(run, index);
}

/* Where it is freed: false where the core has no memory to note it, and nothing is changed. */
static bool free_stream(tc_pool *pool, tci_ticket *ticket, uintptr_t handle) {
  if (handle == TC_STREAM_OF_BLOCK) return true;
  tci_stream *stream = tci_stream_get(pool, handle);
  if (!stream) return false;
  if (pool->order->host) return tci_stream_use(ticket, stream);
  ticket->stream->users--;
  ticket->stream = stream;
  stream->users++;
  return true;
}

/* Streams that should say at once how far they are: those that a block waits for, and a thread's own, which no other thread can ask. */
static uint32_t eager_streams(const tc_pool *pool, const tci_ticket *ticket, tci_stream **streams) {
  uint32_t count = 0;
  for (tci_use *use = ticket->uses; use && count < EAGER; use = use->next) streams[count++] = use->stream;
  if (!count && ticket->stream->thread && pool->order->nstreams > 1) streams[count++] = ticket->stream;
  for (uint32_t i = 0; i < count; i++) streams[i]->users++;
  return count;
}

static void record_eagerly(tc_pool *pool, tci_stream **streams, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) {
    if (streams[i]->nevents == TCI_EVENTS) tci_event_poll(pool, streams[i]);
    if (streams[i]->freed > tci_stream_covered(streams[i])) tci_event_record(pool, streams[i]);
    streams[i]->users--;
  }
}

static void take_back(tc_pool *pool, tci_ticket *ticket, size_t requested) {
  tci_stream *streams[EAGER];
  tci_run *run = ticket->run;
  bool large = run->kind == RUN_LARGE;
  count_out(pool, requested, large ? run->capacity : run->block_size);
  STORE(run->states[large ? 0 : tci_ticket_index(run, ticket)], 0);
  uint32_t count = unlikely(ticket->uses || ticket->stream->thread) ? eager_streams(pool, ticket, streams) : 0;
  tci_stream_free_block(pool, ticket);
  if (count) record_eagerly(pool, streams, count);
}

tc_status tci_ordered_free(tc_pool *pool, void *ptr, bool sized, size_t nbytes, uintptr_t handle) {
  size_t requested = 0;
  if (LOAD(pool->forked)) return TC_FORKED;
  const tci_thread *thread = tci_has_records(pool) ? tci_thread_get() : NULL;
  tci_heap_lock(pool);
  tci_ticket *ticket = ticket_at(pool, ptr, &requested);
  if (unlikely(!ticket || (sized && requested != nbytes))) {
    tci_heap_unlock(pool);
    return tci_refuse(pool, (uintptr_t)ptr, nbytes, __builtin_return_address(0));
  }
  bool known = free_stream(pool, ticket, handle);
  if (known && thread) {
    tci_record *record = tci_record_behind(pool, ticket);
    record->freed = tci_mark(thread, __builtin_return_address(0));
    record->requested = (uint32_t)requested;
  }
  if (known) take_back(pool, ticket, requested);
  bool last = known && unlikely(LOAD(pool->closed)) && pool->allocated == 0;
  tci_heap_unlock(pool);
  if (last)
    tci_pool_finish(pool);
  else if (LOAD(pool->watched))
    tci_stats_watermark(pool);
  return known ? TC_OK : TC_OUT_OF_MEMORY;
}

tc_status tc_pool_free_on(tc_pool *pool, void *ptr, uintptr_t stream) {
  if (!pool || !pool->order) return TC_INVALID_ARGUMENT;
  return ptr ? tci_ordered_free(pool, ptr, false, 0, stream) : TC_OK;
}

tc_status tc_pool_free_sized_on(tc_pool *pool, void *ptr, size_t nbytes, uintptr_t stream) {
  if (!pool || !pool->order) return TC_INVALID_ARGUMENT;
  return ptr ? tci_ordered_free(pool, ptr, true, nbytes, stream) : TC_OK;
}

tc_status tc_pool_record_stream(tc_pool *pool, void *ptr, uintptr_t handle) {
  size_t requested;
  if (!pool || !pool->order || handle == TC_STREAM_OF_BLOCK) return TC_INVALID_ARGUMENT;
  if (LOAD(pool->forked)) return TC_FORKED;
  tci_heap_lock(pool);
  tci_ticket *ticket = ticket_at(pool, ptr, &requested);
  tci_stream *stream = ticket ? tci_stream_get(pool, handle) : NULL;
  bool done = stream && tci_stream_use(ticket, stream);
  tci_heap_unlock(pool);
  if (!ticket) return tci_refuse(pool, (uintptr_t)ptr, 0, __builtin_return_address(0));
  return done ? TC_OK : TC_OUT_OF_MEMORY;
}

/* ---- streams --------------------------------------------------------------------------------------------------------------------- */

size_t tc_pool_drain(tc_pool *pool) {
  if (!pool || !pool->order || LOAD(pool->forked)) return 0;
  tci_heap_lock(pool);
  uint64_t before = pool->order->pending_out;
  tci_event_ask_all(pool);
  size_t done = (size_t)(pool->order->pending_out - before);
  tci_heap_unlock(pool);
  return done;
}

size_t tc_pool_trim_stream(tc_pool *pool, uintptr_t handle) {
  if (!pool || !pool->order || LOAD(pool->forked)) return 0;
  tci_heap_lock(pool);
  tci_stream *stream = handle == TC_STREAM_OF_BLOCK ? NULL : tci_stream_find(pool, handle);
  if (stream) {
    stream->users++;
    tci_event_ask(pool, stream);
    tci_stream_gather(pool);
    stream->users--;
  }
  tci_heap_unlock(pool);
  return stream ? tci_release_whole(pool, SIZE_MAX, false) : 0;
}

tc_status tc_pool_forget_stream(tc_pool *pool, uintptr_t handle) {
  if (!pool || !pool->order || handle == TC_STREAM_OF_BLOCK) return TC_INVALID_ARGUMENT;
  if (LOAD(pool->forked)) return TC_FORKED;
  tci_heap_lock(pool);
  tci_stream *stream = tci_stream_find(pool, handle);
  if (stream) tci_event_forget(pool, stream);
  tci_heap_unlock(pool);
  return TC_OK;
}

int tc_pool_stream_ordered(const tc_pool *pool) { return pool && pool->order; }
