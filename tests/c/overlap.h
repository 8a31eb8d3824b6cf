/* overlap.h - an oracle that knows which 64-byte granules are handed out: no two live blocks may share one.
 *
 * A bitmap over the lower half of the address space in leaves of 64 MiB, made on first use and kept until exit. It never touches the
 * blocks, so it serves made-up addresses too. All accesses are relaxed: the oracle must not order what the pool fails to order, or
 * ThreadSanitizer would not see it. Claiming costs one atomic operation per 4 KiB of block.
 */
#ifndef TENSORCORE_TESTS_OVERLAP_H
#define TENSORCORE_TESTS_OVERLAP_H

#include <stdatomic.h>

#include "check.h"

#define OVERLAP_LEAF_LOG2 26    /* bytes of address space under one leaf */
#define OVERLAP_ADDRESS_LOG2 47 /* user addresses on x86-64 and most of AArch64 */
#define OVERLAP_WORD_LOG2 12    /* 64 granules of 64 bytes in one word */
#define OVERLAP_WORDS ((size_t)1 << (OVERLAP_LEAF_LOG2 - OVERLAP_WORD_LOG2))

typedef _Atomic(uint64_t) overlap_word;
static _Atomic(overlap_word *) overlap_leaves[(size_t)1 << (OVERLAP_ADDRESS_LOG2 - OVERLAP_LEAF_LOG2)];

static inline overlap_word *overlap_word_at(uintptr_t address) {
  CHECK(address >> OVERLAP_ADDRESS_LOG2 == 0, "the address %#" PRIxPTR " lies in the lower half of the address space", address);
  _Atomic(overlap_word *) *slot = &overlap_leaves[address >> OVERLAP_LEAF_LOG2];
  overlap_word *leaf = atomic_load_explicit(slot, memory_order_acquire);
  if (leaf == NULL) {
    overlap_word *fresh = calloc(OVERLAP_WORDS, sizeof *fresh);
    CHECK(fresh != NULL, "the oracle has memory for a leaf");
    if (atomic_compare_exchange_strong_explicit(slot, &leaf, fresh, memory_order_acq_rel, memory_order_acquire))
      leaf = fresh;
    else
      free(fresh);
  }
  return &leaf[(address >> OVERLAP_WORD_LOG2) & (OVERLAP_WORDS - 1)];
}

/* The bits of the granules of [first, last] that lie in the word of `address`. */
static inline uint64_t overlap_mask(uintptr_t word_start, uintptr_t first, uintptr_t last) {
  uintptr_t low = first > word_start ? (first - word_start) >> 6 : 0;
  uintptr_t high = last - word_start < 4096 ? (last - word_start) >> 6 : 63;
  return (~UINT64_C(0) << low) & (~UINT64_C(0) >> (63 - high));
}

static inline void overlap_claim(const void *start, size_t nbytes) {
  uintptr_t first = (uintptr_t)start, last = first + (nbytes ? nbytes - 1 : 0);
  for (uintptr_t at = first & ~(uintptr_t)4095; at <= last; at += 4096) {
    uint64_t mask = overlap_mask(at, first, last);
    uint64_t old = atomic_fetch_or_explicit(overlap_word_at(at), mask, memory_order_relaxed);
    CHECK((old & mask) == 0, "the new block %p of %zu bytes shares no granule with a live block", start, nbytes);
  }
}

static inline void overlap_release(const void *start, size_t nbytes) {
  uintptr_t first = (uintptr_t)start, last = first + (nbytes ? nbytes - 1 : 0);
  for (uintptr_t at = first & ~(uintptr_t)4095; at <= last; at += 4096) {
    uint64_t mask = overlap_mask(at, first, last);
    uint64_t old = atomic_fetch_and_explicit(overlap_word_at(at), ~mask, memory_order_relaxed);
    CHECK((old & mask) == mask, "the block %p of %zu bytes was live until now", start, nbytes);
  }
}

#endif /* TENSORCORE_TESTS_OVERLAP_H */
