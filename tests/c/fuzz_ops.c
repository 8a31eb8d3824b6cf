/* fuzz_ops.c - a sequence of calls read from bytes, compared with a model after each: requests, contents, overlaps, statuses.
 *
 *   clang -fsanitize=fuzzer,address -DTENSORCORE_LIBFUZZER ...     libFuzzer brings main
 *   fuzz_ops FILE...                                               replays inputs (AFL++: fuzz_ops @@)
 *   fuzz_ops                                                       300 inputs made of random bytes: what ctest runs
 *
 * One thread; what needs several is stress.c's. Two bytes choose the pool and the failure, then each operation takes four bytes.
 */
#include "overlap.h"
#include "support.h"

enum { SLOTS = 32, MAX_LOG2 = 23, OP_BYTES = 4 };

typedef struct model {
  tc_pool *pool;
  bool host, may_fail;
  uint64_t requested, live, stamp; /* bytes, blocks */
  struct {
    void *start;
    size_t nbytes;
    uint64_t stamp;
  } slots[SLOTS];
} model;

static void hold(model *m, size_t at, void *start, size_t nbytes, bool possible) {
  if (start == NULL) {
    CHECK(m->may_fail || !possible, "%zu bytes are refused only by a limit, a failure or memory that isn't the host's", nbytes);
    return;
  }
  m->slots[at].start = start;
  m->slots[at].nbytes = nbytes;
  m->slots[at].stamp = ++m->stamp;
  m->requested += nbytes;
  m->live++;
  overlap_claim(start, capacity_of(start));
  if (m->host) sample_write(start, nbytes, m->stamp);
}

static void forget(model *m, size_t at) {
  overlap_release(m->slots[at].start, capacity_of(m->slots[at].start));
  m->requested -= m->slots[at].nbytes;
  m->live--;
}

static void check_contents(const model *m, size_t at, const void *start, size_t kept) {
  if (m->host)
    CHECK(sample_verify(start, m->slots[at].nbytes, kept, m->slots[at].stamp), "%zu of %zu bytes are kept", kept, m->slots[at].nbytes);
}

static void release(model *m, size_t at, bool sized) {
  void *start = m->slots[at].start;
  check_contents(m, at, start, m->slots[at].nbytes);
  forget(m, at);
  m->slots[at].start = NULL;
  CHECK_STATUS(sized ? tc_pool_free_sized(m->pool, start, m->slots[at].nbytes) : tc_pool_free(m->pool, start), TC_OK, "a live block is freed");
  tc_status again = tc_pool_free(m->pool, start);
  CHECK(again == TC_DOUBLE_FREE || (again == TC_INVALID_FREE && tc_pool_of(start) == NULL), "a second time is refused: %s",
        tc_status_string(again));
}

static void reallocate(model *m, size_t at, size_t nbytes) {
  size_t old = m->slots[at].nbytes, kept = nbytes < old ? nbytes : old;
  void *start = m->slots[at].start;
  forget(m, at);
  void *moved = tc_pool_realloc(m->pool, start, nbytes);
  check_contents(m, at, moved != NULL ? moved : start, moved != NULL ? kept : old);
  CHECK(moved != NULL || m->may_fail || !m->host, "a block grows to %zu bytes", nbytes);
  hold(m, at, moved != NULL ? moved : start, moved != NULL ? nbytes : old, true);
}

static void allocate(model *m, size_t at, size_t nbytes, unsigned how) {
  if (how == 0) {
    void *start = tc_pool_alloc_zeroed(m->pool, nbytes);
    if (start != NULL) CHECK_EQUAL(first_nonzero(start, nbytes), nbytes, "zeroed bytes are zero");
    hold(m, at, start, nbytes, m->host);
  } else if (how == 1) {
    size_t alignment = (size_t)64 << (nbytes + at) % 16;
    void *start = tc_pool_alloc_aligned(m->pool, nbytes, alignment);
    CHECK((uintptr_t)start % alignment == 0, "%p is aligned to %zu", start, alignment);
    hold(m, at, start, nbytes, true);
  } else {
    hold(m, at, tc_pool_alloc(m->pool, nbytes), nbytes, true);
  }
}

static void offend(model *m, size_t at, size_t nbytes) {
  char *start = m->slots[at].start;
  if (nbytes != 0 && nbytes < capacity_of(start))
    CHECK_STATUS(tc_pool_free(m->pool, start + nbytes), TC_INVALID_FREE, "an address inside a block is refused");
  if (nbytes != m->slots[at].nbytes)
    CHECK_STATUS(tc_pool_free_sized(m->pool, start, nbytes), TC_SIZE_MISMATCH, "%zu is not %zu", nbytes, m->slots[at].nbytes);
  CHECK_STATUS(tc_pool_free(m->pool, &at), TC_INVALID_FREE, "an address on the stack is refused");
}

static void operate(model *m, const uint8_t *op) {
  size_t at = op[1] % SLOTS, nbytes = (((size_t)op[3] << 8 | op[2]) << 8 | op[1]) >> (24 - op[0] / 8 % (MAX_LOG2 + 1));
  bool live = m->slots[at].start != NULL;
  switch (op[0] % 8) {
  case 0:
    tc_pool_trim(m->pool, nbytes);
    break;
  case 1:
    CHECK(tc_pool_reserve(m->pool, nbytes) == TC_OK || m->may_fail, "%zu bytes are reserved", nbytes);
    break;
  case 2:
    if (live) offend(m, at, nbytes);
    break;
  case 3:
    if (live) reallocate(m, at, nbytes);
    break;
  default:
    live ? release(m, at, op[2] % 2) : allocate(m, at, nbytes, op[2] % 8);
  }
  tc_stats s = stats_of(m->pool);
  CHECK_EQUAL(s.requested.current, m->requested, "requested is what the model holds");
  CHECK_EQUAL(s.allocation_count - s.deallocation_count, m->live, "the counts differ by what is live");
  check_at_rest(m->pool);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size < 2) return 0;
  model m = {.host = data[0] & 1, .may_fail = (data[0] & 6) != 0};
  tc_fake_options fake = {.backing = m.host ? tc_upstream_os() : NULL};
  if (data[0] & 2) fake.fail_at = 1 + data[1] % 32, fake.fail_count = 1 + data[1] / 32;
  tc_upstream *upstream = NULL;
  CHECK_STATUS(tc_upstream_fake_create(&fake, &upstream), TC_OK, "a fake upstream is made");
  tc_pool_options options;
  tc_pool_options_init(&options);
  options.upstream = upstream;
  options.decay = -1.0;
  options.limit = data[0] & 4 ? (size_t)(4 + data[1] % 32) * MiB : 0;
  options.learn = data[0] >> 3 & 1;
  CHECK_STATUS(tc_pool_create(&options, &m.pool), TC_OK, "a pool is made");
  for (const uint8_t *op = data + 2; op + OP_BYTES <= data + size; op += OP_BYTES) operate(&m, op);
  for (size_t at = 0; at < SLOTS; at++)
    if (m.slots[at].start != NULL) release(&m, at, true);
  check_empties(m.pool);
  CHECK_STATUS(tc_pool_destroy(m.pool), TC_OK, "the pool is destroyed");
  tc_fake_counts counts;
  tc_upstream_fake_counts(upstream, &counts);
  CHECK_EQUAL(counts.live_bytes + counts.errors, 0, "everything went back upstream, nothing else did");
  tc_upstream_fake_destroy(upstream);
  return 0;
}

#ifndef TENSORCORE_LIBFUZZER
static uint8_t input[1 << 16];

static void replay(const char *path) {
  FILE *file = fopen(path, "rb");
  CHECK(file != NULL, "%s can be read", path);
  size_t size = fread(input, 1, sizeof input, file);
  fclose(file);
  LLVMFuzzerTestOneInput(input, size);
}

int main(int argc, char **argv) {
  for (int i = 1; i < argc; i++) replay(argv[i]);
  for (uint64_t seed = 1; argc == 1 && seed <= 300 / SLOWER; seed++) {
    uint64_t state = seed;
    size_t size = random_below(&state, 4096);
    for (size_t i = 0; i < size; i++) input[i] = (uint8_t)random_next(&state);
    printf("%" PRIu64 " ", seed); /* the last number printed names an input that fails */
    fflush(stdout);
    LLVMFuzzerTestOneInput(input, size);
  }
  printf("\nok\n");
  return 0;
}
#endif
