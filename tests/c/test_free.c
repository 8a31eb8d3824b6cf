/* test_free.c - what is refused: double, wild, interior, mis-sized and foreign deallocations get their status and change nothing. */
#include <sys/mman.h>

#include "support.h"

static const size_t SIZES[] = {0,     1,      64,     65,     300,    512,     513,     1000,    4096,    5000,    16384,    65536,
                               65537, 100000, 262144, 500000, 524288, 1000000, 1048576, 1048577, 2097152, 5000000, 33554432, 70000000};
enum { SIZE_COUNT = sizeof SIZES / sizeof *SIZES };

static void *hold(tc_pool *pool, size_t nbytes) {
  void *block = tc_pool_alloc(pool, nbytes);
  CHECK(block != NULL, "%zu bytes are to be had", nbytes);
  return block;
}

/* Everything but the count of refusals, which must have grown by `refusals`. */
static void check_unchanged(tc_pool *pool, tc_stats before, uint64_t refusals, const char *what, size_t nbytes) {
  tc_stats after = stats_of(pool);
  CHECK_EQUAL(after.refused_deallocations, before.refused_deallocations + refusals, "%s of %zu bytes is counted", what, nbytes);
#define STAT_SAME(field, meaning)                                                                                                              \
  CHECK(memcmp(&after.field, &before.field, sizeof(tc_stat)) == 0, "%s of %zu bytes leaves " #field " at %" PRIu64 ": %" PRIu64, what, nbytes, \
        before.field.current, after.field.current);
#define COUNT_SAME(field, meaning)                                                                       \
  if (strcmp(#field, "refused_deallocations") != 0)                                                      \
    CHECK_EQUAL(after.field, before.field, "%s of %zu bytes leaves " #field " as it was", what, nbytes);
  TC_STATISTICS(STAT_SAME, COUNT_SAME)
#undef STAT_SAME
#undef COUNT_SAME
  check_pool(pool);
}

static void check_refused(tc_pool *pool, void *ptr, tc_status expected, const char *what, size_t nbytes) {
  tc_stats before = stats_of(pool);
  CHECK_STATUS(tc_pool_free(pool, ptr), expected, "tc_pool_free refuses %s of %zu bytes", what, nbytes);
  CHECK_STATUS(tc_pool_free_sized(pool, ptr, nbytes), expected, "tc_pool_free_sized refuses %s of %zu bytes", what, nbytes);
  check_unchanged(pool, before, 2, what, nbytes);
}

static void a_block_freed_twice_is_refused(void) {
  tc_pool *pool = pool_over(NULL);
  for (size_t i = 0; i < SIZE_COUNT; i++) {
    void *neighbour = hold(pool, SIZES[i]), *block = hold(pool, SIZES[i]);
    CHECK_STATUS(tc_pool_free(pool, block), TC_OK, "the first deallocation of %zu bytes is taken", SIZES[i]);
    check_refused(pool, block, TC_DOUBLE_FREE, "a second deallocation", SIZES[i]);
    CHECK_STATUS(tc_free(block), TC_DOUBLE_FREE, "tc_free refuses it too");
    CHECK(tc_pool_realloc(pool, block, 10) == NULL, "a freed block of %zu bytes is not reallocated", SIZES[i]);
    CHECK_STATUS(tc_pool_free(pool, neighbour), TC_OK, "the neighbour is freed as ever");
  }
  check_empties(pool);
  tc_pool_destroy(pool);
}

static void a_double_free_never_hands_a_block_out_twice(void) {
  enum { COUNT = 300 };
  tc_pool *pool = pool_over(NULL);
  for (size_t i = 0; i < SIZE_COUNT && SIZES[i] <= 65536; i++) {
    void *blocks[COUNT], *freed = hold(pool, SIZES[i]);
    CHECK_STATUS(tc_pool_free(pool, freed), TC_OK, "a block is freed");
    CHECK_STATUS(tc_pool_free(pool, freed), TC_DOUBLE_FREE, "and once more");
    size_t times = 0;
    for (size_t k = 0; k < COUNT; k++) times += (blocks[k] = hold(pool, SIZES[i])) == freed;
    CHECK(times <= 1, "the block freed twice was handed out %zu times", times);
    for (size_t k = 0; k < COUNT; k++) CHECK_STATUS(tc_pool_free(pool, blocks[k]), TC_OK, "each is freed once");
  }
  check_empties(pool);
  tc_pool_destroy(pool);
}

static void an_address_inside_a_block_is_refused(void) {
  tc_pool *pool = pool_over(NULL);
  for (size_t i = 0; i < SIZE_COUNT; i++) {
    char *block = hold(pool, SIZES[i]);
    size_t capacity = capacity_of(block), offsets[] = {1, 8, 63, 64, 4096, capacity / 2, capacity - 64, capacity - 1};
    for (size_t k = 0; k < sizeof offsets / sizeof *offsets; k++) {
      if (offsets[k] == 0 || offsets[k] >= capacity) continue;
      check_refused(pool, block + offsets[k], TC_INVALID_FREE, "an address inside a block", SIZES[i]);
      CHECK_STATUS(tc_free(block + offsets[k]), TC_INVALID_FREE, "tc_free refuses it too");
    }
    CHECK(tc_pool_realloc(pool, block + 1, 10) == NULL, "an address inside a block is not reallocated");
    CHECK_STATUS(tc_pool_free_sized(pool, block, SIZES[i]), TC_OK, "the block itself is freed");
    if (capacity > 64) CHECK(tc_pool_free(pool, block + 64) != TC_OK, "an address inside a freed block of %zu is refused", SIZES[i]);
  }
  check_empties(pool);
  tc_pool_destroy(pool);
}

static void a_wrong_size_is_refused(void) {
  tc_pool *pool = pool_over(NULL);
  for (size_t i = 0; i < SIZE_COUNT; i++) {
    size_t n = SIZES[i], wrong[] = {n + 1, n - 1, n + 64, 2 * n + 1, n / 2, 0, SIZE_MAX};
    void *block = hold(pool, n);
    for (size_t k = 0; k < sizeof wrong / sizeof *wrong; k++) {
      if (wrong[k] == n) continue;
      tc_stats before = stats_of(pool);
      CHECK_STATUS(tc_pool_free_sized(pool, block, wrong[k]), TC_SIZE_MISMATCH, "%zu is not the size of %zu bytes", wrong[k], n);
      check_unchanged(pool, before, 1, "a mis-sized deallocation", n);
    }
    CHECK_STATUS(tc_pool_free_sized(pool, block, n), TC_OK, "the right size %zu is taken", n);
  }
  check_empties(pool);
  tc_pool_destroy(pool);
}

static void another_pools_block_is_refused(void) {
  tc_pool *ours = pool_over(NULL), *theirs = pool_over(NULL);
  for (size_t i = 0; i < SIZE_COUNT; i++) {
    void *block = hold(theirs, SIZES[i]), *mine = hold(ours, SIZES[i]);
    tc_stats before = stats_of(theirs);
    pattern_write(block, SIZES[i], i);
    check_refused(ours, block, TC_INVALID_FREE, "another pool's block", SIZES[i]);
    CHECK(tc_pool_realloc(ours, block, 2 * SIZES[i] + 1) == NULL, "another pool's block is not reallocated");
    check_unchanged(theirs, before, 0, "another pool's refusal", SIZES[i]);
    CHECK_EQUAL(pattern_verify(block, SIZES[i], i), SIZES[i], "the refused block keeps its contents");
    CHECK_STATUS(tc_pool_free_sized(theirs, block, SIZES[i]), TC_OK, "its own pool takes it");
    CHECK(tc_pool_free(ours, block) != TC_OK, "another pool's freed block is refused");
    CHECK_STATUS(tc_pool_free(ours, mine), TC_OK, "ours is freed");
  }
  check_empties(ours);
  check_empties(theirs);
  tc_pool_destroy(ours);
  tc_pool_destroy(theirs);
}

static void wild_addresses_are_refused(void) {
  static char in_data[256];
  char on_stack[256], *on_heap = malloc(100000), *mapped;
  mapped = mmap(NULL, 4 * MiB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  CHECK(on_heap != NULL && mapped != MAP_FAILED, "there is memory that is not ours");
  uintptr_t wild[] = {1,
                      64,
                      4096,
                      2 * MiB,
                      (uintptr_t)in_data,
                      (uintptr_t)on_stack,
                      (uintptr_t)on_heap,
                      (uintptr_t)mapped,
                      (uintptr_t)mapped + 2 * MiB,
                      (uintptr_t)&wild_addresses_are_refused,
                      (uintptr_t)1 << 46,
                      (uintptr_t)1 << 47,
                      (uintptr_t)1 << 48,
                      (uintptr_t)1 << 63,
                      UINTPTR_MAX & ~(uintptr_t)63,
                      UINTPTR_MAX};
  tc_pool *pool = pool_over(NULL);
  void *block = hold(pool, 1000);
  for (size_t i = 0; i < sizeof wild / sizeof *wild; i++) {
    for (size_t low = 0; low <= 64; low += 32) {
      void *ptr = (void *)(wild[i] + low);
      if (ptr == NULL) continue;
      check_refused(pool, ptr, TC_INVALID_FREE, "a wild address", 1000);
      CHECK_STATUS(tc_free(ptr), TC_INVALID_FREE, "tc_free refuses %p", ptr);
      CHECK(tc_pool_realloc(pool, ptr, 10) == NULL, "%p is not reallocated", ptr);
      CHECK(tc_pool_of(ptr) == NULL, "%p belongs to no pool", ptr);
    }
  }
  /* Around the live block: every other granule of the two segments nearest to it. */
  for (uintptr_t at = (uintptr_t)block - 2 * MiB; at < (uintptr_t)block + 2 * MiB; at += 64)
    if (at != (uintptr_t)block) CHECK(tc_pool_free(pool, (void *)at) != TC_OK, "%#" PRIxPTR " is no live block", at);
  CHECK_STATUS(tc_pool_free_sized(pool, block, 1000), TC_OK, "the live block is freed");
  check_empties(pool);
  tc_pool_destroy(pool);
  munmap(mapped, 4 * MiB);
  free(on_heap);
}

static void null_is_freed_without_effect(void) {
  tc_pool *pool = pool_over(NULL);
  tc_stats before = stats_of(pool);
  CHECK_STATUS(tc_pool_free(pool, NULL), TC_OK, "freeing NULL is allowed");
  CHECK_STATUS(tc_pool_free_sized(pool, NULL, 0), TC_OK, "with its size, too");
  CHECK_STATUS(tc_free(NULL), TC_OK, "without a pool, too");
  check_unchanged(pool, before, 0, "NULL", 0);
  tc_pool_destroy(pool);
}

static void addresses_of_a_segment_that_is_gone_are_refused(void) {
  void *blocks[SIZE_COUNT];
  tc_pool *pool = pool_over(NULL);
  for (size_t i = 0; i < SIZE_COUNT; i++) blocks[i] = hold(pool, SIZES[i]);
  for (size_t i = 0; i < SIZE_COUNT; i++) CHECK_STATUS(tc_pool_free(pool, blocks[i]), TC_OK, "each is freed");
  check_empties(pool);
  for (size_t i = 0; i < SIZE_COUNT; i++) {
    check_refused(pool, blocks[i], TC_INVALID_FREE, "a block whose segment is gone", SIZES[i]);
    CHECK(tc_pool_of(blocks[i]) == NULL, "an address whose segment is gone belongs to no pool");
  }
  check_empties(pool);
  tc_pool_destroy(pool);
}

int main(void) {
  RUN(a_block_freed_twice_is_refused);
  RUN(a_double_free_never_hands_a_block_out_twice);
  RUN(an_address_inside_a_block_is_refused);
  RUN(a_wrong_size_is_refused);
  RUN(another_pools_block_is_refused);
  RUN(wild_addresses_are_refused);
  RUN(null_is_freed_without_effect);
  RUN(addresses_of_a_segment_that_is_gone_are_refused);
  return 0;
}
