/* os_posix.c - the operating system, for Linux with portable fall-backs for other POSIX systems.
 *
 * Costs on Linux: map + unmap 6 us, purge 12 ns per 4 KiB in huge pages and 350 ns in small ones.
 */
#include "os.h"

#include <dlfcn.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#ifdef __linux__
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#endif

#define MOVE_LEAST ((size_t)2 << 20) /* below, copying costs less than two system calls and a split mapping */
#define STREAM_FROM ((size_t)4 << 20)

#ifndef MAP_NORESERVE
#define MAP_NORESERVE 0
#endif

size_t tci_os_page_size(void) {
  static _Atomic size_t size;
  size_t known = atomic_load_explicit(&size, memory_order_relaxed);
  if (!known) {
    known = (size_t)sysconf(_SC_PAGESIZE);
    atomic_store_explicit(&size, known, memory_order_relaxed);
  }
  return known;
}

#ifdef __linux__
static size_t huge_page_probe(void) {
  FILE *file = fopen("/sys/kernel/mm/transparent_hugepage/enabled", "r");
  char line[64] = "";
  size_t size = 0;
  if (!file) return 0;
  bool on = fgets(line, sizeof line, file) && !strstr(line, "[never]");
  fclose(file);
  file = on ? fopen("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size", "r") : NULL;
  if (!file) return 0;
  if (fscanf(file, "%zu", &size) != 1) size = 0;
  fclose(file);
  return size;
}

size_t tci_os_huge_page_size(void) {
  static _Atomic size_t probed; /* the size + 1 */
  size_t known = atomic_load_explicit(&probed, memory_order_relaxed);
  if (!known) atomic_store_explicit(&probed, known = huge_page_probe() + 1, memory_order_relaxed);
  return known - 1;
}
#else
size_t tci_os_huge_page_size(void) { return 0; }
#endif

static void *map_anywhere(size_t nbytes) {
  void *address = mmap(NULL, nbytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return address == MAP_FAILED ? NULL : address;
}

void *tci_os_map(size_t nbytes, size_t alignment) {
  char *address = map_anywhere(nbytes);
  if (!address || ((uintptr_t)address & (alignment - 1)) == 0) return address;
  munmap(address, nbytes);
  if (nbytes + alignment < nbytes) return NULL;
  address = map_anywhere(nbytes + alignment);
  if (!address) return NULL;
  size_t before = -(uintptr_t)address & (alignment - 1);
  if (before) munmap(address, before);
  if (alignment - before) munmap(address + before + nbytes, alignment - before);
  return address + before;
}

void tci_os_unmap(void *address, size_t nbytes) { munmap(address, nbytes); }

int tci_os_purge(void *address, size_t nbytes) {
#ifdef __linux__
  return madvise(address, nbytes, MADV_DONTNEED);
#else /* only Linux promises that DONTNEED zeroes: map fresh pages over the old ones */
  void *fresh = mmap(address, nbytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  return fresh == MAP_FAILED ? -1 : 0;
#endif
}

int tci_os_protect(void *address, size_t nbytes, int reachable) {
  return mprotect(address, nbytes, reachable ? PROT_READ | PROT_WRITE : PROT_NONE);
}

int tci_os_advise_huge(void *address, size_t nbytes, int on) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  return madvise(address, nbytes, on ? MADV_HUGEPAGE : MADV_NOHUGEPAGE) == 0 && on && tci_os_huge_page_size(); /* advice may be refused */
#else
  (void)address, (void)nbytes, (void)on;
  return 0;
#endif
}

/* Zeros, past the caches where the range is larger than they are. */
static void clear_bytes(char *address, size_t nbytes) {
#if defined(__x86_64__)
  if (nbytes >= STREAM_FROM) { /* 64 MiB in 0.76 ms, memset 0.97 to 1.19 (Zen 5) */
    __asm__ volatile("rep stosb" : "+D"(address), "+c"(nbytes) : "a"(0) : "memory");
    return;
  }
#endif
  memset(address, 0, nbytes);
}

#ifdef __linux__
/* A page that was swapped out is absent for mincore though it is not zero: only without swap does absent mean zero. */
static int absent_is_zero(void) {
  struct sysinfo info;
  return sysinfo(&info) == 0 && info.totalswap == 0;
}

static void clear_resident(char *address, size_t nbytes, size_t page) {
  unsigned char resident[4096];
  while (nbytes) {
    size_t piece = nbytes < page * sizeof resident ? nbytes : page * sizeof resident;
    if (mincore(address, piece, resident) != 0) memset(resident, 1, sizeof resident);
    for (size_t i = 0, n = piece / page; i < n;) {
      size_t j = i;
      while (j < n && (resident[j] & 1)) j++;
      if (j > i) clear_bytes(address + i * page, (j - i) * page);
      i = j + (j == i);
    }
    address += piece, nbytes -= piece;
  }
}
#endif

void tci_os_clear(void *address, size_t nbytes) {
#ifdef __linux__
  size_t page = tci_os_page_size();
  if (nbytes >= (size_t)1 << 20 && absent_is_zero()) { /* below, two system calls cost more than the clear */
    char *first = (char *)(((uintptr_t)address + page - 1) & ~(page - 1));
    char *last = (char *)(((uintptr_t)address + nbytes) & ~(page - 1));
    memset(address, 0, (size_t)(first - (char *)address));
    memset(last, 0, (size_t)((char *)address + nbytes - last));
    clear_resident(first, (size_t)(last - first), page);
    return;
  }
#endif
  clear_bytes(address, nbytes);
}

#if defined(__linux__) && defined(SYS_mremap)
enum { MOVE_ANYWHERE = 1, MOVE_FIXED = 2, MOVE_KEEP = 4 }; /* MREMAP_MAYMOVE, _FIXED, _DONTUNMAP (Linux 5.7) */

static long move(void *from, size_t nbytes, int how, void *to) { return syscall(SYS_mremap, from, nbytes, nbytes, (long)how, to); }

/* In two steps, because a refused MREMAP_FIXED has already unmapped its target: what Linux may refuse (a range of several mappings, a
 * limit on addresses or locked pages) it refuses in the first, which has no target; the second moves one whole mapping. */
static int move_whole(void *to, void *from, size_t nbytes) {
  long between = move(from, nbytes, MOVE_ANYWHERE | MOVE_KEEP, NULL);
  if (between == -1) return -1;
  if (move((void *)between, nbytes, MOVE_ANYWHERE | MOVE_FIXED, to) == (long)to) return 0;
  memcpy(from, (void *)between, nbytes);
  munmap((void *)between, nbytes);
  void *fresh = mmap(to, nbytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  if (fresh == MAP_FAILED) abort(); /* a hole in a segment: nothing could go on */
  return -1;
}
#else
static int move_whole(void *to, void *from, size_t nbytes) {
  (void)to, (void)from, (void)nbytes;
  return -1;
}
#endif

/* What lies in several mappings (advised differently, or moved here before) is halved until each piece lies in one. */
void tci_os_move_pages(char *to, char *from, size_t nbytes) {
  if (nbytes >= MOVE_LEAST && move_whole(to, from, nbytes) == 0) return;
  if (nbytes < 2 * MOVE_LEAST) {
    memcpy(to, from, nbytes);
    return;
  }
  size_t half = nbytes / 2 / MOVE_LEAST * MOVE_LEAST;
  tci_os_move_pages(to, from, half);
  tci_os_move_pages(to + half, from + half, nbytes - half);
}

static _Atomic int membarrier_ready;

/* Without a barrier on other threads: far longer than a processor keeps a store to itself. Only forks, checks and ends of pools wait. */
static void wait_for_stores(void) { nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL); }

#if defined(__linux__) && defined(SYS_membarrier)
enum { MEMBARRIER_PRIVATE_EXPEDITED = 1 << 3, MEMBARRIER_REGISTER_PRIVATE_EXPEDITED = 1 << 4 };

void tci_os_membarrier_probe(void) { membarrier_ready = syscall(SYS_membarrier, MEMBARRIER_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0; }

void tci_os_membarrier(void) {
  if (membarrier_ready && syscall(SYS_membarrier, MEMBARRIER_PRIVATE_EXPEDITED, 0, 0) == 0) return;
  membarrier_ready = 0; /* a filter set since may forbid it */
  wait_for_stores();
}
#else
void tci_os_membarrier_probe(void) {}
void tci_os_membarrier(void) { wait_for_stores(); }
#endif

int tci_os_membarrier_ready(void) { return atomic_load_explicit(&membarrier_ready, memory_order_relaxed); }

uint64_t tci_os_now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t tci_os_thread(void) {
#if defined(__linux__)
  return (uint64_t)syscall(SYS_gettid);
#elif defined(__APPLE__)
  uint64_t number = 0;
  pthread_threadid_np(NULL, &number);
  return number;
#else
  return (uint64_t)(uintptr_t)pthread_self();
#endif
}

void tci_os_random(void *bytes, size_t nbytes) {
  if (getentropy(bytes, nbytes) == 0) return;
  uint64_t state = tci_os_now_ns() ^ (uintptr_t)bytes; /* an old kernel, or a filter: the clock and where things were mapped */
  for (size_t i = 0; i < nbytes; i++) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    ((unsigned char *)bytes)[i] = (unsigned char)(state >> 56);
  }
}

int tci_os_symbol(const void *code, char *text, size_t size) {
  Dl_info info;
  if (!dladdr(code, &info) || !info.dli_fname) return snprintf(text, size, "%p", code);
  const char *file = strrchr(info.dli_fname, '/');
  file = file ? file + 1 : info.dli_fname;
  const void *from = info.dli_sname ? info.dli_saddr : info.dli_fbase;
  size_t offset = (size_t)((const char *)code - (const char *)from);
  return snprintf(text, size, "%s+0x%zx (%s)", info.dli_sname ? info.dli_sname : "code", offset, file);
}
