/* test_simd_exceptions.c - the SIMD layer's arithmetic is the caller's: its exceptions come back to it, its rounding is that of every thread. */
#include <fenv.h>
#include <float.h>
#include <math.h>

#include "support.h"
#include "tensorcore/simd.h"

enum { SMALL = 100, LARGE = 3000000 / SLOWER };

static double a[LARGE], b[LARGE], out[LARGE];

/* What an operation raises where one pair of operands stands among harmless ones. */
static int raised_at(tc_simd_operation operation, size_t count, size_t at, double x, double y) {
  const void *inputs[] = {a, b};
  double old_a = a[at], old_b = b[at];
  a[at] = x, b[at] = y;
  tc_simd_take_exceptions();
  CHECK_STATUS(tc_simd_map(operation, TC_SIMD_F64, count, out, inputs, 0), TC_OK, "there is such an operation");
  a[at] = old_a, b[at] = old_b;
  return tc_simd_take_exceptions();
}

static void every_exception_reaches_the_caller_from_every_element_and_thread(void) {
  const struct {
    tc_simd_operation operation;
    double x, y;
    int exceptions;
  } cases[] = {
      {TC_SIMD_ADD, 1.0, 2.0, 0},
      {TC_SIMD_ADD, DBL_MAX, DBL_MAX, FE_OVERFLOW},
      {TC_SIMD_SUBTRACT, INFINITY, INFINITY, FE_INVALID},
      {TC_SIMD_MULTIPLY, DBL_MIN, DBL_MIN, FE_UNDERFLOW},
      {TC_SIMD_DIVIDE, 1.0, 0.0, FE_DIVBYZERO},
      {TC_SIMD_DIVIDE, 0.0, 0.0, FE_INVALID},
      {TC_SIMD_NEGATE, NAN, 0.0, 0},
  };
  for (size_t i = 0; i < LARGE; i++) a[i] = b[i] = 1.0;
  unsigned old = tc_simd_set_threads(4);
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    for (size_t at = 0; at < SMALL; at++)
      CHECK_EQUAL(raised_at(cases[i].operation, SMALL, at, cases[i].x, cases[i].y), cases[i].exceptions, "case %zu at %zu", i, at);
    for (size_t at = 7; at < LARGE; at += LARGE / 10)
      CHECK_EQUAL(raised_at(cases[i].operation, LARGE, at, cases[i].x, cases[i].y), cases[i].exceptions, "case %zu at %zu of many", i, at);
  }
  tc_simd_set_threads(old);
}

static void exceptions_are_those_of_the_system_and_taken_once(void) {
  feclearexcept(FE_ALL_EXCEPT);
  const void *inputs[] = {a, b};
  a[0] = 1.0, b[0] = 0.0;
  CHECK_STATUS(tc_simd_map(TC_SIMD_DIVIDE, TC_SIMD_F64, 1, out, inputs, 0), TC_OK, "there is a division");
  CHECK(fetestexcept(FE_DIVBYZERO), "fenv.h knows of the division by zero");
  CHECK_EQUAL(tc_simd_take_exceptions(), FE_DIVBYZERO, "it is taken");
  CHECK_EQUAL(tc_simd_take_exceptions(), 0, "once");
  CHECK(!fetestexcept(FE_DIVBYZERO), "fenv.h knows it no more");
}

static void every_thread_rounds_as_the_caller_does(void) {
  const void *inputs[] = {a, b};
  for (size_t i = 0; i < LARGE; i++) a[i] = 1.0, b[i] = 1e-30;
  unsigned old = tc_simd_set_threads(4);
  fesetround(FE_UPWARD);
  CHECK_STATUS(tc_simd_map(TC_SIMD_ADD, TC_SIMD_F64, LARGE, out, inputs, 0), TC_OK, "there is an addition");
  fesetround(FE_TONEAREST);
  for (size_t i = 0; i < LARGE; i++) CHECK(out[i] == 1.0 + DBL_EPSILON, "element %zu is rounded up", i);
  CHECK_STATUS(tc_simd_map(TC_SIMD_ADD, TC_SIMD_F64, LARGE, out, inputs, 0), TC_OK, "there is an addition");
  for (size_t i = 0; i < LARGE; i++) CHECK(out[i] == 1.0, "element %zu is rounded to the nearest", i);
  tc_simd_set_threads(old);
}

int main(void) {
  RUN(every_exception_reaches_the_caller_from_every_element_and_thread);
  RUN(exceptions_are_those_of_the_system_and_taken_once);
  RUN(every_thread_rounds_as_the_caller_does);
  return 0;
}
