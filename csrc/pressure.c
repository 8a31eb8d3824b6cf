/* pressure.c - cached memory goes back before a control group's limit is reached, where the kernel would kill the process.
 *
 * Looked at before a segment is got from upstream, on the slow paths, and by the scavenger's thread: every 100 ms while the pools hold
 * cached memory worth giving, else every second. Between two looks the pools may take half of what was left. Costs 50 us a look; without
 * a limit, one look a second at most, for segments only. Limit: memory that others take between two looks is not seen; a pool that never
 * decays has no thread that looks.
 */
#include "internal.h"

#define LOOK_NS 100000000u
#define CALM_NS 1000000000u /* no limit was there */
#define MARGIN_LEAST ((size_t)4 << 20)
#define MARGIN_MOST ((size_t)256 << 20)

/* A guess that all threads share; it is never locked, and a torn one is put right by the next look. */
static struct {
  uint32_t limited;   /* there was a limit at the last look */
  uint64_t due;       /* ns: the next look */
  int64_t room;       /* bytes that may be taken before it */
  size_t used;        /* bytes of the group, at the last look */
  size_t promised;    /* bytes taken since, or before and not in `used` yet: who allocates is going to write */
  uint64_t watch_due; /* ns: the scavenger's next look */
} pressure;

static size_t margin_of(const tci_memory_group *group) {
  size_t margin = group->limit / 16;
  return margin < MARGIN_LEAST ? MARGIN_LEAST : margin > MARGIN_MOST ? MARGIN_MOST : margin;
}

static size_t cached_bytes(const tc_pool *pool) { /* resident, and in nobody's hands */
  uint64_t pages = LOAD(pool->used_pages) + LOAD(pool->dirty_pages), bytes = pages << TCI_PAGE_SHIFT;
  uint64_t live = tci_stats_live(pool);
  return bytes > live ? bytes - live : 0;
}

/* Those whose cached memory counts in the group and may go at any time: a stream's may not. */
static bool concerned(const tc_pool *pool) { return pool->upstream.host_memory && !pool->order; }

static size_t all_cached_bytes(void) {
  size_t bytes = 0;
  uint32_t slot = 0;
  for (tc_pool *pool; (pool = tci_registry_next(&slot)); tci_registry_unpin(pool))
    if (concerned(pool)) bytes += cached_bytes(pool);
  return bytes;
}

/* By how many bytes the pages that are used, or free and resident, have grown since the last call: they are soon in the group's use. */
static size_t newly_taken(tc_pool *pool) {
  size_t pages = LOAD(pool->used_pages) + LOAD(pool->dirty_pages);
  size_t before = __atomic_exchange_n(&pool->pages_seen, pages, __ATOMIC_RELAXED);
  return pages > before ? (pages - before) << TCI_PAGE_SHIFT : 0;
}

/* From all pools that are concerned, until nbytes went. */
static size_t give_back(size_t nbytes) {
  size_t done = 0;
  uint32_t slot = 0;
  for (tc_pool *pool; (pool = tci_registry_next(&slot)); tci_registry_unpin(pool)) {
    if (!concerned(pool) || done >= nbytes) continue;
    tci_cache_collect(pool, false);
    done += tci_purge(pool, nbytes - done, LOAD(pool->tick) + 1);
    newly_taken(pool);
  }
  return done;
}

/* What was mapped and is not in the group's use yet; after a second it is taken for memory that stays untouched. */
static size_t still_promised(const tci_memory_group *group, uint64_t now) {
  size_t before = LOAD(pressure.used), grown = group->used > before ? group->used - before : 0, promised = LOAD(pressure.promised);
  if (now > LOAD(pressure.due) + CALM_NS || promised <= grown) return 0;
  return promised - grown;
}

static void look(size_t nbytes, uint64_t now) {
  tci_memory_group group = tci_os_memory_group();
  bool limited = group.limit != SIZE_MAX;
  size_t promised = limited ? still_promised(&group, now) : 0, margin = margin_of(&group), needed = nbytes + promised + margin;
  STORE(pressure.limited, limited);
  STORE(pressure.used, group.used);
  STORE(pressure.promised, promised);
  STORE(pressure.due, now + (limited ? LOOK_NS : CALM_NS));
  STORE(pressure.room, limited ? 0 : INT64_MAX / 2);
  if (!limited) return;
  if (group.left >= needed) {
    STORE(pressure.room, (int64_t)((group.left - needed) / 2));
    return;
  }
  size_t surplus = needed - group.left + margin, done = give_back(surplus); /* so that the next segment finds room */
  STORE(pressure.used, group.used > done ? group.used - done : 0);
  if (done < surplus / 8) STORE(pressure.room, (int64_t)(margin / 4)); /* there is no more: looking again can wait */
}

static void check(tc_pool *pool, size_t nbytes) {
  uint64_t now = tci_os_now_ns();
  size_t taken = newly_taken(pool);
  ADD(pressure.promised, taken);
  if (__atomic_sub_fetch(&pressure.room, (int64_t)taken, __ATOMIC_RELAXED) < (int64_t)nbytes || now >= LOAD(pressure.due)) look(nbytes, now);
}

void tci_pressure_init(void) { STORE_RELEASE(tci_before_segment, check); }

void tci_pressure_check(tc_pool *pool) {
  if (LOAD(pressure.limited) && concerned(pool)) check(pool, 0);
}

uint64_t tci_pressure_watch(void) {
  uint64_t now = tci_os_now_ns(), due = LOAD(pressure.watch_due);
  if (now < due) return due;
  tci_memory_group group = tci_os_memory_group();
  size_t margin = margin_of(&group);
  bool limited = group.limit != SIZE_MAX, worth_it = limited && all_cached_bytes() >= margin / 2;
  STORE(pressure.watch_due, now + (worth_it ? LOOK_NS : CALM_NS));
  if (worth_it && group.left < margin) give_back(2 * margin - group.left);
  return limited ? LOAD(pressure.watch_due) : 0;
}
