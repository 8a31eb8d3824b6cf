/* upstream_os.c - segments from the operating system: private anonymous mappings of their own, never malloc's heap. */
#include "internal.h"

static void *os_allocate(void *context, size_t nbytes, size_t alignment) {
  (void)context;
  return tci_os_map(nbytes, alignment);
}

static void os_deallocate(void *context, void *address, size_t nbytes) {
  (void)context;
  tci_os_unmap(address, nbytes);
}

static int os_purge(void *context, void *address, size_t nbytes) {
  (void)context;
  return tci_os_purge(address, nbytes);
}

const tc_upstream *tc_upstream_os(void) {
  static const tc_upstream os = {.name = "os", .allocate = os_allocate, .deallocate = os_deallocate, .purge = os_purge, .host_memory = 1};
  return &os;
}
