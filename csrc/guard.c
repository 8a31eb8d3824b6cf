/* guard.c - what a pool with a mode has beside a fast one, and the parts of canary and poison that are not on every call's way. */
#include "modes.h"

tc_status tci_guard_create(tc_pool *pool) {
  const tc_pool_options *options = &pool->options;
  bool hardened = options->mode == TC_MODE_HARDENED;
  if ((unsigned)options->mode > TC_MODE_HARDENED || (unsigned)options->on_fault > TC_ON_FAULT_ABORT) return TC_INVALID_ARGUMENT;
  if (options->mode == TC_MODE_FAST) return options->zero_on_free ? TC_INVALID_ARGUMENT : TC_OK;
  if (options->quarantine > (size_t)1 << 47) return TC_INVALID_ARGUMENT;
  if (options->zero_on_free && (pool->order || !pool->upstream.host_memory)) return TC_INVALID_ARGUMENT; /* nobody here can write to it */
  pool->record_bytes += sizeof(tci_record);
  if (pool->order) return TC_OK;
  tci_guard *guard = tci_meta_alloc(META_OTHER, sizeof *guard);
  if (!guard) return TC_OUT_OF_MEMORY;
  tci_os_random(guard->canary, sizeof guard->canary);
  guard->canary[0] |= 0x8080808080808080u; /* an overflow by one zero byte is the commonest */
  guard->canary[1] |= 0x8080808080808080u;
  guard->poison = options->zero_on_free ? 0 : TCI_POISON;
  guard->hardened = hardened;
  guard->content = pool->upstream.host_memory;
  guard->pages = hardened && guard->content && pool->upstream.purge;
  guard->every = guard->pages ? options->guard_every : 0;
  guard->quarantine = hardened ? options->quarantine : 0;
  guard->lines = hardened && guard->content && !options->zero_on_free && options->quarantine;
  pthread_mutex_init(&guard->lock, NULL);
  pool->guard = guard;
  return TC_OK;
}

void tci_guard_destroy(tc_pool *pool) {
  if (!pool->guard) return;
  pthread_mutex_destroy(&pool->guard->lock);
  tci_meta_free(META_OTHER, pool->guard, sizeof *pool->guard);
}

static size_t poisoned_bytes(const tci_guard *guard, size_t capacity) { return guard->hardened ? TCI_POISON_HEAD : capacity; }

void tci_poison(const tci_guard *guard, void *block, size_t capacity) { memset(block, guard->poison, poisoned_bytes(guard, capacity)); }

bool tci_poison_intact(const tci_guard *guard, const void *block, size_t capacity) {
  const unsigned char *bytes = block;
  return bytes[0] == guard->poison && memcmp(bytes, bytes + 1, poisoned_bytes(guard, capacity) - 1) == 0;
}

const char *tci_canary_damage(const tci_run *run, const void *block, size_t requested) {
  const char *end = (const char *)block + requested, *canary = (const char *)run->pool->guard->canary;
  for (size_t i = 0; i < tci_canary_bytes(run, requested); i++)
    if (end[i] != canary[i]) return end + i;
  return NULL;
}

const char *tci_poison_damage(const tci_guard *guard, const void *block, size_t capacity) {
  const char *start = block;
  for (size_t i = 0; i < poisoned_bytes(guard, capacity); i++)
    if ((unsigned char)start[i] != guard->poison) return start + i;
  return NULL;
}
