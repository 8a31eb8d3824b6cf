/* host.h - CUDA's language for a C++ compiler, so that kernels run on the CPU: one fiber for each thread of a block, block after block.
 *
 * __syncthreads switches to the next fiber. Only what cuda/ uses is here. Limit: one launch at a time; no warps, no memory model.
 */
#include <math.h>
#include <string.h>
#include <ucontext.h>

#include <type_traits>
#include <utility>
#include <vector>

#define __device__
#define __global__
#define __shared__ static /* one block runs at a time */

struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct dim3 {
  unsigned x, y, z;
};

static dim3 threadIdx, blockIdx, blockDim, gridDim;

/* ---- arithmetic ----------------------------------------------------------------------------------------------------------------- */

static inline unsigned __float_as_uint(float value) {
  unsigned bits;
  memcpy(&bits, &value, 4);
  return bits;
}
static inline float __uint_as_float(unsigned bits) {
  float value;
  memcpy(&value, &bits, 4);
  return value;
}
static inline double __longlong_as_double(long long bits) {
  double value;
  memcpy(&value, &bits, 8);
  return value;
}
static inline int __ffsll(long long bits) { return __builtin_ffsll(bits); }

static inline unsigned long long atomicMin(unsigned long long *to, unsigned long long value) {
  unsigned long long old = *to;
  if (value < old) *to = value;
  return old;
}

/* IEEE 754 binary16 by scaling: a float holds every half, and 2^-24 is the least one above 0. */
static inline float half_to_float(unsigned short bits) {
  int exponent = bits >> 10 & 31, fraction = bits & 1023;
  float sign = bits >> 15 ? -1.0f : 1.0f;
  if (exponent == 31) return fraction ? __uint_as_float(0x7FC00000) : sign * INFINITY;
  return sign * (exponent ? ldexpf((float)(fraction | 1024), exponent - 25) : ldexpf((float)fraction, -24));
}
static inline unsigned short float_to_half(float value) {
  unsigned short sign = __float_as_uint(value) >> 31 ? 0x8000 : 0;
  float size = fabsf(value);
  if (value != value) return 0x7E00;
  if (size == 0) return sign;
  if (size >= 65520.0f) return sign | 0x7C00; /* half way from the largest to the next one there is not */
  int exponent;
  frexpf(size, &exponent);
  int unit = exponent - 11 < -24 ? -24 : exponent - 11; /* exponent of the last place kept */
  int steps = (int)nearbyintf(ldexpf(size, -unit));     /* to even where it lies half way */
  return sign | (unsigned short)(unit == -24 ? steps : ((unit + 25) << 10) + (steps - 1024));
}

/* ---- threads --------------------------------------------------------------------------------------------------------------------- */

#define STACK_BYTES 65536

struct Fiber {
  ucontext_t context;
  std::vector<char> stack;
  bool done;
};

static std::vector<Fiber> fibers;
static ucontext_t scheduler;
static void (*body)(void **);
static void **body_arguments;

static inline void __syncthreads() { swapcontext(&fibers[threadIdx.x].context, &scheduler); }

static void fiber_main() {
  body(body_arguments);
  fibers[threadIdx.x].done = true;
}

static void run_block() {
  for (unsigned i = 0; i < blockDim.x; i++) {
    Fiber &fiber = fibers[i];
    getcontext(&fiber.context);
    fiber.stack.resize(STACK_BYTES);
    fiber.context.uc_stack.ss_sp = fiber.stack.data();
    fiber.context.uc_stack.ss_size = STACK_BYTES;
    fiber.context.uc_link = &scheduler;
    fiber.done = false;
    makecontext(&fiber.context, fiber_main, 0);
  }
  for (bool running = true; running;) {
    running = false;
    for (unsigned i = 0; i < blockDim.x; i++) {
      if (fibers[i].done) continue;
      threadIdx.x = i;
      swapcontext(&scheduler, &fibers[i].context);
      running = running || !fibers[i].done;
    }
  }
}

/* ---- launches by name ------------------------------------------------------------------------------------------------------------ */

template <typename... P, size_t... I> void call_with(void (*kernel)(P...), void **arguments, std::index_sequence<I...>) {
  kernel(*(std::remove_cv_t<P> *)arguments[I]...);
}
template <typename... P> void call(void (*kernel)(P...), void **arguments) { call_with(kernel, arguments, std::index_sequence_for<P...>()); }

struct Entry {
  const char *name;
  void (*run)(void **);
  unsigned long long count; /* of arguments */
};
template <typename... P> constexpr unsigned long long count_of(void (*)(P...)) { return sizeof...(P); }
#define ENTRY(kernel) {#kernel, [](void **arguments) { call(kernel, arguments); }, count_of(kernel)},

/* 0; 1: there is no such kernel, or it takes another number of arguments. `entries` ends with a NULL name. */
static int run_entry(const Entry *entries, const char *name, unsigned blocks, unsigned threads, void **arguments, unsigned long long count) {
  for (; entries->name && strcmp(entries->name, name) != 0;) entries++;
  if (!entries->name || entries->count != count) return 1;
  if (fibers.size() < threads) fibers.resize(threads);
  body = entries->run;
  body_arguments = arguments;
  blockDim = {threads, 1, 1};
  gridDim = {blocks, 1, 1};
  for (blockIdx = {0, 0, 0}; blockIdx.x < blocks; blockIdx.x++) run_block();
  return 0;
}
