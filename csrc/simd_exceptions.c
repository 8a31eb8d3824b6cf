/* simd_exceptions.c - the floating-point exceptions of a thread: IEEE 754's flags, which every operation may raise and nothing lowers.
 *
 * Limit: on x86 only the vector unit's, where all that the kernels do is computed; the old one's are left to fenv.h.
 */
#include <fenv.h>

#include "simd_internal.h"

#define EXCEPTIONS (FE_DIVBYZERO | FE_OVERFLOW | FE_UNDERFLOW | FE_INVALID)

#if defined(__x86_64__)
#include <immintrin.h>

_Static_assert(FE_INVALID == _MM_EXCEPT_INVALID && FE_DIVBYZERO == _MM_EXCEPT_DIV_ZERO && FE_OVERFLOW == _MM_EXCEPT_OVERFLOW &&
                   FE_UNDERFLOW == _MM_EXCEPT_UNDERFLOW,
               "fenv.h counts the exceptions as the register does");

int tc_simd_take_exceptions(void) {
  unsigned state = _mm_getcsr();
  if (state & EXCEPTIONS) _mm_setcsr(state & ~(unsigned)EXCEPTIONS); /* writing it takes ten times as long as reading it */
  return (int)state & EXCEPTIONS;
}

void tci_simd_raise_exceptions(int exceptions) {
  if (exceptions) _mm_setcsr(_mm_getcsr() | (unsigned)exceptions);
}

#else

int tc_simd_take_exceptions(void) {
  int raised = fetestexcept(EXCEPTIONS);
  if (raised) feclearexcept(EXCEPTIONS);
  return raised;
}

void tci_simd_raise_exceptions(int exceptions) {
  if (exceptions) feraiseexcept(exceptions);
}

#endif
