/* run.h - a run of pages inside a segment: its header, and the way from an address to the block that starts there.
 *
 * Part of internal.h, which declares the names that it uses. Cost of the way: a multiplication and a rotation.
 */
#ifndef TCI_RUN_H
#define TCI_RUN_H

typedef enum tci_run_kind {
  RUN_UNUSED = 0,  /* the header is on meta's free list */
  RUN_FREE = 1,    /* in a bin of the heap */
  RUN_BUSY = 2,    /* between two states: being purged or built; owned by one thread */
  RUN_SLAB = 3,    /* nblocks blocks of one class */
  RUN_SINGLE = 4,  /* one block of a fixed class */
  RUN_LARGE = 5    /* one block above TCI_SMALL_MAX, or with an alignment of its own */
} tci_run_kind;

/* A run of pages. The first line is all that a free reads.
 * A block's state word: 0 = not in use, else 1 + the request; RUN_LARGE: 1, and the request in `request`. */
struct tci_run {
  uintptr_t base;      /* address of the first block */
  tc_pool *pool;
  uint32_t *states;    /* nwords of them; of block i: number i << spread, the others are 0 for ever */
  uint64_t inverse;    /* of block_size's odd part, modulo 2^64: see tci_run_word */
  uint32_t bin_offset; /* where the bin lies in a cache: tci_bin_offset(bin) */
  uint32_t nwords;     /* nblocks << spread; 0 for free runs: every free is refused */
  size_t request;      /* bytes; large only */
  uint16_t bin;        /* class, or TCI_CLASSES + large class */
  uint8_t shift;       /* block_size = odd part << shift + spread */
  uint8_t kind;        /* tci_run_kind */
  uint32_t state;      /* the state word of a single block */
  size_t capacity;     /* bytes of a large block */
  /* second line: the heap's */
  tci_segment *segment;
  uintptr_t start;     /* address of the first page */
  size_t npages;
  size_t dirty;        /* pages with any TCI_PAGE_ flag; free runs */
  tci_run *previous, *next; /* bin, or partial slabs of the class */
  tci_run *older, *newer;   /* by age: free runs with dirty pages or of one stream; idle slabs of a stream-ordered pool */
  uint32_t nblocks;
  uint32_t block_size; /* bytes; 0 for RUN_LARGE */
  uint32_t stamp;      /* tick of the pool at which it was freed */
  uint32_t nfree;      /* slab: blocks in `free_bits` */
  uint32_t hint;       /* slab: no set bit below this word */
  uint32_t touched;    /* slab: blocks below this index were handed out, ever */
  uint16_t header_units; /* size of this header, in 64 B */
  uint8_t spread;      /* so far apart that blocks of two threads have their words in two lines of the caches */
  uint8_t idle;        /* slab: in the list `idle` of its pool */
  uint8_t fill;        /* slab: in which list of its class */
  uint8_t draining;    /* slab: blocks that come back go to the heap, so that it empties; bin_offset is TCI_NO_CLASS's */
  uint8_t no_whole_page; /* free: no page of the system can go, so it is not listed by age; until the run changes */
  uint8_t guarded;     /* large: it has, or had before it came back, pages that nobody may touch */
  uint8_t zero_known;  /* large: the dirty bytes still describe the block (never handed out since it was taken) */
  uint64_t *free_bits; /* slab: 1 = the heap holds the block */
  tci_run_set *set;    /* free: who may have it; NULL: everybody */
  uint64_t generation; /* free, of a set: until that generation of its stream has passed */
  uint32_t live;       /* slab of a stream-ordered pool: blocks in use */
  char *records;       /* nblocks times record_bytes of the pool: what it remembers of each block; zero when the run was made */
};

/* The number of the state word of the block that starts at this offset from `base`; >= nwords, or a word that is always 0: none does.
 * Multiplying by the inverse of the odd part and rotating the even part away divides exactly where it divides, and gives a huge number
 * where it does not (Granlund and Montgomery, 1994, section 9). Where `spread` is 0, as in pools with records, it is the block's own. */
static inline uint64_t tci_run_word(const tci_run *run, uint64_t offset) {
  uint64_t product = offset * run->inverse;
  return product >> run->shift | product << (-run->shift & 63);
}

static inline uint32_t *tci_run_state(const tci_run *run, size_t index) { return &run->states[index << run->spread]; }

static inline void tci_run_set_blocks(tci_run *run, uint32_t nblocks, unsigned spread) {
  run->nblocks = nblocks;
  run->spread = (uint8_t)spread;
  STORE(run->nwords, nblocks << spread);
}

#endif /* TCI_RUN_H */
