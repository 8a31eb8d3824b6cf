/* bucket.c - who may have which free block of a stream-ordered pool.
 *
 * What a stream frees is its own: a block of a slab goes into a bucket of that stream and size class, a page run into its set of runs,
 * each with the pool's generation. Once that generation has passed it is everybody's, and merges with what lies beside it. A block that
 * was recorded on further streams first waits in the lists of these, one after the other. All under the heap lock: 5 to 20 ns a block.
 */
#include "streams.h"

/* ---- lists of tickets ------------------------------------------------------------------------------------------------------------ */

static void list_insert(tci_tickets *list, tci_ticket *ticket) { /* the newest goes last, mostly at once */
  tci_ticket *older = list->newest;
  while (older && older->generation > ticket->generation) older = older->older;
  ticket->older = older;
  ticket->newer = older ? older->newer : list->oldest;
  *(older ? &older->newer : &list->oldest) = ticket;
  *(ticket->newer ? &ticket->newer->older : &list->newest) = ticket;
}

static void list_remove(tci_tickets *list, tci_ticket *ticket) {
  *(ticket->older ? &ticket->older->newer : &list->oldest) = ticket->newer;
  *(ticket->newer ? &ticket->newer->older : &list->newest) = ticket->older;
}

static uint32_t index_of(const tci_ticket *ticket) { return tci_ticket_index(ticket->run, ticket); }

static void idle_insert(tci_order *order, tci_run *slab) {
  slab->idle = 1;
  slab->newer = NULL;
  slab->older = order->idle;
  if (slab->older) slab->older->newer = slab;
  order->idle = slab;
}

static void idle_remove(tci_order *order, tci_run *slab) {
  if (slab->older) slab->older->newer = slab->newer;
  *(slab->newer ? &slab->newer->older : &order->idle) = slab->older;
  slab->idle = 0;
}

/* ---- blocks ---------------------------------------------------------------------------------------------------------------------- */

static void bucket_insert(tc_pool *pool, tci_ticket *ticket) {
  list_insert(&ticket->stream->buckets[ticket->run->bin], ticket);
  BUMP(pool->order->cached[ticket->run->bin], 1);
}

static void bucket_remove(tc_pool *pool, tci_ticket *ticket) {
  list_remove(&ticket->stream->buckets[ticket->run->bin], ticket);
  BUMP(pool->order->cached[ticket->run->bin], -(uint64_t)1);
}

void tci_stream_take_ticket(tc_pool *pool, tci_ticket *ticket) {
  bucket_remove(pool, ticket);
  if (ticket->run->live++ == 0) idle_remove(pool->order, ticket->run);
}

static tci_ticket *ticket_of(tci_run *slab, const tci_entry *entry) {
  tci_ticket *ticket = tci_run_record(slab, (uint64_t)(entry->u.state - slab->states));
  ticket->run = slab;
  return ticket;
}

tci_ticket *tci_stream_slab_ticket(tc_pool *pool, unsigned class) {
  tci_entry entry;
  if (!tci_slab_take(pool, class, &entry, 1)) return NULL;
  tci_run *slab = tci_page_map_get((uintptr_t)entry.block);
  if (slab->live++ == 0 && slab->idle) idle_remove(pool->order, slab);
  return ticket_of(slab, &entry);
}

/* Into its slab; it is in no list. */
static void block_release(tc_pool *pool, tci_ticket *ticket) {
  tci_run *slab = ticket->run;
  ticket->stream->users--;
  ticket->stream = NULL;
  if (slab->nfree + 1 == slab->nblocks && slab->idle) idle_remove(pool->order, slab);
  tci_slab_put(pool, slab, index_of(ticket));
}

static uint64_t generation_of(const tc_pool *pool, const tci_stream *stream) {
  return stream->forgotten ? stream->last : pool->order->generation;
}

static void run_give(tc_pool *pool, tci_run *run, tci_stream *stream, uint64_t generation) { /* NULL: everybody */
  tci_run_set_blocks(run, 0, 0);
  STORE(run->kind, RUN_BUSY);
  run->set = stream ? &stream->runs : NULL;
  run->generation = generation;
  tci_heap_give(pool, run, 0);
}

/* Nobody uses the block any more: it is its stream's, or everybody's where that has passed. */
static void block_keep(tc_pool *pool, tci_ticket *ticket, uint64_t generation) {
  tci_stream *stream = ticket->stream;
  tci_run *run = ticket->run;
  bool passed = generation <= stream->passed;
  ticket->generation = generation;
  if (run->kind == RUN_LARGE) {
    stream->users--;
    ticket->stream = NULL;
    run_give(pool, run, passed ? NULL : stream, passed ? 0 : generation);
    return;
  }
  if (--run->live == 0) idle_insert(pool->order, run);
  if (passed)
    block_release(pool, ticket);
  else
    bucket_insert(pool, ticket);
}

bool tci_stream_use(tci_ticket *ticket, tci_stream *stream) {
  for (tci_use *use = ticket->uses; use; use = use->next)
    if (use->stream == stream) return true;
  tci_use *use = tci_meta_alloc(META_OTHER, sizeof *use);
  if (!use) return false;
  *use = (tci_use){.next = ticket->uses, .stream = stream};
  ticket->uses = use;
  stream->users++;
  return true;
}

static void use_drop(tci_use **link) {
  tci_use *use = *link;
  *link = use->next;
  use->stream->users--;
  tci_meta_free(META_OTHER, use, sizeof *use);
}

/* It is freed on a stream that it was recorded on: the order there is enough. */
static void own_use_drop(tci_ticket *ticket) {
  tci_use **link = &ticket->uses;
  while (*link && (*link)->stream != ticket->stream) link = &(*link)->next;
  if (*link) use_drop(link);
}

static size_t capacity_of(const tci_run *run) { return run->kind == RUN_LARGE ? run->capacity : run->block_size; }

/* The first of its uses that has passed leaves; it waits for the next, or is free. */
static void block_wait(tc_pool *pool, tci_ticket *ticket) {
  for (tci_use *use; (use = ticket->uses);) {
    if (use->generation > use->stream->passed) {
      ticket->generation = use->generation;
      list_insert(&use->stream->waiting, ticket);
      return;
    }
    use_drop(&ticket->uses);
  }
  BUMP(pool->order->pending_out, capacity_of(ticket->run));
  block_keep(pool, ticket, ticket->freed);
}

void tci_stream_free_block(tc_pool *pool, tci_ticket *ticket) {
  tci_order *order = pool->order;
  ticket->stream->freed = ticket->freed = generation_of(pool, ticket->stream);
  if (unlikely(ticket->uses)) own_use_drop(ticket);
  if (likely(!ticket->uses)) {
    block_keep(pool, ticket, ticket->freed);
    return;
  }
  for (tci_use *use = ticket->uses; use; use = use->next) use->generation = use->stream->freed = generation_of(pool, use->stream);
  BUMP(order->pending_in, capacity_of(ticket->run));
  uint64_t pending = order->pending_in - order->pending_out;
  block_wait(pool, ticket);
  if (pending > order->pending_peak && order->pending_in - order->pending_out == pending) STORE(order->pending_peak, pending);
}

/* ---- what passes ----------------------------------------------------------------------------------------------------------------- */

void tci_stream_settle(tc_pool *pool, tci_stream *stream) {
  for (unsigned class = 0; class < TCI_BUCKETS; class++)
    for (tci_ticket *ticket; (ticket = stream->buckets[class].oldest) && ticket->generation <= stream->passed;) {
      bucket_remove(pool, ticket);
      block_release(pool, ticket);
    }
  for (tci_run *run; (run = stream->runs.oldest) && run->generation <= stream->passed;) {
    tci_heap_take_run(pool, run);
    run_give(pool, run, NULL, 0);
  }
  for (tci_ticket *ticket; (ticket = stream->waiting.oldest) && ticket->generation <= stream->passed;) {
    list_remove(&stream->waiting, ticket);
    block_wait(pool, ticket);
  }
}

void tci_stream_settle_all(tc_pool *pool) { /* twice: a block that waited for one may now lie with another */
  for (int round = 0; round < 2; round++)
    for (tci_run_set *set = pool->heap.streams; set; set = set->next) tci_stream_settle(pool, tci_stream_of_runs(set));
}

/* ---- slabs and runs of one stream ------------------------------------------------------------------------------------------------ */

/* Whose free blocks these are, and the newest generation among them; false: of several. */
static bool slab_owner(const tci_run *slab, tci_stream **owner, uint64_t *generation) {
  *owner = NULL;
  *generation = 0;
  for (uint32_t i = 0; i < slab->nblocks; i++) {
    const tci_ticket *ticket = tci_run_record(slab, i);
    if (!ticket->stream) continue;
    if (*owner && *owner != ticket->stream) return false;
    *owner = ticket->stream;
    if (ticket->generation > *generation) *generation = ticket->generation;
  }
  return *owner != NULL;
}

static void slab_dissolve(tc_pool *pool, tci_run *slab, tci_stream *owner, uint64_t generation) {
  uint32_t nblocks = slab->nblocks;
  slab->set = &owner->runs; /* where it goes with its last block */
  slab->generation = generation;
  for (uint32_t i = 0; i < nblocks; i++) {
    tci_ticket *ticket = tci_run_record(slab, i);
    if (!ticket->stream) continue;
    bucket_remove(pool, ticket);
    block_release(pool, ticket);
  }
}

void tci_stream_gather(tc_pool *pool) {
  for (tci_run *slab = pool->order->idle, *older; slab; slab = older) {
    tci_stream *owner;
    uint64_t generation;
    older = slab->older;
    if (slab_owner(slab, &owner, &generation)) slab_dissolve(pool, slab, owner, generation);
  }
}

bool tci_stream_adopt(tc_pool *pool, tci_stream *stream, size_t npages, unsigned first_bin) {
  for (tci_run *run = stream->runs.oldest; run; run = run->newer) {
    size_t together = run->npages;
    tci_run *beside[2] = {tci_heap_neighbour(run, true), tci_heap_neighbour(run, false)};
    for (int i = 0; i < 2; i++) {
      if (beside[i] && beside[i]->set) beside[i] = NULL;
      if (beside[i]) together += beside[i]->npages;
    }
    if (together < npages || together == run->npages || run->segment->first_bin != first_bin) continue;
    uint64_t generation = run->generation;
    for (int i = 0; i < 2; i++) {
      if (!beside[i]) continue;
      tci_heap_take_run(pool, beside[i]);
      beside[i]->set = &stream->runs;
      beside[i]->generation = generation;
      tci_heap_give(pool, beside[i], 0);
    }
    return true;
  }
  return false;
}

tci_run *tci_stream_slab(tc_pool *pool, unsigned class, tci_run *run) {
  tci_stream *owner = run->set ? tci_stream_of_runs(run->set) : NULL;
  uint64_t generation = run->generation;
  tci_run *slab = tci_slab_build(pool, class, run);
  if (!slab || !owner) return slab;
  for (uint32_t i = 0; i < slab->nblocks; i++) { /* its blocks are that stream's, as the run was */
    tci_entry entry;
    tci_slab_take_from(pool, slab, &entry, 1);
    tci_ticket *ticket = ticket_of(slab, &entry);
    ticket->stream = owner;
    ticket->generation = generation;
    owner->users++;
    bucket_insert(pool, ticket);
  }
  idle_insert(pool->order, slab);
  return slab;
}
