/* simd_dispatch.c - which instruction set is used: the widest that this CPU and its system have, or the one that was asked for.
 *
 * The CPU is asked once. Limit: a wide set is taken for the faster one, which short bursts on older CPUs may prove wrong.
 */
#include <string.h>

#include "simd_internal.h"

static bool has_baseline(void) { return true; }

#ifdef TCI_SIMD_X86 /* the build made these kernels; the compiler's own test of the CPU looks at the system's support, too */
static bool has_avx2(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

static bool has_avx512(void) {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl") && has_avx2();
}
#endif

static const struct {
  const tci_simd_kernels *kernels;
  bool (*is_there)(void);
} built[] = {
#ifdef TCI_SIMD_X86
    {&tci_simd_avx512, has_avx512},
    {&tci_simd_avx2, has_avx2},
#endif
    {&tci_simd_baseline, has_baseline},
};
enum { BUILT = sizeof built / sizeof built[0] };

static const tci_simd_kernels *chosen; /* atomic; NULL: not chosen yet */

static const tci_simd_kernels *available(size_t index) {
  for (size_t i = 0; i < BUILT; i++)
    if (built[i].is_there() && index-- == 0) return built[i].kernels;
  return NULL;
}

const tci_simd_kernels *tci_simd_chosen(void) {
  const tci_simd_kernels *kernels = __atomic_load_n(&chosen, __ATOMIC_ACQUIRE);
  if (kernels != NULL) return kernels;
  __atomic_compare_exchange_n(&chosen, &kernels, available(0), false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
  return __atomic_load_n(&chosen, __ATOMIC_ACQUIRE);
}

const char *tc_simd_available(size_t index) {
  const tci_simd_kernels *kernels = available(index);
  return kernels == NULL ? NULL : kernels->name;
}

const char *tc_simd_selected(void) { return tci_simd_chosen()->name; }

tc_status tc_simd_select(const char *name) {
  const tci_simd_kernels *kernels;
  for (size_t i = 0; name != NULL && (kernels = available(i)) != NULL; i++)
    if (strcmp(kernels->name, name) == 0) {
      __atomic_store_n(&chosen, kernels, __ATOMIC_RELEASE);
      return TC_OK;
    }
  return TC_INVALID_ARGUMENT;
}
