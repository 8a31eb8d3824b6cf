/* stream.c - the streams that a stream-ordered pool knows: a table by handle, under the heap lock.
 *
 * A stream is made when it is first named and goes when nothing names it any more, at the latest when there are twice as many. A look-up
 * is one compare for the stream asked for last, else a chain. Limit: some 7 KiB of records each.
 */
#include "streams.h"

#define TABLE_LOG2 6 /* chains to start with */
#define SPARSE 4     /* chains a stream: walking over another stream's record is a cache line more */
#define SWEEP_FIRST 256

static uint32_t thread_number(void) { /* of the calling thread: never that of another, and never 0 */
  static uint32_t numbers;
  static _Thread_local uint32_t number;
  if (!number) number = ADD(numbers, 1) + 1;
  return number;
}

static uint32_t thread_of(const tc_pool *pool, uintptr_t handle) {
  return handle && handle == pool->upstream.thread_stream ? thread_number() : 0;
}

bool tci_stream_is_mine(const tci_stream *stream) { return !stream->thread || stream->thread == thread_number(); }

static tci_stream **chain_of(const tci_order *order, uintptr_t handle, uint32_t thread) {
  return &order->table[((handle + thread) * UINT64_C(0x9E3779B97F4A7C15)) >> (64 - order->table_log2)];
}

static void table_insert(tci_order *order, tci_stream *stream) {
  tci_stream **chain = chain_of(order, stream->handle, stream->thread);
  stream->chained = *chain;
  *chain = stream;
}

static bool table_resize(tci_order *order, unsigned log2) { /* or stay as it is */
  tci_stream **old = order->table;
  size_t chains = old ? (size_t)1 << order->table_log2 : 0;
  tci_stream **table = tci_meta_alloc(META_OTHER, sizeof *table << log2);
  if (!table) return false;
  order->table = table;
  order->table_log2 = log2;
  for (size_t i = 0; i < chains; i++)
    for (tci_stream *stream; (stream = old[i]);) {
      old[i] = stream->chained;
      table_insert(order, stream);
    }
  if (old) tci_meta_free(META_OTHER, old, chains * sizeof *old);
  return true;
}

tci_stream *tci_stream_find(tc_pool *pool, uintptr_t handle) {
  tci_order *order = pool->order;
  uint32_t thread = thread_of(pool, handle);
  tci_stream *stream = order->last;
  if (likely(stream && stream->handle == handle && stream->thread == thread)) return stream;
  stream = order->table ? *chain_of(order, handle, thread) : NULL;
  while (stream && (stream->handle != handle || stream->thread != thread)) stream = stream->chained;
  if (stream) order->last = stream;
  return stream;
}

static tci_stream *stream_make(tc_pool *pool, uintptr_t handle) {
  tci_stream *stream = tci_meta_alloc(META_OTHER, sizeof *stream);
  if (!stream) return NULL;
  stream->handle = handle;
  stream->thread = thread_of(pool, handle);
  tci_run_set *set = &stream->runs;
  set->next = pool->heap.streams;
  if (set->next) set->next->previous = set;
  pool->heap.streams = set;
  return stream;
}

tci_stream *tci_stream_make_host(tc_pool *pool) {
  tci_stream *host = stream_make(pool, 0);
  if (host) host->forgotten = 1; /* passed = last: what it frees is everybody's at once */
  return host;
}

tci_stream *tci_stream_get(tc_pool *pool, uintptr_t handle) {
  tci_order *order = pool->order;
  tci_stream *stream = tci_stream_find(pool, handle);
  if (likely(stream != NULL)) return stream;
  if (order->nstreams >= order->sweep_at) {
    tci_streams_sweep(pool);
    order->sweep_at = order->nstreams < SWEEP_FIRST / 2 ? SWEEP_FIRST : 2 * order->nstreams;
  }
  if (!order->table && !table_resize(order, TABLE_LOG2)) return NULL;
  stream = stream_make(pool, handle);
  if (!stream) return NULL;
  table_insert(order, stream);
  if (++order->nstreams * SPARSE > (size_t)1 << order->table_log2) table_resize(order, order->table_log2 + 1);
  return order->last = stream;
}

void tci_stream_forget(tc_pool *pool, tci_stream *stream) {
  tci_order *order = pool->order;
  tci_stream **link = chain_of(order, stream->handle, stream->thread);
  while (*link != stream) link = &(*link)->chained;
  *link = stream->chained;
  if (order->last == stream) order->last = NULL;
  order->nstreams--;
  stream->forgotten = 1;
}

static void stream_free(tc_pool *pool, tci_stream *stream) {
  tci_run_set *set = &stream->runs;
  if (set->next) set->next->previous = set->previous;
  *(set->previous ? &set->previous->next : &pool->heap.streams) = set->next;
  tci_meta_free(META_OTHER, stream, sizeof *stream);
}

void tci_streams_sweep(tc_pool *pool) {
  for (tci_run_set *set = pool->heap.streams, *next; set; set = next) {
    tci_stream *stream = tci_stream_of_runs(set);
    next = set->next;
    if (stream->users || stream->nevents || set->oldest || stream == pool->order->host) continue;
    if (!stream->forgotten) tci_stream_forget(pool, stream);
    stream_free(pool, stream);
  }
}

void tci_streams_free(tc_pool *pool) {
  tci_order *order = pool->order;
  while (pool->heap.streams) stream_free(pool, tci_stream_of_runs(pool->heap.streams));
  if (order->table) tci_meta_free(META_OTHER, order->table, sizeof *order->table << order->table_log2);
}
