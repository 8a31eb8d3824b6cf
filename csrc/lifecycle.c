/* lifecycle.c - a pool's beginning, settings and end. */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#include "modes.h"
#include "streams.h"

#define LONGEST_DECAY 1e8 /* seconds: three years */
#define REFILLS_FULL 16 /* as for a bin that was refilled so often: as much as a refill brings */
#define QUARANTINE ((size_t)64 << 20)
#define GUARD_EVERY 16384
#define PREALLOCATED 4 /* blocks of each preallocated size that has no slab */

/* The index of the variable's value; 0 where it is not set; one past the end, which tc_pool_create refuses, for an unknown one. */
static unsigned from_environment(const char *variable, const char *const *values, unsigned count) {
  const char *text = getenv(variable);
  unsigned i = 0;
  if (!text || !*text) return 0;
  while (i < count && strcmp(text, values[i]) != 0) i++;
  return i;
}

void tc_pool_options_init(tc_pool_options *options) {
  static const char *const modes[] = {"fast", "checked", "hardened"}, *const on_fault[] = {"raise", "abort"};
  *options = (tc_pool_options){.decay = 10.0, .huge_pages = TC_HUGE_PAGES_AUTO, .numa_node = -1, .learn = 1, .device = -1};
  options->mode = (tc_mode)from_environment("TENSORCORE_MODE", modes, 3);
  options->on_fault = (tc_on_fault)from_environment("TENSORCORE_ON_FAULT", on_fault, 2);
  options->quarantine = QUARANTINE;
  options->guard_every = GUARD_EVERY;
}

static int64_t decay_of(double seconds) {
  return seconds < 0 ? -1 : seconds > LONGEST_DECAY ? (int64_t)(LONGEST_DECAY * 1e9) : (int64_t)(seconds * 1e9);
}

static void pool_init(tc_pool *pool, const tc_pool_options *options) {
  static uint32_t made;
  pool->options = *options;
  pool->decay_ns = decay_of(options->decay);
  pool->handover_tick = pool->tick - 2;
  pool->upstream_given = options->upstream ? options->upstream : tc_upstream_os();
  pool->upstream = *pool->upstream_given;
  uint32_t number = ADD(made, 1) + 1;
  if (options->name)
    snprintf(pool->name, sizeof pool->name, "%s", options->name);
  else
    snprintf(pool->name, sizeof pool->name, "pool-%u", number);
  pool->options.name = pool->name;
  pthread_mutex_init(&pool->collect, NULL);
  pthread_mutex_init(&pool->learner.lock, NULL);
  pthread_mutex_init(&pool->heap.lock, NULL);
  for (unsigned bin = 0; bin < TCI_BINS; bin++) pthread_mutex_init(&pool->depots[bin].lock, NULL);
  tci_classes_init(pool);
}

static void pool_free(tc_pool *pool) {
  if (pool->order) tci_order_free(pool);
  tci_depot_free(pool);
  tci_caches_free(pool);
  tci_guard_destroy(pool);
  pthread_mutex_destroy(&pool->collect);
  pthread_mutex_destroy(&pool->learner.lock);
  pthread_mutex_destroy(&pool->heap.lock);
  tci_meta_free(META_OTHER, pool, sizeof *pool);
}

/* Blocks of 64 B, 128 B ... 64 KiB, so that the first of each size needs no upstream call. */
static void preallocate(tc_pool *pool) {
  for (size_t size = 64; size <= (size_t)64 << 10; size *= 2) {
    unsigned class = tci_class_of_size(size);
    tci_magazine *magazine = tci_obtain_blocks(pool, class, size, REFILLS_FULL);
    while (magazine && pool->classes[class].nblocks == 1 && magazine->count < PREALLOCATED) {
      tci_run *run = tci_obtain(pool, pool->classes[class].npages, pool->classes[class].npages, size);
      if (!run) break;
      tci_single_create(pool, class, run, &magazine->entries[magazine->count++]);
    }
    if (magazine) tci_depot_put(pool, magazine);
  }
}

static bool streams_are_whole(const tc_upstream *upstream) { /* all three, or none */
  bool any = upstream->event_record || upstream->event_query || upstream->event_destroy || upstream->stream_wait || upstream->synchronize;
  return !any || (upstream->event_record && upstream->event_query && upstream->event_destroy);
}

tc_status tc_pool_create(const tc_pool_options *options, tc_pool **result) {
  tc_pool_options defaults;
  tc_pool_options_init(&defaults);
  if (!options) options = &defaults;
  if (!result || options->numa_node != -1 || options->decay != options->decay) return TC_INVALID_ARGUMENT;
  if (options->upstream && !streams_are_whole(options->upstream)) return TC_INVALID_ARGUMENT;
  tci_fork_register();
  tci_pressure_init();
  tc_pool *pool = tci_meta_alloc(META_OTHER, sizeof *pool);
  if (!pool) return TC_OUT_OF_MEMORY;
  pool_init(pool, options);
  tc_status status = tci_order_create(pool) ? tci_guard_create(pool) : TC_OUT_OF_MEMORY;
  if (status == TC_OK) status = tci_registry_add(pool);
  if (status != TC_OK) {
    pool_free(pool);
    return status;
  }
  if (options->initial_capacity) {
    status = tc_pool_reserve(pool, options->initial_capacity);
    if (status != TC_OK) {
      tc_pool_destroy(pool);
      return status;
    }
    if (!pool->order) preallocate(pool);
  }
  *result = pool;
  return TC_OK;
}

void tci_pool_finish(tc_pool *pool) {
  if (pool->order) tci_supply_wait_all(pool, true);
  tci_registry_remove(pool);
  STORE(pool->reserve_floor, 0);
  tci_release_whole(pool, SIZE_MAX, true);
  pool_free(pool);
}

/* The pool was destroyed: the block goes to the heap at once, and the pool with its last block. */
void tci_free_closed(tc_pool *pool, tci_cache *cache, tci_run *run, tci_entry entry) {
  pthread_mutex_lock(&pool->collect);
  uint32_t *state = run->kind == RUN_LARGE ? &run->state : pool->guard ? tci_record_state(entry.u.record) : entry.u.state;
  tci_stats_out(cache, run->kind == RUN_LARGE ? run->request : (size_t)*state - 1);
  STORE(*state, 0);
  BUMP(cache->bins[run->bin].balance, -1);
  if (run->kind == RUN_LARGE) {
    BUMP(cache->large_out, run->capacity);
    tci_run_release(pool, run);
  } else {
    tci_slab_give(pool, &entry, 1);
  }
  bool last = tci_stats_live(pool) == 0;
  pthread_mutex_unlock(&pool->collect);
  if (last) tci_pool_finish(pool);
}

tc_status tc_pool_destroy(tc_pool *pool) {
  if (!pool) return TC_INVALID_ARGUMENT;
  if (LOAD(pool->closed)) return TC_CLOSED;
  if (LOAD(pool->forked)) return TC_FORKED;
  STORE(pool->reserve_floor, 0);
  tci_guard_walk(pool);
  tci_cache_close(pool);
  if (pool->order) tci_supply_wait_all(pool, false);
  pthread_mutex_lock(&pool->collect);
  bool empty = tci_stats_live(pool) == 0;
  pthread_mutex_unlock(&pool->collect);
  if (empty) {
    tci_pool_finish(pool);
  } else {
    tci_release_whole(pool, SIZE_MAX, true);
    tci_purge(pool, SIZE_MAX, LOAD(pool->tick) + 1);
  }
  return TC_OK;
}

tc_status tc_pool_reserve(tc_pool *pool, size_t capacity) {
  if (!pool) return TC_INVALID_ARGUMENT;
  if (capacity > (size_t)1 << 47) return TC_OUT_OF_MEMORY;
  if (tc_pool_status(pool) != TC_OK) return tc_pool_status(pool);
  for (uint64_t reserved; (reserved = LOAD(pool->reserved)) < capacity;) {
    size_t missing = tci_round_up(capacity - reserved, TCI_SEGMENT_UNIT), whole = tci_round_up(missing, TCI_SLOT);
    bool done = tci_segment_add(pool, whole, whole, 0, true) || (missing < whole && tci_segment_add(pool, missing, missing, 0, true));
    if (!done) return TC_OUT_OF_MEMORY;
  }
  if (capacity > LOAD(pool->reserve_floor)) STORE(pool->reserve_floor, capacity);
  tci_scavenger_wake(pool);
  return TC_OK;
}

static size_t cached_bytes(const tc_pool *pool) {
  uint64_t reserved = LOAD(pool->reserved), live = tci_stats_live(pool);
  return reserved > live ? reserved - live : 0;
}

static size_t give_back(tc_pool *pool, size_t keep) {
  size_t cached = cached_bytes(pool), surplus = cached > keep ? cached - keep : 0;
  size_t done = surplus ? tci_release_whole(pool, surplus, true) : 0;
  return done < surplus ? done + tci_purge(pool, surplus - done, LOAD(pool->tick) + 1) : done;
}

size_t tc_pool_trim(tc_pool *pool, size_t keep) {
  if (!pool || LOAD(pool->forked)) return 0;
  tci_guard_walk(pool);
  STORE(pool->reserve_floor, 0);
  if (cached_bytes(pool) <= keep) return 0;
  if (pool->order) tci_supply_wait_all(pool, false);
  __atomic_fetch_add(&pool->trimming, 1, __ATOMIC_SEQ_CST);
  tci_cache_collect(pool, false);
  size_t done = give_back(pool, keep);
  while (__atomic_load_n(&pool->purging, __ATOMIC_SEQ_CST)) sched_yield(); /* what the scavenger has in hand comes back */
  done += give_back(pool, keep);
  __atomic_fetch_sub(&pool->trimming, 1, __ATOMIC_RELEASE);
  return done;
}

size_t tc_pool_limit(const tc_pool *pool) { return LOAD(pool->options.limit); }

size_t tc_pool_set_limit(tc_pool *pool, size_t limit) {
  size_t old = __atomic_exchange_n(&pool->options.limit, limit, __ATOMIC_RELAXED);
  if (!limit || LOAD(pool->reserved) <= limit || LOAD(pool->forked)) return old;
  uint64_t live = tci_stats_live(pool);
  tc_pool_trim(pool, limit > live ? limit - live : 0);
  if (LOAD(pool->reserved) > limit) tci_release_whole(pool, SIZE_MAX, true); /* only segments larger than the surplus are left */
  return old;
}

double tc_pool_decay(const tc_pool *pool) {
  int64_t ns = LOAD(pool->decay_ns);
  return ns < 0 ? -1.0 : (double)ns / 1e9;
}

double tc_pool_set_decay(tc_pool *pool, double seconds) {
  double old = tc_pool_decay(pool);
  if (pool->order) return old;
  STORE(pool->decay_ns, decay_of(seconds));
  STORE(pool->tick_due, 0);
  tci_scavenger_wake(pool);
  return old;
}

int tc_pool_device(const tc_pool *pool) { return pool->options.device; }
tc_status tc_pool_status(const tc_pool *pool) { return LOAD(pool->forked) ? TC_FORKED : LOAD(pool->closed) ? TC_CLOSED : TC_OK; }
tc_mode tc_pool_mode(const tc_pool *pool) { return pool->options.mode; }
const char *tc_pool_name(const tc_pool *pool) { return pool->name; }
const tc_upstream *tc_pool_upstream(const tc_pool *pool) { return pool->upstream_given; }

void tc_pool_on_out_of_memory(tc_pool *pool, tc_out_of_memory_callback callback, void *context) {
  pool->on_out_of_memory_context = context;
  STORE_RELEASE(pool->on_out_of_memory, callback);
}

void tc_pool_on_fault(tc_pool *pool, tc_fault_callback callback, void *context) {
  if (!pool->guard) return; /* a fast pool finds nothing that a call cannot return */
  pool->guard->on_fault_context = context;
  STORE_RELEASE(pool->guard->on_fault, callback);
}

void tc_pool_warn_at(tc_pool *pool, double utilization, tc_watermark_callback callback, void *context) {
  pool->watermark = utilization;
  pool->watermark_context = context;
  STORE(pool->above_watermark, 0);
  STORE_RELEASE(pool->on_watermark, callback);
  tci_cache_watch(pool, callback != NULL);
}

const char *tc_version(void) { return TC_VERSION; }
size_t tc_page_size(void) { return tci_os_page_size(); }
size_t tc_huge_page_size(void) { return tci_os_huge_page_size(); }
int tc_has_membarrier(void) {
  tci_os_membarrier_probe();
  return tci_os_membarrier_ready();
}
