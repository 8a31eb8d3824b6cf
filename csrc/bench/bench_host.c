/* bench_host.c - measures one host allocator: `bench_host ALLOCATOR [--quick] [--case NAME] [--operations N]`, a line of JSON per row.
 *
 * ALLOCATOR is malloc or aligned (malloc and aligned_alloc(64) of whatever library is preloaded), tensorcore, or harness (the loop alone,
 * the floor of the other figures). Without a name all cases of bench_cases.c run; those of memory and the curves have to be named. Each case runs in a forked child, so that none inherits another's heap. Limit: one process sees one
 * allocator, so rounds of different allocators must be interleaved by the caller (tensorcore bench does).
 */
#include "bench.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tensorcore.h"

double bench_seconds = 0.02;
int bench_repetitions = 5;

double bench_now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

void bench_sleep(double seconds) {
  time_t whole = (time_t)seconds;
  nanosleep(&(struct timespec){whole, (long)(1e9 * (seconds - (double)whole))}, NULL);
}

uint64_t bench_faults(void) {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return (uint64_t)usage.ru_minflt;
}

void bench_report(const char *label, double ns_per_operation, double faults, const char *note) {
  printf("{\"label\": \"%s\", \"ns\": %.3f, \"faults\": %.3f, \"note\": \"%s\"}\n", label, ns_per_operation, faults, note);
  fflush(stdout);
}

void bench_value(const char *label, double value, const char *unit) {
  printf("{\"label\": \"%s\", \"value\": %.4f, \"unit\": \"%s\"}\n", label, value, unit);
  fflush(stdout);
}

/* ---- the allocators -------------------------------------------------------------------------------------------------------------- */

static void *malloc_allocate(void *context, size_t nbytes) {
  (void)context;
  return malloc(nbytes);
}

static void *malloc_allocate_zeroed(void *context, size_t nbytes) {
  (void)context;
  return calloc(1, nbytes);
}

static void malloc_release(void *context, void *block) {
  (void)context;
  free(block);
}

static size_t malloc_usable(void *context, void *block) {
  (void)context;
  return malloc_usable_size(block);
}

static struct tc_pool *no_pool(void *context) {
  (void)context;
  return NULL;
}

static size_t round_up_64(size_t nbytes) { return (nbytes + 63) & ~(size_t)63; }

static void *aligned_allocate(void *context, size_t nbytes) {
  (void)context;
  return aligned_alloc(64, round_up_64(nbytes));
}

static void *aligned_allocate_zeroed(void *context, size_t nbytes) {
  void *block = aligned_allocate(context, nbytes);
  return block == NULL ? NULL : memset(block, 0, nbytes);
}

static void *pool_allocate(void *context, size_t nbytes) { return tc_pool_alloc(context, nbytes); }

static void *pool_allocate_zeroed(void *context, size_t nbytes) { return tc_pool_alloc_zeroed(context, nbytes); }

static void pool_release(void *context, void *block) {
  if (tc_pool_free(context, block) != TC_OK) abort();
}

static size_t pool_usable(void *context, void *block) {
  tc_block found;
  (void)context;
  tc_block_find(block, &found);
  return found.capacity;
}

static struct tc_pool *pool_itself(void *context) { return context; }

static void *harness_allocate(void *context, size_t nbytes) {
  (void)nbytes;
  return context;
}

static void harness_release(void *context, void *block) {
  (void)context;
  (void)block;
}

static allocator allocators[] = {
    {"malloc", malloc_allocate, malloc_allocate_zeroed, malloc_release, malloc_usable, no_pool, NULL, 1},
    {"aligned", aligned_allocate, aligned_allocate_zeroed, malloc_release, malloc_usable, no_pool, NULL, 1},
    {"tensorcore", pool_allocate, pool_allocate_zeroed, pool_release, pool_usable, pool_itself, NULL, 1},
    {"harness", harness_allocate, harness_allocate, harness_release, NULL, no_pool, &allocators, 0},
};

static allocator *allocator_named(const char *name) {
  for (size_t i = 0; i < sizeof allocators / sizeof allocators[0]; i++)
    if (strcmp(allocators[i].name, name) == 0) return &allocators[i];
  return NULL;
}

/* ---- one child per case ----------------------------------------------------------------------------------------------------------- */

static double decay = 10.0;
static int learn = 1;

static void case_run(const bench_case *c, allocator *a) {
  if (a->allocate == pool_allocate) {
    tc_pool *pool;
    tc_pool_options options;
    tc_pool_options_init(&options);
    options.decay = decay;
    options.learn = learn;
    if (tc_pool_create(&options, &pool) != TC_OK) exit(1);
    a->context = pool;
  }
  c->run(a);
  exit(0);
}

static int case_succeeds_in_child(const bench_case *c, allocator *a) {
  int status;
  pid_t child = fork();
  if (child == 0) case_run(c, a);
  if (child < 0 || waitpid(child, &status, 0) != child) return 0;
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return 1;
  fprintf(stderr, "bench_host: case %s of %s ended with status %d\n", c->name, a->name, status);
  return 0;
}

static const bench_case *const lists[] = {bench_cases, bench_memory, bench_curves};

static int usage_error(void) {
  fprintf(
      stderr,
      "usage: bench_host malloc|aligned|tensorcore|harness [--quick] [--case NAME] [--operations N] [--decay SECONDS] [--no-learning]\ncases:");
  for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
    for (const bench_case *c = lists[i]; c->name != NULL; c++) fprintf(stderr, " %s", c->name);
  fprintf(stderr, "\n");
  return 2;
}

/* How many of the list's cases failed; `only`: NULL for all of them. */
static int list_run(const bench_case *list, const char *only, allocator *a) {
  int failures = 0;
  for (const bench_case *c = list; c->name != NULL; c++)
    if ((only == NULL || strcmp(only, c->name) == 0) && (a->has_memory || !c->needs_memory)) failures += !case_succeeds_in_child(c, a);
  return failures;
}

int main(int argc, char **argv) {
  allocator *a = argc > 1 ? allocator_named(argv[1]) : NULL;
  const char *only = NULL;
  if (a == NULL) return usage_error();
  for (int i = 2; i < argc; i++) {
    const char *value = i + 1 < argc ? argv[i + 1] : NULL;
    if (strcmp(argv[i], "--quick") == 0)
      bench_seconds = 0.002, bench_repetitions = 3, bench_operations = 200000;
    else if (strcmp(argv[i], "--no-learning") == 0)
      learn = 0;
    else if (value == NULL)
      return usage_error();
    else if (strcmp(argv[i], "--case") == 0)
      only = argv[++i];
    else if (strcmp(argv[i], "--operations") == 0)
      bench_operations = strtoull(argv[++i], NULL, 10);
    else if (strcmp(argv[i], "--decay") == 0)
      decay = strtod(argv[++i], NULL);
    else
      return usage_error();
  }
  int failures = list_run(bench_cases, only, a);
  for (size_t i = 1; only != NULL && i < sizeof lists / sizeof *lists; i++) failures += list_run(lists[i], only, a);
  return failures != 0;
}
