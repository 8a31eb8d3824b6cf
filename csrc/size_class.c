/* size_class.c - which block size serves which request, and the classes that a pool learns.
 *
 * Fixed classes: 64 B steps to 512 B, then eight per doubling to 512 KiB: waste <= 12.5 % above 512 B. A pool looks a request up in a
 * table by 64 B granules, so a learned class costs a look-up nothing: it is one entry of that table rewritten.
 */
#include "internal.h"

#define SLAB_MIN ((size_t)32 << 10)
#define SLAB_MAX ((size_t)256 << 10)
#define MAGAZINE_BYTES ((size_t)1 << 20)
#define SPREAD_MIN ((size_t)4 << 10) /* below, a line of state words a block or two would be 1.5 % of them */
#define SHORT_MAX 16    /* blocks */
#define SHORT_WASTE 64  /* at most 1/64 of the run */
#define LEARN_FROM ((size_t)4 << 20) /* bytes that requests of one size brought into caches */
#define LEARN_SHARE 64 /* and more than 1/64 of what all such requests brought: random sizes have no favourite */
#define LEARN_WASTE 128  /* a class is worth making where more than 1/128 of the block is lost */
#define LEARN_MIN_BYTES 1024

unsigned tci_class_of_size(size_t nbytes) {
  if (nbytes <= 512) return nbytes ? (unsigned)((nbytes - 1) >> 6) : 0;
  unsigned log2 = 63 - (unsigned)__builtin_clzll(nbytes - 1); /* 2^log2 < nbytes <= 2^(log2 + 1) */
  return 8 + (log2 - 9) * 8 + (unsigned)((nbytes - 1) >> (log2 - 3) & 7);
}

static size_t fixed_size(unsigned class) {
  if (class < 8) return (class + 1) * 64;
  unsigned doubling = (class - 8) / 8, step = (class - 8) % 8;
  return ((size_t)512 << doubling) + (size_t)(step + 1) * ((size_t)64 << doubling);
}

/* The slab, of some 8 blocks or more, that leaves the least at its end. */
static void slab_geometry(tci_class *class) {
  size_t size = class->block_size, target = size * 8, least = SIZE_MAX;
  target = target < SLAB_MIN ? SLAB_MIN : target > SLAB_MAX ? SLAB_MAX : target;
  if (target < 4 * size) target = 4 * size;
  size_t first = tci_round_up(target, TCI_PAGE) >> TCI_PAGE_SHIFT;
  for (size_t npages = first; npages < 2 * first; npages++) {
    size_t bytes = npages << TCI_PAGE_SHIFT, lost = (bytes % size) * 1024 / bytes;
    if (lost >= least) continue;
    least = lost;
    class->npages = (uint32_t)npages;
    class->nblocks = (uint32_t)(bytes / size);
  }
}

/* For a learned size of many pages: the fewest blocks a run that lose little at its end. Each free one waits for its own size. */
static void short_geometry(tci_class *class) {
  size_t size = class->block_size, colour = size >= TCI_COLOUR_MIN ? TCI_PAGE - TC_ALIGNMENT : 0, bytes;
  class->nblocks = 0;
  do {
    class->nblocks++;
    class->npages = (uint32_t)(tci_round_up(class->nblocks * size + colour, TCI_PAGE) >> TCI_PAGE_SHIFT);
    bytes = (size_t)class->npages << TCI_PAGE_SHIFT;
  } while (size < TCI_COLOUR_MIN && class->nblocks < SHORT_MAX && (bytes - class->nblocks * size) * SHORT_WASTE > bytes);
}

/* Of an odd number, modulo 2^64: Newton's iteration doubles the right bits, three to start with. */
static uint64_t inverse_of(uint64_t odd) {
  uint64_t inverse = odd;
  for (int bits = 3; bits < 64; bits *= 2) inverse *= 2 - odd * inverse;
  return inverse;
}

static void class_init(tci_class *class, size_t size, bool learned) {
  STORE(class->block_size, (uint32_t)size);
  size_t blocks = MAGAZINE_BYTES / size;
  class->magazine = blocks > 64 ? 64 : blocks < 4 ? 4 : (uint32_t)blocks;
  class->spread = size <= SPREAD_MIN ? 0 : size < 2 * SPREAD_MIN ? 3 : 4;
  class->npages = (uint32_t)((size >> TCI_PAGE_SHIFT) + (size >= TCI_COLOUR_MIN));
  class->nblocks = 1;
  if (size < TCI_SINGLE_MIN)
    slab_geometry(class);
  else if (learned)
    short_geometry(class);
  class->shift = (uint32_t)__builtin_ctzll(size);
  class->inverse = inverse_of(size >> class->shift);
}

static unsigned aligned_class(unsigned class, size_t alignment) { /* the next whose blocks are all aligned */
  while (fixed_size(class) % alignment) class++;
  return class;
}

void tci_classes_init(tc_pool *pool) {
  size_t alignment = pool->upstream.event_record ? TC_DEVICE_ALIGNMENT : TC_ALIGNMENT;
  for (unsigned class = 0; class < TCI_FIXED_CLASSES; class++) class_init(&pool->classes[class], fixed_size(class), false);
  for (size_t granule = 0; granule <= TCI_SMALL_MAX >> TCI_GRANULE_SHIFT; granule++)
    pool->bin_of[granule] = (uint16_t)tci_bin_offset(aligned_class(tci_class_of_size(granule << TCI_GRANULE_SHIFT), alignment));
}

/* learner lock held */
static void class_make(tc_pool *pool, uint32_t granule) {
  unsigned class = TCI_FIXED_CLASSES + pool->learner.classes;
  class_init(&pool->classes[class], (size_t)granule << TCI_GRANULE_SHIFT, true);
  pool->learner.classes++;
  STORE_RELEASE(pool->bin_of[granule], (uint16_t)tci_bin_offset(class));
}

void tci_class_learn(tc_pool *pool, size_t nbytes, size_t weight) {
  uint32_t granule = (uint32_t)((nbytes + 63) >> TCI_GRANULE_SHIFT);
  unsigned class = tci_bin_index(LOAD_ACQUIRE(pool->bin_of[granule]));
  size_t exact = (size_t)granule << TCI_GRANULE_SHIFT, size = pool->classes[class].block_size;
  if (!pool->options.learn || nbytes < LEARN_MIN_BYTES || (size - exact) * LEARN_WASTE <= size) return;
  tci_learner *learner = &pool->learner;
  unsigned slot = granule * 2654435761u >> 24;
  pthread_mutex_lock(&learner->lock);
  learner->seen += weight;
  if (learner->granules[slot] == granule) {
    learner->weights[slot] += weight;
    if (learner->weights[slot] >= LEARN_FROM && learner->weights[slot] > learner->seen / LEARN_SHARE &&
        learner->classes < TCI_LEARNED_CLASSES && tci_bin_index(LOAD(pool->bin_of[granule])) < TCI_FIXED_CLASSES)
      class_make(pool, granule);
  } else if (learner->weights[slot] > weight) {
    learner->weights[slot] -= weight; /* the one that was here ages */
  } else {
    learner->granules[slot] = granule;
    learner->weights[slot] = weight;
  }
  pthread_mutex_unlock(&learner->lock);
}
