/* modes.h - the map of the modes checked and hardened: what a pool with a mode has beside a fast one.
 *
 * Such a pool never opens its slot (tci_slot_open), so every call of it leaves the fast path and comes to guarded.c; a fast pool pays
 * nothing. Records lie beside the state words; canaries and poison lie in the blocks, and only in host memory.
 */
#ifndef TCI_MODES_H
#define TCI_MODES_H

#include "internal.h"

#define TCI_CANARY 16      /* bytes behind every request */
#define TCI_POISON_HEAD 32 /* bytes that hardened poisons of every block */
#define TCI_POISON 0xDBu /* as a pointer, eight of them are no address */

/* What is remembered of a block. A mark: site << 16 | thread << 1 | flag. */
struct tci_record {
  uint64_t allocated, freed; /* marks; `freed` holds for a block that is not in use, its flag says that the content is poisoned */
  uint32_t requested;        /* bytes, of a small block that came back */
  int32_t to_state;          /* bytes from here to the block's state word; written when the run is made */
};

struct tci_guard {
  uint64_t canary[2]; /* no byte of it is 0 */
  uint8_t poison; /* TCI_POISON, or 0 where blocks are zeroed */
  bool hardened;
  bool content; /* host memory: canaries and poison */
  bool pages;   /* hardened, and the upstream's pages may be protected */
  uint32_t every; /* one in so many small blocks between guard pages; 0: none */
  size_t quarantine; /* bytes */
  bool lines;     /* a thread's blocks wait in lines; then they are poisoned by TCI_POISON, and see guarded.c: its short ways */
  tc_fault_callback on_fault;
  void *on_fault_context;
  pthread_mutex_t lock;    /* the lowest but meta's; of the guarded runs below */
  tci_run *oldest, *newest; /* guarded blocks that came back, by `next` */
  size_t held;             /* bytes of their pages */
  tci_line *orphans;       /* of threads that ended, until the next collection */
  uint64_t pushes, pushes_seen; /* all of them, and at the last tick */
};

/* Blocks of one thread and class that came back and wait: whoever comes in takes the place of one, at a distance of 0.3 to 2 times
 * as many blocks as there are places (the three-distance theorem), in an order that nobody outside can know. */
struct tci_line {
  tci_line *next; /* detached ones */
  uint64_t turn, step; /* the place of the next is in `turn`'s high bits; each time `step`, a secret, is added */
  uint64_t seen;       /* `turn` at the last tick; written by the scavenger */
  uint32_t shift;      /* 64 - log2 of the places */
  uint32_t unused;
  tci_entry entries[]; /* block NULL: nobody waits there yet */
};
#define TCI_LINE_MOST 64 /* blocks, with the quarantine as it is by itself */

/* A thread's lines; NULL: not made yet, or detached. */
struct tci_lines {
  tci_line *of[TCI_CLASSES];
};

/* Has the pool a mode? A stream-ordered one has records, behind its tickets, but no tci_guard: nothing of it goes through guarded.c. */
static inline bool tci_has_records(const tc_pool *pool) { return pool->options.mode != TC_MODE_FAST; }
static inline tci_record *tci_record_behind(const tc_pool *pool, void *record) { /* whatever else lies in a block's record */
  return (tci_record *)(void *)((char *)record + pool->record_bytes - sizeof(tci_record));
}

/* ---- site.c: who called ------------------------------------------------------------------------------------------------------------ */
tci_thread *tci_thread_get(void); /* thread.c; the calling thread's, made where missing; NULL: no memory */
uint32_t tci_thread_number(void); /* for a new thread; 15 bits */
uint64_t tci_thread_system(uint32_t number); /* the system's number of it */
void tci_site_lock(void), tci_site_unlock(void); /* around a fork */
static inline uint32_t tci_random(tci_cache *cache) { /* Knuth's MMIX generator, its high half */
  cache->random = cache->random * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)(cache->random >> 32);
}
static inline uint64_t tci_mark(const tci_thread *thread, const void *call) {
  return (uint64_t)(uintptr_t)(thread->site ? thread->site : call) << 16 | thread->mark;
}
static inline tc_site tci_mark_site(uint64_t mark) {
  return (tc_site){(const void *)(uintptr_t)(mark >> 16), tci_thread_system((uint32_t)(mark & 0xFFFF) >> 1)};
}

/* ---- guard.c: canary and poison of one block ----------------------------------------------------------------------------------------- */
tc_status tci_guard_create(tc_pool *pool); /* by its options; TC_OK with pool->guard NULL: fast */
void tci_guard_destroy(tc_pool *pool);
void tci_poison(const tci_guard *guard, void *block, size_t capacity);
bool tci_poison_intact(const tci_guard *guard, const void *block, size_t capacity);
const char *tci_canary_damage(const tci_run *run, const void *block, size_t requested); /* the first byte; NULL: it is whole */
const char *tci_poison_damage(const tci_guard *guard, const void *block, size_t capacity);

typedef uint64_t tci_pair __attribute__((vector_size(16), aligned(1), may_alias));
static inline bool tci_pair_differs(tci_pair pair) {
#if defined(__SSE2__)
  typedef char bytes __attribute__((vector_size(16)));
  return __builtin_ia32_pmovmskb128((bytes)pair == (bytes){0}) != 0xFFFF;
#else
  return (pair[0] | pair[1]) != 0;
#endif
}

/* Bytes that the canary of a block of a run has: fewer only where a guard page follows at once. */
static inline size_t tci_canary_bytes(const tci_run *run, size_t requested) {
  size_t room = run->block_size ? run->block_size - requested : run->capacity - requested;
  return room < TCI_CANARY ? room : TCI_CANARY;
}
static inline bool tci_canary_intact(const tci_guard *guard, const char *end) {
  return !tci_pair_differs(*(const tci_pair *)(const void *)end ^ *(const tci_pair *)(const void *)guard->canary);
}
static inline void tci_canary_write(const tci_guard *guard, char *end) {
  *(tci_pair *)(void *)end = *(const tci_pair *)(const void *)guard->canary;
}
/* The first bytes of a block that waits in a line, or has. */
static inline void tci_poison_head(void *block) { memset(__builtin_assume_aligned(block, TC_ALIGNMENT), TCI_POISON, TCI_POISON_HEAD); }
static inline bool tci_poison_head_intact(const void *block) {
  typedef uint64_t line_pair __attribute__((vector_size(16), may_alias));
  const uint64_t word = TCI_POISON * UINT64_C(0x0101010101010101);
  const line_pair *pair = __builtin_assume_aligned(block, TC_ALIGNMENT), poison = {word, word};
  line_pair differs = {0, 0};
  for (size_t i = 0; i < TCI_POISON_HEAD / sizeof *pair; i++) differs |= pair[i] ^ poison;
  return !tci_pair_differs(differs);
}
static inline tci_entry *tci_line_place(tci_line *line) { return &line->entries[line->turn >> line->shift]; }
static inline uint32_t *tci_record_state(tci_record *record) { return (uint32_t *)(void *)((char *)record + record->to_state); }
static inline tci_record *tci_record_at(const tci_run *run, uint64_t index) { /* of a small block of a pool with a mode */
  return (tci_record *)tci_run_record(run, index);
}

/* Bytes that a request is padded by before anything below guarded.c sees it. */
static inline size_t tci_padding(const tc_pool *pool) { return pool->guard ? TCI_CANARY : 0; }

/* ---- fault.c: the report ------------------------------------------------------------------------------------------------------------- */
tc_status tci_fault_found(const tc_fault *fault); /* by a call that returns the status: remembered; may abort */
/* Damage in a block at `damage`, with what the block's record knows. */
tc_fault tci_fault_of(const tci_run *run, const tci_record *record, const void *block, const char *damage);
void tci_fault_deliver(const tc_fault *fault); /* by one that cannot: abort, callback or stderr; no lock is held */

/* The damage done to free blocks that go to the heap is reported first; no lock is held. */
void tci_guard_inspect(tc_pool *pool, const tci_entry *entries, uint32_t count, bool large);

/* ---- quarantine.c: blocks that came back and are not handed out yet -------------------------------------------------------------------- */
void tci_line_make(tci_cache *cache, unsigned class); /* not entered */
void tci_lines_detach(tci_cache *cache, bool idle_only, tci_line **list); /* the cache is entered or taken */
void tci_lines_drain(tc_pool *pool, tci_line *list); /* to the heap */
void tci_lines_orphan(tc_pool *pool, tci_line *list); /* their thread ends: no callback may run now */
void tci_lines_free(tci_lines *lines); /* NULL: nothing */
tci_run *tci_guarded_run(tc_pool *pool, tci_run *run, size_t nbytes, size_t alignment); /* makes it one between guard pages; NULL: it went */
size_t tci_guarded_pages(size_t nbytes, size_t alignment); /* of a run for such a block */
void tci_held_push(tc_pool *pool, tci_run *run); /* a guarded block came back: out of reach, and out of use for a while */
void tci_held_drain(tc_pool *pool, bool idle_only);

/* ---- check.c -------------------------------------------------------------------------------------------------------------------------- */
void tci_guard_walk(tc_pool *pool); /* delivers the damage found in any block, free or in use */

/* ---- guarded.c: the calls of a pool with a mode ------------------------------------------------------------------------------------------ */
void *tci_guarded_alloc(tc_pool *pool, size_t nbytes, const void *call); /* entered, as tci_cache_enter does without a slot */
void *tci_guarded_alloc_any(tc_pool *pool, size_t nbytes, size_t alignment, bool zeroed, const void *call);
tc_status tci_guarded_free(tc_pool *pool, tci_run *run, void *block, uint32_t *state, const void *call); /* entered */

#endif
