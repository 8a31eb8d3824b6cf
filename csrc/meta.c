/* meta.c - memory for the core's own records, from mappings of its own: an overflow of a user's block cannot reach it.
 *
 * Records are never unmapped, and run headers are only ever reused as run headers: a stale pointer in the page map always points at
 * something that reads as a header. Each mapping lies between two guard pages. One lock; called on slow paths only.
 */
#include "internal.h"

#define CHUNK ((size_t)1 << 20)
#define BIG ((size_t)1 << 17) /* from here straight from the system and back */
#define SIZES 96

typedef struct free_record {
  struct free_record *next;
} free_record;

static struct {
  pthread_mutex_t lock;
  char *bump[META_KINDS];
  size_t left[META_KINDS];
  free_record *free[META_KINDS][SIZES];
  size_t bytes;
} meta = {.lock = PTHREAD_MUTEX_INITIALIZER};

void tci_meta_lock(void) { pthread_mutex_lock(&meta.lock); }
void tci_meta_unlock(void) { pthread_mutex_unlock(&meta.lock); }
size_t tci_meta_bytes(void) { return LOAD(meta.bytes); }

/* 64 B steps to 1 KiB, then four a doubling: sizes as in size_class.c, coarser. */
static unsigned size_index(size_t *nbytes) {
  size_t n = tci_round_up(*nbytes, 64);
  if (n <= 1024) {
    *nbytes = n;
    return (unsigned)(n / 64);
  }
  unsigned log2 = 63 - (unsigned)__builtin_clzll(n - 1);
  n = tci_round_up(n, (size_t)1 << (log2 - 2));
  *nbytes = n;
  return 17 + (log2 - 10) * 4 + (unsigned)((n - 1) >> (log2 - 2) & 3);
}

/* Between pages that nobody may touch: an overflow from outside ends the process before it reaches a record. */
static void *map_guarded(size_t nbytes) { /* whole pages */
  size_t page = tci_os_page_size();
  char *address = tci_os_map(nbytes + 2 * page, page);
  if (!address) return NULL;
  tci_os_protect(address, page, 0); /* a refusal is none of the caller's trouble */
  tci_os_protect(address + page + nbytes, page, 0);
  return address + page;
}

static void unmap_guarded(void *address, size_t nbytes) {
  size_t page = tci_os_page_size();
  tci_os_unmap((char *)address - page, nbytes + 2 * page);
}

static void *carve(tci_meta_kind kind, size_t nbytes) {
  if (meta.left[kind] < nbytes) {
    char *chunk = map_guarded(CHUNK);
    if (!chunk) return NULL;
    meta.bump[kind] = chunk;
    meta.left[kind] = CHUNK;
  }
  void *address = meta.bump[kind];
  meta.bump[kind] += nbytes;
  meta.left[kind] -= nbytes;
  STORE(meta.bytes, meta.bytes + nbytes);
  return address;
}

void *tci_meta_alloc(tci_meta_kind kind, size_t nbytes) {
  if (nbytes >= BIG) {
    nbytes = tci_round_up(nbytes, tci_os_page_size());
    void *address = map_guarded(nbytes);
    if (address) ADD(meta.bytes, nbytes);
    return address;
  }
  unsigned index = size_index(&nbytes);
  tci_meta_lock();
  free_record *record = meta.free[kind][index];
  if (record)
    meta.free[kind][index] = record->next;
  else
    record = carve(kind, nbytes);
  tci_meta_unlock();
  if (record) memset((void *)record, 0, nbytes);
  return record;
}

void tci_meta_free(tci_meta_kind kind, void *address, size_t nbytes) {
  if (nbytes >= BIG) {
    nbytes = tci_round_up(nbytes, tci_os_page_size());
    unmap_guarded(address, nbytes);
    __atomic_fetch_sub(&meta.bytes, nbytes, __ATOMIC_RELAXED);
    return;
  }
  unsigned index = size_index(&nbytes);
  free_record *record = address;
  tci_meta_lock();
  record->next = meta.free[kind][index];
  meta.free[kind][index] = record;
  tci_meta_unlock();
}
