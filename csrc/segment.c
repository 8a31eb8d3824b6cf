/* segment.c - what a pool gets from upstream in one piece and gives back whole; the only caller of the upstream table.
 *
 * A segment starts on a 2 MiB boundary. In a host pool its size grows with what the pool holds (an eighth of it, 2 to 32 MiB), so that
 * the number of system calls is logarithmic and no more than an eighth is held in advance. No lock is held during an upstream call.
 */
#include "internal.h"

#define SMALL_POOL ((size_t)8 << 20) /* up to here small pages: a small program would fill huge ones by half */
#define STEP_MAX ((size_t)32 << 20)

void (*tci_before_segment)(tc_pool *pool, size_t nbytes);

static void upstream_count(tc_pool *pool, uint64_t started) {
  ADD(pool->upstream_calls, 1);
  ADD(pool->upstream_ns, tci_os_now_ns() - started);
}

static void *upstream_allocate(tc_pool *pool, size_t nbytes) {
  uint64_t started = tci_os_now_ns();
  void *address = pool->upstream.allocate(pool->upstream.context, nbytes, TCI_SLOT);
  upstream_count(pool, started);
  return address;
}

static void upstream_deallocate(tc_pool *pool, uintptr_t address, size_t nbytes) {
  uint64_t started = tci_os_now_ns();
  pool->upstream.deallocate(pool->upstream.context, (void *)address, nbytes);
  upstream_count(pool, started);
}

int tci_upstream_purge(tc_pool *pool, uintptr_t address, size_t nbytes) {
  if (!pool->upstream.purge) return -1;
  uint64_t started = tci_os_now_ns();
  int failed = pool->upstream.purge(pool->upstream.context, (void *)address, nbytes);
  upstream_count(pool, started);
  if (!failed) ADD(pool->purged_bytes, nbytes);
  return failed;
}

/* Account for nbytes more, unless that crosses the limit. */
static bool reserve_bytes(tc_pool *pool, size_t nbytes) {
  uint64_t reserved = LOAD(pool->reserved), limit = LOAD(pool->options.limit);
  do {
    if (limit && (nbytes > limit || reserved > limit - nbytes)) return false;
  } while (!__atomic_compare_exchange_n(&pool->reserved, &reserved, reserved + nbytes, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  ADD(pool->reserved_in, nbytes);
  return true;
}

static void unreserve_bytes(tc_pool *pool, size_t nbytes) {
  __atomic_fetch_sub(&pool->reserved, nbytes, __ATOMIC_RELAXED);
  ADD(pool->reserved_out, nbytes);
}

/* The bytes from the address on where huge pages are to be expected: only those that are filled whole, and none for a small pool. */
static size_t advise(tc_pool *pool, uintptr_t address, size_t nbytes, size_t filled) {
  if (!pool->upstream.host_memory || pool->order) return 0;
  bool on = pool->options.huge_pages == TC_HUGE_PAGES_ON;
  size_t huge = on ? nbytes & ~(TCI_SLOT - 1) : LOAD(pool->reserved) <= SMALL_POOL ? 0 : filled & ~(TCI_SLOT - 1);
  if (pool->options.huge_pages == TC_HUGE_PAGES_OFF) huge = 0, tci_os_advise_huge((void *)address, nbytes, 0);
  return huge && tci_os_advise_huge((void *)address, huge, 1) && tci_os_huge_page_size() == TCI_SLOT ? huge : 0;
}

/* What the upstream gave, and where the segment starts in it. */
typedef struct piece {
  uintptr_t given, base;
  size_t given_bytes, nbytes;
} piece;

/* An upstream with streams need not align: then 2 MiB more, of which a part is lost. */
static bool piece_get(tc_pool *pool, piece *p) {
  p->given_bytes = p->nbytes;
  p->given = p->base = (uintptr_t)upstream_allocate(pool, p->nbytes);
  if (!p->given || !(p->given & (TCI_SLOT - 1))) return p->given != 0;
  upstream_deallocate(pool, p->given, p->given_bytes);
  if (!reserve_bytes(pool, TCI_SLOT)) return false;
  p->given = (uintptr_t)upstream_allocate(pool, p->nbytes + TCI_SLOT);
  if (!p->given) {
    unreserve_bytes(pool, TCI_SLOT);
    return false;
  }
  p->given_bytes = p->nbytes + TCI_SLOT;
  p->base = tci_round_up(p->given, TCI_SLOT);
  return true;
}

static bool segment_create(tc_pool *pool, const piece *p, size_t huge, unsigned first_bin, bool shared) {
  size_t meta_bytes = sizeof(tci_segment) + (pool->order ? 0 : p->nbytes >> TCI_PAGE_SHIFT);
  tci_segment *segment = tci_meta_alloc(META_OTHER, meta_bytes);
  tci_run *run = tci_run_create(pool, 0, 1);
  if (segment) {
    segment->base = p->base;
    segment->nbytes = p->nbytes;
    segment->pool = pool;
    segment->meta_bytes = meta_bytes;
    segment->huge = huge;
    segment->given = p->given;
    segment->given_bytes = p->given_bytes;
    segment->first_bin = first_bin;
    segment->shared = shared;
  }
  if (!segment || !run || !tci_page_map_add(segment)) {
    if (segment) tci_meta_free(META_OTHER, segment, meta_bytes);
    if (run) tci_run_destroy(run);
    return false;
  }
  run->segment = segment;
  run->start = p->base;
  run->npages = p->nbytes >> TCI_PAGE_SHIFT;
  tci_heap_lock(pool);
  segment->next = pool->heap.segments;
  if (segment->next) segment->next->previous = segment;
  pool->heap.segments = segment;
  pool->heap.bytes += p->nbytes;
  pool->heap.used += run->npages;
  tci_heap_give(pool, run, 0);
  tci_heap_unlock(pool);
  return true;
}

bool tci_segment_add(tc_pool *pool, size_t nbytes, size_t filled, unsigned first_bin, bool shared) {
  piece p = {.nbytes = nbytes};
  if (pool->upstream.host_memory && !pool->order) LOAD_ACQUIRE(tci_before_segment)(pool, nbytes);
  if (!reserve_bytes(pool, nbytes)) return false;
  if (piece_get(pool, &p)) {
    if (segment_create(pool, &p, advise(pool, p.base, nbytes, filled), first_bin, shared)) {
      tci_stats_reserved(pool);
      return true;
    }
    upstream_deallocate(pool, p.given, p.given_bytes);
    nbytes = p.given_bytes;
  }
  unreserve_bytes(pool, nbytes);
  return false;
}

bool tci_segment_grow(tc_pool *pool, size_t nbytes, size_t at_least) {
  if (nbytes > (size_t)1 << 47) return false;
  size_t reserved = LOAD(pool->reserved), step = reserved / 8 > STEP_MAX ? STEP_MAX : reserved / 8;
  if (reserved > LOAD(pool->budget) + LOAD(pool->budget) / 16) step = 0; /* it holds more than was ever live */
  size_t wanted = tci_round_up(nbytes > step ? nbytes : step, TCI_SLOT), whole = tci_round_up(at_least, TCI_SLOT);
  if (tci_segment_add(pool, wanted, nbytes > step ? nbytes : wanted, 0, true)) return true;
  if (whole < wanted && tci_segment_add(pool, whole, at_least, 0, true)) return true;
  size_t tight = tci_round_up(at_least, TCI_SEGMENT_UNIT);
  return tight < whole && tci_segment_add(pool, tight, at_least, 0, true);
}

void tci_segment_release(tc_pool *pool, tci_run *whole) {
  tci_segment *segment = whole->segment;
  tci_heap_lock(pool);
  if (segment->next) segment->next->previous = segment->previous;
  *(segment->previous ? &segment->previous->next : &pool->heap.segments) = segment->next;
  pool->heap.used -= whole->npages;
  pool->heap.bytes -= segment->nbytes;
  tci_heap_unlock(pool);
  tci_page_map_remove(segment);
  tci_run_destroy(whole);
  upstream_deallocate(pool, segment->given, segment->given_bytes);
  unreserve_bytes(pool, segment->given_bytes);
  tci_meta_free(META_OTHER, segment, segment->meta_bytes);
}
