/* test_pool.c - what a block is: aligned, distinct, of a class that wastes little, described by tc_block_find; odd requests refused. */
#include "overlap.h"
#include "support.h"

static void every_block_is_aligned_to_64_bytes(void) {
  tc_pool *pool = pool_over(NULL);
  for (size_t nbytes = 0; nbytes <= 4 * MiB; nbytes += 1 + nbytes / 512) {
    void *block = tc_pool_alloc(pool, nbytes);
    CHECK(block != NULL, "%zu bytes are to be had", nbytes);
    CHECK_EQUAL((uintptr_t)block % TC_ALIGNMENT, 0, "a block of %zu bytes at %p is aligned", nbytes, block);
    CHECK_STATUS(tc_pool_free(pool, block), TC_OK, "the block of %zu bytes is freed", nbytes);
  }
  check_empties(pool);
  tc_pool_destroy(pool);
}

static void every_alignment_up_to_2_mib_is_kept(void) {
  static const size_t sizes[] = {0, 1, 64, 100, 4095, 4096, 4097, 65536, 80000, 1048576, 2097152, 3000000};
  enum { ALIGNMENTS = 22, SIZES = sizeof sizes / sizeof *sizes };
  static void *blocks[ALIGNMENTS][SIZES];
  tc_pool *pool = pool_over(NULL);
  for (unsigned log2 = 0; log2 < ALIGNMENTS; log2++) {
    size_t alignment = (size_t)1 << log2;
    for (size_t i = 0; i < SIZES; i++) {
      tc_block found;
      void *block = blocks[log2][i] = tc_pool_alloc_aligned(pool, sizes[i], alignment);
      CHECK(block != NULL, "%zu bytes aligned to %zu are to be had", sizes[i], alignment);
      CHECK_EQUAL((uintptr_t)block % alignment, 0, "%p is aligned to %zu", block, alignment);
      CHECK_EQUAL((uintptr_t)block % TC_ALIGNMENT, 0, "a smaller alignment asked for is not a smaller one given");
      tc_block_find(block, &found);
      CHECK(found.start == block, "an aligned block %p starts where it was handed out, not at %p", block, found.start);
      CHECK_EQUAL(found.requested, sizes[i], "an aligned block knows its request");
      overlap_claim(block, found.capacity);
      pattern_write(block, sizes[i], log2 * 100 + i);
    }
  }
  check_at_rest(pool);
  for (unsigned log2 = 0; log2 < ALIGNMENTS; log2++) {
    for (size_t i = 0; i < SIZES; i++) {
      CHECK_EQUAL(pattern_verify(blocks[log2][i], sizes[i], log2 * 100 + i), sizes[i], "aligned blocks keep their contents");
      overlap_release(blocks[log2][i], capacity_of(blocks[log2][i]));
      CHECK_STATUS(tc_pool_free_sized(pool, blocks[log2][i], sizes[i]), TC_OK, "an aligned block is freed with its size");
    }
  }
  check_empties(pool);
  tc_pool_destroy(pool);
}

static void odd_alignments_are_refused(void) {
  static const size_t odd[] = {0, 3, 63, 65, 96, 4097, 4 * 1024 * 1024, (size_t)1 << 47, SIZE_MAX};
  tc_pool *pool = pool_over(NULL);
  for (size_t i = 0; i < sizeof odd / sizeof *odd; i++)
    CHECK(tc_pool_alloc_aligned(pool, 100, odd[i]) == NULL, "an alignment of %zu is no power of two up to 2 MiB", odd[i]);
  CHECK_EQUAL(stats_of(pool).allocation_count, 0, "a refused alignment hands out nothing");
  check_empties(pool);
  tc_pool_destroy(pool);
}

static void impossible_sizes_are_refused_without_overflow(void) {
  static const size_t huge[] = {SIZE_MAX, SIZE_MAX - 1, SIZE_MAX - 63, SIZE_MAX - 4096, SIZE_MAX / 2, SIZE_MAX / 2 + 1, (size_t)1 << 62};
  tc_pool *pool = pool_over(NULL);
  void *kept = tc_pool_alloc(pool, 1000);
  pattern_write(kept, 1000, 7);
  for (size_t i = 0; i < sizeof huge / sizeof *huge; i++) {
    CHECK(tc_pool_alloc(pool, huge[i]) == NULL, "%zu bytes are not to be had", huge[i]);
    CHECK(tc_pool_alloc_zeroed(pool, huge[i]) == NULL, "%zu zeroed bytes are not to be had", huge[i]);
    CHECK(tc_pool_alloc_aligned(pool, huge[i], 4096) == NULL, "%zu aligned bytes are not to be had", huge[i]);
    CHECK(tc_pool_realloc(pool, kept, huge[i]) == NULL, "a block does not grow to %zu bytes", huge[i]);
    CHECK(tc_pool_reserve(pool, huge[i]) != TC_OK, "%zu bytes are not to be reserved", huge[i]);
  }
  CHECK_EQUAL(pattern_verify(kept, 1000, 7), 1000, "a block whose growth was refused keeps its contents");
  CHECK_STATUS(tc_pool_free_sized(pool, kept, 1000), TC_OK, "a block whose growth was refused keeps its size");
  check_empties(pool);
  tc_pool_destroy(pool);
}

static void zero_bytes_give_distinct_blocks(void) {
  enum { COUNT = 1000 };
  static void *blocks[COUNT];
  tc_pool *pool = pool_over(NULL);
  for (size_t i = 0; i < COUNT; i++) {
    blocks[i] = i % 2 ? tc_pool_alloc(pool, 0) : tc_pool_alloc_zeroed(pool, 0);
    CHECK(blocks[i] != NULL, "zero bytes are a block");
    overlap_claim(blocks[i], 0);
  }
  CHECK_EQUAL(stats_of(pool).requested.current, 0, "zero bytes were asked for");
  CHECK_EQUAL(stats_of(pool).allocation_count, COUNT, "each was handed out");
  for (size_t i = 0; i < COUNT; i++) {
    overlap_release(blocks[i], 0);
    CHECK_STATUS(tc_pool_free_sized(pool, blocks[i], 0), TC_OK, "a block of zero bytes is freed with its size");
  }
  check_empties(pool);
  tc_pool_destroy(pool);
}

static void no_size_wastes_more_than_an_eighth(void) {
  size_t step = SLOWER;
  tc_pool *pool = pool_over(NULL);
  for (size_t nbytes = 1; nbytes <= 4 * MiB; nbytes += nbytes < 70000 ? 1 : step) {
    void *block = tc_pool_alloc(pool, nbytes);
    CHECK(block != NULL, "%zu bytes are to be had", nbytes);
    size_t capacity = capacity_of(block);
    CHECK(capacity >= nbytes, "a block of capacity %zu holds its request of %zu", capacity, nbytes);
    if (nbytes <= 512)
      CHECK(capacity - nbytes < 64, "up to 512 bytes the waste is below 64 bytes: %zu of %zu", capacity - nbytes, capacity);
    else
      CHECK((capacity - nbytes) * 8 <= capacity, "above 512 bytes the waste is at most 12.5 %%: %zu of %zu", capacity - nbytes, capacity);
    CHECK_STATUS(tc_pool_free_sized(pool, block, nbytes), TC_OK, "a block of %zu bytes is freed with its size", nbytes);
  }
  check_empties(pool);
  tc_pool_destroy(pool);
}

static void eleven_powers_of_two_fit_exactly(void) {
  tc_pool *pool = pool_over(NULL);
  for (size_t nbytes = 64; nbytes <= 65536; nbytes *= 2) {
    void *block = tc_pool_alloc(pool, nbytes);
    CHECK_EQUAL(capacity_of(block), nbytes, "%zu bytes have a class of exactly that size", nbytes);
    CHECK_STATUS(tc_pool_free(pool, block), TC_OK, "it is freed");
  }
  check_empties(pool);
  tc_pool_destroy(pool);
}

static void an_address_tells_its_block(void) {
  static const size_t sizes[] = {1, 64, 1000, 4096, 65536, 100000, 1048576, 5000000, 40000000};
  tc_pool *pool = pool_over(NULL);
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    tc_block found;
    char *block = tc_pool_alloc(pool, sizes[i]);
    size_t capacity = capacity_of(block), offsets[] = {0, sizes[i] / 2, sizes[i] - 1, capacity - 1};
    for (size_t k = 0; k < sizeof offsets / sizeof *offsets; k++) {
      tc_block_find(block + offsets[k], &found);
      CHECK(found.pool == pool && tc_pool_of(block + offsets[k]) == pool, "byte %zu of %zu belongs to the pool", offsets[k], sizes[i]);
      CHECK(found.start == block, "byte %zu of the block at %p belongs to it, not to %p", offsets[k], (void *)block, found.start);
      CHECK_EQUAL(found.requested, sizes[i], "byte %zu tells the request", offsets[k]);
      CHECK_EQUAL(found.capacity, capacity, "byte %zu tells the capacity", offsets[k]);
      CHECK_EQUAL(found.in_use, 1, "byte %zu is in use", offsets[k]);
    }
    CHECK_STATUS(tc_pool_free(pool, block), TC_OK, "it is freed");
    tc_block_find(block, &found);
    CHECK_EQUAL(found.in_use, 0, "a freed block of %zu bytes is not in use", sizes[i]);
    CHECK_EQUAL(found.requested, 0, "a freed block of %zu bytes has no request", sizes[i]);
  }
  tc_block none;
  tc_block_find(&none, &none);
  CHECK(none.pool == NULL && tc_pool_of(&pool) == NULL, "an address on the stack belongs to no pool");
  check_empties(pool);
  tc_pool_destroy(pool);
}

static void live_blocks_never_overlap(void) {
  enum { SLOTS = 512 };
  static struct {
    void *start;
    size_t nbytes;
  } slots[SLOTS];
  uint64_t seed = 1;
  tc_pool *pool = pool_over(NULL);
  for (size_t i = 0; i < 200000 / SLOWER; i++) {
    size_t at = random_below(&seed, SLOTS), nbytes = random_size(&seed, 20);
    if (slots[at].start != NULL) {
      overlap_release(slots[at].start, capacity_of(slots[at].start));
      CHECK_STATUS(tc_pool_free_sized(pool, slots[at].start, slots[at].nbytes), TC_OK, "a live block is freed");
      slots[at].start = NULL;
    } else {
      CHECK((slots[at].start = tc_pool_alloc(pool, nbytes)) != NULL, "%zu bytes are to be had", nbytes);
      slots[at].nbytes = nbytes;
      overlap_claim(slots[at].start, capacity_of(slots[at].start));
    }
  }
  check_at_rest(pool);
  for (size_t at = 0; at < SLOTS; at++)
    if (slots[at].start != NULL) CHECK_STATUS(tc_pool_free_sized(pool, slots[at].start, slots[at].nbytes), TC_OK, "the rest is freed");
  check_empties(pool);
  tc_pool_destroy(pool);
}

int main(void) {
  RUN(every_block_is_aligned_to_64_bytes);
  RUN(every_alignment_up_to_2_mib_is_kept);
  RUN(odd_alignments_are_refused);
  RUN(impossible_sizes_are_refused_without_overflow);
  RUN(zero_bytes_give_distinct_blocks);
  RUN_FAST(no_size_wastes_more_than_an_eighth);
  RUN(eleven_powers_of_two_fit_exactly);
  RUN(an_address_tells_its_block);
  RUN(live_blocks_never_overlap);
  return 0;
}
