/* test_pages.c - what the core makes of the system's pages, of whatever size (ci/pages runs it as if they had 16 and 64 KiB).
 *
 * Free memory goes back in whole pages, and nothing beside it does.
 */
#include "os.h"
#include "support.h"

enum { BLOCKS = 64 };

static void the_core_knows_the_systems_page(void) {
  CHECK_EQUAL(tc_page_size(), sysconf(_SC_PAGESIZE), "the page is the system's");
#ifdef TENSORCORE_TEST_PAGE
  CHECK_EQUAL(tc_page_size(), TENSORCORE_TEST_PAGE, "this build pretends");
#endif
}

static void mappings_start_and_end_on_pages_of_the_system(void) {
  size_t page = tc_page_size();
  for (size_t alignment = page; alignment <= 4 * MiB; alignment *= 2) {
    char *start = tci_os_map(3 * page, alignment);
    CHECK(start != NULL && (uintptr_t)start % alignment == 0, "aligned to %zu", alignment);
    memset(start, 1, 3 * page);
    CHECK_EQUAL(tci_os_purge(start + page, page), 0, "one page is purged");
    CHECK_EQUAL(first_nonzero(start + page, page), page, "it reads as zero");
    CHECK(start[page - 1] == 1 && start[2 * page] == 1, "its neighbours are as they were");
    tci_os_unmap(start, 3 * page);
  }
}

/* Blocks of `nbytes` that all are touched; every second one is freed. What is free is then at least `nbytes` long in one piece. */
static void **checkered(tc_pool *pool, size_t nbytes) {
  static void *blocks[BLOCKS];
  for (size_t i = 0; i < BLOCKS; i++) {
    CHECK((blocks[i] = tc_pool_alloc(pool, nbytes)) != NULL, "memory is to be had");
    sample_write(blocks[i], nbytes, i);
  }
  for (size_t i = 1; i < BLOCKS; i += 2) CHECK_STATUS(tc_pool_free(pool, blocks[i]), TC_OK, "freed");
  return blocks;
}

static void checkered_freed(tc_pool *pool, void **blocks, size_t nbytes) {
  for (size_t i = 0; i < BLOCKS; i += 2) {
    CHECK(sample_verify(blocks[i], nbytes, nbytes, i), "live block %zu kept its contents", i);
    CHECK_STATUS(tc_pool_free(pool, blocks[i]), TC_OK, "freed");
  }
  check_empties(pool);
  CHECK_STATUS(tc_pool_destroy(pool), TC_OK, "the pool is destroyed");
}

static void whole_pages_between_live_blocks_go_back_and_the_blocks_stay(void) {
  size_t nbytes = 1 * MiB + 12 * KiB;
  tc_pool *pool = pool_over(NULL);
  void **blocks = checkered(pool, nbytes);
  size_t before = resident_bytes(), went = tc_pool_trim(pool, 0), least = BLOCKS / 2 * (nbytes - 2 * tc_page_size());
  CHECK(went >= least, "%zu of %zu KiB went back", went / KiB, least / KiB);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  CHECK(resident_bytes() + least <= before + 1 * MiB, "and are not resident any more: %zu, before %zu KiB", resident_bytes() / KiB,
        before / KiB);
#else
  (void)before;
#endif
  check_at_rest(pool);
  checkered_freed(pool, blocks, nbytes);
}

static void free_pieces_smaller_than_a_page_do_not_keep_larger_ones_from_going_back(void) {
  size_t small = 36 * KiB, wall = 600 * KiB, large = 1 * MiB; /* 36 KiB: part of a page of 64 KiB */
  tc_pool *pool = pool_over(NULL);
  void **blocks = checkered(pool, small), *behind[2 * BLOCKS];
  tc_pool_trim(pool, 0); /* from the caches to the heap: older than what follows */
  for (size_t i = 0; i < 2 * BLOCKS; i++) {
    CHECK((behind[i] = tc_pool_alloc(pool, i % 2 ? wall : large)) != NULL, "memory is to be had");
    memset(behind[i], 1, i % 2 ? wall : large);
  }
  for (size_t i = 0; i < 2 * BLOCKS; i += 2) CHECK_STATUS(tc_pool_free(pool, behind[i]), TC_OK, "freed after the small ones");
  size_t went = tc_pool_trim(pool, 0), least = BLOCKS * (large - 2 * tc_page_size());
  CHECK(went >= least, "%zu of %zu KiB went back", went / KiB, least / KiB);
  for (size_t i = 1; i < 2 * BLOCKS; i += 2) CHECK_STATUS(tc_pool_free(pool, behind[i]), TC_OK, "freed");
  checkered_freed(pool, blocks, small);
}

static void zeroed_blocks_are_zero_beside_purged_pages(void) {
  size_t nbytes = 1 * MiB + 12 * KiB;
  tc_pool *pool = pool_over(NULL);
  void **blocks = checkered(pool, nbytes);
  tc_pool_trim(pool, 0);
  void *zeroed[BLOCKS / 2];
  for (size_t i = 0; i < BLOCKS / 2; i++) {
    zeroed[i] = tc_pool_alloc_zeroed(pool, nbytes - 20 * KiB);
    CHECK_EQUAL(first_nonzero(zeroed[i], nbytes - 20 * KiB), nbytes - 20 * KiB, "zeroed block %zu is zero", i);
  }
  for (size_t i = 0; i < BLOCKS / 2; i++) CHECK_STATUS(tc_pool_free(pool, zeroed[i]), TC_OK, "freed");
  checkered_freed(pool, blocks, nbytes);
}

static void a_block_that_grows_by_page_tables_keeps_its_contents(void) {
  tc_pool *pool = pool_over(NULL);
  for (size_t nbytes = 5 * MiB + 12 * KiB; nbytes < 40 * MiB; nbytes = nbytes * 2 + 4 * KiB) {
    void *small = tc_pool_alloc(pool, nbytes), *wall = tc_pool_alloc(pool, 1 * MiB);
    sample_write(small, nbytes, nbytes);
    void *grown = tc_pool_realloc(pool, small, 2 * nbytes);
    CHECK(grown && sample_verify(grown, nbytes, nbytes - SAMPLE_END, nbytes), "%zu bytes are where they were", nbytes);
    CHECK_STATUS(tc_pool_free(pool, wall), TC_OK, "freed");
    CHECK_STATUS(tc_pool_free(pool, grown), TC_OK, "freed");
    check_at_rest(pool);
  }
  check_empties(pool);
  CHECK_STATUS(tc_pool_destroy(pool), TC_OK, "the pool is destroyed");
}

int main(void) {
  RUN(the_core_knows_the_systems_page);
  RUN(mappings_start_and_end_on_pages_of_the_system);
  RUN(whole_pages_between_live_blocks_go_back_and_the_blocks_stay);
  RUN(free_pieces_smaller_than_a_page_do_not_keep_larger_ones_from_going_back);
  RUN(zeroed_blocks_are_zero_beside_purged_pages);
  RUN(a_block_that_grows_by_page_tables_keeps_its_contents);
  return 0;
}
