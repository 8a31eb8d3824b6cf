/* tensorcore.h - the public C interface of the TensorCore memory pool.
 *
 * One pool hands out aligned blocks from segments that it gets from an upstream (mmap, cudaMalloc, a fake). The pool never reads or
 * writes the memory it manages, except to clear it (tc_pool_alloc_zeroed), to move it (tc_pool_realloc) and, in the modes checked and
 * hardened, for canaries and poison; all of it host only.
 * Every function may be called from any thread. No lock is held while an upstream or a callback runs.
 * Sizes are bytes, times are seconds, ratios lie in 0..1.
 */
#ifndef TENSORCORE_H
#define TENSORCORE_H

#ifndef TC_CDEF /* defined while the declarations for cffi are taken from this file, which knows these types itself */
#include <stddef.h>
#include <stdint.h>
#endif

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__) && !defined(TC_CDEF)
#define TC_API __attribute__((visibility("default")))
#else
#define TC_API
#endif

#define TC_VERSION "0.1.0"
#define TC_ALIGNMENT 64         /* bytes: every host block; one cache line, one AVX-512 register */
#define TC_DEVICE_ALIGNMENT 512 /* bytes: every block of a stream-ordered pool */

typedef enum tc_status {
  TC_OK = 0,
  TC_INVALID_ARGUMENT = 1, /* a NULL pool, a size or alignment out of range */
  TC_OUT_OF_MEMORY = 2,    /* the limit or the upstream refused, after everything reclaimable was reclaimed */
  TC_INVALID_FREE = 3,     /* not the start of a block of this pool: wild, interior or of another pool */
  TC_DOUBLE_FREE = 4,      /* the start of a block that is not in use */
  TC_SIZE_MISMATCH = 5,    /* the size given is not the size that was requested */
  TC_CLOSED = 6,           /* the pool was destroyed; live blocks may still be freed */
  TC_TOO_MANY_POOLS = 7,   /* more than TC_MAX_POOLS pools are alive */
  TC_CORRUPT = 8,          /* tc_pool_check found a broken invariant */
  TC_FORKED = 9,           /* a stream-ordered pool in a forked child: its memory belongs to the parent's device context */
  TC_OVERFLOW = 10,        /* checked, hardened: bytes behind the block were written; tc_pool_free took the block back all the same */
  TC_WRITE_AFTER_FREE = 11 /* checked, hardened: a block was written after it came back */
} tc_status;

#define TC_MAX_POOLS 1024

typedef struct tc_pool tc_pool;

/* ---- upstream: where a pool gets its segments ---------------------------------------------------------------------------------- */

typedef struct tc_upstream {
  const char *name; /* a static string: "os", "fake", ... */
  void *context;    /* passed to each function; owned by whoever made the table */
  /* `nbytes` bytes aligned to `alignment` (a power of two >= 4096), or NULL. Host memory must read as zero. */
  void *(*allocate)(void *context, size_t nbytes, size_t alignment);
  /* Give back what `allocate` returned, whole. With streams: returns when no work uses the memory any more, as cudaFree does. */
  void (*deallocate)(void *context, void *address, size_t nbytes);
  /* Optional (NULL: never called): let the pages go, keep the addresses; they read as zero afterwards. 0 on success. */
  int (*purge)(void *context, void *address, size_t nbytes);
  int host_memory; /* 1: the CPU can read and write it; 0: only the addresses mean anything */
  /* Streams: all NULL, and the memory is not stream-ordered; else event_record, event_query and event_destroy are needed, and `allocate`
   * may align to less than it was asked for (the pool then asks for 2 MiB more). What a stream's handle is, the pool never looks into. */
  uintptr_t thread_stream; /* the handle that means the calling thread's own stream (CUDA: 2); 0: there is none */
  void *(*event_record)(void *context, uintptr_t stream); /* passes when all work on the stream so far is done; NULL on failure */
  int (*event_query)(void *context, void *event);         /* 1: passed, 0: not yet, < 0: failed, never taken for passed */
  void (*event_destroy)(void *context, void *event);      /* passed or not */
  /* Optional: what is enqueued on the stream from now on starts after the event; 0 on success. */
  int (*stream_wait)(void *context, uintptr_t stream, void *event);
  int (*synchronize)(void *context); /* optional: returns when all work on all streams is done; 0 on success */
} tc_upstream;

/* Anonymous private memory of the operating system (mmap, munmap, madvise). */
TC_API const tc_upstream *tc_upstream_os(void);

/* An upstream for tests. It counts, has a capacity, and fails on demand. */
typedef struct tc_fake_options {
  const tc_upstream *backing; /* real memory from there; NULL: made-up addresses that must never be touched */
  size_t capacity;            /* bytes; 0: no cap */
  uint64_t fail_at;           /* the k-th call of allocate or purge fails, counted from 1; 0: none */
  uint64_t fail_count;        /* how many calls from fail_at on fail; 0 means 1 */
} tc_fake_options;

typedef struct tc_fake_counts {
  uint64_t allocate_calls, deallocate_calls, purge_calls, failures;
  size_t live_bytes, peak_bytes; /* bytes */
  uint64_t errors;               /* deallocations of something never allocated, or of another size */
} tc_fake_counts;

TC_API tc_status tc_upstream_fake_create(const tc_fake_options *options, tc_upstream **upstream);
TC_API void tc_upstream_fake_set(tc_upstream *upstream, const tc_fake_options *options); /* the call count restarts; backing is kept */
TC_API void tc_upstream_fake_counts(const tc_upstream *upstream, tc_fake_counts *counts);
TC_API void tc_upstream_fake_destroy(tc_upstream *upstream); /* no pool may still use it */

/* A device for tests: made-up addresses (or real memory, for a pinned pool), streams and events on a clock that only tests advance. A
 * stream runs its work in order. Any handle is a live stream until it is destroyed. */
typedef enum tc_fake_call {
  TC_FAKE_ALLOCATE = 1,
  TC_FAKE_RECORD = 2,
  TC_FAKE_QUERY = 4,
  TC_FAKE_WAIT = 8,
  TC_FAKE_SYNCHRONIZE = 16
} tc_fake_call;

typedef struct tc_fake_device_options {
  size_t capacity;     /* bytes; 0: no cap */
  size_t alignment;    /* of its addresses, bytes, a power of two; 0: what is asked for */
  int host_memory;     /* 1: real memory from the system; read at creation only */
  uint32_t missing;    /* TC_FAKE_WAIT, TC_FAKE_SYNCHRONIZE: left NULL in the table; read at creation only */
  uint64_t latency_ns; /* wall-clock time that each allocate and deallocate takes */
  uint32_t failing;    /* the calls that fail_at counts: an or of tc_fake_call */
  uint64_t fail_at;    /* the k-th of these calls fails, counted from 1; 0: none */
  uint64_t fail_count; /* how many of them from fail_at on fail; 0 means 1 */
} tc_fake_device_options;

typedef struct tc_fake_device_counts {
  uint64_t allocate_calls, deallocate_calls, record_calls, query_calls, wait_calls, synchronize_calls, failures;
  uint64_t live_events;
  size_t live_bytes, peak_bytes; /* bytes */
  uint64_t errors;               /* deallocations and events that were never made, or are gone */
  uint64_t early;                /* hand-overs before the work of earlier holders was known to be done: tc_fake_device_claim */
} tc_fake_device_counts;

TC_API tc_status tc_upstream_fake_device_create(const tc_fake_device_options *options, tc_upstream **upstream);
TC_API void tc_upstream_fake_device_set(tc_upstream *upstream, const tc_fake_device_options *options); /* the call count restarts */
TC_API void tc_upstream_fake_device_counts(const tc_upstream *upstream, tc_fake_device_counts *counts);
TC_API void tc_upstream_fake_device_destroy(tc_upstream *upstream); /* no pool may still use it */
TC_API void tc_fake_device_advance(tc_upstream *upstream, uint64_t ticks); /* the clock */
/* Work of so many ticks on a stream, which uses nbytes (may be 0) from the address on. TC_INVALID_ARGUMENT: the stream was destroyed. */
TC_API tc_status tc_fake_device_enqueue(tc_upstream *upstream, uintptr_t stream, uint64_t ticks, const void *address, size_t nbytes);
/* The holder of this memory is from now on the stream, or the host where the stream is TC_STREAM_OF_BLOCK. 1, and `early` counts one more,
 * where work that used any of it is not known to be done by then: by order on the stream, by an event that was seen to have passed or
 * that the stream waits for, or by a synchronize; else 0. */
TC_API int tc_fake_device_claim(tc_upstream *upstream, uintptr_t stream, const void *address, size_t nbytes);
TC_API void tc_fake_device_stream_destroy(tc_upstream *upstream, uintptr_t stream); /* its work still runs to the end */
TC_API void tc_fake_device_stream_create(tc_upstream *upstream, uintptr_t stream);  /* a destroyed handle comes back as a new stream */

/* ---- pools ---------------------------------------------------------------------------------------------------------------------- */

typedef enum tc_huge_pages { TC_HUGE_PAGES_AUTO = 0, TC_HUGE_PAGES_ON = 1, TC_HUGE_PAGES_OFF = 2 } tc_huge_pages;

/* What a pool checks beyond address, start and in-use. docs/modes.md says which mode finds which mistake, and when. */
typedef enum tc_mode {
  TC_MODE_FAST = 0,
  TC_MODE_CHECKED = 1, /* also canaries, poison, threads and call sites */
  TC_MODE_HARDENED = 2 /* also guard pages, a quarantine, random placement */
} tc_mode;

typedef enum tc_on_fault {
  TC_ON_FAULT_RAISE = 0, /* the status says it; what no call can return goes to the callback, without one to stderr */
  TC_ON_FAULT_ABORT = 1  /* a report to stderr, then abort() */
} tc_on_fault;

/* Called when the limit or the upstream refused and everything the pool can reclaim alone was reclaimed.
 * `attempt` counts from 0. Return 1 when something may have been freed (the pool searches again), 0 to give up. */
typedef int (*tc_out_of_memory_callback)(tc_pool *pool, size_t nbytes, int attempt, void *context);

/* Called once each time allocated / reserved rises to the ratio given to tc_pool_warn_at. */
typedef void (*tc_watermark_callback)(tc_pool *pool, double utilization, void *context);

typedef struct tc_pool_options {
  const char *name;            /* copied, at most 63 characters; NULL: "pool-N" */
  const tc_upstream *upstream; /* NULL: tc_upstream_os() */
  size_t initial_capacity;     /* bytes reserved at creation, blocks of 64 B ... 64 KiB preallocated in it */
  size_t limit;                /* bytes; cap on reserved bytes; 0: none */
  double decay;                /* seconds until unused freed pages return to the OS; < 0: never */
  tc_huge_pages huge_pages;
  int numa_node;               /* -1: no preference (the only value so far) */
  int learn;                   /* 1: sizes asked for often get a class of their own; not in stream-ordered pools */
  int device;                  /* the number of the device that the upstream serves, -1: the host; for tc_pool_device alone */
  tc_mode mode;                /* tc_pool_options_init takes it from TENSORCORE_MODE: fast, checked or hardened */
  tc_on_fault on_fault;        /* checked, hardened; TENSORCORE_ON_FAULT: raise or abort */
  int zero_on_free;            /* checked, hardened; host memory: 1: a block is zeroed when it comes back */
  size_t quarantine;           /* hardened: bytes of guarded blocks out of use after their free; a 64th for each thread and size class */
  unsigned guard_every;        /* hardened: one in so many small blocks lies between guard pages; 0: none */
} tc_pool_options;

TC_API void tc_pool_options_init(tc_pool_options *options); /* the defaults: os, no limit, decay 10 s, learning on, the mode above */
TC_API tc_status tc_pool_create(const tc_pool_options *options, tc_pool **pool); /* options NULL: the defaults */
/* Refuses further allocation; blocks still in use stay valid and can be freed; the rest goes back upstream now, the remainder with the
 * last block. The handle may not be used for allocation afterwards; tc_pool_free stays valid while blocks live. */
TC_API tc_status tc_pool_destroy(tc_pool *pool);

TC_API void *tc_pool_alloc(tc_pool *pool, size_t nbytes);        /* NULL: out of memory or closed. 0 bytes give a block */
TC_API void *tc_pool_alloc_zeroed(tc_pool *pool, size_t nbytes); /* host memory only */
TC_API void *tc_pool_alloc_aligned(tc_pool *pool, size_t nbytes, size_t alignment); /* a power of two, up to 2 MiB */
/* Grows or shrinks; the content up to the smaller size is kept. ptr NULL allocates. NULL: ptr is untouched. Host memory only. */
TC_API void *tc_pool_realloc(tc_pool *pool, void *ptr, size_t nbytes);
TC_API tc_status tc_pool_free(tc_pool *pool, void *ptr); /* NULL is TC_OK. A refused call changes nothing */
TC_API tc_status tc_pool_free_sized(tc_pool *pool, void *ptr, size_t nbytes); /* also checks the requested size */

/* The same for a block of whichever pool; TC_INVALID_FREE where no pool owns the address (tc_pool_of tells the two apart). */
TC_API tc_status tc_free(void *ptr);

/* Hold at least `capacity` bytes from upstream, in total. Decay lets their pages go but keeps the addresses; tc_pool_trim does not. */
TC_API tc_status tc_pool_reserve(tc_pool *pool, size_t capacity);
/* Give cached memory back now until at most `keep` bytes stay cached; the bytes that went back (pages and segments). */
TC_API size_t tc_pool_trim(tc_pool *pool, size_t keep);
/* Walk all metadata; TC_CORRUPT and a sentence in `message` (may be NULL) where an invariant is broken. In the modes checked and hardened
 * also every block's canary or poison: TC_OVERFLOW or TC_WRITE_AFTER_FREE for the first one damaged, whose report is the message. */
TC_API tc_status tc_pool_check(tc_pool *pool, char *message, size_t message_size);

TC_API size_t tc_pool_limit(const tc_pool *pool);
TC_API size_t tc_pool_set_limit(tc_pool *pool, size_t limit); /* the old limit; 0: none. Below what is reserved: trims, then refuses growth */
TC_API double tc_pool_decay(const tc_pool *pool);
TC_API double tc_pool_set_decay(tc_pool *pool, double seconds); /* the old value */
TC_API const char *tc_pool_name(const tc_pool *pool);
TC_API tc_mode tc_pool_mode(const tc_pool *pool);
TC_API const tc_upstream *tc_pool_upstream(const tc_pool *pool);
TC_API void tc_pool_on_out_of_memory(tc_pool *pool, tc_out_of_memory_callback callback, void *context); /* NULL: none */
TC_API void tc_pool_warn_at(tc_pool *pool, double utilization, tc_watermark_callback callback, void *context); /* callback NULL: none */

TC_API int tc_pool_device(const tc_pool *pool);       /* as in its options */
TC_API tc_status tc_pool_status(const tc_pool *pool); /* TC_OK, TC_CLOSED or TC_FORKED: why it refuses every allocation */

/* ---- streams -------------------------------------------------------------------------------------------------------------------- */

/* A pool is stream-ordered when its upstream has streams. A block that was freed on a stream is at once reusable on that stream; on
 * another only after an event that was recorded there at or after the free has passed, or after the other stream was made to wait for it.
 * Blocks start on multiples of 512 bytes; small ones (up to 512 KiB) and large ones come from different segments. No event is recorded
 * on a hit: only when somebody else wants what a stream freed, and for blocks that were used on several streams.
 *
 * Where the CPU can read the memory too (host_memory: a pinned pool), it is the host that reuses a block, so a block waits for the
 * stream that it was allocated on and for the one that it is freed on, also when the same stream asks again. tc_pool_alloc there means
 * no stream: the host alone uses the block, and it waits for nothing but the streams that were recorded.
 *
 * The other functions on such a pool: tc_pool_alloc and tc_pool_alloc_aligned are as on stream 0 (pinned: no stream), tc_pool_free,
 * tc_pool_free_sized and tc_free as on TC_STREAM_OF_BLOCK. tc_pool_realloc of a block returns NULL and changes nothing. Nothing decays:
 * memory goes back by trim, by the limit and at the end. `pending` counts blocks that wait for further streams; what was freed on a
 * stream and is reusable there counts as cached. In a forked child every call that would allocate, free or use the device returns NULL
 * or TC_FORKED. */
#define TC_STREAM_OF_BLOCK 0xFFFFFFFFFFFFFFFF /* for a free: the stream that the block was allocated on */

TC_API int tc_pool_stream_ordered(const tc_pool *pool); /* 1: the functions below work; 0: they return NULL, TC_INVALID_ARGUMENT or 0 */
TC_API void *tc_pool_alloc_on(tc_pool *pool, size_t nbytes, uintptr_t stream);
TC_API void *tc_pool_alloc_aligned_on(tc_pool *pool, size_t nbytes, size_t alignment, uintptr_t stream); /* a power of two, up to 2 MiB */
/* The work that uses the block was enqueued on `stream`, or `stream` waits for it, or it is on a recorded stream: else a taker may overlap. */
TC_API tc_status tc_pool_free_on(tc_pool *pool, void *ptr, uintptr_t stream);
TC_API tc_status tc_pool_free_sized_on(tc_pool *pool, void *ptr, size_t nbytes, uintptr_t stream);
/* The block is used on this stream too: once freed, it is nobody's until what is enqueued there by then is done (pending). */
TC_API tc_status tc_pool_record_stream(tc_pool *pool, void *ptr, uintptr_t stream);
/* Ask which events have passed; the bytes that stopped being pending. Allocations do this by themselves before they go upstream. */
TC_API size_t tc_pool_drain(tc_pool *pool);
/* Give whole segments back that hold nothing but what this stream freed and is done with, and what everybody may have; the bytes that
 * went. It waits for nothing. tc_pool_trim waits for all streams (synchronize) and gives back all that is free. */
TC_API size_t tc_pool_trim_stream(tc_pool *pool, uintptr_t stream);
/* To be called before a stream is destroyed: records a last event there. The handle means another stream from now on; blocks that live
 * are freed as before, and wait for that event at most. Without this call such memory waits for a trim, or until memory is short. */
TC_API tc_status tc_pool_forget_stream(tc_pool *pool, uintptr_t stream);

/* ---- blocks --------------------------------------------------------------------------------------------------------------------- */

typedef struct tc_block {
  tc_pool *pool;     /* NULL: the address belongs to no pool */
  void *start;       /* of the block that holds the address */
  size_t requested;  /* bytes; 0 where not in use */
  size_t capacity;   /* bytes that may be used: of a live block with a canary, the request */
  int in_use;
} tc_block;

TC_API tc_pool *tc_pool_of(const void *ptr);                 /* the pool whose block starts at or holds ptr; NULL: none of ours */
TC_API void tc_block_find(const void *ptr, tc_block *block); /* all that is known of an address */

/* ---- faults: what a caller did wrong with a block ------------------------------------------------------------------------------ */

typedef struct tc_site {
  const void *call; /* the return address of the call, or what tc_site_intern returned; NULL: not known */
  uint64_t thread;  /* the system's number of the thread that called; 0: not known */
} tc_site;

/* Sites and threads are known in the modes checked and hardened, until the block is handed out again. */
typedef struct tc_fault {
  tc_status status;  /* TC_INVALID_FREE, TC_DOUBLE_FREE, TC_SIZE_MISMATCH, TC_OVERFLOW or TC_WRITE_AFTER_FREE */
  tc_pool *pool;     /* that was asked; the pool of origin is block.pool */
  void *address;     /* that was given, or of the first byte found written */
  size_t nbytes;     /* given with a deallocation; 0: none */
  tc_block block;    /* as tc_block_find; of a block that came back `requested` is what it was */
  tc_site allocated; /* of the last allocation of the block */
  tc_site freed;     /* of its deallocation, where it came back */
  tc_site call;      /* of the call that found the fault */
} tc_fault;

typedef void (*tc_fault_callback)(tc_pool *pool, const tc_fault *fault, void *context);

TC_API int tc_last_fault(tc_fault *fault); /* of the calling thread; 0: there was none yet */
/* For faults that no call can return: found by an allocation, a trim, the end of the pool. It may run on any thread and allocate. */
TC_API void tc_pool_on_fault(tc_pool *pool, tc_fault_callback callback, void *context); /* NULL: a report to stderr */
/* The report of a fault, lines of text as abort prints it; returns its length without the NUL, as snprintf does. */
TC_API size_t tc_fault_describe(const tc_fault *fault, char *text, size_t size);
TC_API const void *tc_site_intern(const char *text); /* the same pointer for the same text ("script.py:12"), kept for good; NULL: no memory */
TC_API void tc_site_set(const void *site); /* of the calling thread's next calls instead of their return addresses; NULL: these again */
TC_API size_t tc_site_describe(const void *site, char *text, size_t size); /* the text, or the function and its offset */

/* ---- statistics ----------------------------------------------------------------------------------------------------------------- */

typedef struct tc_stat {
  uint64_t current, peak, total_allocated, total_freed; /* bytes; current = total_allocated - total_freed */
} tc_stat;

/* The one list of statistics. BYTES(name, meaning) is a tc_stat, COUNT(name, meaning) a uint64_t.
 * At rest: requested <= allocated <= reserved; cached + pending = reserved - allocated; peak >= current. */
#define TC_STATISTICS(BYTES, COUNT)                                                   \
  BYTES(requested, "bytes the callers asked for")                                     \
  BYTES(allocated, "capacity of the live blocks")                                     \
  BYTES(reserved, "held from upstream")                                               \
  BYTES(cached, "held by the pool and ready to hand out")                             \
  BYTES(pending, "freed, not yet reusable on any stream")                             \
  COUNT(allocation_count, "blocks handed out")                                        \
  COUNT(deallocation_count, "blocks taken back")                                      \
  COUNT(hits, "allocations served without going upstream")                            \
  COUNT(misses, "allocations that went upstream")                                     \
  COUNT(upstream_calls, "calls of the upstream: allocate, deallocate, purge")         \
  COUNT(upstream_ns, "nanoseconds inside the upstream")                               \
  COUNT(purged_bytes, "bytes whose pages went back while the addresses stayed")       \
  COUNT(out_of_memory_retries, "rounds of the out-of-memory ladder")                  \
  COUNT(out_of_memory_failures, "allocations refused")                                \
  COUNT(refused_deallocations, "invalid, double and mis-sized deallocations refused") \
  COUNT(largest_free_block, "bytes of the largest free page run")                     \
  COUNT(free_run_bytes, "bytes of all free page runs")                                \
  COUNT(metadata_bytes, "bytes of the core's own bookkeeping, all pools together")

typedef struct tc_stats {
#define TC_BYTES_FIELD(name, meaning) tc_stat name;
#define TC_COUNT_FIELD(name, meaning) uint64_t name;
  TC_STATISTICS(TC_BYTES_FIELD, TC_COUNT_FIELD)
#undef TC_BYTES_FIELD
#undef TC_COUNT_FIELD
} tc_stats;

typedef struct tc_class_stats {
  size_t block_size;       /* bytes; for large classes the smallest size of the class */
  uint64_t live, cached;   /* blocks */
  uint64_t allocations;    /* blocks handed out, ever */
  uint64_t hits;           /* of these, from the calling thread's own cache */
  int learned;             /* 1: made by automatic size detection */
} tc_class_stats;

TC_API void tc_pool_stats(const tc_pool *pool, tc_stats *stats); /* takes no lock: safe in a signal handler */
/* Classes with any traffic or cached blocks, ascending; returns how many there are, writes at most `capacity`. */
TC_API size_t tc_pool_class_stats(const tc_pool *pool, tc_class_stats *classes, size_t capacity);
TC_API void tc_pool_reset_peak(tc_pool *pool); /* peak = current */

/* What the calling thread did with a pool since its first use of it. A block counts in the `in` of the thread that got it and in the `out`
 * of the thread that gave it back: in - out is what the thread holds as long as it frees its own, and below 0 where it frees others'.
 * All 0 in a stream-ordered pool, which counts by itself and not by threads. */
typedef struct tc_thread_stats {
  uint64_t requested_in, requested_out; /* bytes of the blocks handed out to the thread, and taken back from it */
  int64_t requested_peak;               /* the largest requested_in - requested_out since tc_pool_thread_set_peak; exact */
  uint64_t allocation_count, deallocation_count;
} tc_thread_stats;

TC_API void tc_pool_thread_stats(const tc_pool *pool, tc_thread_stats *stats); /* reads the thread's own cache: no lock, about 1 us */
/* The old peak; the new one is `peak`, or current where that is larger. So measurements nest: INT64_MIN begins one, and its end sets
 * the larger of its own peak and of what the beginning returned. Other threads' peaks and the pool's are left alone. */
TC_API int64_t tc_pool_thread_set_peak(tc_pool *pool, int64_t peak);

TC_API const char *tc_status_string(tc_status status);
TC_API const char *tc_version(void);
/* What the machine offers, probed at run time: page size, huge-page size (0: none), 1 where caches of idle threads can be reclaimed. */
TC_API size_t tc_page_size(void);
TC_API size_t tc_huge_page_size(void);
TC_API int tc_has_membarrier(void);

#ifdef __cplusplus
}
#endif
#endif /* TENSORCORE_H */
