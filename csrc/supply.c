/* supply.c - a block of a stream-ordered pool for a stream: what it may have now, else whatever it takes.
 *
 * The order: the stream's own bucket, free blocks of slabs, the best fitting run of its own and of everybody's; slabs without a live
 * block; what other streams freed and have passed (whoever was robbed like that may grow a little first); a new segment; and where the
 * limit or the upstream refuses: what another stream freed, after this one was made to wait for it; all there is, after the device was
 * waited for; wholly free segments back and one of the very size; a run among large ones for a small block; the user's callback, as
 * often as it says that something was freed. Cost: 50 to 100 ns where a run is found, microseconds where events are asked.
 */
#include "streams.h"

#define CALLBACK_ROUNDS 64
#define LOOK 64          /* runs of one bin */
#define EVERY INT32_MAX  /* runs of one bin, and runs of any size are broken: when there is no more to be had */
#define BREAK_FREE ((size_t)16 << 20) /* free runs up to that size are broken for whatever is asked for */
#define BREAK_SHARE 6    /* others where no more than that part of the request is left */
#define POLLS 32         /* streams asked before going upstream */
#define RECORDS 8        /* events recorded before going upstream */
#define STEP_SHARE 128   /* segments are no smaller than that part of what is reserved */
#define STEP_MAX BREAK_FREE
#define EXCESS_SHARE 64  /* reserved beyond the peak of the live blocks, before free segments go */
#define EXCESS_FREE ((size_t)4 << 20)

/* ---- what the stream may have now ------------------------------------------------------------------------------------------------- */

static tci_ticket *block_take(tc_pool *pool, tci_stream *stream, unsigned class) {
  tci_ticket *ticket = stream->buckets[class].newest;
  if (likely(ticket != NULL)) {
    tci_stream_take_ticket(pool, ticket);
    return ticket;
  }
  ticket = tci_stream_slab_ticket(pool, class);
  if (!ticket) return NULL;
  ticket->stream = stream;
  stream->users++;
  return ticket;
}

/* How large a free run may be that is broken for so many pages: a small array does not pin a huge block. */
static size_t breakable(size_t npages, int look) {
  size_t whole = npages + npages / BREAK_SHARE;
  return look == EVERY ? SIZE_MAX : whole > BREAK_FREE >> TCI_PAGE_SHIFT ? whole : BREAK_FREE >> TCI_PAGE_SHIFT;
}

static tci_run *best_in(const tci_run_set *set, size_t npages, unsigned first_bin, int look) {
  return tci_heap_best(set, npages, first_bin, breakable(npages, look), look);
}

static tci_run *run_take(tc_pool *pool, tci_stream *stream, size_t npages, unsigned first_bin, int look) {
  tci_run *own = best_in(&stream->runs, npages, first_bin, look);
  tci_run *any = own && own->npages == npages ? NULL : best_in(&pool->heap.sets[0], npages, first_bin, look);
  tci_run *run = !any || (own && own->npages <= any->npages) ? own : any;
  return run ? tci_heap_take(pool, run, npages) : NULL;
}

static tci_ticket *run_build(tci_stream *stream, tci_run *run, const tci_need *need) {
  run->base = tci_round_up(run->start, need->alignment);
  run->capacity = run->start + (run->npages << TCI_PAGE_SHIFT) - run->base;
  run->states = &run->state;
  STORE(run->state, 0);
  run->set = NULL;
  run->block_size = 0;
  run->inverse = 1;
  run->shift = 0;
  tci_run_set_bin(run, TCI_CLASSES); /* of no class */
  tci_run_set_blocks(run, 1, 0);
  STORE(run->kind, RUN_LARGE);
  tci_page_map_set(run->base, run);
  tci_ticket *ticket = tci_run_record(run, 0);
  *ticket = (tci_ticket){.run = run, .stream = stream};
  stream->users++;
  return ticket;
}

static tci_ticket *take(tc_pool *pool, tci_stream *stream, const tci_need *need, unsigned first_bin, int look) {
  bool small = need->class < TCI_BUCKETS;
  tci_ticket *ticket = small ? block_take(pool, stream, need->class) : NULL;
  if (likely(ticket != NULL)) return ticket;
  tci_run *run = run_take(pool, stream, need->npages, first_bin, look);
  if (!run || !small) return run ? run_build(stream, run, need) : NULL;
  return tci_stream_slab(pool, need->class, run) ? block_take(pool, stream, need->class) : NULL;
}

tci_ticket *tci_supply_take(tc_pool *pool, tci_stream *stream, const tci_need *need) { return take(pool, stream, need, need->first_bin, LOOK); }

static tci_ticket *take_gathered(tc_pool *pool, tci_stream *stream, const tci_need *need, int look) {
  tci_stream_gather(pool);
  tci_ticket *ticket = take(pool, stream, need, need->first_bin, look);
  if (!ticket && tci_stream_adopt(pool, stream, need->npages, need->first_bin)) ticket = take(pool, stream, need, need->first_bin, look);
  return ticket;
}

/* ---- what others freed ------------------------------------------------------------------------------------------------------------ */

static bool holds(const tci_stream *stream, const tci_need *need) {
  return (need->class < TCI_BUCKETS && stream->buckets[need->class].oldest) || stream->waiting.oldest ||
         best_in(&stream->runs, need->npages, need->first_bin, 1);
}

/* Ask those who hold what is needed; record an event where none would tell, so that it is known the next time. */
static tci_ticket *take_passed(tc_pool *pool, tci_stream *stream, const tci_need *need) {
  int polls = 0, records = 0;
  bool any = false;
  for (tci_run_set *set = pool->heap.streams; set && polls < POLLS && records < RECORDS;) {
    tci_stream *other = tci_stream_of_runs(set);
    other->users++;
    if (holds(other, need)) {
      uint64_t before = other->passed;
      polls++;
      if (other == stream)
        tci_event_poll(pool, other);
      else if (tci_event_ask(pool, other))
        records++;
      if (other->passed > before && other != stream) other->robbed = 1;
      any |= other->passed > before;
    }
    set = set->next;
    other->users--;
  }
  return any ? take_gathered(pool, stream, need, LOOK) : NULL;
}

/* A run of another stream, cut out of its set and in nobody's hands while the lock is dropped. */
static bool run_hand_over(tc_pool *pool, tci_stream *other, tci_stream *stream, tci_run *run, size_t npages) {
  run = tci_heap_take(pool, run, npages);
  uint64_t generation = run->generation;
  bool done = tci_event_hand_over(pool, other, stream);
  if (done) {
    run->set = &stream->runs;
    generation = stream->freed = pool->order->generation;
  }
  run->generation = generation;
  tci_heap_give(pool, run, 0);
  return done;
}

static tci_ticket *block_hand_over(tc_pool *pool, tci_stream *other, tci_stream *stream, tci_ticket *ticket) {
  tci_stream_take_ticket(pool, ticket);
  if (!tci_event_hand_over(pool, other, stream)) {
    tci_stream_free_block(pool, ticket);
    return NULL;
  }
  ticket->stream = stream;
  stream->users++;
  other->users--;
  return ticket;
}

/* What one other stream freed, for this stream alone, which is made to wait for it. */
static tci_ticket *take_handed_over(tc_pool *pool, tci_stream *stream, const tci_need *need) {
  tci_ticket *ticket = NULL;
  if (pool->order->host || !tci_stream_is_mine(stream)) return NULL;
  for (tci_run_set *set = pool->heap.streams; set && !ticket;) {
    tci_stream *other = tci_stream_of_runs(set);
    other->users++;
    tci_ticket *block = other != stream && need->class < TCI_BUCKETS ? other->buckets[need->class].newest : NULL;
    tci_run *run = other == stream ? NULL : best_in(set, need->npages, need->first_bin, EVERY);
    if (block)
      ticket = block_hand_over(pool, other, stream, block);
    else if (run && run_hand_over(pool, other, stream, run, need->npages))
      ticket = take(pool, stream, need, need->first_bin, LOOK);
    set = set->next;
    other->users--;
  }
  return ticket;
}

/* ---- upstream --------------------------------------------------------------------------------------------------------------------- */

/* By how much nbytes more would take reserved above the peak of the live blocks and a little. */
static size_t excess_of(const tc_pool *pool, size_t nbytes) {
  size_t live = (size_t)LOAD(pool->allocated) + nbytes, peak = LOAD(pool->budget), reserved = LOAD(pool->reserved) + nbytes;
  size_t allowed = live > peak ? live : peak;
  allowed += allowed / EXCESS_SHARE + EXCESS_FREE;
  return reserved > allowed ? reserved - allowed : 0;
}

/* Everybody's free segments go before reserved rises far above that: a pool whose sizes change does not keep a segment of each. What a
 * stream is at work with stays: the upstream would wait for it. Lock held, and dropped between. */
static bool release_excess(tc_pool *pool, size_t nbytes) { /* false: there is still an excess */
  size_t excess = excess_of(pool, nbytes);
  if (!excess) return true;
  int records = 0;
  for (tci_run_set *set = pool->heap.streams; set && records < RECORDS;) {
    tci_stream *stream = tci_stream_of_runs(set);
    stream->users++;
    if (set->oldest && tci_event_ask(pool, stream)) records++;
    set = set->next;
    stream->users--;
  }
  tci_heap_unlock(pool);
  while ((excess = excess_of(pool, nbytes)) && tci_release_one(pool, excess)) continue;
  tci_heap_lock(pool);
  return !excess;
}

static size_t step_of(const tc_pool *pool, const tci_need *need) { /* bytes of the next segment */
  size_t whole = tci_round_up(need->npages << TCI_PAGE_SHIFT, TCI_SLOT);
  size_t step = need->first_bin ? 0 : LOAD(pool->reserved) / STEP_SHARE & ~(TCI_SLOT - 1);
  step = step < STEP_MAX ? step : STEP_MAX;
  return step > whole ? step : whole;
}

static bool segment_get(tc_pool *pool, const tci_need *need) { /* the lock is not held */
  size_t nbytes = need->npages << TCI_PAGE_SHIFT, wanted = step_of(pool, need);
  size_t whole = tci_round_up(nbytes, TCI_SLOT), tight = tci_round_up(nbytes, TCI_SEGMENT_UNIT);
  return tci_segment_add(pool, wanted, wanted, need->first_bin, false) ||
         (whole < wanted && tci_segment_add(pool, whole, whole, need->first_bin, false)) ||
         (tight < whole && tci_segment_add(pool, tight, tight, need->first_bin, false));
}

static tci_ticket *grow(tc_pool *pool, tci_stream *stream, const tci_need *need) {
  tci_ticket *ticket = NULL;
  ADD(pool->misses, 1);
  if (!release_excess(pool, step_of(pool, need)) && (ticket = take_gathered(pool, stream, need, EVERY))) return ticket;
  for (int round = 0; round < 8 && !ticket; round++) { /* another thread may take what this one brought */
    tci_heap_unlock(pool);
    bool grown = segment_get(pool, need);
    tci_heap_lock(pool);
    if (!grown) return NULL;
    ticket = take(pool, stream, need, need->first_bin, LOOK);
    if (!ticket && best_in(&pool->heap.sets[0], need->npages, need->first_bin, LOOK)) return NULL; /* no memory for a slab's header */
  }
  return ticket;
}

static tci_ticket *reclaim(tc_pool *pool, tci_stream *stream, const tci_need *need) {
  ADD(pool->retries, 1);
  tci_event_ask_all(pool);
  tci_ticket *ticket = take_gathered(pool, stream, need, EVERY);
  if (!ticket) ticket = take_handed_over(pool, stream, need);
  if (ticket) return ticket;
  tci_event_synchronize(pool);
  ticket = take_gathered(pool, stream, need, EVERY);
  if (ticket) return ticket;
  STORE(pool->reserve_floor, 0);
  tci_heap_unlock(pool);
  tci_release_whole(pool, SIZE_MAX, true);
  tci_heap_lock(pool);
  ticket = grow(pool, stream, need);
  return ticket || !need->first_bin ? ticket : take(pool, stream, need, 0, EVERY);
}

tci_ticket *tci_supply(tc_pool *pool, tci_stream *stream, const tci_need *need) {
  tci_ticket *ticket = take_gathered(pool, stream, need, LOOK);
  if (!ticket && stream->robbed && !excess_of(pool, step_of(pool, need))) { /* two streams do not rob each other again and again */
    stream->robbed = 0;
    ticket = grow(pool, stream, need);
  }
  if (!ticket) ticket = take_passed(pool, stream, need);
  if (!ticket) ticket = grow(pool, stream, need);
  if (!ticket) ticket = reclaim(pool, stream, need);
  for (int attempt = 0; !ticket && attempt < CALLBACK_ROUNDS; attempt++) {
    tc_out_of_memory_callback callback = LOAD_ACQUIRE(pool->on_out_of_memory);
    tci_heap_unlock(pool);
    bool again = callback && callback(pool, need->nbytes, attempt, pool->on_out_of_memory_context);
    tci_heap_lock(pool);
    if (!again) break;
    ticket = reclaim(pool, stream, need);
  }
  if (!ticket) ADD(pool->failures, 1);
  return ticket;
}

void tci_supply_wait_all(tc_pool *pool, bool passed) {
  tci_heap_lock(pool);
  if (!tci_event_synchronize(pool)) tci_event_ask_all(pool);
  if (passed) tci_event_pass_all(pool);
  tci_stream_gather(pool);
  tci_events_drop(pool, false);
  tci_streams_sweep(pool);
  tci_heap_unlock(pool);
}

bool tci_order_create(tc_pool *pool) {
  if (!pool->upstream.event_record) return true;
  tci_order *order = tci_meta_alloc(META_OTHER, sizeof *order);
  tci_cache *ledger = tci_meta_alloc(META_OTHER, sizeof *ledger);
  if (order && ledger) {
    pool->order = order;
    pool->record_bytes = sizeof(tci_ticket);
    pool->decay_ns = -1; /* nothing decays: whether memory may go is the streams' to say */
    order->generation = 1;
    order->ledger = pool->caches = ledger;
    ledger->pool = pool;
    ledger->high_ignored = INT64_MIN;
    if (!pool->upstream.host_memory || (order->host = tci_stream_make_host(pool))) return true;
  }
  pool->order = NULL;
  pool->caches = NULL;
  if (ledger) tci_meta_free(META_OTHER, ledger, sizeof *ledger);
  if (order) tci_meta_free(META_OTHER, order, sizeof *order);
  return false;
}

void tci_order_free(tc_pool *pool) {
  tci_heap_lock(pool);
  tci_events_drop(pool, true);
  tci_streams_free(pool);
  tci_heap_unlock(pool);
  tci_meta_free(META_OTHER, pool->order, sizeof *pool->order); /* the ledger is freed as a cache */
}
