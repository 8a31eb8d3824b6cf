/* bench.h - what the host benchmark's two files share: an allocator as three functions, and how a case reports. */
#ifndef TENSORCORE_BENCH_H
#define TENSORCORE_BENCH_H

#include <stddef.h>
#include <stdint.h>

typedef struct allocator {
  const char *name;
  void *(*allocate)(void *context, size_t nbytes);
  void *(*allocate_zeroed)(void *context, size_t nbytes);
  void (*release)(void *context, void *block);
  void *context;
  int has_memory; /* 0: made-up addresses, so that only the loop is measured */
} allocator;

typedef struct bench_case {
  const char *name;
  void (*run)(const allocator *a);
  int needs_memory; /* 1: writes to its blocks */
} bench_case;

extern const bench_case bench_cases[]; /* ends with a NULL name */

extern double bench_seconds; /* least time of one repetition */
extern int bench_repetitions; /* the median of so many is reported */

/* One line of JSON on stdout. `faults`: page faults per operation; `note`: what was changed to fit the machine, or "". */
void bench_report(const char *label, double ns_per_operation, double faults, const char *note);

double bench_now(void);      /* seconds */
uint64_t bench_faults(void); /* minor page faults of this process */

#endif
