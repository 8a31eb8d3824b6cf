/* test_records.c - a pool may remember something of every block, out of band: a record each, for every kind of block. */
#include "internal.h"
#include "support.h"

static const size_t SIZES[] = {1, 64, 200, 1024, 5000, 16384, 40000, 65536, 200000, 524288, 524289, 3000000};
enum { SIZE_COUNT = sizeof SIZES / sizeof *SIZES, EACH = 100, BLOCKS = SIZE_COUNT * EACH, RECORD = 96 };

static uint64_t *record_of(void *block) {
  tci_run *run = tci_page_map_get((uintptr_t)block);
  return tci_run_record(run, tci_run_word(run, (uintptr_t)block - run->base));
}

static tc_pool *pool_with_records(void) {
  tc_pool *pool = pool_over(tc_upstream_os());
  pool->record_bytes = RECORD; /* before the first segment */
  return pool;
}

static void every_block_has_a_record_of_its_own(void) {
  static void *blocks[BLOCKS];
  tc_pool *pool = pool_with_records();
  for (size_t i = 0; i < BLOCKS; i++) {
    blocks[i] = tc_pool_alloc(pool, SIZES[i % SIZE_COUNT]);
    CHECK(blocks[i] != NULL, "%zu bytes are to be had", SIZES[i % SIZE_COUNT]);
    uint64_t *record = record_of(blocks[i]);
    CHECK_EQUAL(first_nonzero(record, RECORD), RECORD, "the record of a block of a new run is zero");
    memset(record, 0xFF, RECORD);
    record[0] = i;
  }
  check_pool(pool);
  for (size_t i = 0; i < BLOCKS; i++) {
    CHECK_EQUAL(*record_of(blocks[i]), i, "no other block's record lies here");
    CHECK_STATUS(tc_pool_free(pool, blocks[i]), TC_OK, "the block is taken back");
    CHECK_EQUAL(*record_of(blocks[i]), i, "a record outlives the deallocation");
  }
  check_empties(pool);
  tc_pool_destroy(pool);
}

static void a_run_that_is_used_anew_has_zeroed_records(void) {
  tc_pool *pool = pool_with_records();
  for (int round = 0; round < 20; round++)
    for (size_t i = 0; i < SIZE_COUNT; i++) {
      void *block = tc_pool_alloc(pool, SIZES[i]);
      CHECK_EQUAL(first_nonzero(record_of(block), RECORD), RECORD, "a record of %zu bytes is zero after its run went to the heap", SIZES[i]);
      memset(record_of(block), 0xFF, RECORD);
      tc_pool_free(pool, block);
      tci_cache_collect(pool, false);
    }
  check_empties(pool);
  tc_pool_destroy(pool);
}

int main(void) {
  RUN_FAST(every_block_has_a_record_of_its_own);
  RUN_FAST(a_run_that_is_used_anew_has_zeroed_records);
  return 0;
}
