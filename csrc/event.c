/* event.c - asking the upstream how far its streams are. The heap lock is dropped while it answers.
 *
 * An event is recorded for all that a stream freed so far, when somebody else wants it: none on a hit. Cost on a device: about a
 * microsecond to record, as much to ask. A stream has at most TCI_EVENTS outstanding; what is freed after the last waits for the next.
 */
#include "streams.h"

#define DROP 32 /* events destroyed for one turn at the lock */

/* ---- one stream's events --------------------------------------------------------------------------------------------------------- */

static void event_insert(tci_stream *stream, void *event, uint64_t generation) { /* another thread's may be newer */
  uint32_t at = stream->nevents++;
  for (; at > 0 && stream->events[at - 1].generation > generation; at--) stream->events[at] = stream->events[at - 1];
  stream->events[at] = (tci_event){event, generation};
}

static void event_remove(tci_stream *stream, const void *event) {
  uint32_t at = 0;
  while (stream->events[at].event != event) at++;
  stream->nevents--;
  memmove(&stream->events[at], &stream->events[at + 1], (stream->nevents - at) * sizeof *stream->events);
}

static void event_destroy(tc_pool *pool, void *event) { pool->upstream.event_destroy(pool->upstream.context, event); }

/* An event on a pinned stream, entered unless there is no room; false: refused. */
static bool record(tc_pool *pool, tci_stream *stream, uint64_t generation) {
  stream->users++;
  tci_heap_unlock(pool);
  void *event = pool->upstream.event_record(pool->upstream.context, stream->handle);
  tci_heap_lock(pool);
  bool room = stream->nevents < TCI_EVENTS;
  if (event && room) event_insert(stream, event, generation);
  if (event && !room) { /* other threads filled it meanwhile */
    tci_heap_unlock(pool);
    event_destroy(pool, event);
    tci_heap_lock(pool);
  }
  stream->users--;
  return event && room;
}

bool tci_event_record(tc_pool *pool, tci_stream *stream) {
  if (stream->forgotten || stream->nevents == TCI_EVENTS || !tci_stream_is_mine(stream)) return false;
  return record(pool, stream, pool->order->generation++);
}

void tci_event_forget(tc_pool *pool, tci_stream *stream) {
  stream->users++;
  tci_stream_forget(pool, stream);
  stream->last = pool->order->generation++;
  while (stream->nevents == TCI_EVENTS) { /* the last one covers what this one did */
    void *event = stream->events[stream->asking].event;
    event_remove(stream, event);
    tci_heap_unlock(pool);
    event_destroy(pool, event);
    tci_heap_lock(pool);
  }
  record(pool, stream, stream->last);
  stream->users--;
}

/* Ask for the oldest event; true: it is gone. One that failed says nothing, so what it stood for waits for a later one. */
static bool poll_once(tc_pool *pool, tci_stream *stream) {
  if (!stream->nevents || stream->asking) return false;
  tci_event oldest = stream->events[0];
  stream->asking = 1;
  stream->users++;
  tci_heap_unlock(pool);
  int answer = oldest.generation <= LOAD(stream->passed) ? 1 : pool->upstream.event_query(pool->upstream.context, oldest.event);
  if (answer) event_destroy(pool, oldest.event);
  tci_heap_lock(pool);
  stream->users--;
  stream->asking = 0;
  if (!answer) return false;
  event_remove(stream, oldest.event);
  if (answer > 0 && oldest.generation > stream->passed) {
    STORE(stream->passed, oldest.generation);
    tci_stream_settle(pool, stream);
  }
  return true;
}

void tci_event_poll(tc_pool *pool, tci_stream *stream) {
  while (poll_once(pool, stream)) continue;
}

bool tci_event_ask(tc_pool *pool, tci_stream *stream) {
  tci_event_poll(pool, stream);
  if (stream->freed <= tci_stream_covered(stream) || !tci_event_record(pool, stream)) return false;
  tci_event_poll(pool, stream); /* an idle stream passes it at once */
  return true;
}

/* ---- all streams ----------------------------------------------------------------------------------------------------------------- */

void tci_event_ask_all(tc_pool *pool) {
  for (tci_run_set *set = pool->heap.streams; set;) {
    tci_stream *stream = tci_stream_of_runs(set);
    stream->users++; /* it stays where it is while the lock is dropped */
    tci_event_ask(pool, stream);
    set = set->next;
    stream->users--;
  }
}

bool tci_event_hand_over(tc_pool *pool, tci_stream *from, tci_stream *to) {
  const tc_upstream *upstream = &pool->upstream;
  if (!upstream->stream_wait || from->forgotten || !tci_stream_is_mine(from)) return false;
  from->users++, to->users++;
  tci_heap_unlock(pool);
  void *event = upstream->event_record(upstream->context, from->handle);
  bool done = event && upstream->stream_wait(upstream->context, to->handle, event) == 0;
  if (event) event_destroy(pool, event);
  tci_heap_lock(pool);
  from->users--, to->users--;
  return done;
}

static void pass_all(tc_pool *pool, uint64_t generation) {
  for (tci_run_set *set = pool->heap.streams; set; set = set->next) {
    tci_stream *stream = tci_stream_of_runs(set);
    if (stream->passed < generation) STORE(stream->passed, generation);
  }
  tci_stream_settle_all(pool);
}

void tci_event_pass_all(tc_pool *pool) { pass_all(pool, pool->order->generation++); }

bool tci_event_synchronize(tc_pool *pool) {
  const tc_upstream *upstream = &pool->upstream;
  if (!upstream->synchronize) return false;
  uint64_t generation = pool->order->generation++;
  tci_heap_unlock(pool);
  bool done = upstream->synchronize(upstream->context) == 0;
  tci_heap_lock(pool);
  if (done) pass_all(pool, generation);
  return done;
}

static uint32_t events_collect(tc_pool *pool, bool all, void **events) {
  uint32_t count = 0;
  for (tci_run_set *set = pool->heap.streams; set; set = set->next) {
    tci_stream *stream = tci_stream_of_runs(set);
    while (count < DROP && stream->nevents && !stream->asking && (all || stream->events[0].generation <= stream->passed)) {
      events[count++] = stream->events[0].event;
      event_remove(stream, stream->events[0].event);
    }
  }
  return count;
}

void tci_events_drop(tc_pool *pool, bool all) {
  void *events[DROP];
  for (uint32_t count; (count = events_collect(pool, all, events));) {
    tci_heap_unlock(pool);
    for (uint32_t i = 0; i < count; i++) event_destroy(pool, events[i]);
    tci_heap_lock(pool);
  }
}
