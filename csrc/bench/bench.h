/* bench.h - what the host benchmark's files share: an allocator as a few functions, and how a case reports. */
#ifndef TENSORCORE_BENCH_H
#define TENSORCORE_BENCH_H

#include <stddef.h>
#include <stdint.h>

typedef struct allocator {
  const char *name;
  void *(*allocate)(void *context, size_t nbytes);
  void *(*allocate_zeroed)(void *context, size_t nbytes);
  void (*release)(void *context, void *block);
  size_t (*usable)(void *context, void *block); /* bytes that the block holds */
  struct tc_pool *(*pool)(void *context);       /* NULL where there is none */
  void *context;
  int has_memory; /* 0: made-up addresses, so that only the loop is measured */
} allocator;

typedef struct bench_case {
  const char *name;
  void (*run)(const allocator *a);
  int needs_memory; /* 1: writes to its blocks */
} bench_case;

extern const bench_case bench_cases[];  /* end with a NULL name; times */
extern const bench_case bench_memory[]; /* bytes: only by their names */
extern const bench_case bench_curves[]; /* times as something grows: only by their names */

extern double bench_seconds; /* least time of one repetition */
extern int bench_repetitions; /* the median of so many is reported */
extern uint64_t bench_operations; /* of a long run */

/* One line of JSON on stdout. `faults`: page faults per operation; `note`: what was changed to fit the machine, or "". */
void bench_report(const char *label, double ns_per_operation, double faults, const char *note);

void bench_value(const char *label, double value, const char *unit); /* another line: of anything but time */

void bench_sleep(double seconds);
double bench_now(void);      /* seconds */
uint64_t bench_faults(void); /* minor page faults of this process */

#endif
