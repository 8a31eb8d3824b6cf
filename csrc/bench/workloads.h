/* workloads.h - sizes as programs ask for them, the same in the benchmark of memory and in the tests of its bounds. */
#ifndef TENSORCORE_BENCH_WORKLOADS_H
#define TENSORCORE_BENCH_WORKLOADS_H

#include <stddef.h>
#include <stdint.h>

#define KIB ((size_t)1024)
#define MIB ((size_t)1024 * 1024)

static uint64_t workload_seed; /* not 0 */

static inline uint64_t workload_below(uint64_t bound) { /* xorshift64, Marsaglia 2003 */
  workload_seed ^= workload_seed << 13;
  workload_seed ^= workload_seed >> 7;
  workload_seed ^= workload_seed << 17;
  return workload_seed % bound;
}

static inline size_t workload_between(size_t low, size_t high) { /* powers of two; each doubling as likely as the next */
  size_t doublings = (size_t)(63 - __builtin_clzll(high / low)), base = low << workload_below(doublings);
  return base + workload_below(base);
}

/* Sizes within a factor of four of a middle that moves from 512 B to 32 KiB and back, twice, while `progress` goes from 0 to 1. */
static inline size_t workload_drifting(double progress) {
  static const double log2_middle[] = {9, 15, 11, 14, 10};
  enum { LEGS = sizeof log2_middle / sizeof *log2_middle - 1 };
  size_t leg = (size_t)(progress * LEGS) < LEGS ? (size_t)(progress * LEGS) : LEGS - 1;
  double middle = log2_middle[leg] + (log2_middle[leg + 1] - log2_middle[leg]) * (progress * LEGS - (double)leg);
  double log2 = middle - 2 + 4 * (double)workload_below(1 << 20) / (1 << 20), whole = (double)(size_t)log2;
  return (size_t)((1 + (log2 - whole)) * (double)((size_t)1 << (size_t)log2));
}

#endif
