/* internal.h - the map of the core: the types, and the functions that cross files, grouped under the file that defines them.
 *
 * Layers, calls go down only (LAYERS holds the order that a test checks):
 *     pool      entry points: pick the class, try the thread's cache, else refill
 *     cache     per thread and pool: stacks of free blocks, no lock and no atomic read-modify-write on a hit
 *     depot     per pool: whole magazines of free blocks, one lock per size class
 *     heap      page runs inside segments: best fit, split, coalesce, purge
 *     page_map  address -> run, address -> segment
 *     meta, upstream, os
 * Locks: registry > collect > depot or heap > meta; a depot's and the heap's are never held together but before a fork.
 * None is held while an upstream or a callback runs.
 */
#ifndef TCI_INTERNAL_H
#define TCI_INTERNAL_H

#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#include "atomics.h"
#include "include/tensorcore.h"
#include "os.h"

#define TCI_PAGE_SHIFT 12
#define TCI_PAGE ((size_t)1 << TCI_PAGE_SHIFT) /* the heap's page; the system's may be larger */
#define TCI_SLOT_SHIFT 21
#define TCI_SLOT ((size_t)1 << TCI_SLOT_SHIFT) /* segments start on a multiple of it: one huge page */
#define TCI_SEGMENT_UNIT ((size_t)1 << 16)     /* the smallest step in a segment's size, used only close to the limit */

#define TCI_GRANULE_SHIFT 6
#define TCI_SMALL_MAX ((size_t)1 << 19) /* largest request that has a size class */
#define TCI_FIXED_CLASSES 88            /* 64 ... 512 by 64 B, then 8 per doubling up to TCI_SMALL_MAX */
#define TCI_LEARNED_CLASSES 64
#define TCI_CLASSES (TCI_FIXED_CLASSES + TCI_LEARNED_CLASSES + 1)
#define TCI_NO_CLASS (TCI_CLASSES - 1) /* its stacks have no room: where runs point whose blocks are not to be kept */
#define TCI_LARGE_CLASSES 176 /* 16 per doubling, TCI_SMALL_MAX ... 1 GiB; beyond: straight to the heap */
#define TCI_BINS (TCI_CLASSES + TCI_LARGE_CLASSES)
#define TCI_SINGLE_MIN ((size_t)32 << 10) /* from here a fixed class is one page run a block */
#define TCI_COLOUR_MIN ((size_t)192 << 10) /* from here blocks do not all start at the same page offset */
#define TCI_SMALL_BINS 576               /* bins of free runs below it; from here those of small segments */
#define TCI_RUN_BINS (TCI_SMALL_BINS + 128) /* a multiple of 64 */
#define TCI_FILLS 8 /* lists of partial slabs a class */
#define TCI_RECORD_MAX 96 /* bytes: the header of a slab of 1,024 blocks stays below what meta.c takes straight from the system */

typedef struct tci_run tci_run;
typedef struct tci_segment tci_segment;
typedef struct tci_cache tci_cache;
typedef struct tci_magazine tci_magazine;
typedef struct tci_thread tci_thread;
typedef struct tci_run_set tci_run_set;
typedef struct tci_guard tci_guard; /* modes.h */
typedef struct tci_record tci_record;
typedef struct tci_line tci_line;
typedef struct tci_lines tci_lines;

#include "run.h"

struct tci_segment {
  uintptr_t base;
  size_t nbytes;
  tc_pool *pool;
  tci_segment *previous, *next;
  size_t meta_bytes; /* of this header */
  size_t huge;       /* bytes from base on where the first touch of a huge page makes all of it resident */
  uintptr_t given;   /* what the upstream gave: nbytes from base on lie in it */
  size_t given_bytes;
  unsigned first_bin; /* of its free runs: 0, or TCI_SMALL_BINS */
  bool shared;        /* got ahead of use, for whatever will be asked for */
  uint8_t dirty[];   /* TCI_PAGE_ flags, a byte a page; written by the run's owner; none in a stream-ordered pool */
};
#define TCI_PAGE_DATA 1     /* may hold data */
#define TCI_PAGE_RESIDENT 2 /* was handed out, or lies in a huge page that was touched */

typedef struct tci_entry {
  void *block;
  union {
    uint32_t *state; /* small: where the block's state word is */
    tci_record *record; /* small, in a pool with a mode: modes.h */
    tci_run *run;    /* large */
  } u;
} tci_entry;

struct tci_magazine {
  tci_magazine *next;
  uint32_t count, capacity; /* entries; `count` is out of date while a bin has it loaded */
  uint32_t bin, unused;
  tci_entry entries[];
};

/* One size class in one thread's cache: base <= top <= end; [base, top) are free blocks. One cache line.
 * Blocks that came in stay or were handed out: depth + allocations - deallocations = balance, where depth counts both magazines; so
 * deallocations need no counter of their own. */
typedef struct tci_bin {
  tci_entry *top, *base, *end;
  tci_magazine *spare;  /* NULL, or full or empty: alternating at a magazine's edge costs no lock */
  uint64_t allocations;
  int64_t balance;      /* blocks received from the pool less blocks given back to it */
  uint64_t refills;     /* allocations that the stacks could not serve */
  uint64_t spare_count; /* blocks in `spare`: readers without a lock must not follow the pointer */
} tci_bin;

typedef struct tci_bin_notes { /* what the fast path never needs */
  int64_t published; /* live blocks, when last published */
  uint64_t seen;     /* activity at the last tick; written by the scavenger */
  uint64_t full_at;  /* allocations when the stacks were last full */
} tci_bin_notes;

/* Its thread enters by two plain accesses: `busy` of the thread is set, then the thread's slot is read. Whoever wants in from outside
 * sets `taken`, empties the slot, runs a barrier on all threads, and is in if `busy` is 0 and the slot still empty. */
struct tci_cache {
  tc_pool *pool;
  tci_thread *thread; /* NULL: of no living thread */
  tci_cache *next;    /* of the pool; never unlinked while the pool lives */
  tci_cache *next_free;
  int64_t requested_seen; /* current when published */
  int64_t high_ignored;   /* a high from before the peak was reset by another thread */
  int64_t large_published;
  uint32_t taken; /* 1: somebody else is inside, or the pool is closed: the slow path waits */
  uint32_t until_guarded; /* allocations until the next one between guard pages */
  tci_lines *lines; /* NULL: not made yet, or the pool has no quarantine */
  uint64_t random; /* state of a generator */
  tci_bin bins[TCI_BINS] __attribute__((aligned(64)));
  tci_bin_notes notes[TCI_BINS];
  /* Bytes. `requested_in` were handed out, ever; current = requested_high - (requested_mark - requested_in): a new high is where `in`
   * passes the mark, which every deallocation moves on. Two stores count, find the peak, and remember the total. */
  uint64_t requested_in, requested_mark;
  int64_t requested_high;
  uint64_t large_in, large_out; /* capacities of large blocks */
  tc_thread_stats own; /* the counters when its thread took it over; the high since the thread's peak was set, as last published */
};

/* A bin's offset in its cache is what tables and runs hold: the fast path adds it and is there. */
static inline uint32_t tci_bin_offset(unsigned bin) { return (uint32_t)(offsetof(tci_cache, bins) + bin * sizeof(tci_bin)); }
static inline void tci_run_set_bin(tci_run *run, unsigned bin) {
  run->bin = (uint16_t)bin;
  run->bin_offset = tci_bin_offset(bin);
}
static inline unsigned tci_bin_index(uint32_t offset) { return (unsigned)((offset - offsetof(tci_cache, bins)) / sizeof(tci_bin)); }

/* Through char *, and hidden from the optimizer: left to itself gcc computes the address anew for every field. */
static inline tci_bin *tci_bin_at(tci_cache *cache, uint32_t offset) {
  char *bin = (char *)cache + offset;
  __asm__("" : "+r"(bin));
  return (tci_bin *)(void *)bin;
}

/* A load that agrees with a store shortly before it in the last 12 bits of their addresses waits for it (4 KiB aliasing). Caches and
 * threads start on pages, so `slots` and `busy` keep away from the offsets of a cache's counters and from each other. */
struct tci_thread {
  tci_thread *previous, *next;
  char apart[1984 - 2 * sizeof(void *)];
  uint32_t busy;                   /* 1: inside one of its caches; written by the thread alone */
  uint32_t mark;    /* its number, of 15 bits, shifted by one: modes.h */
  const void *site; /* what a mode's records name instead of the return address; NULL: that */
  char also_apart[48];
  tci_cache *slots[TC_MAX_POOLS];  /* NULL: not made yet, taken, or the pool wants every call on the slow path */
  tci_cache *caches[TC_MAX_POOLS]; /* NULL: not made yet */
};

typedef struct tci_depot {
  pthread_mutex_t lock;
  tci_magazine *full, *empty;
  uint32_t count; /* full magazines */
  uint32_t low;   /* least of `count` since the last tick: that many were not needed */
  uint64_t blocks; /* in the full magazines */
} __attribute__((aligned(64))) tci_depot;

typedef struct tci_class {
  uint32_t block_size; /* bytes; 0: not in use */
  uint32_t magazine;   /* blocks a magazine holds */
  uint32_t npages;     /* of a slab or single run */
  uint32_t nblocks;    /* of a slab; 1: single runs */
  uint32_t shift;      /* for tci_run_word, as in tci_run where `spread` is 0 */
  uint32_t spread;     /* of a slab in a pool without records, as in tci_run */
  uint64_t inverse;
  tci_run *partial[TCI_FILLS]; /* slabs with free blocks, the fullest first; heap lock */
  uint64_t free_blocks; /* in slabs; written under the heap lock */
  uint64_t blocks;      /* in slabs; heap lock */
  uint64_t thin_at;     /* free_blocks from which sparse slabs start to drain; heap lock */
} tci_class;

/* Free runs by size, for those who may have them. */
struct tci_run_set {
  tci_run_set *next, *previous; /* the heap's list of streams' sets */
  tci_run *oldest, *newest; /* the heap's: runs with dirty pages; a stream's: all, by generation */
  uint64_t filled[TCI_RUN_BINS / 64]; /* which bins have runs */
  tci_run *bins[TCI_RUN_BINS];
};

/* used + free = sum over segments; 0 <= dirty <= free. In pages; heap lock. */
typedef struct tci_heap {
  pthread_mutex_t lock;
  tci_segment *segments;
  size_t used, free, dirty;
  size_t bytes;     /* of all segments */
  size_t untouched; /* bytes of slabs that were never handed out: used, but not resident */
  tci_run_set sets[2];   /* of everybody: [0]: runs without a dirty page, [1]: with */
  tci_run_set *streams;  /* what only one stream may have; stream-ordered pools */
} tci_heap;

typedef struct tci_learner {
  pthread_mutex_t lock;
  uint32_t granules[256]; /* which size, in 64 B; direct-mapped */
  uint64_t weights[256];  /* bytes that requests of it brought into caches */
  uint64_t seen;    /* bytes that all requests that fit badly brought */
  uint32_t classes; /* learned so far */
} tci_learner;

struct tc_pool {
  uint32_t index; /* in tci_thread.caches */
  uint32_t watched; /* 1: every call compares with the watermark */
  uint16_t bin_of[(TCI_SMALL_MAX >> TCI_GRANULE_SHIFT) + 1]; /* tci_bin_offset of the class, by 64 B granules; learning rewrites entries */
  tci_class classes[TCI_CLASSES];
  tc_upstream upstream;
  const tc_upstream *upstream_given;
  tc_pool_options options;
  char name[64];
  int64_t decay_ns; /* < 0: never */
  uint32_t record_bytes; /* of a block's record: a multiple of 8, at most TCI_RECORD_MAX, fixed before the first segment; 0: none */
  tci_guard *guard; /* NULL: mode fast */
  uint32_t closed;
  uint32_t forked;  /* stream-ordered, in a forked child */
  struct tci_order *order; /* stream-ordered: see streams.h; else NULL */
  uint32_t pins;    /* the scavenger works in it */
  uint32_t trimming; /* calls of tc_pool_trim under way: the scavenger leaves the runs to them */
  uint32_t purging;  /* calls of tci_purge and tci_release_whole under way: runs they hold are in no bin */
  uint32_t tick;     /* advances decay / TCI_TICKS apart while the scavenger runs */
  uint32_t handover_tick; /* when a thread last freed a magazine of blocks without allocating */
  uint64_t tick_due; /* ns; scavenger */
  uint32_t colour;   /* cycles */
  size_t reserve_floor; /* bytes that decay does not release */
  size_t collect_floor; /* bytes: idle after the last collection */
  uint64_t reclaim_due; /* ns: a small excess waits until then, see obtain.c */
  tc_out_of_memory_callback on_out_of_memory;
  void *on_out_of_memory_context;
  tc_watermark_callback on_watermark;
  void *watermark_context;
  double watermark;
  uint32_t above_watermark;
  pthread_mutex_t collect; /* one collection at a time; caches are taken under it */
  tci_cache *caches, *free_caches; /* collect; `caches` is only pushed to, so readers need no lock */
  uint32_t threads; /* with a cache; written under collect */
  /* published by the caches: bytes */
  int64_t requested, allocated;
  uint64_t requested_peak, allocated_peak, cached_peak;
  uint64_t budget; /* largest `allocated` ever; reset_peak leaves it */
  uint64_t reserved, reserved_peak, reserved_in, reserved_out;
  uint64_t misses, upstream_calls, upstream_ns, purged_bytes;
  uint64_t retries, failures, refused;
  size_t used_pages, dirty_pages, free_pages, largest_free; /* the heap's, copied for readers without the lock */
  size_t pages_seen; /* used and dirty ones, when pressure.c last looked */
  tci_learner learner;
  tci_heap heap;
  tci_depot depots[TCI_BINS];
};

#define TCI_TICKS 8 /* per decay */

extern _Thread_local tci_thread *tci_tls __attribute__((tls_model("initial-exec")));

/* ---- meta.c: memory for all of the above, never part of a segment -------------------------------------------------------------- */
typedef enum tci_meta_kind { META_RUN = 0, META_OTHER = 1, META_KINDS = 2 } tci_meta_kind; /* run headers are only reused as run headers */
void *tci_meta_alloc(tci_meta_kind kind, size_t nbytes); /* zeroed, 64-byte aligned; NULL on failure */
void tci_meta_free(tci_meta_kind kind, void *address, size_t nbytes);
size_t tci_meta_bytes(void);
void tci_meta_lock(void), tci_meta_unlock(void); /* around a fork */

#include "addresses.h" /* page_map.c */

/* ---- size_class.c ---------------------------------------------------------------------------------------------------------------- */
unsigned tci_class_of_size(size_t nbytes); /* the fixed class; nbytes <= TCI_SMALL_MAX */
void tci_classes_init(tc_pool *pool);
void tci_class_learn(tc_pool *pool, size_t nbytes, size_t weight); /* a request that brought `weight` bytes into a cache */
static inline unsigned tci_large_class(size_t nbytes) { /* nbytes > TCI_SMALL_MAX; >= TCI_LARGE_CLASSES: none */
  unsigned log2 = 63 - (unsigned)__builtin_clzll(nbytes);
  return (log2 - 19) * 16 + (unsigned)(nbytes >> (log2 - 4) & 15);
}
static inline uint32_t tci_large_magazine(size_t nbytes) { /* blocks of this size that one thread keeps */
  size_t count = ((size_t)64 << 20) / nbytes;
  return count < 2 ? 2 : count > 63 ? 63 : (uint32_t)count;
}

/* ---- segment.c: what comes from upstream and goes back --------------------------------------------------------------------------- */
bool tci_segment_add(tc_pool *pool, size_t nbytes, size_t filled, unsigned first_bin, bool shared); /* a multiple of TCI_SEGMENT_UNIT */
bool tci_segment_grow(tc_pool *pool, size_t nbytes, size_t at_least); /* a segment for a run of at_least bytes, better nbytes */
void tci_segment_release(tc_pool *pool, tci_run *whole); /* a RUN_BUSY run that is its whole segment */
int tci_upstream_purge(tc_pool *pool, uintptr_t address, size_t nbytes);
extern void (*tci_before_segment)(tc_pool *pool, size_t nbytes); /* of host memory; set by pressure.c, which stands above. No lock is held */

/* ---- heap.c: runs inside segments; lock held by the caller ----------------------------------------------------------------------- */
void tci_heap_lock(tc_pool *pool), tci_heap_unlock(tc_pool *pool);
tci_run *tci_heap_find(tc_pool *pool, size_t npages, bool dirty, size_t *cold); /* best fit, and how many of its pages are not resident */
tci_run *tci_heap_best(const tci_run_set *set, size_t npages, unsigned first_bin, size_t whole, int look);
tci_run *tci_heap_take(tc_pool *pool, tci_run *run, size_t npages); /* cut off what was found; RUN_BUSY */
void tci_heap_give(tc_pool *pool, tci_run *run, uint32_t stamp);  /* coalesce and put into a bin of its set, or of everybody's */
void tci_heap_take_run(tc_pool *pool, tci_run *run);              /* out of its bin: RUN_BUSY */
bool tci_heap_extend(tc_pool *pool, tci_run *run, size_t npages); /* to npages, into the free run behind it */
void tci_heap_shrink(tc_pool *pool, tci_run *run, size_t npages);
tci_run *tci_heap_neighbour(const tci_run *run, bool left); /* the free run beside it, whosever it is */
size_t tci_heap_largest(tc_pool *pool); /* pages; without the lock: as of the last time that it was free */
tci_run *tci_run_create(const tc_pool *pool, size_t tail_bytes, size_t nblocks); /* with a tail and room for so many records behind it */
void tci_run_destroy(tci_run *run);
static inline void *tci_run_record(const tci_run *run, uint64_t index) { /* of a block; it lasts until the run goes back to the heap */
  return run->records + index * run->pool->record_bytes;
}
static inline uint8_t *tci_run_dirty_bytes(const tci_run *run) {
  return run->segment->dirty + ((run->start - run->segment->base) >> TCI_PAGE_SHIFT);
}

/* ---- purge.c: pages that go back while the addresses stay ------------------------------------------------------------------------ */
size_t tci_purge(tc_pool *pool, size_t nbytes, uint32_t oldest_kept); /* until nbytes went or all left are younger; whole segments too */
size_t tci_release_whole(tc_pool *pool, size_t nbytes, bool warm); /* wholly free segments, at most nbytes; warm: used ones too */
size_t tci_release_one(tc_pool *pool, size_t nbytes); /* the smallest of at least nbytes, else the largest; everybody's; 0: none */
size_t tci_budget_pages(const tc_pool *pool, size_t npages); /* how many may be resident when npages more are live */
size_t tci_purge_excess(tc_pool *pool, size_t npages); /* pages over the budget if npages fresh ones were taken */

/* ---- slab.c: blocks inside runs; takes the heap lock ----------------------------------------------------------------------------- */
/* From a RUN_BUSY run, and the first of its blocks, up to count; 0: no memory, and the run goes back. */
uint32_t tci_slab_create(tc_pool *pool, unsigned class, tci_run *run, tci_entry *entries, uint32_t count);
void tci_single_create(tc_pool *pool, unsigned class, tci_run *run, tci_entry *entry);
uint32_t tci_slab_take(tc_pool *pool, unsigned class, tci_entry *entries, uint32_t count); /* from partial slabs; lock held */
void tci_slab_give(tc_pool *pool, const tci_entry *entries, uint32_t count); /* small blocks back to the heap */
tci_run *tci_slab_build(tc_pool *pool, unsigned class, tci_run *run); /* the same, no block taken; lock held; NULL: the run went back */
uint32_t tci_slab_take_from(tc_pool *pool, tci_run *slab, tci_entry *entries, uint32_t count); /* to their end; lock held; some are free */
void tci_slab_put(tc_pool *pool, tci_run *slab, uint32_t index);      /* one block back to the heap; lock held */
void tci_run_release(tc_pool *pool, tci_run *run); /* a run that held one block, to the heap */

/* ---- depot.c --------------------------------------------------------------------------------------------------------------------- */
/* Put the magazines of the list, full and empty, and take one: with blocks (NULL: none), or empty (NULL: no memory). One lock. */
tci_magazine *tci_depot_exchange(tc_pool *pool, unsigned bin, tci_magazine *list, bool full);
void tci_depot_put(tc_pool *pool, tci_magazine *magazine);
void tci_magazine_drain(tc_pool *pool, tci_magazine *magazine); /* its blocks to the heap */
void tci_depot_drain(tc_pool *pool, bool all); /* to the heap: all, or what no tick needed */
void tci_depot_free(tc_pool *pool);            /* the pool ends */

/* ---- cache.c: a thread's stacks ---------------------------------------------------------------------------------------------------- */
bool tci_cache_enter_wait(tci_cache *cache); /* entered; false, and not entered: the pool is closed */
void tci_cache_retire(tci_cache *cache); /* its thread ended */
void tci_cache_collect(tc_pool *pool, bool idle_only); /* blocks in all caches and depots go back to the heap */
void tci_cache_freeze(tc_pool *pool); /* nobody is inside a cache until the thaw; holds the collect lock */
void tci_cache_thaw(tc_pool *pool);
void tci_cache_close(tc_pool *pool);     /* the pool is closed: blocks go straight to the heap from now on */
void tci_cache_watch(tc_pool *pool, bool watched); /* every call takes the slow path */
void tci_caches_free(tc_pool *pool);
void tci_cache_after_fork(tc_pool *pool); /* in the child */
bool tci_slot_open(const tc_pool *pool); /* may threads use the fast path? */
void tci_bin_unload(tci_bin *bin, tci_magazine **list); /* both magazines; the cache is entered or taken */
tci_magazine *tci_bin_loaded(const tci_bin *bin);
void tci_bin_set_spare(tci_bin *bin, tci_magazine *magazine);

static inline tci_cache *tci_cache_enter(tci_thread *thread, uint32_t pool_index) { /* NULL: the slow path; exit all the same */
#if TCI_TSAN
  __atomic_exchange_n(&thread->busy, 1, __ATOMIC_SEQ_CST);
  return __atomic_load_n(&thread->slots[pool_index], __ATOMIC_SEQ_CST);
#else
  STORE(thread->busy, 1);
  __atomic_signal_fence(__ATOMIC_SEQ_CST);
  return LOAD(thread->slots[pool_index]);
#endif
}
static inline void tci_cache_exit(tci_thread *thread) { STORE_RELEASE(thread->busy, 0); }
static inline uint64_t tci_bin_depth(const tci_bin *bin) {
  tci_entry *top = LOAD(bin->top), *base = LOAD(bin->base);
  return (top > base ? (uint64_t)(top - base) : 0) + LOAD(bin->spare_count);
}
static inline int64_t tci_bin_live(const tci_bin *bin) { return LOAD(bin->balance) - (int64_t)tci_bin_depth(bin); }

/* ---- thread.c: threads, their caches, and the pools ----------------------------------------------------------------------------- */
tci_cache *tci_cache_get(tc_pool *pool); /* of the calling thread, made where missing; NULL: no memory */
tc_status tci_registry_add(tc_pool *pool);
void tci_registry_remove(tc_pool *pool);
tc_pool *tci_registry_next(uint32_t *slot); /* the next pool, pinned: destroy waits; NULL: no more */
void tci_registry_unpin(tc_pool *pool);
void tci_registry_lock(void), tci_registry_unlock(void);
void tci_registry_each(void (*visit)(tc_pool *pool)); /* the lock is held */
void tci_registry_after_fork(void);                   /* in the child */

/* ---- pressure.c: a control group's limit ------------------------------------------------------------------------------------------- */
void tci_pressure_init(void);
void tci_pressure_check(tc_pool *pool); /* on a slow path, no lock held */
uint64_t tci_pressure_watch(void); /* gives back where little is left; when to look again in ns, 0: no sooner than for another reason */

/* ---- scavenger.c: a thread that returns what stays unused ------------------------------------------------------------------------ */
void tci_scavenger_wake(tc_pool *pool); /* there is, or will be, something to return */
typedef enum tci_fork_phase { FORK_PREPARE, FORK_PARENT, FORK_CHILD } tci_fork_phase;
void tci_scavenger_fork(tci_fork_phase phase); /* the thread ends before a fork, and starts again when there is need */

/* ---- obtain.c: a run from the heap or upstream, with the ladder of reclaiming ------------------------------------------------------ */
tci_run *tci_obtain(tc_pool *pool, size_t npages, size_t fewest, size_t nbytes); /* nbytes: what the caller's caller asked for */
tci_magazine *tci_obtain_blocks(tc_pool *pool, unsigned class, size_t nbytes, uint64_t refills); /* at least one block of a class */

/* ---- refill.c ---------------------------------------------------------------------------------------------------------------------- */
bool tci_cache_refill(tci_cache *cache, unsigned class, size_t nbytes); /* entered, with a block; false, and not entered: none */
bool tci_cache_load(tci_cache *cache, tci_magazine *magazine); /* entered; what was loaded becomes the spare, of which there was none */
tci_magazine *tci_bin_take_spare(tci_bin *bin); /* entered; NULL: there was none */
void tci_bin_swap(tci_bin *bin); /* the loaded magazine and the spare; entered */
bool tci_cache_make_room(tci_cache *cache, unsigned bin); /* entered, with room in the bin; false, and not entered: none */

/* ---- large.c ----------------------------------------------------------------------------------------------------------------------- */
void *tci_large_alloc(tc_pool *pool, size_t nbytes, size_t alignment, bool zeroed);
tci_run *tci_large_obtain(tci_cache *cache, size_t nbytes, size_t alignment, bool guarded, bool *fresh); /* in nobody's hands; NULL: none */
void tci_large_hand_out(tci_cache *cache, tci_run *run, size_t nbytes, bool fresh); /* entered */
void tci_large_clear(tci_run *run, size_t nbytes); /* before it is handed out */
bool tci_large_free_slow(tci_cache *cache, tci_run *run); /* the bin is full or taken; false: the pool is closed */
bool tci_large_resize(tc_pool *pool, tci_run *run, size_t nbytes); /* in place */
bool tci_large_move(tci_run *to, tci_run *from, size_t nbytes); /* the content by page tables */
/* Is a cached block right for the request: large enough, and not so large that memory is wasted? */
static inline bool tci_large_fits(const tci_run *run, size_t nbytes) {
  return run->capacity >= nbytes && run->capacity - nbytes <= (nbytes >> 4) + TCI_PAGE;
}

/* ---- stats.c, thread_stats.c ------------------------------------------------------------------------------------------------------- */
void tci_stats_publish(tci_cache *cache); /* by its thread: currents and peaks to the pool */
void tci_stats_publish_bin(tci_cache *cache, unsigned bin), tci_stats_publish_requested(tci_cache *cache);
void tci_thread_stats_begin(tci_cache *cache); /* a thread takes over what another left: its own figures begin at 0 */
void tci_stats_sum(const tci_cache *cache, tc_stats *stats); /* adds the cache's totals and counts */
static inline void tci_stats_in(tci_cache *cache, size_t requested) { /* by its thread */
  uint64_t in = LOAD(cache->requested_in) + requested;
  STORE(cache->requested_in, in);
  if (unlikely((int64_t)(in - LOAD(cache->requested_mark)) > 0)) {
    STORE(cache->requested_high, cache->requested_high + (int64_t)(in - cache->requested_mark));
    STORE(cache->requested_mark, in);
  }
}
static inline void tci_stats_out(tci_cache *cache, size_t requested) { BUMP(cache->requested_mark, requested); }
void tci_stats_reserved(tc_pool *pool); /* it grew: peaks */
void tci_stats_watermark(tc_pool *pool); /* calls back where allocated / reserved has just risen to it */
uint64_t tci_stats_live(const tc_pool *pool); /* allocated bytes now */

/* ---- block.c: what is known of an address ------------------------------------------------------------------------------------------ */
tc_status tci_refuse(tc_pool *pool, uintptr_t address, size_t nbytes, const void *call); /* why a free is refused; counted */

/* ---- fork.c ------------------------------------------------------------------------------------------------------------------------ */
void tci_fork_register(void);

/* ---- lifecycle.c ------------------------------------------------------------------------------------------------------------------- */
void tci_pool_finish(tc_pool *pool); /* closed, and its last block came back */
void tci_free_closed(tc_pool *pool, tci_cache *cache, tci_run *run, tci_entry entry); /* the pool was destroyed before */

static inline size_t tci_round_up(size_t value, size_t step) { return (value + step - 1) & ~(step - 1); }

#endif
