/* bench_device.h - what the device benchmark's files share. */
#ifndef TENSORCORE_BENCH_DEVICE_H
#define TENSORCORE_BENCH_DEVICE_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>

static inline double bench_now(void) { /* seconds */
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

uint64_t bench_random(void);
void bench_random_seed(uint64_t seed);

void bench_fragmentation(void); /* bench_traces.c: a line of JSON for each trace and policy */

#endif
