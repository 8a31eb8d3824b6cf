/* test_environment.c - harsh surroundings: a bounded address space, locked memory, a kernel without membarrier, a timer's signal handler.
 *
 * Each test changes its process for good, so each runs in a child. Limit: a sanitizer maps terabytes of its own, so the bounds on
 * memory hold in plain builds only.
 */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "forbid.h"
#include "support.h"

enum { SECONDS = 120, BLOCKS = 4096 };

static const char *program; /* argv[0] */

/* Blocks of the sizes of arrays until the pool refuses one, then all are freed; how many there were. */
static size_t fill_and_empty(tc_pool *pool, unsigned max_log2) {
  static struct {
    void *start;
    size_t nbytes;
  } held[BLOCKS];
  uint64_t seed = 1;
  size_t count = 0;
  for (; count < BLOCKS; count++) {
    size_t nbytes = random_size(&seed, max_log2);
    void *start = tc_pool_alloc(pool, nbytes);
    if (!start) break;
    sample_write(start, nbytes, count);
    held[count].start = start;
    held[count].nbytes = nbytes;
  }
  check_at_rest(pool);
  for (size_t i = 0; i < count; i++) {
    CHECK(sample_verify(held[i].start, held[i].nbytes, held[i].nbytes, i), "block %zu is whole when memory has run out", i);
    CHECK_STATUS(tc_pool_free_sized(pool, held[i].start, held[i].nbytes), TC_OK, "block %zu is freed", i);
  }
  check_empties(pool);
  return count;
}

/* ---- RLIMIT_AS ------------------------------------------------------------------------------------------------------------------ */

static void fill_512_mib(void) {
  struct rlimit space = {512 * MiB, RLIM_INFINITY};
  CHECK(setrlimit(RLIMIT_AS, &space) == 0, "the address space is bounded");
  tc_pool *pool = pool_over(NULL);
  size_t first = 0;
  for (int round = 0; round < 3; round++) {
    size_t count = fill_and_empty(pool, 25);
    CHECK(count > 0 && count < BLOCKS, "the system refuses in the end, after %zu blocks", count);
    CHECK(stats_of(pool).reserved.peak > 256 * MiB, "most of the space was had: %" PRIu64, stats_of(pool).reserved.peak);
    if (round == 0) first = count;
    CHECK(count >= first, "what was freed can be had again, all of it: %zu blocks after %zu", count, first);
  }
  CHECK_STATUS(tc_pool_destroy(pool), TC_OK, "the pool is destroyed");
}

static void in_a_bounded_address_space_the_pool_refuses_and_recovers(void) { in_a_child(SECONDS, fill_512_mib); }

/* ---- mlockall ------------------------------------------------------------------------------------------------------------------- */

static void run_locked(void) {
  if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0) {
    CHECK(errno == EPERM || errno == ENOMEM, "locking is refused for want of privilege only");
    printf("(not permitted here) ");
    fflush(stdout);
    return;
  }
  tc_pool_options options;
  tc_pool *pool = NULL;
  tc_pool_options_init(&options);
  options.limit = 64 * MiB;
  options.decay = 0.005;
  CHECK_STATUS(tc_pool_create(&options, &pool), TC_OK, "a pool is created in locked memory");
  for (int round = 0; round < 3; round++) {
    CHECK(fill_and_empty(pool, 22) > 0, "blocks are to be had");
    CHECK_STATUS(tc_pool_reserve(pool, 32 * MiB), TC_OK, "one segment holds what follows");
    void *small = tc_pool_alloc(pool, 100), *large = tc_pool_alloc(pool, 5 * MiB);
    CHECK(small && large, "blocks are to be had again");
    memset(large, 0xA5, 5 * MiB);
    CHECK_STATUS(tc_pool_free(pool, large), TC_OK, "freed");
    tc_pool_trim(pool, 0); /* locked pages don't go while the segment stays */
    large = tc_pool_alloc_zeroed(pool, 5 * MiB);
    CHECK_EQUAL(first_nonzero(large, 5 * MiB), 5 * MiB, "zeroed bytes are zero though the system kept the old ones");
    CHECK_STATUS(tc_pool_free(pool, large), TC_OK, "freed");
    CHECK_STATUS(tc_pool_free(pool, small), TC_OK, "freed");
  }
  check_empties(pool);
  CHECK_STATUS(tc_pool_destroy(pool), TC_OK, "the pool is destroyed");
}

static void in_locked_memory_zeroed_blocks_are_zero_and_all_goes_back(void) { in_a_child(SECONDS, run_locked); }

/* ---- no membarrier -------------------------------------------------------------------------------------------------------------- */

#ifdef CAN_FORBID
static void run_stress_without_membarrier(void) {
  char path[4096], ops[32];
  const char *slash = strrchr(program, '/');
  snprintf(path, sizeof path, "%.*sstress", slash ? (int)(slash + 1 - program) : 0, program);
  snprintf(ops, sizeof ops, "%d", 160000 / SLOWER);
  forbid_membarrier();
  CHECK(tc_has_membarrier() == 0, "the pool knows that there is none");
  freopen("/dev/null", "w", stdout);
  execl(path, path, "--threads", "4", "--ops", ops, (char *)NULL);
  CHECK(false, "%s lies beside this test", path);
}

static _Atomic(int) stage; /* 1: the other thread has a full cache; 2: it may end */

static void *fill_own_cache_and_wait(void *pool) {
  void *blocks[100];
  for (size_t i = 0; i < 100; i++) CHECK((blocks[i] = tc_pool_alloc(pool, 4 * KiB)) != NULL, "memory is to be had");
  for (size_t i = 0; i < 100; i++) CHECK_STATUS(tc_pool_free(pool, blocks[i]), TC_OK, "freed");
  atomic_store(&stage, 1);
  while (atomic_load(&stage) < 2) sleep_ms(1);
  return NULL;
}

static void trim_beside_an_idle_thread(void) {
  pthread_t thread;
  forbid_membarrier();
  tc_pool *pool = pool_over(NULL);
  CHECK_EQUAL(pthread_create(&thread, NULL, fill_own_cache_and_wait, pool), 0, "a thread is started");
  while (atomic_load(&stage) < 1) sleep_ms(1);
  tc_pool_trim(pool, 0);
  CHECK(stats_of(pool).reserved.current > 0, "what a living thread holds stays: nobody can know that it is outside");
  check_at_rest(pool); /* looks into every cache, by waiting */
  atomic_store(&stage, 2);
  CHECK_EQUAL(pthread_join(thread, NULL), 0, "a thread is joined");
  check_empties(pool);
  CHECK_STATUS(tc_pool_destroy(pool), TC_OK, "the pool is destroyed");
}

static void without_membarrier_a_living_threads_cache_is_left_alone(void) { in_a_child(SECONDS, trim_beside_an_idle_thread); }

static void without_membarrier_the_stress_test_holds(void) { in_a_child(SECONDS, run_stress_without_membarrier); }
#endif

/* ---- signals -------------------------------------------------------------------------------------------------------------------- */

enum { WORKERS = 3, READINGS = 400 };

static tc_pool *signalled;
static _Atomic(uint64_t) readings, wrong;
static _Atomic(int) stop;

static void read_statistics(int number) {
  (void)number;
  tc_stats s;
  tc_pool_stats(signalled, &s);
#define STAT_WRONG(field, meaning) atomic_fetch_add(&wrong, s.field.peak < s.field.current);
#define COUNT_WRONG(field, meaning)
  TC_STATISTICS(STAT_WRONG, COUNT_WRONG)
#undef STAT_WRONG
#undef COUNT_WRONG
  atomic_fetch_add(&wrong, s.deallocation_count > s.allocation_count);
  atomic_fetch_add(&readings, 1);
}

/* Every lock of the pool is taken and let go here. */
static void *churn(void *argument) {
  uint64_t seed = (uintptr_t)&seed;
  void *blocks[200] = {0};
  (void)argument;
  for (size_t step = 0; !atomic_load(&stop); step++) {
    void **slot = &blocks[random_below(&seed, 200)];
    CHECK_STATUS(tc_pool_free(signalled, *slot), TC_OK, "freed");
    CHECK((*slot = tc_pool_alloc(signalled, random_size(&seed, 21))) != NULL, "memory is to be had");
    if (step % 200 == 0) tc_pool_trim(signalled, 0);
  }
  for (size_t i = 0; i < 200; i++) CHECK_STATUS(tc_pool_free(signalled, blocks[i]), TC_OK, "freed");
  return NULL;
}

static void read_while_threads_allocate(void) {
  pthread_t workers[WORKERS];
  signalled = pool_over(NULL);
  struct sigaction action = {.sa_handler = read_statistics, .sa_flags = SA_RESTART};
  struct itimerval every = {{0, 1000}, {0, 1000}};
  CHECK(sigaction(SIGPROF, &action, NULL) == 0, "the handler is set");
  CHECK(setitimer(ITIMER_PROF, &every, NULL) == 0, "the timer runs with the process's CPU time");
  for (size_t i = 0; i < WORKERS; i++) CHECK_EQUAL(pthread_create(&workers[i], NULL, churn, NULL), 0, "a thread is started");
  while (atomic_load(&readings) < READINGS / SLOWER) sleep_ms(1); /* a handler that waits for a lock of its own thread ends in the alarm */
  atomic_store(&stop, 1);
  for (size_t i = 0; i < WORKERS; i++) CHECK_EQUAL(pthread_join(workers[i], NULL), 0, "a thread is joined");
  CHECK(setitimer(ITIMER_PROF, &(struct itimerval){0}, NULL) == 0, "the timer ends");
  CHECK_EQUAL(atomic_load(&wrong), 0, "no reading has a peak below its current, or more freed than allocated");
  check_empties(signalled);
  CHECK_STATUS(tc_pool_destroy(signalled), TC_OK, "the pool is destroyed");
}

static void statistics_are_read_from_a_signal_handler_while_threads_allocate(void) { in_a_child(SECONDS, read_while_threads_allocate); }

int main(int argc, char **argv) {
  (void)argc;
  program = argv[0];
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  RUN_FAST(in_a_bounded_address_space_the_pool_refuses_and_recovers);
  RUN(in_locked_memory_zeroed_blocks_are_zero_and_all_goes_back);
#else
  (void)in_a_bounded_address_space_the_pool_refuses_and_recovers;
  (void)in_locked_memory_zeroed_blocks_are_zero_and_all_goes_back;
#endif
#ifdef CAN_FORBID
  RUN(without_membarrier_a_living_threads_cache_is_left_alone);
  RUN(without_membarrier_the_stress_test_holds);
#endif
  RUN(statistics_are_read_from_a_signal_handler_while_threads_allocate);
  return 0;
}
