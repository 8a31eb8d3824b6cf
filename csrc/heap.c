/* heap.c - page runs inside segments: best fit by bitmap, split, coalesce.
 *
 * Free runs lie in bins by size (exact to 64 pages, then 16 bins per doubling), runs with dirty pages apart from clean ones, so that
 * warm memory is found first. Neighbours are found through the page map: a run is entered at its first and its last page.
 * Free runs of a stream-ordered pool may belong to a set of their own, a stream's, and then merge with each other only.
 * Every function expects the heap lock. Cost: some 50 to 100 ns.
 */
#include "internal.h"

#define EXACT 64
#define LOOK 8 /* runs looked at in a bin of mixed sizes */

void tci_heap_lock(tc_pool *pool) { pthread_mutex_lock(&pool->heap.lock); }

void tci_heap_unlock(tc_pool *pool) {
  STORE(pool->used_pages, pool->heap.used);
  STORE(pool->dirty_pages, pool->heap.dirty);
  STORE(pool->free_pages, pool->heap.free);
  pthread_mutex_unlock(&pool->heap.lock);
}

tci_run *tci_run_create(const tc_pool *pool, size_t tail_bytes, size_t nblocks) {
  size_t header_bytes = sizeof(tci_run) + tail_bytes + nblocks * pool->record_bytes;
  tci_run *run = tci_meta_alloc(META_RUN, header_bytes);
  if (!run) return NULL;
  run->pool = (tc_pool *)(uintptr_t)pool;
  run->records = (char *)(run + 1) + tail_bytes;
  run->header_units = (uint16_t)((header_bytes + 63) / 64);
  STORE(run->kind, RUN_BUSY);
  return run;
}

void tci_run_destroy(tci_run *run) {
  STORE(run->kind, RUN_UNUSED);
  tci_run_set_blocks(run, 0, 0); /* a stale entry of the page map may still lead here: every free is refused */
  tci_meta_free(META_RUN, run, (size_t)run->header_units * 64);
}

static unsigned bin_of(size_t npages) {
  if (npages < EXACT) return (unsigned)npages;
  unsigned log2 = 63 - (unsigned)__builtin_clzll(npages);
  return EXACT + (log2 - 6) * 16 + (unsigned)(npages >> (log2 - 4) & 15);
}

static bool is_aged(const tci_run *run) { return (run->dirty > 0 && !run->no_whole_page) || run->set; }

/* The newest generation goes last; the heap's own runs have none, and come in order of time. */
static void age_insert(tci_run_set *set, tci_run *run) {
  tci_run *older = set->newest;
  while (older && older->generation > run->generation) older = older->older;
  run->older = older;
  run->newer = older ? older->newer : set->oldest;
  *(older ? &older->newer : &set->oldest) = run;
  *(run->newer ? &run->newer->older : &set->newest) = run;
}

static void age_remove(tci_run_set *set, tci_run *run) {
  *(run->older ? &run->older->newer : &set->oldest) = run->newer;
  *(run->newer ? &run->newer->older : &set->newest) = run->older;
}

static tci_run_set *set_of(tci_heap *heap, const tci_run *run) { return run->set ? run->set : &heap->sets[run->dirty > 0]; }

static void bin_insert(tci_heap *heap, tci_run *run) {
  tci_run_set *set = set_of(heap, run);
  unsigned bin = run->segment->first_bin + bin_of(run->npages);
  tci_run **head = &set->bins[bin];
  run->previous = NULL;
  run->next = *head;
  if (*head) (*head)->previous = run;
  *head = run;
  set->filled[bin / 64] |= (uint64_t)1 << (bin % 64);
  if (is_aged(run)) age_insert(set, run);
  heap->free += run->npages;
  heap->dirty += run->dirty;
  tci_run_set_blocks(run, 0, 0);
  STORE(run->kind, RUN_FREE);
}

static void bin_remove(tci_heap *heap, tci_run *run) {
  tci_run_set *set = set_of(heap, run);
  unsigned bin = run->segment->first_bin + bin_of(run->npages);
  if (run->next) run->next->previous = run->previous;
  if (run->previous)
    run->previous->next = run->next;
  else
    set->bins[bin] = run->next;
  if (!set->bins[bin]) set->filled[bin / 64] &= ~((uint64_t)1 << (bin % 64));
  if (is_aged(run)) age_remove(set, run);
  run->no_whole_page = 0;
  heap->free -= run->npages;
  heap->dirty -= run->dirty;
  STORE(run->kind, RUN_BUSY);
}

static void map_ends(tci_run *run) {
  tci_page_map_set(run->start, run);
  tci_page_map_set(run->start + ((run->npages - 1) << TCI_PAGE_SHIFT), run);
}

static size_t count_flags(const uint8_t *flags, size_t npages) {
  size_t count = 0;
  for (size_t i = 0; i < npages; i++) count += flags[i] != 0;
  return count;
}

/* What is looked for: how large, without a cold page, and how large a run may be that is broken for it. */
typedef struct wish {
  size_t npages, whole;
  bool warm;
  int look; /* runs of a bin */
} wish;

static bool fits(const tci_run *run, const wish *w) { /* in all but its size */
  return (!w->warm || run->dirty == run->npages) && (run->npages <= w->whole || run->segment->shared);
}

/* The smallest of the first few in this bin that fits. */
static tci_run *bin_best(tci_run *run, const wish *w) {
  tci_run *best = NULL;
  for (int i = 0; run && i < w->look && (!best || best->npages > w->npages); run = run->next, i++)
    if (run->npages >= w->npages && (!best || run->npages < best->npages) && fits(run, w)) best = run;
  return best;
}

static tci_run *find(const tci_run_set *set, unsigned first_bin, const wish *w) {
  unsigned end = (first_bin ? TCI_RUN_BINS : TCI_SMALL_BINS) / 64;
  for (unsigned bin = first_bin + bin_of(w->npages), word = bin / 64; word < end; word++, bin = word * 64) {
    for (uint64_t bits = set->filled[word] >> (bin % 64) << (bin % 64); bits; bits &= bits - 1) {
      tci_run *run = bin_best(set->bins[word * 64 + (unsigned)__builtin_ctzll(bits)], w);
      if (run) return run;
    }
  }
  return NULL;
}

/* Best fit, of at most `whole` pages unless its segment is shared, after a look at so many runs of a bin. */
tci_run *tci_heap_best(const tci_run_set *set, size_t npages, unsigned first_bin, size_t whole, int look) {
  return find(set, first_bin, &(wish){.npages = npages, .whole = whole, .look = look});
}

/* Cut `run` (busy) to npages; the rest becomes a free run. Without memory for a header the run stays whole. */
static void split(tc_pool *pool, tci_run *run, size_t npages) {
  if (run->npages == npages) return;
  tci_run *rest = tci_run_create(pool, 0, 1);
  if (!rest) return;
  rest->segment = run->segment;
  rest->start = run->start + (npages << TCI_PAGE_SHIFT);
  rest->npages = run->npages - npages;
  rest->stamp = run->stamp;
  rest->set = run->set;
  rest->generation = run->generation;
  size_t dirty = run->dirty;
  run->npages = npages;
  if (dirty) { /* all or nothing is common: count only where it is mixed */
    bool all = dirty == npages + rest->npages;
    run->dirty = all ? npages : count_flags(tci_run_dirty_bytes(run), npages);
    rest->dirty = dirty - run->dirty;
  }
  pool->heap.used -= rest->npages;
  bin_insert(&pool->heap, rest);
  map_ends(rest);
}

void tci_heap_take_run(tc_pool *pool, tci_run *run) {
  bin_remove(&pool->heap, run);
  pool->heap.used += run->npages;
}

tci_run *tci_heap_neighbour(const tci_run *run, bool left) {
  uintptr_t end = run->start + (run->npages << TCI_PAGE_SHIFT);
  if (left ? run->start == run->segment->base : end == run->segment->base + run->segment->nbytes) return NULL;
  tci_run *other = tci_page_map_get(left ? run->start - TCI_PAGE : end);
  if (!other || LOAD(other->kind) != RUN_FREE || other->segment != run->segment) return NULL;
  return (left ? other->start + (other->npages << TCI_PAGE_SHIFT) == run->start : other->start == end) ? other : NULL;
}

/* The free run before or behind it, if it is the same people's, taken out of its bin. */
static tci_run *take_neighbour(tc_pool *pool, const tci_run *run, bool left) {
  tci_run *other = tci_heap_neighbour(run, left);
  if (!other || other->set != run->set) return NULL;
  tci_heap_take_run(pool, other);
  return other;
}

static void free_run_touch(tc_pool *pool, tci_run *run, uintptr_t from, uintptr_t to) { /* busy; goes back into a bin */
  from = from > run->start ? from : run->start;
  uintptr_t end = run->start + (run->npages << TCI_PAGE_SHIFT);
  to = to < end ? to : end;
  memset(run->segment->dirty + ((from - run->segment->base) >> TCI_PAGE_SHIFT), TCI_PAGE_RESIDENT, (to - from) >> TCI_PAGE_SHIFT);
  run->dirty += (to - from) >> TCI_PAGE_SHIFT;
  pool->heap.used -= run->npages;
  bin_insert(&pool->heap, run);
}

/* The huge page at this address, if nothing of it is resident yet, will come in whole with the run: its free pages become warm. */
static void huge_page_touch(tc_pool *pool, tci_run *run, uintptr_t address) {
  tci_segment *segment = run->segment;
  uintptr_t from = address & ~(TCI_SLOT - 1), to = from + TCI_SLOT;
  if (to > segment->base + segment->huge) return;
  const uint8_t *flags = segment->dirty + ((from - segment->base) >> TCI_PAGE_SHIFT);
  uint8_t any = 0;
  for (size_t i = 0; i < TCI_SLOT >> TCI_PAGE_SHIFT; i++) any |= flags[i];
  if (any) return;
  tci_run *left = run->start > from ? take_neighbour(pool, run, true) : NULL;
  tci_run *right = run->start + (run->npages << TCI_PAGE_SHIFT) < to ? take_neighbour(pool, run, false) : NULL;
  if (left) free_run_touch(pool, left, from, to);
  if (right) free_run_touch(pool, right, from, to);
}

static void run_touch(tc_pool *pool, tci_run *run) {
  size_t npages = run->npages;
  if (run->dirty == npages || pool->order) return; /* all of it is warm; or nobody counts pages */
  if (run->segment->huge) {
    huge_page_touch(pool, run, run->start);
    huge_page_touch(pool, run, run->start + (run->npages << TCI_PAGE_SHIFT) - 1);
  }
  uint8_t *flags = tci_run_dirty_bytes(run);
  for (size_t i = 0; i < npages; i++) flags[i] |= TCI_PAGE_RESIDENT;
}

tci_run *tci_heap_find(tc_pool *pool, size_t npages, bool dirty, size_t *cold) {
  const tci_run_set *set = &pool->heap.sets[dirty];
  wish w = {.npages = npages, .whole = SIZE_MAX, .warm = dirty, .look = LOOK};
  tci_run *run = find(set, 0, &w);
  w.warm = false; /* a closer fit with cold pages would have cost more */
  if (!run && dirty) run = find(set, 0, &w);
  if (!run) return NULL;
  *cold = npages;
  if (run->dirty) *cold -= run->dirty == run->npages ? npages : count_flags(tci_run_dirty_bytes(run), npages);
  return run;
}

tci_run *tci_heap_take(tc_pool *pool, tci_run *run, size_t npages) {
  tci_heap_take_run(pool, run);
  split(pool, run, npages);
  map_ends(run);
  run_touch(pool, run);
  return run;
}

static void absorb(tci_run *run, tci_run *other) {
  if (other->start < run->start) run->start = other->start;
  run->npages += other->npages;
  run->dirty += other->dirty;
  if (other->generation > run->generation) run->generation = other->generation;
  tci_run_destroy(other);
}

void tci_heap_give(tc_pool *pool, tci_run *run, uint32_t stamp) {
  for (int left = 0; left < 2; left++) {
    tci_run *other = take_neighbour(pool, run, left);
    if (!other) continue;
    absorb(run, other);
    run->no_whole_page = 0;
  }
  run->stamp = stamp;
  pool->heap.used -= run->npages;
  bin_insert(&pool->heap, run);
  map_ends(run);
}

bool tci_heap_extend(tc_pool *pool, tci_run *run, size_t npages) {
  tci_run *other = take_neighbour(pool, run, false);
  if (!other) return false;
  if (run->npages + other->npages < npages) {
    tci_heap_give(pool, other, other->stamp);
    return false;
  }
  split(pool, other, npages - run->npages);
  absorb(run, other);
  map_ends(run);
  run_touch(pool, run);
  return true;
}

void tci_heap_shrink(tc_pool *pool, tci_run *run, size_t npages) {
  memset(tci_run_dirty_bytes(run), TCI_PAGE_DATA | TCI_PAGE_RESIDENT, run->npages);
  tci_run *rest = tci_run_create(pool, 0, 1);
  if (!rest) return;
  rest->segment = run->segment;
  rest->start = run->start + (npages << TCI_PAGE_SHIFT);
  rest->npages = rest->dirty = run->npages - npages;
  run->npages = npages;
  map_ends(run);
  tci_heap_give(pool, rest, LOAD(pool->tick));
}

static size_t set_largest(const tci_run_set *set) {
  size_t largest = 0;
  for (unsigned end = TCI_SMALL_BINS / 64, start = 0; start < TCI_RUN_BINS / 64; start = end, end = TCI_RUN_BINS / 64)
    for (unsigned word = end; word-- > start;) {
      uint64_t bits = set->filled[word];
      if (!bits) continue;
      for (tci_run *run = set->bins[word * 64 + 63 - (unsigned)__builtin_clzll(bits)]; run; run = run->next)
        if (run->npages > largest) largest = run->npages;
      break;
    }
  return largest;
}

static void raise_to(size_t *value, size_t candidate) {
  if (candidate > *value) *value = candidate;
}

size_t tci_heap_largest(tc_pool *pool) { /* a reader may have interrupted whoever holds the lock: it never waits */
  if (pthread_mutex_trylock(&pool->heap.lock) == 0) {
    size_t largest = 0;
    for (int set = 0; set < 2; set++) raise_to(&largest, set_largest(&pool->heap.sets[set]));
    for (tci_run_set *set = pool->heap.streams; set; set = set->next) raise_to(&largest, set_largest(set));
    STORE(pool->largest_free, largest);
    pthread_mutex_unlock(&pool->heap.lock);
  }
  return LOAD(pool->largest_free);
}
