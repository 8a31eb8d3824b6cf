/* bench_host.c - measures one host allocator: `bench_host ALLOCATOR [--quick] [--case NAME]`, a line of JSON per row on stdout.
 *
 * ALLOCATOR is malloc or aligned (malloc and aligned_alloc(64) of whatever library is preloaded), tensorcore, or harness (the loop alone,
 * the floor of the other figures). Each case runs in a forked child, so that none inherits another's heap. Limit: one process sees one
 * allocator, so rounds of different allocators must be interleaved by the caller (tensorcore bench does).
 */
#include "bench.h"

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

uint64_t bench_faults(void) {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return (uint64_t)usage.ru_minflt;
}

void bench_report(const char *label, double ns_per_operation, double faults, const char *note) {
  printf("{\"label\": \"%s\", \"ns\": %.3f, \"faults\": %.3f, \"note\": \"%s\"}\n", label, ns_per_operation, faults, note);
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

static void *harness_allocate(void *context, size_t nbytes) {
  (void)nbytes;
  return context;
}

static void harness_release(void *context, void *block) {
  (void)context;
  (void)block;
}

static allocator allocators[] = {
    {"malloc", malloc_allocate, malloc_allocate_zeroed, malloc_release, NULL, 1},
    {"aligned", aligned_allocate, aligned_allocate_zeroed, malloc_release, NULL, 1},
    {"tensorcore", pool_allocate, pool_allocate_zeroed, pool_release, NULL, 1},
    {"harness", harness_allocate, harness_allocate, harness_release, &allocators, 0},
};

static allocator *allocator_named(const char *name) {
  for (size_t i = 0; i < sizeof allocators / sizeof allocators[0]; i++)
    if (strcmp(allocators[i].name, name) == 0) return &allocators[i];
  return NULL;
}

/* ---- one child per case ----------------------------------------------------------------------------------------------------------- */

static void case_run(const bench_case *c, allocator *a) {
  if (a->allocate == pool_allocate) {
    tc_pool *pool;
    if (tc_pool_create(NULL, &pool) != TC_OK) exit(1);
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

static int usage_error(void) {
  fprintf(stderr, "usage: bench_host malloc|aligned|tensorcore|harness [--quick] [--case NAME]\ncases:");
  for (const bench_case *c = bench_cases; c->name != NULL; c++) fprintf(stderr, " %s", c->name);
  fprintf(stderr, "\n");
  return 2;
}

int main(int argc, char **argv) {
  allocator *a = argc > 1 ? allocator_named(argv[1]) : NULL;
  const char *only = NULL;
  int failures = 0;
  if (a == NULL) return usage_error();
  for (int i = 2; i < argc; i++) {
    if (strcmp(argv[i], "--quick") == 0) {
      bench_seconds = 0.002;
      bench_repetitions = 3;
    } else if (strcmp(argv[i], "--case") == 0 && i + 1 < argc) {
      only = argv[++i];
    } else {
      return usage_error();
    }
  }
  for (const bench_case *c = bench_cases; c->name != NULL; c++) {
    if (only != NULL && strcmp(only, c->name) != 0) continue;
    if (c->needs_memory && !a->has_memory) continue;
    failures += !case_succeeds_in_child(c, a);
  }
  return failures != 0;
}
