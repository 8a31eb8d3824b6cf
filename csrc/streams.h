/* streams.h - the map of stream-ordered pools: the types, and the functions that cross files, grouped under the file that defines them.
 *
 * All of it lives under the heap lock of its pool, which is dropped while the upstream or a callback runs. Layers:
 *     ordered   entry points: find the stream, take or hand back its block, count
 *     supply    a block for a stream, whatever it takes
 *     event     what has passed
 *     bucket    who may have which free block
 *     stream    the streams there are
 *     slab, heap, segment as in host pools; no thread caches and no depots
 */
#ifndef TCI_STREAMS_H
#define TCI_STREAMS_H

#include "internal.h"

#define TCI_BUCKETS 56 /* size classes up to TCI_SINGLE_MIN; beyond, a block is a page run */
#define TCI_EVENTS 8   /* outstanding, per stream */

typedef struct tci_stream tci_stream;
typedef struct tci_order tci_order;

typedef struct tci_use { /* a stream that a block was recorded on */
  struct tci_use *next;
  tci_stream *stream;
  uint64_t generation; /* of the free */
} tci_use;

/* The record of a block. In use: `stream` is where it was allocated. Pending: where it was freed, and it lies in the list `waiting` of the
 * first of its uses. Free: of whom it is, in a bucket there; a block that everybody may have lies in its slab, and its stream is NULL. */
typedef struct tci_ticket {
  struct tci_ticket *newer, *older; /* of the list */
  tci_run *run;
  tci_stream *stream;
  uint64_t generation; /* in a list: it leaves when that generation has passed */
  uint64_t freed;      /* pending: generation of the free */
  tci_use *uses;
} tci_ticket;

/* Which block of its run. In a pool with a mode more of the block's record follows its ticket. */
static inline uint32_t tci_ticket_index(const tci_run *run, const tci_ticket *ticket) {
  size_t offset = (size_t)((const char *)ticket - run->records), size = run->pool->record_bytes;
  return (uint32_t)(likely(size == sizeof *ticket) ? offset / sizeof *ticket : offset / size);
}

typedef struct tci_tickets { /* by generation */
  tci_ticket *newest, *oldest;
} tci_tickets;

typedef struct tci_event {
  void *event;
  uint64_t generation;
} tci_event;

/* What is freed bears the pool's generation. An event on a stream ends a generation: when it has passed, everybody may have what this
 * stream freed in that generation or before. The generations of `events` ascend, passed < them < the pool's. */
struct tci_stream {
  uintptr_t handle;
  uint32_t thread; /* whose own stream it is; 0: every thread's */
  uint8_t forgotten;
  uint8_t asking; /* a thread is at the upstream with its first event */
  uint8_t robbed; /* another stream looked here for memory: what it misses next it may get from upstream */
  tci_stream *chained; /* in the table */
  uint64_t passed;
  uint64_t freed; /* generation of the newest free; 0: none */
  uint64_t last;  /* forgotten: what it frees bears this one, that of its last event */
  uint64_t users; /* tickets and uses that name it, and threads at work with it */
  uint32_t nevents;
  tci_event events[TCI_EVENTS];
  tci_tickets waiting;
  tci_tickets buckets[TCI_BUCKETS];
  tci_run_set runs;
};
static inline tci_stream *tci_stream_of_runs(tci_run_set *set) { return (tci_stream *)((char *)set - offsetof(tci_stream, runs)); }

struct tci_order {
  uint64_t generation;
  tci_stream **table; /* of 2^table_log2 chains */
  unsigned table_log2;
  size_t nstreams;  /* in the table */
  size_t sweep_at;  /* nstreams at which idle ones are looked for */
  tci_stream *last; /* the one asked for last; NULL or in the table */
  tci_stream *host; /* where the CPU reuses the memory: whose all blocks are, and nothing waits for it; else NULL */
  tci_run *idle;    /* slabs without a live block that are not wholly everybody's */
  tci_cache *ledger; /* counts as a thread's cache does */
  uint64_t pending_in, pending_out, pending_peak; /* bytes */
  uint64_t cached[TCI_BUCKETS]; /* blocks in buckets */
};

/* ---- stream.c: the streams that a pool knows; lock held by the caller -------------------------------------------------------------- */
tci_stream *tci_stream_find(tc_pool *pool, uintptr_t handle); /* NULL: not known */
tci_stream *tci_stream_get(tc_pool *pool, uintptr_t handle);  /* made where missing; NULL: no memory */
tci_stream *tci_stream_make_host(tc_pool *pool); /* in no table; NULL: no memory */
void tci_stream_forget(tc_pool *pool, tci_stream *stream);      /* out of the table: its handle means another one */
void tci_streams_sweep(tc_pool *pool); /* those that nothing names any more */
void tci_streams_free(tc_pool *pool);  /* the pool ends */
bool tci_stream_is_mine(const tci_stream *stream); /* may this thread say something about it upstream? */

/* ---- bucket.c: who may have which free block; lock held by the caller ------------------------------------------------------------- */
bool tci_stream_use(tci_ticket *ticket, tci_stream *stream); /* one use more; false: no memory */
void tci_stream_take_ticket(tc_pool *pool, tci_ticket *ticket); /* out of its bucket */
tci_ticket *tci_stream_slab_ticket(tc_pool *pool, unsigned class); /* of a block that everybody may have; NULL: none */
void tci_stream_free_block(tc_pool *pool, tci_ticket *ticket); /* was in use; its stream is where it is freed */
void tci_stream_settle(tc_pool *pool, tci_stream *stream); /* what has passed is everybody's; what waited for it, waits no more */
void tci_stream_settle_all(tc_pool *pool);
void tci_stream_gather(tc_pool *pool); /* slabs without a live block, and all of one stream or everybody's, become free runs */
bool tci_stream_adopt(tc_pool *pool, tci_stream *stream, size_t npages, unsigned first_bin); /* runs of everybody beside its own */
tci_run *tci_stream_slab(tc_pool *pool, unsigned class, tci_run *run); /* for whoever may have the run; NULL: no memory, it went back */
static inline uint64_t tci_stream_covered(const tci_stream *stream) { /* up to which generation events were recorded */
  return stream->nevents ? stream->events[stream->nevents - 1].generation : stream->passed;
}

/* ---- event.c: what has passed; lock held by the caller, and dropped while the upstream is asked --------------------------------------- */
bool tci_event_record(tc_pool *pool, tci_stream *stream); /* ends a generation; false: refused, or too many are outstanding */
void tci_event_poll(tc_pool *pool, tci_stream *stream);   /* what has passed is settled */
bool tci_event_ask(tc_pool *pool, tci_stream *stream);    /* the same, and an event where none would tell: was one recorded? */
void tci_event_ask_all(tc_pool *pool);
bool tci_event_hand_over(tc_pool *pool, tci_stream *from, tci_stream *to); /* `to` waits for all that `from` was given so far */
bool tci_event_synchronize(tc_pool *pool);                                 /* all streams have passed, and are settled */
void tci_event_pass_all(tc_pool *pool); /* as if they had */
void tci_event_forget(tc_pool *pool, tci_stream *stream);                  /* its last event */
void tci_events_drop(tc_pool *pool, bool all);                             /* those that passed without being asked, or all */

/* ---- supply.c: blocks of a stream-ordered pool; lock held by the caller --------------------------------------------------------------- */
typedef struct tci_need {
  size_t nbytes, alignment;
  size_t npages;      /* of a run, or of the class's slab */
  unsigned class;     /* < TCI_BUCKETS; else a page run */
  unsigned first_bin; /* in which kind of segment */
} tci_need;
tci_ticket *tci_supply_take(tc_pool *pool, tci_stream *stream, const tci_need *need); /* of what the stream may have now; NULL: none */
tci_ticket *tci_supply(tc_pool *pool, tci_stream *stream, const tci_need *need);      /* whatever it takes; the lock is dropped between */
bool tci_order_create(tc_pool *pool); /* if its upstream has streams; false: no memory */
void tci_order_free(tc_pool *pool);   /* the pool ends: no block is live, and its memory went back */
/* What is free becomes everybody's, when it has passed; `passed`: in any case, the memory goes back. The lock is taken inside. */
void tci_supply_wait_all(tc_pool *pool, bool passed);

/* ---- ordered.c: the entry points of stream-ordered pools ------------------------------------------------------------------------------- */
#define TCI_NO_STREAM TC_STREAM_OF_BLOCK /* for an allocation: plain tc_pool_alloc, the host's own in a pinned pool, else stream 0 */
void *tci_ordered_alloc(tc_pool *pool, size_t nbytes, size_t alignment, uintptr_t handle);
tc_status tci_ordered_free(tc_pool *pool, void *ptr, bool sized, size_t nbytes, uintptr_t handle);

#endif
