/* faults.h - system calls that fail on demand: the linker puts these functions between the core and libc (--wrap, see CMakeLists.txt).
 *
 * `faults_arm` chooses one call and makes its k-th use fail, or all from the k-th on. Only the core's calls are counted: libc's own do
 * not pass here, and a test that must not fail calls the __real_ function.
 */
#ifndef TENSORCORE_TESTS_FAULTS_H
#define TENSORCORE_TESTS_FAULTS_H

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>

#include "support.h"

#define FAULTS(CALL)        \
  CALL(mmap)                \
  CALL(munmap)              \
  CALL(madvise)             \
  CALL(mincore)             \
  CALL(mremap)              \
  CALL(membarrier)          \
  CALL(fopen)               \
  CALL(open)                \
  CALL(pthread_create)      \
  CALL(pthread_setspecific)

typedef enum fault {
#define FAULT_ENUM(name) FAULT_##name,
  FAULTS(FAULT_ENUM)
#undef FAULT_ENUM
      FAULT_COUNT
} fault;

static const char *const fault_names[] = {
#define FAULT_NAME(name) #name,
    FAULTS(FAULT_NAME)
#undef FAULT_NAME
};

static struct {
  fault call;
  uint64_t from, count; /* the uses that fail, counted from 1 */
  _Atomic(uint64_t) uses, failures;
  atomic_bool armed;
} faults;

static inline void faults_arm(fault call, uint64_t from, uint64_t count) {
  faults.call = call;
  faults.from = from;
  faults.count = count;
  atomic_store(&faults.uses, 0);
  atomic_store(&faults.failures, 0);
  atomic_store(&faults.armed, true);
}

static inline uint64_t faults_disarm(void) { /* how many uses failed */
  atomic_store(&faults.armed, false);
  return atomic_load(&faults.failures);
}

static inline bool fault_due(fault call) {
  if (!atomic_load(&faults.armed) || call != faults.call) return false;
  uint64_t use = atomic_fetch_add(&faults.uses, 1) + 1;
  bool due = use >= faults.from && use - faults.from < faults.count;
  if (due) atomic_fetch_add(&faults.failures, 1);
  return due;
}

static inline int fault_refuse(int error) {
  errno = error;
  return -1;
}

#define WRAP(type, name, parameters, arguments, refusal)                                                  \
  type __real_##name parameters;                                                                          \
  type __wrap_##name parameters;                                                                          \
  type __wrap_##name parameters { return fault_due(FAULT_##name) ? (refusal) : __real_##name arguments; }

WRAP(void *, mmap, (void *at, size_t n, int access, int flags, int file, off_t offset), (at, n, access, flags, file, offset),
     (errno = ENOMEM, MAP_FAILED))
WRAP(int, munmap, (void *at, size_t n), (at, n), fault_refuse(ENOMEM))
WRAP(int, madvise, (void *at, size_t n, int advice), (at, n, advice), fault_refuse(EAGAIN))
WRAP(int, mincore, (void *at, size_t n, unsigned char *resident), (at, n, resident), fault_refuse(EAGAIN))
WRAP(FILE *, fopen, (const char *path, const char *mode), (path, mode), (errno = ENOENT, NULL)) /* no transparent huge pages */
WRAP(int, pthread_create, (pthread_t * thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument),
     (thread, attributes, run, argument), EAGAIN)
WRAP(int, pthread_setspecific, (pthread_key_t key, const void *value), (key, value), ENOMEM)

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...) { /* the core only reads: control groups */
  return fault_due(FAULT_open) ? fault_refuse(ENOENT) : __real_open(path, flags);
}

long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);
long __wrap_syscall(long number, ...) { /* the core's two: membarrier and mremap */
  long a[5];
  va_list arguments;
  va_start(arguments, number);
  for (int i = 0; i < 5; i++) a[i] = va_arg(arguments, long);
  va_end(arguments);
  if (number == SYS_mremap && fault_due(FAULT_mremap)) {
    if (a[3] & 2) __real_munmap((void *)a[4], (size_t)a[2]); /* MREMAP_FIXED: what Linux refuses late has lost its target */
    return fault_refuse(ENOMEM);
  }
  if (number == SYS_membarrier && fault_due(FAULT_membarrier)) return fault_refuse(ENOSYS);
  return __real_syscall(number, a[0], a[1], a[2], a[3], a[4]);
}

#endif /* TENSORCORE_TESTS_FAULTS_H */
