/* simd_stream.h - stores past the cache, the only code here that is written per architecture.
 *
 * A store that misses the cache first reads its line, and throws out another: half of a large copy's traffic is of no use. Limit: where
 * the architecture has no such store, a plain one.
 */
#ifndef TCI_SIMD_STREAM_H
#define TCI_SIMD_STREAM_H

#include <string.h>

#include "simd_internal.h"

#if defined(__x86_64__)
#include <immintrin.h>

static inline void stream_line(char *out, const char *line) {
#if defined(__AVX512F__)
  _mm512_stream_si512((void *)out, _mm512_load_si512((const void *)line));
#elif defined(__AVX__)
  for (size_t i = 0; i < TCI_SIMD_LINE; i += 32) _mm256_stream_si256((__m256i *)(out + i), _mm256_load_si256((const __m256i *)(line + i)));
#else
  for (size_t i = 0; i < TCI_SIMD_LINE; i += 16) _mm_stream_si128((__m128i *)(out + i), _mm_load_si128((const __m128i *)(line + i)));
#endif
}

static void stream_fence(void) { _mm_sfence(); }

#elif defined(__aarch64__)

static inline void stream_line(char *out, const char *line) {
  __asm__ volatile("ldp q0, q1, [%1]\n\tldp q2, q3, [%1, #32]\n\tstnp q0, q1, [%0]\n\tstnp q2, q3, [%0, #32]"
                   :
                   : "r"(out), "r"(line)
                   : "v0", "v1", "v2", "v3", "memory");
}

static void stream_fence(void) {} /* STNP is weakly ordered as any store is: releasing the result orders it */

#else

static inline void stream_line(char *out, const char *line) { memcpy(out, line, TCI_SIMD_LINE); }

static void stream_fence(void) {}

#endif

#endif /* TCI_SIMD_STREAM_H */
