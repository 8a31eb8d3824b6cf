/* os.h - every call of the operating system that the core makes, behind one header. Implemented by os_posix.c and os_cgroup.c.
 *
 * What a kernel offers is probed at run time, never assumed. Sizes are bytes.
 */
#ifndef TCI_OS_H
#define TCI_OS_H

#include <stddef.h>
#include <stdint.h>

size_t tci_os_page_size(void);
size_t tci_os_huge_page_size(void); /* 0: the kernel has no transparent huge pages */

void *tci_os_map(size_t nbytes, size_t alignment); /* zeroed, readable and writable; NULL on failure */
void tci_os_unmap(void *address, size_t nbytes);
int tci_os_purge(void *address, size_t nbytes); /* the pages go, zeros come back on use; 0 on success */
int tci_os_protect(void *address, size_t nbytes, int reachable); /* 0: any access ends the process by a signal. 0 on success */
int tci_os_advise_huge(void *address, size_t nbytes, int on); /* 1: the range will have huge pages */

/* Zero [address, address + nbytes), touching only what is resident where that can be known. */
void tci_os_clear(void *address, size_t nbytes);
/* The content at `from` is at `to` afterwards (both mapped, page-aligned, disjoint), by page tables where they allow; `from`: undefined. */
void tci_os_move_pages(char *to, char *from, size_t nbytes);

/* A barrier on every running thread of the process: what lets a reader do without one. */
void tci_os_membarrier_probe(void); /* once per process, a forked one too */
int tci_os_membarrier_ready(void);
void tci_os_membarrier(void); /* where it is not ready: a millisecond's wait */

uint64_t tci_os_now_ns(void); /* monotonic */
uint64_t tci_os_thread(void); /* the system's number of the calling thread, as tools show it */
void tci_os_random(void *bytes, size_t nbytes); /* at most 256 */
int tci_os_symbol(const void *code, char *text, size_t size); /* "function+0x12 (library)"; the length, as snprintf */

/* The memory control group with the least left, of this process's own and its parents. Bytes; no limit: limit and left are SIZE_MAX. */
typedef struct tci_memory_group {
  size_t limit, used, left;
} tci_memory_group;
tci_memory_group tci_os_memory_group(void);
void tci_os_memory_group_from(const char *membership, const char *root); /* instead of /proc/self/cgroup and /sys/fs/cgroup: for tests */

#endif
