/* test_simd.c - the SIMD layer: on every instruction set, at every length and offset, the bits of a plain loop and no byte beside them. */
#include <math.h>
#include <pthread.h>
#include <sys/wait.h>

#include "support.h"
#include "tensorcore/simd.h"

enum { LONGEST = 300, OFFSETS = 17, LARGE = 3000000 / SLOWER };

static const size_t sizes[] = {[TC_SIMD_F32] = 4, [TC_SIMD_F64] = 8, [TC_SIMD_I32] = 4, [TC_SIMD_I64] = 8};

static void on_each_instruction_set(void (*test)(void)) {
  const char *name, *widest = tc_simd_selected();
  for (size_t i = 0; (name = tc_simd_available(i)) != NULL; i++) {
    CHECK_STATUS(tc_simd_select(name), TC_OK, "an available instruction set can be selected");
    CHECK(strcmp(tc_simd_selected(), name) == 0, "%s is selected", name);
    test();
  }
  CHECK_STATUS(tc_simd_select(widest), TC_OK, "the first choice is available");
}

/* Room of exactly `count` elements behind `offset` ones, so that a sanitizer sees each byte too many. */
static char *room(tc_simd_type type, size_t offset, size_t count) {
  char *start = malloc((offset + count) * sizes[type] + 1);
  CHECK(start != NULL, "the test has memory");
  return start;
}

static void fill_random(tc_simd_type type, void *array, size_t count, uint64_t seed) {
  for (size_t i = 0; i < count; i++) {
    uint64_t r = random_next(&seed);
    double x = (double)(int64_t)r / 1e15;
    if (type == TC_SIMD_F32) ((float *)array)[i] = (float)x;
    if (type == TC_SIMD_F64) ((double *)array)[i] = x;
    if (type == TC_SIMD_I32) ((uint32_t *)array)[i] = (uint32_t)r;
    if (type == TC_SIMD_I64) ((uint64_t *)array)[i] = r;
  }
}

#define rounded(T, x) (*(volatile T *)&(T){x}) /* no compiler makes one operation of two */
#define REFERENCE(T, FMA)                                                  \
  {                                                                        \
    T a = ((const T *)inputs[0])[single & 1 ? 0 : i];                      \
    T b = arity > 1 ? ((const T *)inputs[1])[single & 2 ? 0 : i] : 0;      \
    T c = arity > 2 ? ((const T *)inputs[2])[single & 4 ? 0 : i] : 0;      \
    T r = operation == TC_SIMD_ADD                 ? a + b                 \
          : operation == TC_SIMD_SUBTRACT          ? a - b                 \
          : operation == TC_SIMD_MULTIPLY          ? a * b                 \
          : operation == TC_SIMD_DIVIDE            ? (b != 0 ? a / b : 0)  \
          : operation == TC_SIMD_FMA               ? FMA(a, b, c)          \
          : operation == TC_SIMD_MULTIPLY_ADD      ? rounded(T, a * b) + c \
          : operation == TC_SIMD_MULTIPLY_SUBTRACT ? rounded(T, a * b) - c \
          : operation == TC_SIMD_COPY              ? a                     \
                                                   : (T)(-a);              \
    memcpy(result, &r, sizeof r);                                          \
  }
#define WRAPPING(a, b, c) ((a) * (b) + (c))

static unsigned arity_of(tc_simd_operation operation) {
  if (operation == TC_SIMD_FMA || operation >= TC_SIMD_MULTIPLY_ADD) return 3;
  return operation >= TC_SIMD_COPY ? 1 : 2;
}

static void reference(tc_simd_operation operation, tc_simd_type type, const void *const *inputs, uint32_t single, size_t i, void *result) {
  unsigned arity = arity_of(operation);
  if (type == TC_SIMD_F32) REFERENCE(float, fmaf)
  if (type == TC_SIMD_F64) REFERENCE(double, fma)
  if (type == TC_SIMD_I32) REFERENCE(uint32_t, WRAPPING)
  if (type == TC_SIMD_I64) REFERENCE(uint64_t, WRAPPING)
}

static void check_map(tc_simd_operation operation, tc_simd_type type, size_t count, size_t offset, uint32_t single, int in_place) {
  size_t size = sizes[type];
  char *rooms[3], *out_room = room(type, offset, count), expected[8];
  const void *inputs[3];
  for (size_t k = 0; k < 3; k++) {
    size_t shift = offset * (k + 3) % OFFSETS; /* each array lies otherwise in its lines */
    rooms[k] = room(type, shift, count ? count : 1);
    inputs[k] = rooms[k] + shift * size;
    fill_random(type, rooms[k] + shift * size, count ? count : 1, 100 * k + count);
  }
  char *out = in_place ? (char *)inputs[0] : out_room + offset * size;
  char *all = malloc(count * size + 1);
  for (size_t i = 0; i < count; i++) {
    reference(operation, type, inputs, single, i, expected);
    memcpy(all + i * size, expected, size);
  }
  memset(out_room, 0x5a, offset * size);
  CHECK_STATUS(tc_simd_map(operation, type, count, out, inputs, single), TC_OK, "the operation is there");
  CHECK(memcmp(out, all, count * size) == 0,
        "operation %d on type %d, %zu elements at offset %zu, single %u, in place %d: the reference's bits", operation, type, count, offset,
        single, in_place);
  for (size_t i = 0; i < offset * size; i++) CHECK(out_room[i] == 0x5a, "byte %zu before the output is untouched", i);
  for (size_t k = 0; k < 3; k++) free(rooms[k]);
  free(out_room);
  free(all);
}

static void check_maps(void) {
  for (int operation = 0; operation < TC_SIMD_OPERATIONS; operation++)
    for (int type = 0; type < TC_SIMD_TYPES; type++) {
      if (operation == TC_SIMD_DIVIDE && type >= TC_SIMD_I32) continue;
      for (size_t count = 0; count < LONGEST; count += count < 70 ? 1 : 19)
        for (uint32_t single = 0; single < 1u << arity_of(operation); single++)
          check_map(operation, type, count, count % OFFSETS, single, single == 0 && count % 2);
    }
}

static void every_operation_gives_a_plain_loops_bits_at_every_length_and_offset(void) { on_each_instruction_set(check_maps); }

static void what_is_stored_past_the_cache_is_the_same(void) {
  size_t old = tc_simd_set_stream_from(1);
  on_each_instruction_set(check_maps);
  CHECK_EQUAL(tc_simd_set_stream_from(old), 1, "the setter gives the old number");
}

static void check_long_tiles(void) {
  for (size_t count = 1000; count < 1100; count += 7) check_map(TC_SIMD_ADD, TC_SIMD_F32, count, count % OFFSETS, 0, 0);
}

static void a_result_of_several_tiles_is_whole_past_the_cache(void) {
  size_t old = tc_simd_set_stream_from(1);
  on_each_instruction_set(check_long_tiles);
  tc_simd_set_stream_from(old);
}

/* ---- programs ---------------------------------------------------------------------------------------------------------------------- */

static const tc_simd_step fused[] = {/* a*b + c*d - e */
                                     {TC_SIMD_MULTIPLY, 0, {0, 1, 0}},
                                     {TC_SIMD_MULTIPLY, 1, {2, 3, 0}},
                                     {TC_SIMD_ADD, 0, {5, 6, 0}},
                                     {TC_SIMD_SUBTRACT, 0, {5, 4, 0}}};

static void check_program(void) {
  for (size_t count = 0; count < 2000; count += 111) {
    double *arrays[5], *out = (double *)room(TC_SIMD_F64, 0, count);
    const void *inputs[5];
    for (size_t k = 0; k < 5; k++) {
      inputs[k] = arrays[k] = (double *)room(TC_SIMD_F64, 0, count);
      fill_random(TC_SIMD_F64, arrays[k], count, k);
    }
    CHECK_STATUS(tc_simd_evaluate(fused, 4, TC_SIMD_F64, count, out, inputs, 5, 0), TC_OK, "the program is sound");
    for (size_t i = 0; i < count; i++) {
      volatile double ab = arrays[0][i] * arrays[1][i], cd = arrays[2][i] * arrays[3][i], sum = ab + cd;
      CHECK(out[i] == sum - arrays[4][i], "element %zu of %zu is rounded after each operation", i, count);
    }
    for (size_t k = 0; k < 5; k++) free(arrays[k]);
    free(out);
  }
}

static void a_program_rounds_after_each_operation(void) {
  on_each_instruction_set(check_program);
  size_t old = tc_simd_set_stream_from(1);
  on_each_instruction_set(check_program);
  tc_simd_set_stream_from(old);
}

static void a_program_that_makes_no_sense_is_refused_and_writes_nothing(void) {
  double x = 1.0, out = 5.0;
  const void *inputs[] = {&x};
  const struct {
    tc_simd_step steps[2];
    size_t count;
    tc_simd_type type;
  } wrong[] = {
      {{{TC_SIMD_OPERATIONS, 0, {0, 0, 0}}}, 1, TC_SIMD_F64},                               /* no such operation */
      {{{TC_SIMD_COPY, 0, {1, 0, 0}}}, 1, TC_SIMD_F64},                                     /* a temporary that nobody wrote */
      {{{TC_SIMD_COPY, 0, {1 + TC_SIMD_TEMPORARIES, 0, 0}}}, 1, TC_SIMD_F64},               /* no such register */
      {{{TC_SIMD_COPY, TC_SIMD_TEMPORARIES, {0, 0, 0}}, {TC_SIMD_COPY, 0, {0, 0, 0}}}, 2, TC_SIMD_F64}, /* no such target */
      {{{TC_SIMD_DIVIDE, 0, {0, 0, 0}}}, 1, TC_SIMD_I64},                                   /* integers */
      {{{TC_SIMD_COPY, 0, {0, 0, 0}}}, 0, TC_SIMD_F64},                                     /* no step */
      {{{TC_SIMD_COPY, 0, {0, 0, 0}}}, 1, (tc_simd_type)TC_SIMD_TYPES},                     /* no such type */
  };
  for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
    tc_status status = tc_simd_evaluate(wrong[i].steps, wrong[i].count, wrong[i].type, 1, &out, inputs, 1, 0);
    CHECK_STATUS(status, TC_INVALID_ARGUMENT, "a program that makes no sense is refused");
  }
  CHECK_STATUS(tc_simd_map((tc_simd_operation)99, TC_SIMD_F64, 1, &out, inputs, 0), TC_INVALID_ARGUMENT, "no such operation");
  CHECK_STATUS(tc_simd_map(TC_SIMD_COPY, TC_SIMD_F64, 1, (char *)&out + 1, inputs, 0), TC_INVALID_ARGUMENT, "an output off its elements");
  inputs[0] = (char *)&x + 1;
  CHECK_STATUS(tc_simd_map(TC_SIMD_COPY, TC_SIMD_F64, 1, &out, inputs, 0), TC_INVALID_ARGUMENT, "an input off its elements");
  CHECK_STATUS(tc_simd_evaluate(fused, 4, TC_SIMD_F64, 1, &out, inputs, TC_SIMD_INPUTS + 1, 0), TC_INVALID_ARGUMENT, "too many inputs");
  CHECK(out == 5.0, "nothing was written");
}

/* ---- reductions -------------------------------------------------------------------------------------------------------------------- */

static double sum_of(const double *x, size_t count) {
  double sum;
  CHECK_STATUS(tc_simd_reduce(TC_SIMD_SUM, TC_SIMD_F64, count, x, NULL, &sum), TC_OK, "there is a sum");
  return sum;
}

static double dot_of(const double *x, const double *y, size_t count) {
  double dot;
  CHECK_STATUS(tc_simd_reduce(TC_SIMD_DOT, TC_SIMD_F64, count, x, y, &dot), TC_OK, "there is a dot product");
  return dot;
}

static double large[LARGE], *pair = large + LARGE / 2;
static double first_sum, first_dot;

static void same_as_first(void) {
  CHECK(sum_of(large, LARGE) == first_sum, "%s: the sum has the same bits", tc_simd_selected());
  CHECK(dot_of(large, pair, LARGE / 2) == first_dot, "%s: the dot product has the same bits", tc_simd_selected());
}

static void sums_have_the_same_bits_on_every_instruction_set_and_number_of_threads(void) {
  fill_random(TC_SIMD_F64, large, LARGE, 7);
  unsigned old = tc_simd_set_threads(1);
  first_sum = sum_of(large, LARGE), first_dot = dot_of(large, pair, LARGE / 2);
  for (unsigned threads = 1; threads <= 4; threads++) {
    tc_simd_set_threads(threads);
    on_each_instruction_set(same_as_first);
  }
  tc_simd_set_threads(old);
}

static void check_hard_sums(void) {
  double x[LONGEST + 2];
  for (size_t n = 1; n < LONGEST; n++) { /* n ones between numbers that swallow them, and cancel */
    for (size_t i = 1; i <= n; i++) x[i] = 1.0;
    x[0] = 1e100, x[n + 1] = -1e100;
    CHECK(sum_of(x, n + 2) == (double)n, "%zu ones are not lost beside 1e100", n);
    double y[3] = {1e100, 1.0, 1e100}, z[3] = {1.0, (double)n, -1.0};
    CHECK(dot_of(y, z, 3) == (double)n, "nor in a dot product");
    double far[3] = {0x1p1000, 1e16, (double)n}, near[3] = {0x1p-1000, 1.0, 1.0};
    CHECK(dot_of(far, near, 3) == 1e16 + (double)(n + 1), "nor beside a factor near the largest number");
  }
  double small[] = {1.0 + 0x1p-30, 1.0}, other[] = {1.0 - 0x1p-30, -1.0};
  CHECK(dot_of(small, other, 2) == -0x1p-60, "a product's own rounding is not lost either");
}

static void sums_lose_nothing_that_is_left_after_rounding_once(void) { on_each_instruction_set(check_hard_sums); }

static void check_special_sums(void) {
  double inf[] = {1.0, INFINITY, 2.0}, both[] = {INFINITY, -INFINITY}, nan_[] = {1.0, NAN}, most[] = {1.7e308, 1.7e308}, minus[] = {-0.0, -0.0};
  CHECK(sum_of(inf, 3) == INFINITY, "infinity plus numbers is infinity");
  CHECK(isnan(sum_of(both, 2)), "infinities of both signs give NaN");
  CHECK(isnan(sum_of(nan_, 2)), "NaN stays");
  CHECK(sum_of(most, 2) == INFINITY, "an overflow is infinity");
  CHECK(signbit(sum_of(minus, 2)) && !signbit(sum_of(minus, 0)), "a sum of -0.0 is -0.0, of nothing 0.0");
  CHECK(dot_of(inf, inf, 3) == INFINITY, "a dot product with infinity is infinity");
  double big[] = {1e300, 1.0}, unit[] = {1.0, 1.0};
  CHECK(dot_of(big, unit, 2) == 1e300, "numbers too large to be split give no NaN");
}

static void sums_of_what_is_no_number_are_those_of_a_plain_loop(void) { on_each_instruction_set(check_special_sums); }

#define CHECK_EXTREMES(T, TYPE)                                                                                           \
  for (size_t count = 1; count < LONGEST; count++) {                                                                      \
    T *x = (T *)room(TYPE, 0, count), least, greatest, found;                                                             \
    fill_random(TYPE, x, count, count);                                                                                   \
    least = greatest = x[0];                                                                                              \
    for (size_t i = 1; i < count; i++) least = x[i] < least ? x[i] : least, greatest = x[i] > greatest ? x[i] : greatest; \
    CHECK_STATUS(tc_simd_reduce(TC_SIMD_MIN, TYPE, count, x, NULL, &found), TC_OK, "there is a least element");           \
    CHECK(found == least, "%zu elements: the least", count);                                                              \
    CHECK_STATUS(tc_simd_reduce(TC_SIMD_MAX, TYPE, count, x, NULL, &found), TC_OK, "there is a greatest element");        \
    CHECK(found == greatest, "%zu elements: the greatest", count);                                                        \
    free(x);                                                                                                              \
  }

static void check_extremes(void) {
  CHECK_EXTREMES(float, TC_SIMD_F32)
  CHECK_EXTREMES(double, TC_SIMD_F64)
  CHECK_EXTREMES(int32_t, TC_SIMD_I32)
  CHECK_EXTREMES(int64_t, TC_SIMD_I64)
  for (size_t at = 0; at < LONGEST; at++) {
    double x[LONGEST], found;
    fill_random(TC_SIMD_F64, x, LONGEST, at);
    x[at] = NAN;
    for (int kind = TC_SIMD_MIN; kind <= TC_SIMD_MAX; kind++) {
      CHECK_STATUS(tc_simd_reduce(kind, TC_SIMD_F64, LONGEST, x, NULL, &found), TC_OK, "there is one");
      CHECK(isnan(found), "a NaN at %zu is not lost", at);
    }
  }
}

static void the_least_and_the_greatest_are_found_anywhere_and_nan_wins(void) { on_each_instruction_set(check_extremes); }

static void check_integer_sums(void) {
  int32_t x[LONGEST], dot;
  int64_t y[LONGEST], sum;
  for (size_t count = 0; count < LONGEST; count++) {
    uint64_t want = 0, wide = 0;
    uint32_t product = 0;
    fill_random(TC_SIMD_I32, x, LONGEST, count);
    fill_random(TC_SIMD_I64, y, LONGEST, count);
    for (size_t i = 0; i < count; i++)
      want += (uint64_t)(int64_t)x[i], product += (uint32_t)x[i] * (uint32_t)x[i], wide += (uint64_t)y[i] * (uint64_t)y[i];
    CHECK_STATUS(tc_simd_reduce(TC_SIMD_SUM, TC_SIMD_I32, count, x, NULL, &sum), TC_OK, "there is a sum");
    CHECK(sum == (int64_t)want, "32-bit integers add up to 64 bits");
    CHECK_STATUS(tc_simd_reduce(TC_SIMD_DOT, TC_SIMD_I32, count, x, x, &dot), TC_OK, "there is a dot product");
    CHECK(dot == (int32_t)product, "products of 32-bit integers wrap");
    CHECK_STATUS(tc_simd_reduce(TC_SIMD_DOT, TC_SIMD_I64, count, y, y, &sum), TC_OK, "there is a dot product");
    CHECK(sum == (int64_t)wide, "products of 64-bit integers wrap");
  }
}

static void sums_of_integers_wrap(void) { on_each_instruction_set(check_integer_sums); }

static void reductions_that_are_not_there_are_refused(void) {
  double x = 1.0, result;
  CHECK_STATUS(tc_simd_reduce(TC_SIMD_MIN, TC_SIMD_F64, 0, &x, NULL, &result), TC_INVALID_ARGUMENT, "the least of nothing");
  CHECK_STATUS(tc_simd_reduce(TC_SIMD_DOT, TC_SIMD_F64, 1, &x, NULL, &result), TC_INVALID_ARGUMENT, "a dot product of one array");
  CHECK_STATUS(tc_simd_reduce((tc_simd_reduction)9, TC_SIMD_F64, 1, &x, NULL, &result), TC_INVALID_ARGUMENT, "no such reduction");
  CHECK_STATUS(tc_simd_reduce(TC_SIMD_SUM, (tc_simd_type)9, 1, &x, NULL, &result), TC_INVALID_ARGUMENT, "no such type");
  CHECK_STATUS(tc_simd_reduce(TC_SIMD_SUM, TC_SIMD_F64, 1, (char *)&x + 1, NULL, &result), TC_INVALID_ARGUMENT, "off its elements");
}

/* ---- threads ----------------------------------------------------------------------------------------------------------------------- */

static void *add_large(void *argument) {
  double *out = malloc(LARGE * sizeof *out);
  const void *inputs[] = {large, large};
  for (int round = 0; round < 10; round++) {
    memset(out, 0, LARGE * sizeof *out);
    CHECK_STATUS(tc_simd_map(TC_SIMD_ADD, TC_SIMD_F64, LARGE, out, inputs, 0), TC_OK, "there is an addition");
    for (size_t i = 0; i < LARGE; i++) CHECK(out[i] == large[i] + large[i], "element %zu is there when the call returns", i);
  }
  free(out);
  return argument;
}

static void several_callers_share_the_threads(void) {
  unsigned old = tc_simd_set_threads(3);
  size_t stream = tc_simd_set_stream_from((size_t)1 << 20);
  pthread_t callers[3];
  fill_random(TC_SIMD_F64, large, LARGE, 3);
  for (int i = 0; i < 3; i++) CHECK(pthread_create(&callers[i], NULL, add_large, NULL) == 0, "the test has threads");
  for (int i = 0; i < 3; i++) pthread_join(callers[i], NULL);
  tc_simd_set_stream_from(stream);
  tc_simd_set_threads(old);
}

static void a_forked_child_has_threads_of_its_own(void) {
  unsigned old = tc_simd_set_threads(3);
  add_large(NULL);
  pid_t child = fork();
  CHECK(child >= 0, "the test can fork");
  if (child == 0) {
    add_large(NULL);
    exit(0); /* through the exit handler, which joins the child's threads alone */
  }
  int status;
  CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child computed and ended");
  add_large(NULL);
  tc_simd_set_threads(old);
}

static void settings_out_of_range_are_refused(void) {
  unsigned threads = tc_simd_threads();
  CHECK(threads >= 1 && threads <= TC_SIMD_MAX_THREADS, "there is at least one thread, not %u", threads);
  CHECK_EQUAL(tc_simd_set_threads(0), 0, "0 threads are refused");
  CHECK_EQUAL(tc_simd_set_threads(TC_SIMD_MAX_THREADS + 1), 0, "too many threads are refused");
  CHECK_EQUAL(tc_simd_threads(), threads, "a refusal changes nothing");
  CHECK(tc_simd_stream_from() >= MiB, "small results stay in the cache");
  CHECK_STATUS(tc_simd_select("mmx"), TC_INVALID_ARGUMENT, "an instruction set that is not there is refused");
  CHECK_STATUS(tc_simd_select(NULL), TC_INVALID_ARGUMENT, "no name is refused");
}

int main(void) {
  RUN(every_operation_gives_a_plain_loops_bits_at_every_length_and_offset);
  RUN(what_is_stored_past_the_cache_is_the_same);
  RUN(a_result_of_several_tiles_is_whole_past_the_cache);
  RUN(a_program_rounds_after_each_operation);
  RUN(a_program_that_makes_no_sense_is_refused_and_writes_nothing);
  RUN(sums_have_the_same_bits_on_every_instruction_set_and_number_of_threads);
  RUN(sums_lose_nothing_that_is_left_after_rounding_once);
  RUN(sums_of_what_is_no_number_are_those_of_a_plain_loop);
  RUN(the_least_and_the_greatest_are_found_anywhere_and_nan_wins);
  RUN(sums_of_integers_wrap);
  RUN(reductions_that_are_not_there_are_refused);
  RUN(several_callers_share_the_threads);
  RUN(a_forked_child_has_threads_of_its_own);
  RUN(settings_out_of_range_are_refused);
  return 0;
}
