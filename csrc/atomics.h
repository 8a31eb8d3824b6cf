/* atomics.h - words that several threads read and write: the accesses by name, the fence, the branch hints.
 *
 * LOAD and STORE are relaxed: on x86-64 and AArch64 plain moves.
 */
#ifndef TCI_ATOMICS_H
#define TCI_ATOMICS_H

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
#define LOAD(x) __atomic_load_n(&(x), __ATOMIC_RELAXED)
#define STORE(x, v) __atomic_store_n(&(x), (v), __ATOMIC_RELAXED)
#define LOAD_ACQUIRE(x) __atomic_load_n(&(x), __ATOMIC_ACQUIRE)
#define STORE_RELEASE(x, v) __atomic_store_n(&(x), (v), __ATOMIC_RELEASE)
#define ADD(x, v) __atomic_fetch_add(&(x), (v), __ATOMIC_RELAXED)

#if defined(__SANITIZE_THREAD__)
#define TCI_TSAN 1 /* ThreadSanitizer does not know membarrier: the fences are then real */
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TCI_TSAN 1
#endif
#endif
#ifndef TCI_TSAN
#define TCI_TSAN 0
#endif
#if TCI_TSAN /* a counter with one writer and readers that take no lock */
#define BUMP(x, v) STORE(x, LOAD(x) + (v))
#else
#define BUMP(x, v) ((x) += (v)) /* one instruction; an aligned word does not tear */
#endif
static inline void tci_fence(void) { /* sequentially consistent; ThreadSanitizer knows read-modify-writes, not fences */
#if TCI_TSAN
  static int word;
  __atomic_fetch_add(&word, 0, __ATOMIC_SEQ_CST);
#else
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
}

#endif
