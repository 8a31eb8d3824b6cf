/* test_faults.c - every system call of the core fails in turn: the call in hand is refused or served, nothing else is harmed.
 *
 * One program of allocations is run once for each k, in a process of its own (so that also the first mapping of all fails): once the
 * k-th use of a call fails alone, once all from the k-th on. Then the calls work again, everything is freed and the pool must be empty.
 */
#include "faults.h"

#include <sys/wait.h>

enum { BLOCKS = 48 };

typedef struct program {
  tc_pool *pool;
  uint64_t stamp;
  uint64_t refused;
  struct {
    void *start;
    size_t nbytes;
    uint64_t stamp;
  } held[BLOCKS];
} program;

static void hold(program *p, size_t at, void *start, size_t nbytes) {
  p->held[at].start = start;
  p->held[at].nbytes = nbytes;
  p->held[at].stamp = ++p->stamp;
  if (start) sample_write(start, nbytes, p->stamp);
  p->refused += start == NULL;
}

static void release(program *p, size_t at) {
  void *start = p->held[at].start;
  if (!start) return;
  CHECK(sample_verify(start, p->held[at].nbytes, p->held[at].nbytes, p->held[at].stamp), "a block of %zu bytes keeps its contents",
        p->held[at].nbytes);
  tc_status status = tc_pool_free_sized(p->pool, start, p->held[at].nbytes);
  if (status == TC_OUT_OF_MEMORY) { /* of a thread's records: nothing is changed, the block is freed later */
    p->refused++;
    return;
  }
  CHECK_STATUS(status, TC_OK, "a live block of %zu bytes is freed", p->held[at].nbytes);
  p->held[at].start = NULL;
}

static void grow(program *p, size_t at, size_t nbytes) {
  size_t old = p->held[at].nbytes;
  void *start = p->held[at].start ? tc_pool_realloc(p->pool, p->held[at].start, nbytes) : NULL;
  if (!start) return;
  CHECK(sample_verify(start, old, old < nbytes ? old : nbytes, p->held[at].stamp), "from %zu to %zu bytes the contents are kept", old, nbytes);
  hold(p, at, start, nbytes);
}

static void zeroed(program *p, size_t at, size_t nbytes) {
  void *start = tc_pool_alloc_zeroed(p->pool, nbytes);
  if (start) CHECK_EQUAL(first_nonzero(start, nbytes), nbytes, "zeroed bytes are zero");
  hold(p, at, start, nbytes);
}

static void *release_odd_and_allocate(void *argument) { /* in another thread, which ends with a full cache */
  program *p = argument;
  for (size_t at = 1; at < 16; at += 2) release(p, at);
  for (size_t at = 1; at < 16; at += 2)
    if (!p->held[at].start) hold(p, at, tc_pool_alloc(p->pool, 500 * at), 500 * at);
  return NULL;
}

static void run_program(program *p) {
  pthread_t thread;
  for (size_t at = 0; at < 16; at++) hold(p, at, tc_pool_alloc(p->pool, (size_t)40 << at % 13), (size_t)40 << at % 13);
  for (size_t at = 16; at < 22; at++) hold(p, at, tc_pool_alloc(p->pool, at * MiB / 4), at * MiB / 4);
  hold(p, 22, tc_pool_alloc_aligned(p->pool, 100 * KiB, 64 * KiB), 100 * KiB);
  hold(p, 23, tc_pool_alloc_aligned(p->pool, 3 * MiB, 2 * MiB), 3 * MiB);
  CHECK_EQUAL(__real_pthread_create(&thread, NULL, release_odd_and_allocate, p), 0, "a thread is started");
  CHECK_EQUAL(pthread_join(thread, NULL), 0, "and joined");
  for (size_t at = 16; at < 22; at += 2) release(p, at);
  tc_pool_trim(p->pool, 0); /* pages go beside the live blocks, whole segments too */
  for (size_t at = 16; at < 22; at += 2)
    if (!p->held[at].start) zeroed(p, at, at * MiB / 4);
  release(p, 18);
  zeroed(p, 24, 18 * MiB / 4); /* used pages: what is resident is cleared */
  grow(p, 19, 6 * MiB);
  grow(p, 19, 12 * MiB); /* by page tables */
  grow(p, 19, 20 * MiB);
  grow(p, 2, 300);
  tc_status status = tc_pool_reserve(p->pool, 100 * MiB);
  CHECK(status == TC_OK || status == TC_OUT_OF_MEMORY, "a reservation is met or refused: %s", tc_status_string(status));
  tc_pool_set_decay(p->pool, 0.005); /* wants a thread */
  for (size_t at = 25; at < BLOCKS; at++) hold(p, at, tc_pool_alloc(p->pool, 200 * KiB), 200 * KiB);
  for (size_t at = 25; at < BLOCKS; at += 2) release(p, at);
  check_pool(p->pool);
  tc_pool_trim(p->pool, 1 * MiB);
  tc_pool_set_decay(p->pool, -1.0);
}

/* Exit 0: survived with failures; 1: the program makes fewer uses than k. Anything else is a defect. */
static int survive(fault call, uint64_t from, uint64_t count) {
  program p = {0};
  alarm(60);
  faults_arm(call, from, count);
  tc_status status = tc_pool_create(NULL, &p.pool);
  if (status != TC_OK) {
    CHECK_STATUS(status, TC_OUT_OF_MEMORY, "a pool is refused for want of memory");
    CHECK(faults_disarm() > 0, "only after a failure");
    CHECK_STATUS(tc_pool_create(NULL, &p.pool), TC_OK, "later a pool is to be had");
    tc_pool_destroy(p.pool);
    return 0;
  }
  run_program(&p);
  uint64_t failures = faults_disarm();
  CHECK(failures || !p.refused, "nothing is refused without a failure");
  check_pool(p.pool);
  for (size_t at = 0; at < BLOCKS; at++) {
    release(&p, at);
    CHECK(p.held[at].start == NULL, "block %zu is freed when the calls work again", at);
  }
  check_empties(p.pool);
  hold(&p, 0, tc_pool_alloc(p.pool, 8 * MiB), 8 * MiB);
  CHECK(p.held[0].start != NULL, "memory is to be had again");
  release(&p, 0);
  check_empties(p.pool);
  CHECK_STATUS(tc_pool_destroy(p.pool), TC_OK, "the pool is destroyed");
  return failures ? 0 : 1;
}

static bool survives(fault call, uint64_t from, uint64_t count) { /* false: fewer uses than `from` */
  int outcome = 0;
  fflush(stdout);
  pid_t child = fork();
  CHECK(child >= 0, "a child is forked");
  if (child == 0) _exit(survive(call, from, count));
  CHECK(waitpid(child, &outcome, 0) == child, "the child is waited for");
  CHECK(WIFEXITED(outcome) && WEXITSTATUS(outcome) <= 1, "%s failing %s from use %" PRIu64 " on is survived: exit %d, signal %d",
        fault_names[call], count == 1 ? "once" : "always", from, WIFEXITED(outcome) ? WEXITSTATUS(outcome) : -1,
        WIFSIGNALED(outcome) ? WTERMSIG(outcome) : 0);
  return WEXITSTATUS(outcome) == 0;
}

#define FAULT_TEST(name)                                                                                      \
  static void every_##name##_may_fail(void) {                                                                 \
    uint64_t uses = 0, step = SLOWER > 1 ? 4 : 1;                                                             \
    while (survives(FAULT_##name, uses + 1, 1) && survives(FAULT_##name, uses + 1, UINT64_MAX)) uses += step; \
    printf("%" PRIu64 " uses ", uses);                                                                        \
    CHECK(uses > 0 || getenv("TENSORCORE_MODE"), "the program uses " #name);                                  \
  }
FAULTS(FAULT_TEST)

int main(void) {
#define FAULT_RUN(name) RUN(every_##name##_may_fail);
  FAULTS(FAULT_RUN)
  return 0;
}
