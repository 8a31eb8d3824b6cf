/* large_pages.c - a kernel whose pages have TENSORCORE_TEST_PAGE bytes, between the core and libc (--wrap, see CMakeLists.txt).
 *
 * Addresses and lengths are refused or rounded up as such a kernel does, residency is told by its pages, and a huge page has the size
 * that goes with them (8192 pages of 16 KiB or 64 KiB on AArch64: 32 or 512 MiB, never 2). Limit: what the real, smaller pages keep or
 * give back inside one large page is only made whole where this file passes; a page fault still brings in a real page.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE ((size_t)TENSORCORE_TEST_PAGE)
#define HUGE (PAGE == 65536 ? (size_t)512 << 20 : (size_t)32 << 20)
#define MOVE_FIXED 2 /* MREMAP_FIXED */

long __real_sysconf(int name);
void *__real_mmap(void *at, size_t n, int access, int flags, int file, off_t offset);
int __real_munmap(void *at, size_t n);
int __real_madvise(void *at, size_t n, int advice);
int __real_mincore(void *at, size_t n, unsigned char *resident);
long __real_syscall(long number, ...);
FILE *__real_fopen(const char *path, const char *mode);

long __wrap_sysconf(int name);
void *__wrap_mmap(void *at, size_t n, int access, int flags, int file, off_t offset);
int __wrap_munmap(void *at, size_t n);
int __wrap_madvise(void *at, size_t n, int advice);
int __wrap_mincore(void *at, size_t n, unsigned char *resident);
long __wrap_syscall(long number, ...);
FILE *__wrap_fopen(const char *path, const char *mode);

static size_t whole(size_t n) { return (n + PAGE - 1) & ~(PAGE - 1); }

static int misplaced(const void *at) {
  if (((uintptr_t)at & (PAGE - 1)) == 0) return 0;
  errno = EINVAL;
  return 1;
}

long __wrap_sysconf(int name) { return name == _SC_PAGESIZE ? (long)PAGE : __real_sysconf(name); }

void *__wrap_mmap(void *at, size_t n, int access, int flags, int file, off_t offset) {
  if (flags & MAP_FIXED) return misplaced(at) ? MAP_FAILED : __real_mmap(at, whole(n), access, flags, file, offset);
  if (n == 0 || n > SIZE_MAX - 2 * PAGE) return errno = n ? ENOMEM : EINVAL, MAP_FAILED;
  char *start = __real_mmap(at, whole(n) + PAGE, access, flags, file, offset);
  if (start == MAP_FAILED) return MAP_FAILED;
  size_t before = -(uintptr_t)start & (PAGE - 1);
  if (before) __real_munmap(start, before);
  __real_munmap(start + before + whole(n), PAGE - before);
  return start + before;
}

int __wrap_munmap(void *at, size_t n) { return misplaced(at) ? -1 : __real_munmap(at, whole(n)); }

int __wrap_madvise(void *at, size_t n, int advice) {
  if (misplaced(at)) return -1;
  return advice == MADV_HUGEPAGE ? 0 : __real_madvise(at, whole(n), advice); /* no huge page of the real size comes in */
}

int __wrap_mincore(void *at, size_t n, unsigned char *resident) {
  unsigned char parts[PAGE / 4096];
  if (misplaced(at)) return -1;
  for (size_t page = 0; page < whole(n) / PAGE; page++) {
    int outcome = __real_mincore((char *)at + page * PAGE, PAGE, parts);
    if (outcome != 0) return outcome;
    resident[page] = 0;
    for (size_t i = 0; i < sizeof parts; i++) resident[page] |= parts[i] & 1;
  }
  return 0;
}

static long moved(char *from, size_t n, long how, char *to) {
  if (misplaced(from) || ((how & MOVE_FIXED) && misplaced(to))) return -1;
  if (how & MOVE_FIXED) return __real_syscall(SYS_mremap, from, whole(n), whole(n), how, to);
  to = __wrap_mmap(NULL, n, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (to == MAP_FAILED) return -1;
  long outcome = __real_syscall(SYS_mremap, from, whole(n), whole(n), how | MOVE_FIXED, to);
  if (outcome == -1) __real_munmap(to, whole(n));
  return outcome;
}

long __wrap_syscall(long number, ...) {
  long a[5];
  va_list arguments;
  va_start(arguments, number);
  for (int i = 0; i < 5; i++) a[i] = va_arg(arguments, long);
  va_end(arguments);
  if (number == SYS_mremap && a[1] == a[2]) return moved((char *)a[0], (size_t)a[1], a[3], (char *)a[4]);
  return __real_syscall(number, a[0], a[1], a[2], a[3], a[4]);
}

FILE *__wrap_fopen(const char *path, const char *mode) {
  static char size[32];
  if (strcmp(path, "/sys/kernel/mm/transparent_hugepage/hpage_pmd_size") != 0) return __real_fopen(path, mode);
  snprintf(size, sizeof size, "%zu\n", HUGE);
  return fmemopen(size, strlen(size), "r");
}
