/* quarantine.c - blocks that came back and are kept out of use for a while, and the blocks between guard pages.
 *
 * Small blocks wait in a line of their thread and class: one in, the oldest out, no lock. A block between guard pages waits with all its
 * pages out of reach, so that reading it traps too; its own pages cost two system calls when it is made and two when it ends.
 */
#include "modes.h"

#define LINE_SHARE 64 /* of the quarantine a line gets one part in so many */
#define MORE_FROM ((size_t)16 << 10) /* bytes of quarantine that stand for a place beyond TCI_LINE_MOST */

static uint32_t places(const tc_pool *pool, unsigned class) {
  size_t limit = pool->guard->quarantine / LINE_SHARE, wanted = limit / pool->classes[class].block_size, most = limit / MORE_FROM;
  uint32_t count = 2;
  most = most < TCI_LINE_MOST ? TCI_LINE_MOST : most;
  while (2 * (size_t)count <= wanted && 2 * (size_t)count <= most) count *= 2;
  return wanted > 1 ? count : 0; /* a line of one place would shift by 64 */
}

static size_t line_bytes(uint32_t count) { return sizeof(tci_line) + count * sizeof(tci_entry); }

void tci_line_make(tci_cache *cache, unsigned class) {
  uint32_t count = places(cache->pool, class);
  tci_lines *lines = cache->lines ? NULL : tci_meta_alloc(META_OTHER, sizeof *lines);
  tci_line *line = count ? tci_meta_alloc(META_OTHER, line_bytes(count)) : NULL;
  if (line) {
    line->shift = 64 - (uint32_t)__builtin_ctz(count);
    line->turn = (uint64_t)tci_random(cache) << 32;
    line->step = UINT64_C(0x9E3779B97F4A7C15) + ((uint64_t)tci_random(cache) << 26); /* the golden ratio and up to a sixteenth more */
  }
  if (!tci_cache_enter_wait(cache)) {
    tci_lines_free(lines);
    if (line) tci_meta_free(META_OTHER, line, line_bytes(count));
    return;
  }
  if (lines) STORE(cache->lines, lines);
  bool kept = cache->lines != NULL;
  if (kept && line) STORE(cache->lines->of[class], line);
  tci_cache_exit(cache->thread);
  if (!kept && line) tci_meta_free(META_OTHER, line, line_bytes(count));
}

void tci_lines_free(tci_lines *lines) {
  if (lines) tci_meta_free(META_OTHER, lines, sizeof *lines);
}

void tci_lines_detach(tci_cache *cache, bool idle_only, tci_line **list) {
  for (unsigned class = 0; cache->lines && class < TCI_CLASSES; class++) {
    tci_line *line = cache->lines->of[class];
    if (!line) continue;
    bool idle = line->seen == line->turn;
    line->seen = line->turn;
    if (idle_only && !idle) continue;
    line->next = *list;
    *list = line;
    STORE(cache->lines->of[class], NULL);
  }
}

void tci_lines_drain(tc_pool *pool, tci_line *list) {
  for (tci_line *next; list; list = next) {
    next = list->next;
    for (uint32_t place = 0; place < 1u << (64 - list->shift); place++) {
      if (!list->entries[place].block) continue;
      tci_guard_inspect(pool, &list->entries[place], 1, false);
      tci_slab_give(pool, &list->entries[place], 1);
    }
    tci_meta_free(META_OTHER, list, line_bytes(1u << (64 - list->shift)));
  }
}

void tci_lines_orphan(tc_pool *pool, tci_line *list) {
  for (tci_line *next; list; list = next) {
    next = list->next;
    pthread_mutex_lock(&pool->guard->lock);
    list->next = pool->guard->orphans;
    pool->guard->orphans = list;
    pthread_mutex_unlock(&pool->guard->lock);
  }
}

/* ---- blocks between guard pages ---------------------------------------------------------------------------------------------------- */

static size_t system_page(void) { return tci_os_page_size() > TCI_PAGE ? tci_os_page_size() : TCI_PAGE; }

size_t tci_guarded_pages(size_t nbytes, size_t alignment) {
  size_t page = system_page(), body = tci_round_up(nbytes ? nbytes : 1, page) + (alignment > page ? alignment : 0);
  return (body + 2 * page + 2 * (page - TCI_PAGE)) >> TCI_PAGE_SHIFT;
}

typedef struct span {
  uintptr_t first, end; /* of the run's whole system pages */
} span;

static span span_of(const tci_run *run) {
  size_t page = system_page();
  return (span){tci_round_up(run->start, page), (run->start + (run->npages << TCI_PAGE_SHIFT)) & ~(page - 1)};
}

tci_run *tci_guarded_run(tc_pool *pool, tci_run *run, size_t nbytes, size_t alignment) {
  size_t page = system_page();
  span s = span_of(run);
  int lead = tci_os_protect((void *)s.first, page, 0), tail = tci_os_protect((void *)(s.end - page), page, 0);
  run->guarded = lead == 0 || tail == 0;
  if (lead != 0 || tail != 0) { /* too many mappings: the block will do without */
    tci_run_release(pool, run);
    return NULL;
  }
  run->base = (s.end - page - (nbytes ? nbytes : 1)) & ~(uintptr_t)(alignment - 1);
  run->capacity = s.end - page - run->base;
  return run;
}

static void held_release(tc_pool *pool, tci_run *list) {
  for (tci_run *next; list; list = next) {
    next = list->next;
    list->next = NULL;
    tci_run_release(pool, list);
  }
}

static tci_run *held_pop(tci_guard *guard, tci_run *list) { /* lock held */
  tci_run *run = guard->oldest;
  guard->oldest = run->next;
  if (!guard->oldest) guard->newest = NULL;
  guard->held -= run->npages << TCI_PAGE_SHIFT;
  run->next = list;
  return run;
}

void tci_held_push(tc_pool *pool, tci_run *run) {
  tci_guard *guard = pool->guard;
  tci_run *list = NULL;
  span s = span_of(run);
  tci_os_protect((void *)s.first, s.end - s.first, 0); /* refused: a late access is found by nothing */
  pthread_mutex_lock(&guard->lock);
  run->next = NULL;
  *(guard->newest ? &guard->newest->next : &guard->oldest) = run;
  guard->newest = run;
  guard->held += run->npages << TCI_PAGE_SHIFT;
  guard->pushes++;
  while (guard->held > guard->quarantine) list = held_pop(guard, list);
  pthread_mutex_unlock(&guard->lock);
  held_release(pool, list);
}

void tci_held_drain(tc_pool *pool, bool idle_only) {
  tci_guard *guard = pool->guard;
  tci_run *list = NULL;
  if (!guard) return;
  pthread_mutex_lock(&guard->lock);
  bool idle = guard->pushes == guard->pushes_seen;
  guard->pushes_seen = guard->pushes;
  while (guard->oldest && (idle || !idle_only)) list = held_pop(guard, list);
  tci_line *orphans = guard->orphans;
  guard->orphans = NULL;
  pthread_mutex_unlock(&guard->lock);
  held_release(pool, list);
  tci_lines_drain(pool, orphans);
}
