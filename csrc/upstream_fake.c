/* upstream_fake.c - an upstream for tests: counts calls, has a capacity, fails at the k-th call.
 *
 * Without `backing` it hands out made-up addresses, so a pool that touched the memory it manages would crash at once.
 */
#include "internal.h"

#define FAKE_BASE ((uintptr_t)1 << 46) /* below what the system maps; each of 32 fakes has 1 TiB of its own */
#define FAKE_SPAN ((uintptr_t)1 << 40)

typedef struct fake_piece {
  struct fake_piece *next;
  void *address;
  size_t nbytes;
} fake_piece;

typedef struct fake {
  tc_upstream table; /* first: the table's address is the fake's */
  pthread_mutex_t lock;
  const tc_upstream *backing; /* NULL: made-up addresses */
  tc_fake_options options;
  tc_fake_counts counts;
  uint64_t calls; /* since the options were set */
  uintptr_t next, end;
  fake_piece *pieces;
} fake;

/* lock held */
static bool fake_fails(fake *f) {
  uint64_t call = ++f->calls, count = f->options.fail_count ? f->options.fail_count : 1;
  bool fails = f->options.fail_at && call >= f->options.fail_at && call - f->options.fail_at < count;
  f->counts.failures += fails;
  return fails;
}

static void *fake_addresses(fake *f, size_t nbytes, size_t alignment) {
  uintptr_t start = tci_round_up(f->next, alignment);
  if (start + nbytes > f->end) return NULL;
  f->next = start + nbytes;
  return (void *)start;
}

static void fake_record(fake *f, fake_piece *piece, void *address, size_t nbytes) {
  *piece = (fake_piece){.next = f->pieces, .address = address, .nbytes = nbytes};
  f->pieces = piece;
  if (f->counts.live_bytes > f->counts.peak_bytes) f->counts.peak_bytes = f->counts.live_bytes;
}

static void *fake_allocate(void *context, size_t nbytes, size_t alignment) {
  fake *f = context;
  const tc_upstream *backing = f->backing;
  fake_piece *piece = tci_meta_alloc(META_OTHER, sizeof *piece);
  if (!piece) return NULL;
  pthread_mutex_lock(&f->lock);
  f->counts.allocate_calls++;
  bool refused = fake_fails(f) || (f->options.capacity && f->counts.live_bytes + nbytes > f->options.capacity);
  void *address = refused || backing ? NULL : fake_addresses(f, nbytes, alignment);
  f->counts.live_bytes += refused ? 0 : nbytes; /* at once: two callers must not share the last of the capacity */
  pthread_mutex_unlock(&f->lock);
  if (!refused && backing) address = backing->allocate(backing->context, nbytes, alignment);
  if (!address) tci_meta_free(META_OTHER, piece, sizeof *piece);
  pthread_mutex_lock(&f->lock);
  if (address)
    fake_record(f, piece, address, nbytes);
  else if (!refused)
    f->counts.live_bytes -= nbytes;
  pthread_mutex_unlock(&f->lock);
  return address;
}

static void fake_deallocate(void *context, void *address, size_t nbytes) {
  fake *f = context;
  const tc_upstream *backing = f->backing;
  pthread_mutex_lock(&f->lock);
  f->counts.deallocate_calls++;
  fake_piece **link = &f->pieces;
  while (*link && (*link)->address != address) link = &(*link)->next;
  fake_piece *piece = *link;
  bool known = piece && piece->nbytes == nbytes;
  if (known) {
    *link = piece->next;
    f->counts.live_bytes -= nbytes;
  } else {
    f->counts.errors++;
  }
  pthread_mutex_unlock(&f->lock);
  if (!known) return;
  tci_meta_free(META_OTHER, piece, sizeof *piece);
  if (backing) backing->deallocate(backing->context, address, nbytes);
}

static int fake_purge(void *context, void *address, size_t nbytes) {
  fake *f = context;
  const tc_upstream *backing = f->backing;
  pthread_mutex_lock(&f->lock);
  f->counts.purge_calls++;
  bool refused = fake_fails(f);
  pthread_mutex_unlock(&f->lock);
  if (refused) return -1;
  return backing && backing->purge ? backing->purge(backing->context, address, nbytes) : 0;
}

tc_status tc_upstream_fake_create(const tc_fake_options *options, tc_upstream **upstream) {
  static uint64_t made;
  if (!upstream) return TC_INVALID_ARGUMENT;
  fake *f = tci_meta_alloc(META_OTHER, sizeof *f);
  if (!f) return TC_OUT_OF_MEMORY;
  pthread_mutex_init(&f->lock, NULL);
  if (options) f->options = *options;
  f->backing = f->options.backing;
  f->next = FAKE_BASE + ADD(made, 1) % 32 * FAKE_SPAN;
  f->end = f->next + FAKE_SPAN;
  f->table = (tc_upstream){.name = "fake",
                           .context = f,
                           .allocate = fake_allocate,
                           .deallocate = fake_deallocate,
                           .purge = fake_purge,
                           .host_memory = f->backing && f->backing->host_memory};
  *upstream = &f->table;
  return TC_OK;
}

void tc_upstream_fake_set(tc_upstream *upstream, const tc_fake_options *options) {
  fake *f = (fake *)upstream;
  pthread_mutex_lock(&f->lock);
  f->options = *options;
  f->calls = 0;
  pthread_mutex_unlock(&f->lock);
}

void tc_upstream_fake_counts(const tc_upstream *upstream, tc_fake_counts *counts) {
  fake *f = (fake *)(uintptr_t)upstream;
  pthread_mutex_lock(&f->lock);
  *counts = f->counts;
  pthread_mutex_unlock(&f->lock);
}

void tc_upstream_fake_destroy(tc_upstream *upstream) {
  fake *f = (fake *)upstream;
  while (f->pieces) {
    fake_piece *piece = f->pieces;
    f->pieces = piece->next;
    tci_meta_free(META_OTHER, piece, sizeof *piece);
  }
  pthread_mutex_destroy(&f->lock);
  tci_meta_free(META_OTHER, f, sizeof *f);
}
