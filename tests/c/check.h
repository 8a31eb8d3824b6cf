/* check.h - how a C test states a fact: a broken one prints file:line, the fact and the values, then aborts.
 *
 * The checks do not depend on NDEBUG: a release build proves the same facts. A test that hangs is named by the last line printed.
 */
#ifndef TENSORCORE_TESTS_CHECK_H
#define TENSORCORE_TESTS_CHECK_H

#include <inttypes.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tensorcore.h"

/* CHECK(condition, "the fact, with %zu values", value): the text is the fact that holds when the condition is true. */
#define CHECK(condition, ...) ((condition) ? (void)0 : check_failed(__FILE__, __LINE__, #condition, __VA_ARGS__))

/* Two integers, each evaluated once; the values are printed beside the fact. */
#define CHECK_EQUAL(got, want, ...)                                                                      \
  do {                                                                                                   \
    uintmax_t check_got_ = (uintmax_t)(got), check_want_ = (uintmax_t)(want);                            \
    if (check_got_ != check_want_) {                                                                     \
      fprintf(stderr, "%s is %" PRIuMAX ", %s is %" PRIuMAX "\n", #got, check_got_, #want, check_want_); \
      check_failed(__FILE__, __LINE__, #got " == " #want, __VA_ARGS__);                                  \
    }                                                                                                    \
  } while (0)

#define CHECK_STATUS(got, want, ...)                                                                                              \
  do {                                                                                                                            \
    tc_status check_got_ = (got), check_want_ = (want);                                                                           \
    if (check_got_ != check_want_) {                                                                                              \
      fprintf(stderr, "%s is %d (%s), expected %d (%s)\n", #got, (int)check_got_, tc_status_string(check_got_), (int)check_want_, \
              tc_status_string(check_want_));                                                                                     \
      check_failed(__FILE__, __LINE__, #got " == " #want, __VA_ARGS__);                                                           \
    }                                                                                                                             \
  } while (0)

/* RUN(test): one static void function whose name states its fact. CHECK_ONLY=part_of_its_name in the environment runs that alone. */
#define RUN(test)                                                         \
  do {                                                                    \
    const char *check_only_ = getenv("CHECK_ONLY");                       \
    if (check_only_ != NULL && strstr(#test, check_only_) == NULL) break; \
    printf("%s ... ", #test);                                             \
    fflush(stdout);                                                       \
    test();                                                               \
    printf("ok\n");                                                       \
    fflush(stdout);                                                       \
  } while (0)

/* RUN for a fact that the modes checked and hardened change on purpose: what a block costs, which one comes next. */
#define RUN_FAST(test)                                                      \
  do {                                                                      \
    const char *check_mode_ = getenv("TENSORCORE_MODE");                    \
    if (check_mode_ == NULL || strcmp(check_mode_, "fast") == 0) RUN(test); \
  } while (0)

__attribute__((noreturn, cold, format(printf, 4, 5))) static inline void check_failed(const char *file, int line, const char *condition,
                                                                                      const char *fact, ...) {
  va_list arguments;
  fflush(stdout);
  fprintf(stderr, "%s:%d: not so: ", file, line);
  va_start(arguments, fact);
  vfprintf(stderr, fact, arguments);
  va_end(arguments);
  fprintf(stderr, " [%s]\n", condition);
  fflush(stderr);
  abort();
}

#endif /* TENSORCORE_TESTS_CHECK_H */
