/* support.h - what several C tests need beside the checks: random numbers, contents patterns, pool facts, the process's RSS. */
#ifndef TENSORCORE_TESTS_SUPPORT_H
#define TENSORCORE_TESTS_SUPPORT_H

#include <stdbool.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "check.h"

#define KiB ((size_t)1024)
#define MiB ((size_t)1024 * 1024)

/* How much less a sanitized build does: it runs 5 to 20 times slower and proves races and overruns, not quantities. */
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define SLOWER 8
#else
#define SLOWER 1
#endif

/* ---- random numbers: splitmix64 (Steele, Lea and Flood 2014, doi:10.1145/2660193.2660195); the state is the seed --------------- */

static inline uint64_t random_next(uint64_t *state) {
  uint64_t z = (*state += UINT64_C(0x9E3779B97F4A7C15));
  z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
  z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
  return z ^ (z >> 31);
}

static inline size_t random_below(uint64_t *state, size_t bound) { return (size_t)(random_next(state) % bound); }

/* Sizes spread evenly over the doublings up to 2^max_log2 bytes, as array sizes are; 0 among them. */
static inline size_t random_size(uint64_t *state, unsigned max_log2) {
  return random_below(state, (size_t)1 << random_below(state, max_log2 + 1));
}

/* ---- contents: each byte depends on the block's stamp and its place, so that a moved or overlapped block shows ----------------- */

static inline unsigned char pattern_byte(uint64_t stamp, size_t index) { return (unsigned char)(stamp + index * 131 + (index >> 8) * 17); }

static inline void pattern_write(void *block, size_t nbytes, uint64_t stamp) {
  unsigned char *bytes = block;
  for (size_t i = 0; i < nbytes; i++) bytes[i] = pattern_byte(stamp, i);
}

/* The index of the first wrong byte, or `nbytes`. */
static inline size_t pattern_verify(const void *block, size_t nbytes, uint64_t stamp) {
  const unsigned char *bytes = block;
  size_t i = 0;
  while (i < nbytes && bytes[i] == pattern_byte(stamp, i)) i++;
  return i;
}

/* The index of the first byte that isn't zero, or `nbytes`. */
static inline size_t first_nonzero(const void *block, size_t nbytes) {
  const unsigned char *bytes = block;
  if (nbytes == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, nbytes - 1) == 0)) return nbytes;
  size_t i = 0;
  while (bytes[i] == 0) i++;
  return i;
}

/* The same for blocks of any size, at the cost of one byte a page: all of a small block, both ends and each page of a large one. */
enum { SAMPLE_WHOLE = 4096, SAMPLE_END = 64 };

static inline void sample_write(void *block, size_t nbytes, uint64_t stamp) {
  unsigned char *bytes = block;
  pattern_write(bytes, nbytes < SAMPLE_WHOLE ? nbytes : SAMPLE_END, stamp);
  if (nbytes < SAMPLE_WHOLE) return;
  for (size_t at = 4096; at < nbytes - SAMPLE_END; at += 4096) bytes[at] = pattern_byte(stamp, at);
  pattern_write(bytes + nbytes - SAMPLE_END, SAMPLE_END, ~stamp);
}

/* Of a block of `nbytes`, the samples below `kept` are what was written; a size that changed leaves no tail to compare. */
static inline bool sample_verify(const void *block, size_t nbytes, size_t kept, uint64_t stamp) {
  const unsigned char *bytes = block;
  size_t head = nbytes < SAMPLE_WHOLE ? nbytes : SAMPLE_END;
  if (head > kept) head = kept;
  if (pattern_verify(bytes, head, stamp) != head) return false;
  if (nbytes < SAMPLE_WHOLE) return true;
  for (size_t at = 4096; at < nbytes - SAMPLE_END && at < kept; at += 4096)
    if (bytes[at] != pattern_byte(stamp, at)) return false;
  return kept < nbytes || pattern_verify(bytes + nbytes - SAMPLE_END, SAMPLE_END, ~stamp) == SAMPLE_END;
}

/* ---- pools ---------------------------------------------------------------------------------------------------------------------- */

/* A pool that keeps what it has unless it is told otherwise, so that a test's figures do not move under it. */
static inline tc_upstream *fake_upstream(tc_fake_options options) {
  tc_upstream *upstream = NULL;
  CHECK_STATUS(tc_upstream_fake_create(&options, &upstream), TC_OK, "a fake upstream is made");
  return upstream;
}

static inline tc_fake_counts counts_of(const tc_upstream *upstream) {
  tc_fake_counts counts;
  tc_upstream_fake_counts(upstream, &counts);
  return counts;
}

/* No pool uses it any more. */
static inline void check_returned(tc_upstream *upstream) {
  tc_fake_counts counts = counts_of(upstream);
  CHECK_EQUAL(counts.live_bytes, 0, "everything went back upstream");
  CHECK_EQUAL(counts.errors, 0, "only what came from upstream went back, whole");
  tc_upstream_fake_destroy(upstream);
}

static inline tc_pool *pool_over(const tc_upstream *upstream) {
  tc_pool_options options;
  tc_pool *pool = NULL;
  tc_pool_options_init(&options);
  options.upstream = upstream;
  options.decay = -1.0;
  CHECK_STATUS(tc_pool_create(&options, &pool), TC_OK, "a pool is created");
  CHECK(pool != NULL, "a created pool has a handle");
  return pool;
}

static inline tc_stats stats_of(const tc_pool *pool) {
  tc_stats stats;
  tc_pool_stats(pool, &stats);
  return stats;
}

static inline size_t capacity_of(const void *ptr) {
  tc_block block;
  tc_block_find(ptr, &block);
  return block.capacity;
}

static inline void check_pool(tc_pool *pool) {
  char message[256] = "";
  tc_status status = tc_pool_check(pool, message, sizeof message);
  CHECK(status == TC_OK, "the pool's metadata is consistent, but: %s (%s)", message, tc_status_string(status));
}

static inline void check_stat(tc_stat stat, const char *name) {
  CHECK(stat.current == stat.total_allocated - stat.total_freed, "%s: current %" PRIu64 " = total allocated %" PRIu64 " - total freed %" PRIu64,
        name, stat.current, stat.total_allocated, stat.total_freed);
  CHECK(stat.peak >= stat.current, "%s: peak %" PRIu64 " >= current %" PRIu64, name, stat.peak, stat.current);
}

/* The header's invariants, which hold while no other thread is inside the pool. */
static inline void check_at_rest(tc_pool *pool) {
  tc_stats s = stats_of(pool);
#define STAT_CHECK(field, meaning) check_stat(s.field, #field);
#define COUNT_CHECK(field, meaning)
  TC_STATISTICS(STAT_CHECK, COUNT_CHECK)
#undef STAT_CHECK
#undef COUNT_CHECK
  CHECK(s.requested.current <= s.allocated.current, "requested %" PRIu64 " <= allocated %" PRIu64, s.requested.current, s.allocated.current);
  CHECK(s.allocated.current <= s.reserved.current, "allocated %" PRIu64 " <= reserved %" PRIu64, s.allocated.current, s.reserved.current);
  CHECK(s.cached.current + s.pending.current == s.reserved.current - s.allocated.current,
        "cached %" PRIu64 " + pending %" PRIu64 " = reserved %" PRIu64 " - allocated %" PRIu64, s.cached.current, s.pending.current,
        s.reserved.current, s.allocated.current);
  check_pool(pool);
}

/* Everything was freed: after a trim to 0 the pool holds nothing, and every current value is 0. */
static inline void check_empties(tc_pool *pool) {
  tc_pool_trim(pool, 0);
  tc_stats s = stats_of(pool);
#define STAT_ZERO(field, meaning) CHECK_EQUAL(s.field.current, 0, #field " is 0 after everything was freed and trimmed");
#define COUNT_ZERO(field, meaning)
  TC_STATISTICS(STAT_ZERO, COUNT_ZERO)
#undef STAT_ZERO
#undef COUNT_ZERO
  CHECK_EQUAL(s.allocation_count, s.deallocation_count, "every block handed out was taken back");
  CHECK_EQUAL(s.free_run_bytes, 0, "a pool that holds nothing has no free runs");
  check_at_rest(pool);
}

/* ---- the process ---------------------------------------------------------------------------------------------------------------- */

/* What changes a process for good is tried in one of its own, which an alarm ends. */
static inline void in_a_child(unsigned seconds, void (*body)(void)) {
  int outcome = 0;
  fflush(stdout);
  pid_t child = fork();
  CHECK(child >= 0, "a child is forked");
  if (child == 0) {
    alarm(seconds);
    body();
    fflush(stdout);
    _exit(0);
  }
  CHECK(waitpid(child, &outcome, 0) == child, "the child is waited for");
  CHECK(WIFEXITED(outcome) && WEXITSTATUS(outcome) == 0, "the child ended well: exit %d, signal %d",
        WIFEXITED(outcome) ? WEXITSTATUS(outcome) : -1, WIFSIGNALED(outcome) ? WTERMSIG(outcome) : 0);
}

/* Resident set size in bytes, from proc_pid_status(5). */
static inline size_t resident_bytes(void) {
  char line[256];
  unsigned long kib = 0;
  FILE *file = fopen("/proc/self/status", "r");
  CHECK(file != NULL, "/proc/self/status can be read");
  while (fgets(line, sizeof line, file) && sscanf(line, "VmRSS: %lu", &kib) != 1) continue;
  CHECK(kib > 0, "/proc/self/status has the resident set size");
  fclose(file);
  return (size_t)kib * KiB;
}

static inline void sleep_ms(long ms) {
  struct timespec duration = {ms / 1000, (ms % 1000) * 1000000L};
  nanosleep(&duration, NULL);
}

#endif /* TENSORCORE_TESTS_SUPPORT_H */
