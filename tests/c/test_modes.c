/* test_modes.c - seeded faults: which mode finds which mistake. `test_modes [COUNT [SEED]]` injects COUNT of each into each mode.
 *
 * It prints docs/modes.md's table and fails where a cell is not what it measures, or where the docs say something else. Sizes are spread
 * over the doublings up to 1 MiB. A trap (SIGSEGV in a guard page) counts as found. Limit: what reads freed memory in a block that is not
 * guarded gets poison or old bytes, and nobody is told.
 */
#include <setjmp.h>
#include <signal.h>

#include "support.h"

enum { SIZE_LOG2 = 20, LATER = 16, ROUNDS = 400, MODES = 3 };

static uint64_t seed = 1;
static sigjmp_buf trap_return;
static size_t told; /* faults that the callback was told of */

static void on_trap(int number) {
  (void)number;
  siglongjmp(trap_return, 1);
}

static void on_fault(tc_pool *pool, const tc_fault *fault, void *context) {
  (void)pool, (void)fault, (void)context;
  told++;
}

static tc_pool *pool_in(tc_mode mode, unsigned guard_every) {
  tc_pool_options options;
  tc_pool *pool = NULL;
  tc_pool_options_init(&options);
  options.mode = mode;
  options.on_fault = TC_ON_FAULT_RAISE;
  options.guard_every = guard_every;
  options.decay = -1.0;
  CHECK_STATUS(tc_pool_create(&options, &pool), TC_OK, "a pool in mode %d is created", (int)mode);
  tc_pool_on_fault(pool, on_fault, NULL);
  return pool;
}

/* Change one byte, or read it; false: it trapped. A byte outside the pool is left alone: in fast mode it could be anybody's. */
static bool change(tc_pool *pool, volatile unsigned char *byte) {
  if (tc_pool_of((void *)(uintptr_t)byte) != pool) return true;
  if (sigsetjmp(trap_return, 1)) return false;
  *byte ^= 0xFF;
  return true;
}

static bool readable(volatile unsigned char *byte) {
  if (sigsetjmp(trap_return, 1)) return false;
  (void)*byte;
  return true;
}

static size_t some_size(void) { return 1 + random_size(&seed, SIZE_LOG2); }

static void *hold(tc_pool *pool, size_t nbytes) {
  void *block = tc_pool_alloc(pool, nbytes);
  CHECK(block != NULL, "%zu bytes are to be had", nbytes);
  return block;
}

/* ---- the faults: 1 where it was found ----------------------------------------------------------------------------------------------- */

static int double_free(tc_pool *pool) {
  void *block = hold(pool, some_size());
  CHECK_STATUS(tc_pool_free(pool, block), TC_OK, "the first is right");
  return tc_pool_free(pool, block) == TC_DOUBLE_FREE;
}

/* Others ask for the same size in between. Where it is not found, it took away the block of one of them. */
static int late_double_free(tc_pool *pool) {
  size_t nbytes = 1 + random_size(&seed, 13);
  void *others[LATER], *block = hold(pool, nbytes);
  CHECK_STATUS(tc_pool_free(pool, block), TC_OK, "the first is right");
  for (int i = 0; i < LATER; i++) others[i] = hold(pool, nbytes);
  int found = tc_pool_free(pool, block) == TC_DOUBLE_FREE;
  for (int i = 0; i < LATER; i++)
    if (found || others[i] != block) CHECK_STATUS(tc_pool_free(pool, others[i]), TC_OK, "theirs are right");
  return found;
}

static int wild_free(tc_pool *pool) {
  uintptr_t address = random_next(&seed) >> 17 & ~(uintptr_t)63;
  if (tc_pool_of((void *)address) == pool) return 1; /* once in a million million */
  return tc_pool_free(pool, (void *)address) == TC_INVALID_FREE;
}

static int inside_free(tc_pool *pool, size_t step) {
  size_t nbytes = 64 + some_size();
  char *block = hold(pool, nbytes);
  size_t offset = step == 64 ? 64 * (1 + random_below(&seed, (nbytes - 1) / 64)) : 1 + random_below(&seed, 63);
  int found = tc_pool_free(pool, block + offset) == TC_INVALID_FREE;
  CHECK_STATUS(tc_pool_free(pool, block), TC_OK, "the refused call changed nothing");
  return found;
}

static int interior_free(tc_pool *pool) { return inside_free(pool, 64); }
static int misaligned_free(tc_pool *pool) { return inside_free(pool, 1); }

static int foreign_free(tc_pool *pool) {
  static tc_pool *other;
  if (!other) other = pool_in(TC_MODE_FAST, 0);
  void *block = hold(pool, some_size());
  int found = tc_pool_free(other, block) == TC_INVALID_FREE;
  CHECK_STATUS(tc_pool_free(pool, block), TC_OK, "the refused call changed nothing");
  return found;
}

static int wrong_size_free(tc_pool *pool) {
  size_t nbytes = some_size(), other = some_size();
  void *block = hold(pool, nbytes);
  int found = tc_pool_free_sized(pool, block, other + (other == nbytes)) == TC_SIZE_MISMATCH;
  CHECK_STATUS(tc_pool_free(pool, block), TC_OK, "the refused call changed nothing");
  return found;
}

static int overflow(tc_pool *pool) {
  size_t nbytes = some_size(), over = 1 + random_below(&seed, 64);
  unsigned char *block = hold(pool, nbytes);
  bool trapped = false;
  for (size_t i = 0; i < over && !trapped; i++) trapped = !change(pool, block + nbytes + i);
  tc_status status = tc_pool_free(pool, block);
  CHECK(status == TC_OK || status == TC_OVERFLOW, "the block is taken back all the same");
  return trapped || status == TC_OVERFLOW;
}

/* Hand out blocks of the size until this one comes again. */
static int found_at_next_use(tc_pool *pool, void *block, size_t nbytes) {
  void *held[ROUNDS];
  size_t before = told;
  int count = 0;
  while (count < ROUNDS && told == before) {
    held[count] = hold(pool, nbytes);
    if (held[count++] == block) break;
    if (count % 4) continue; /* some come back: what waits in a line moves on */
    CHECK_STATUS(tc_pool_free(pool, held[--count]), TC_OK, "freed");
    if (random_below(&seed, ROUNDS) == 0) break;
  }
  while (count) CHECK_STATUS(tc_pool_free(pool, held[--count]), TC_OK, "freed");
  return told > before;
}

static int write_after_free(tc_pool *pool, size_t within) {
  size_t nbytes = some_size(), bound = nbytes < within ? nbytes : within;
  unsigned char *block = hold(pool, nbytes);
  CHECK_STATUS(tc_pool_free(pool, block), TC_OK, "freed");
  return !change(pool, block + random_below(&seed, bound)) || found_at_next_use(pool, block, nbytes) ||
         tc_pool_check(pool, NULL, 0) == TC_WRITE_AFTER_FREE;
}

static int write_after_free_at_start(tc_pool *pool) { return write_after_free(pool, 32); }
static int write_after_free_anywhere(tc_pool *pool) { return write_after_free(pool, SIZE_MAX); }

static int read_after_free(tc_pool *pool) {
  size_t nbytes = some_size();
  unsigned char *block = hold(pool, nbytes);
  CHECK_STATUS(tc_pool_free(pool, block), TC_OK, "freed");
  return !readable(block + random_below(&seed, nbytes));
}

static int read_after_free_of_large(tc_pool *pool) {
  size_t nbytes = (size_t)512 * KiB + 1 + random_below(&seed, 4 * MiB);
  unsigned char *block = hold(pool, nbytes);
  CHECK_STATUS(tc_pool_free(pool, block), TC_OK, "freed");
  return !readable(block + random_below(&seed, nbytes));
}

/* ---- the table ------------------------------------------------------------------------------------------------------------------------ */

enum { NONE = 0, ALL = 100 }; /* per cent that are found at least; in between: at least so many */

typedef struct row {
  const char *fault;
  int (*inject)(tc_pool *pool);
  unsigned guard_every; /* 0: as it is by itself */
  int least[MODES];
} row;

static const row ROWS[] = {
    {"double free", double_free, 0, {ALL, ALL, ALL}},
    {"double free after 16 more allocations of the size", late_double_free, 0, {NONE, NONE, 90}},
    {"wild free", wild_free, 0, {ALL, ALL, ALL}},
    {"interior free", interior_free, 0, {ALL, ALL, ALL}},
    {"misaligned free", misaligned_free, 0, {ALL, ALL, ALL}},
    {"free in another pool", foreign_free, 0, {ALL, ALL, ALL}},
    {"free with a wrong size", wrong_size_free, 0, {ALL, ALL, ALL}},
    {"overflow by 1 to 64 bytes", overflow, 0, {NONE, ALL, ALL}},
    {"overflow by 1 to 64 bytes, guarded block", overflow, 1, {NONE, ALL, ALL}},
    {"write after free, first 32 bytes", write_after_free_at_start, 0, {NONE, ALL, ALL}},
    {"write after free, anywhere", write_after_free_anywhere, 0, {NONE, ALL, 25}},
    {"write after free, guarded block", write_after_free_anywhere, 1, {NONE, ALL, ALL}},
    {"read after free, guarded block", read_after_free, 1, {NONE, NONE, ALL}},
    {"read after free, above 512 KiB", read_after_free_of_large, 0, {NONE, NONE, ALL}},
};

static const char *cell(char *text, size_t size, int least) {
  if (least == NONE || least == ALL) return least == ALL ? "all" : "none";
  snprintf(text, size, ">= %d %%", least);
  return text;
}

static size_t inject(const row *r, tc_mode mode, size_t count) {
  tc_pool_options defaults;
  tc_pool_options_init(&defaults);
  tc_pool *pool = pool_in(mode, r->guard_every ? r->guard_every : defaults.guard_every);
  size_t found = 0;
  for (size_t i = 0; i < count; i++) found += (size_t)r->inject(pool);
  CHECK_STATUS(tc_pool_destroy(pool), TC_OK, "the pool ends");
  return found;
}

static void check_row(const row *r, size_t count, const char *docs) {
  char line[256], text[32];
  int length = snprintf(line, sizeof line, "| %s |", r->fault);
  fprintf(stderr, "%s, seed %" PRIu64 ":", r->fault, seed);
  for (int mode = 0; mode < MODES; mode++) {
    size_t found = inject(r, (tc_mode)mode, count);
    fprintf(stderr, " %zu", found);
    CHECK(r->least[mode] == NONE ? found == 0 : found * 100 >= (size_t)r->least[mode] * count, "%s, mode %d: %zu of %zu found, at least %d %%",
          r->fault, mode, found, count, r->least[mode]);
    length += snprintf(line + length, sizeof line - (size_t)length, " %s |", cell(text, sizeof text, r->least[mode]));
  }
  fprintf(stderr, " of %zu\n", count);
  printf("%s\n", line);
  CHECK(strstr(docs, line) != NULL, "docs/modes.md has the row: %s", line);
}

static char *read_docs(void) {
  static char text[1 << 16];
  FILE *file = fopen(MODES_DOCUMENT, "r");
  CHECK(file != NULL, "%s can be read", MODES_DOCUMENT);
  text[fread(text, 1, sizeof text - 1, file)] = '\0';
  fclose(file);
  return text;
}

int main(int argc, char **argv) {
  size_t count = argc > 1 ? (size_t)strtoull(argv[1], NULL, 10) : 2000 / SLOWER;
  if (argc > 2) seed = strtoull(argv[2], NULL, 10);
  signal(SIGSEGV, on_trap);
  signal(SIGBUS, on_trap);
  const char *docs = read_docs();
  printf("| fault | fast | checked | hardened |\n");
  for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) check_row(&ROWS[i], count, docs);
  return 0;
}
