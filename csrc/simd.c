/* simd.c - element-wise programs: one operation on whole arrays, or several on a few KiB at a time, shared out to threads.
 *
 * A result that outgrows the cache is computed into a tile and copied past the cache from there, unless it replaces an input: then its
 * lines are read anyway. Cost of a small call: about 10 ns beside the loop.
 */
#include <string.h>
#include <unistd.h>

#include "simd_internal.h"

#define PARALLEL_BYTES ((size_t)4 << 20) /* of arrays; below, waking a thread takes longer than it saves */
#define SHARE_BYTES ((size_t)256 << 10)  /* of output */

typedef struct program {
  const tci_simd_kernels *kernels;
  const tc_simd_step *steps;
  size_t step_count, input_count, size; /* size: bytes of an element */
  tc_simd_type type;
  char *out;
  const char *inputs[TC_SIMD_INPUTS];
  uint32_t single;
  bool stream;
} program;

typedef struct tiles {
  _Alignas(TCI_SIMD_LINE) char temporaries[TC_SIMD_TEMPORARIES][TCI_SIMD_TILE];
} tiles;

static const unsigned char arity[TC_SIMD_OPERATIONS] = {2, 2, 2, 2, 3, 1, 1, 3, 3};
static const unsigned char element_size[TC_SIMD_TYPES] = {4, 8, 4, 8};

/* ---- past the cache ---------------------------------------------------------------------------------------------------------------- */

#define STREAM_UNKNOWN ((size_t)16 << 20)
#define STREAM_LEAST ((size_t)4 << 20)
#define STREAM_MOST ((size_t)32 << 20) /* a cache that says it is larger is shared by many cores */

static size_t stream_from; /* atomic; 0: not known yet */

static size_t half_of_cache(void) {
#ifdef _SC_LEVEL3_CACHE_SIZE
  long bytes = sysconf(_SC_LEVEL3_CACHE_SIZE);
#else
  long bytes = 0;
#endif
  size_t half = bytes > 0 ? (size_t)bytes / 2 : STREAM_UNKNOWN;
  return half < STREAM_LEAST ? STREAM_LEAST : half > STREAM_MOST ? STREAM_MOST : half;
}

size_t tc_simd_stream_from(void) {
  size_t known = __atomic_load_n(&stream_from, __ATOMIC_RELAXED);
  if (known) return known;
  __atomic_compare_exchange_n(&stream_from, &known, half_of_cache(), false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
  return __atomic_load_n(&stream_from, __ATOMIC_RELAXED);
}

size_t tc_simd_set_stream_from(size_t nbytes) {
  size_t old = tc_simd_stream_from();
  __atomic_store_n(&stream_from, nbytes ? nbytes : 1, __ATOMIC_RELAXED);
  return old;
}

static bool replaces_input(const program *p) {
  for (size_t i = 0; i < p->input_count; i++)
    if (p->inputs[i] == p->out && !(p->single >> i & 1)) return true;
  return false;
}

/* ---- a part of the arrays ---------------------------------------------------------------------------------------------------------- */

static void run_step(const program *p, const tc_simd_step *step, tiles *t, size_t begin, size_t count, tci_simd_map kernel, void *target) {
  const void *inputs[3];
  uint32_t single = 0;
  for (unsigned k = 0; k < arity[step->operation]; k++) {
    size_t reg = step->operands[k];
    if (reg >= p->input_count) {
      inputs[k] = t->temporaries[reg - p->input_count];
    } else if (p->single >> reg & 1) {
      inputs[k] = p->inputs[reg];
      single |= 1u << k;
    } else {
      inputs[k] = p->inputs[reg] + begin * p->size;
    }
  }
  kernel(count, target, inputs, single);
}

/* All steps on `count` elements: a tile at most, unless there is one step only. */
static void run_steps(const program *p, tiles *t, size_t begin, size_t count, bool stream) {
  const tc_simd_step *step = p->steps, *last = step + p->step_count - 1;
  for (; step < last; step++) run_step(p, step, t, begin, count, p->kernels->maps[step->operation][p->type], t->temporaries[step->target]);
  tci_simd_map kernel = (stream ? p->kernels->streams : p->kernels->maps)[last->operation][p->type];
  run_step(p, last, t, begin, count, kernel, p->out + begin * p->size);
}

static void run_tiles(const program *p, tiles *t, size_t begin, size_t end, bool stream) {
  size_t most = p->step_count == 1 ? end - begin : TCI_SIMD_TILE / p->size;
  for (size_t count; begin < end; begin += count) {
    count = end - begin < most ? end - begin : most;
    run_steps(p, t, begin, count, stream);
  }
}

static size_t least(size_t a, size_t b) { return a < b ? a : b; }

/* Past the cache go whole lines; the elements before the first and behind the last one are stored as others are. */
static void run_range(const program *p, tiles *t, size_t begin, size_t end) {
  size_t per_line = TCI_SIMD_LINE / p->size;
  if (!p->stream) {
    run_tiles(p, t, begin, end, false);
    return;
  }
  size_t first = begin + least(end - begin, (-(uintptr_t)(p->out + begin * p->size) & (TCI_SIMD_LINE - 1)) / p->size);
  size_t last = first + (end - first) / per_line * per_line;
  run_tiles(p, t, begin, first, false);
  run_tiles(p, t, first, last, true);
  run_tiles(p, t, last, end, false);
  p->kernels->fence();
}

static __attribute__((noinline)) void run_range_in_tiles(const program *p, size_t begin, size_t end) {
  tiles t; /* more stack than some threads have, which one operation should not need */
  run_range(p, &t, begin, end);
}

static void run_part(void *context, size_t begin, size_t end) {
  const program *p = context;
  if (p->step_count == 1)
    run_range(p, NULL, begin, end);
  else
    run_range_in_tiles(p, begin, end);
}

static tc_status run(program *p, size_t count) {
  size_t arrays = 1;
  for (size_t i = 0; i < p->input_count; i++) arrays += !(p->single >> i & 1);
  size_t nbytes = count * p->size;
  p->stream = nbytes >= tc_simd_stream_from() && !replaces_input(p);
  if (nbytes * arrays < PARALLEL_BYTES && !p->stream) {
    if (count) run_part(p, 0, count);
    return TC_OK;
  }
  tci_simd_share(count, SHARE_BYTES / p->size, nbytes * arrays < PARALLEL_BYTES ? 1 : tc_simd_threads(), run_part, p);
  return TC_OK;
}

/* ---- what callers give ------------------------------------------------------------------------------------------------------------- */

static bool is_aligned(const void *address, size_t size) { return address != NULL && ((uintptr_t)address & (size - 1)) == 0; }

static bool has_kernel(const tci_simd_kernels *kernels, unsigned operation, unsigned type) {
  return operation < TC_SIMD_OPERATIONS && type < TC_SIMD_TYPES && kernels->maps[operation][type] != NULL;
}

/* Every register that a step reads is an input, or a temporary that a step before it has written. */
static bool steps_are_sound(const program *p) {
  uint32_t written = 0;
  for (size_t i = 0; i < p->step_count; i++) {
    const tc_simd_step *step = &p->steps[i];
    if (!has_kernel(p->kernels, step->operation, p->type)) return false;
    for (unsigned k = 0; k < arity[step->operation]; k++) {
      size_t reg = step->operands[k];
      if (reg >= p->input_count && (reg >= p->input_count + TC_SIMD_TEMPORARIES || !(written >> (reg - p->input_count) & 1))) return false;
    }
    if (i + 1 < p->step_count && step->target >= TC_SIMD_TEMPORARIES) return false;
    written |= 1u << (step->target % TC_SIMD_TEMPORARIES);
  }
  return true;
}

tc_status tc_simd_evaluate(const tc_simd_step *steps, size_t step_count, tc_simd_type type, size_t count, void *out, const void *const *inputs,
                           size_t input_count, uint32_t single) {
  program p = {.kernels = tci_simd_chosen(),
               .steps = steps,
               .step_count = step_count,
               .input_count = input_count,
               .type = type,
               .out = out,
               .single = single};
  if (step_count < 1 || step_count > TC_SIMD_STEPS || input_count > TC_SIMD_INPUTS || (unsigned)type >= TC_SIMD_TYPES)
    return TC_INVALID_ARGUMENT;
  p.size = element_size[type];
  if (!steps_are_sound(&p) || (count && !is_aligned(out, p.size))) return TC_INVALID_ARGUMENT;
  for (size_t i = 0; i < input_count; i++) {
    p.inputs[i] = inputs[i];
    if (count && !is_aligned(inputs[i], p.size)) return TC_INVALID_ARGUMENT;
  }
  return run(&p, count);
}

tc_status tc_simd_map(tc_simd_operation operation, tc_simd_type type, size_t count, void *out, const void *const *inputs, uint32_t single) {
  const tc_simd_step step = {(uint8_t)operation, 0, {0, 1, 2}};
  return (unsigned)operation >= TC_SIMD_OPERATIONS ? TC_INVALID_ARGUMENT
                                                   : tc_simd_evaluate(&step, 1, type, count, out, inputs, arity[operation], single);
}
