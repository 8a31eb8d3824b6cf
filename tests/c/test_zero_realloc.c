/* test_zero_realloc.c - contents: zeroed blocks read as zero, fresh or recycled; reallocation keeps what fits; failure keeps all. */
#include "overlap.h"
#include "support.h"

static const size_t SIZES[] = {1,      64,     100,    512,     1000,    4096,    4097,    10000,   65536,    100000,
                               262144, 524289, 800000, 1048576, 2097152, 3000000, 4194304, 9000000, 33554432, 67108864};
enum { SIZE_COUNT = sizeof SIZES / sizeof *SIZES };

static void check_zero(const void *block, size_t nbytes, const char *kind) {
  CHECK(block != NULL, "%zu %s zeroed bytes are to be had", nbytes, kind);
  CHECK_EQUAL(first_nonzero(block, nbytes), nbytes, "a %s zeroed block of %zu bytes reads as zero", kind, nbytes);
}

static void zeroed_blocks_read_as_zero(void) {
  tc_pool *pool = pool_over(NULL);
  for (size_t i = 0; i < SIZE_COUNT; i++) {
    void *block = tc_pool_alloc_zeroed(pool, SIZES[i]);
    check_zero(block, SIZES[i], "fresh");
    memset(block, 0xA5, capacity_of(block)); /* the whole of it, and a size of its own class after */
    CHECK_STATUS(tc_pool_free(pool, block), TC_OK, "it is freed dirty");
    block = tc_pool_alloc_zeroed(pool, SIZES[i]);
    check_zero(block, SIZES[i], "recycled");
    memset((char *)block + SIZES[i] / 2, 0x5A, 1); /* one dirty page among clean ones */
    CHECK_STATUS(tc_pool_free(pool, block), TC_OK, "it is freed with one dirty byte");
    block = tc_pool_alloc_zeroed(pool, SIZES[i]);
    check_zero(block, SIZES[i], "partly dirtied");
    CHECK_STATUS(tc_pool_free(pool, block), TC_OK, "it is freed clean");
  }
  check_empties(pool);
  tc_pool_destroy(pool);
}

/* Runs are split, coalesced, purged and trimmed between uses, each time dirty: no path may take old pages for zero ones. */
static void zeroed_blocks_read_as_zero_after_any_history(void) {
  enum { SLOTS = 24 };
  static struct {
    void *start;
    size_t nbytes;
  } slots[SLOTS];
  uint64_t seed = 11;
  tc_pool *pool = pool_over(NULL);
  for (size_t i = 0; i < 6000 / SLOWER; i++) {
    size_t at = random_below(&seed, SLOTS), nbytes = random_size(&seed, 23);
    if (slots[at].start != NULL) {
      CHECK_STATUS(tc_pool_free_sized(pool, slots[at].start, slots[at].nbytes), TC_OK, "a dirty block is freed");
      slots[at].start = NULL;
    } else if (i % 3 == 0) {
      CHECK((slots[at].start = tc_pool_alloc(pool, nbytes)) != NULL, "%zu bytes are to be had", nbytes);
    } else {
      slots[at].start = tc_pool_alloc_zeroed(pool, nbytes);
      check_zero(slots[at].start, nbytes, "twice-used");
    }
    slots[at].nbytes = nbytes;
    if (slots[at].start != NULL && i % 5 != 0) memset(slots[at].start, (int)(1 + i % 255), nbytes);
    if (i % 500 == 0) tc_pool_trim(pool, i % 1000 ? 0 : 8 * MiB);
    if (i % 1000 == 100) tc_pool_set_decay(pool, i % 2000 == 100 ? 0.001 : -1.0);
  }
  check_at_rest(pool);
  for (size_t at = 0; at < SLOTS; at++) tc_pool_free(pool, slots[at].start);
  check_empties(pool);
  tc_pool_destroy(pool);
}

static void check_realloc(tc_pool *pool, void **block, size_t *nbytes, size_t wanted, uint64_t stamp) {
  size_t kept = wanted < *nbytes ? wanted : *nbytes;
  overlap_release(*block, capacity_of(*block));
  void *moved = tc_pool_realloc(pool, *block, wanted);
  CHECK(moved != NULL, "%zu bytes become %zu", *nbytes, wanted);
  overlap_claim(moved, capacity_of(moved));
  tc_block found;
  tc_block_find(moved, &found);
  CHECK_EQUAL((uintptr_t)moved % TC_ALIGNMENT, 0, "a reallocated block is aligned");
  CHECK_EQUAL(found.requested, wanted, "a reallocated block knows its new size");
  CHECK(found.start == moved && found.capacity >= wanted, "capacity %zu holds %zu", found.capacity, wanted);
  CHECK_EQUAL(pattern_verify(moved, kept, stamp), kept, "from %zu to %zu bytes the first %zu are kept", *nbytes, wanted, kept);
  *block = moved;
  *nbytes = wanted;
}

static void realloc_keeps_contents_over_random_chains(void) {
  enum { CHAINS = 8 };
  void *blocks[CHAINS];
  size_t sizes[CHAINS];
  uint64_t seed = 5;
  tc_pool *pool = pool_over(NULL);
  for (size_t c = 0; c < CHAINS; c++) {
    sizes[c] = random_size(&seed, 16);
    CHECK((blocks[c] = tc_pool_alloc(pool, sizes[c])) != NULL, "a chain starts");
    overlap_claim(blocks[c], capacity_of(blocks[c]));
    pattern_write(blocks[c], sizes[c], c);
  }
  for (size_t step = 0; step < 4000 / SLOWER; step++) {
    size_t c = random_below(&seed, CHAINS), kept = sizes[c];
    size_t wanted = step % 4 ? random_size(&seed, c < 6 ? 20 : 25) : sizes[c] + random_below(&seed, 1 + sizes[c] / 8);
    check_realloc(pool, &blocks[c], &sizes[c], wanted, c);
    if (wanted > kept) pattern_write(blocks[c], wanted, c);
  }
  check_at_rest(pool);
  for (size_t c = 0; c < CHAINS; c++) {
    overlap_release(blocks[c], capacity_of(blocks[c]));
    CHECK_STATUS(tc_pool_free_sized(pool, blocks[c], sizes[c]), TC_OK, "a chain ends");
  }
  check_empties(pool);
  tc_pool_destroy(pool);
}

static void realloc_grows_and_shrinks_through_every_doubling(void) {
  tc_pool *pool = pool_over(NULL);
  size_t nbytes = 1, largest = 256 * MiB / SLOWER;
  void *block = tc_pool_alloc(pool, nbytes);
  overlap_claim(block, capacity_of(block));
  pattern_write(block, nbytes, 9);
  for (size_t wanted = 2; wanted <= largest; wanted *= 2) {
    check_realloc(pool, &block, &nbytes, wanted, 9);
    pattern_write(block, nbytes, 9);
  }
  for (size_t wanted = largest / 2; wanted > 0; wanted /= 2) check_realloc(pool, &block, &nbytes, wanted, 9);
  CHECK_EQUAL(stats_of(pool).requested.current, 1, "at the end one byte is asked for");
  CHECK(stats_of(pool).allocated.current <= 64, "and a shrunk block no longer holds %" PRIu64 " bytes", stats_of(pool).allocated.current);
  overlap_release(block, capacity_of(block));
  CHECK_STATUS(tc_pool_free_sized(pool, block, 1), TC_OK, "the block is freed with its last size");
  check_empties(pool);
  tc_pool_destroy(pool);
}

/* `before` keeps the block's run from starting at its alignment, `behind` keeps it from growing in place. */
static void an_aligned_block_is_reallocated_like_any_other(void) {
  tc_pool *pool = pool_over(NULL);
  for (size_t alignment = 128; alignment <= 2 * MiB; alignment *= 4) {
    for (size_t from = 1000; from <= 16 * MiB; from *= 4) {
      size_t nbytes = from;
      void *before = tc_pool_alloc(pool, 600000), *block = tc_pool_alloc_aligned(pool, nbytes, alignment);
      void *behind = tc_pool_alloc(pool, 600000);
      CHECK(before != NULL && block != NULL && behind != NULL, "%zu bytes aligned to %zu are to be had", nbytes, alignment);
      overlap_claim(block, capacity_of(block));
      pattern_write(block, nbytes, alignment);
      check_realloc(pool, &block, &nbytes, 3 * from, alignment);
      check_realloc(pool, &block, &nbytes, from / 3, alignment);
      overlap_release(block, capacity_of(block));
      CHECK_STATUS(tc_pool_free_sized(pool, block, nbytes), TC_OK, "a block that was aligned to %zu is freed", alignment);
      CHECK_STATUS(tc_pool_free(pool, before), TC_OK, "freed");
      CHECK_STATUS(tc_pool_free(pool, behind), TC_OK, "freed");
    }
  }
  check_empties(pool);
  tc_pool_destroy(pool);
}

static void moved_away_memory_reads_as_zero_when_zeroed_anew(void) {
  tc_pool *pool = pool_over(NULL);
  for (size_t nbytes = 100000; nbytes <= 16 * MiB; nbytes = nbytes * 3 / 2) {
    void *block = tc_pool_alloc(pool, nbytes), *wall = tc_pool_alloc(pool, nbytes);
    CHECK(block != NULL && wall != NULL, "two blocks of %zu bytes are to be had", nbytes);
    memset(block, 0xEE, nbytes);
    CHECK((block = tc_pool_realloc(pool, block, 2 * nbytes)) != NULL, "the first has to move");
    CHECK_EQUAL(*((unsigned char *)block + nbytes - 1), 0xEE, "its contents moved with it");
    void *anew = tc_pool_alloc_zeroed(pool, nbytes);
    check_zero(anew, nbytes, "moved-away");
    CHECK_STATUS(tc_pool_free(pool, anew), TC_OK, "freed");
    CHECK_STATUS(tc_pool_free(pool, wall), TC_OK, "freed");
    CHECK_STATUS(tc_pool_free(pool, block), TC_OK, "freed");
  }
  check_empties(pool);
  tc_pool_destroy(pool);
}

static void realloc_of_null_allocates_and_to_zero_keeps_a_block(void) {
  tc_pool *pool = pool_over(NULL);
  void *block = tc_pool_realloc(pool, NULL, 5000);
  CHECK(block != NULL, "reallocating NULL allocates");
  CHECK_EQUAL(stats_of(pool).requested.current, 5000, "with the size asked for");
  block = tc_pool_realloc(pool, block, 0);
  CHECK(block != NULL, "a block shrunk to nothing is a block still");
  CHECK_EQUAL(stats_of(pool).requested.current, 0, "of zero bytes");
  CHECK((block = tc_pool_realloc(pool, block, 100)) != NULL, "it grows again");
  CHECK_STATUS(tc_pool_free_sized(pool, block, 100), TC_OK, "and is freed");
  CHECK((block = tc_pool_realloc(pool, NULL, 0)) != NULL, "reallocating NULL to zero bytes gives a block");
  CHECK_STATUS(tc_pool_free_sized(pool, block, 0), TC_OK, "which is freed");
  check_empties(pool);
  tc_pool_destroy(pool);
}

static void a_failed_realloc_leaves_the_block_untouched(void) {
  tc_pool *pool = pool_over(NULL);
  for (size_t i = 0; i < SIZE_COUNT && SIZES[i] <= 4 * MiB; i++) {
    void *block = tc_pool_alloc(pool, SIZES[i]);
    CHECK(block != NULL, "%zu bytes are to be had", SIZES[i]);
    pattern_write(block, SIZES[i], i);
    tc_pool_set_limit(pool, 16 * MiB);
    size_t capacity = capacity_of(block);
    CHECK(tc_pool_realloc(pool, block, 64 * MiB) == NULL, "64 MiB are beyond the limit");
    CHECK_EQUAL(pattern_verify(block, SIZES[i], i), SIZES[i], "the block of %zu bytes keeps its contents", SIZES[i]);
    CHECK_EQUAL(capacity_of(block), capacity, "and its capacity");
    CHECK_EQUAL(stats_of(pool).requested.current, SIZES[i], "and its size");
    CHECK_STATUS(tc_pool_free_sized(pool, block, SIZES[i]), TC_OK, "and is freed");
    check_empties(pool);
  }
  tc_pool_destroy(pool);
}

int main(void) {
  RUN(zeroed_blocks_read_as_zero);
  RUN(zeroed_blocks_read_as_zero_after_any_history);
  RUN(realloc_keeps_contents_over_random_chains);
  RUN(realloc_grows_and_shrinks_through_every_doubling);
  RUN(an_aligned_block_is_reallocated_like_any_other);
  RUN(moved_away_memory_reads_as_zero_when_zeroed_anew);
  RUN(realloc_of_null_allocates_and_to_zero_keeps_a_block);
  RUN(a_failed_realloc_leaves_the_block_untouched);
  return 0;
}
