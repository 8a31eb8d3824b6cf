/* fault.c - what a caller did wrong, as one record: remembered for the thread, told to whoever asked, printed before an abort. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "modes.h"

#define REPORT 2048 /* bytes */

static _Thread_local tc_fault last_fault __attribute__((tls_model("global-dynamic"))); /* too large for a dlopened library otherwise */

const char *tc_status_string(tc_status status) {
  static const char *const sentences[] = {
      "ok",
      "invalid argument",
      "out of memory",
      "not the start of a block of this pool",
      "the block is not in use",
      "the size is not the size that was requested",
      "the pool is closed",
      "too many pools",
      "the pool's records are corrupt",
      "a device pool cannot be used in a forked child",
      "bytes behind the block were written",
      "the block was written after it came back",
  };
  return (unsigned)status < sizeof sentences / sizeof *sentences ? sentences[status] : "unknown status";
}

int tc_last_fault(tc_fault *fault) {
  if (fault) *fault = last_fault;
  return last_fault.status != TC_OK;
}

tc_fault tci_fault_of(const tci_run *run, const tci_record *record, const void *block, const char *damage) {
  uint32_t state = LOAD(run->states[run->block_size ? tci_run_word(run, (uintptr_t)block - run->base) : 0]);
  size_t capacity = run->block_size ? run->block_size : run->capacity;
  tc_fault fault = {.status = state ? TC_OVERFLOW : TC_WRITE_AFTER_FREE, .pool = run->pool, .address = (void *)(uintptr_t)damage};
  fault.block = (tc_block){run->pool, (void *)(uintptr_t)block, record->requested, capacity, state != 0};
  if (!run->block_size) fault.block.requested = LOAD(run->request);
  if (state && run->block_size) fault.block.requested = state - 1;
  fault.allocated = tci_mark_site(record->allocated);
  if (record->freed && !state) fault.freed = tci_mark_site(record->freed);
  return fault;
}

typedef struct report {
  char *text;
  size_t size, length;
} report;

__attribute__((format(printf, 2, 3))) static void add(report *r, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  int length = vsnprintf(r->length < r->size ? r->text + r->length : NULL, r->length < r->size ? r->size - r->length : 0, format, arguments);
  va_end(arguments);
  r->length += length > 0 ? (size_t)length : 0;
}

static void add_site(report *r, const char *what, tc_site site) {
  char place[256];
  if (!site.call && !site.thread) return;
  tc_site_describe(site.call, place, sizeof place);
  add(r, "  %s by thread %llu at %s\n", what, (unsigned long long)site.thread, place);
}

size_t tc_fault_describe(const tc_fault *fault, char *text, size_t size) {
  report r = {text, size, 0};
  const tc_block *block = &fault->block;
  add(&r, "tensorcore: pool %s: %s: 0x%zx\n", fault->pool ? fault->pool->name : "(none)", tc_status_string(fault->status),
      (size_t)fault->address);
  if (block->start)
    add(&r, "  %s block of %zu bytes at 0x%zx of pool %s, %zd bytes from its start\n", block->in_use ? "live" : "free", block->requested,
        (size_t)block->start, block->pool->name, (char *)fault->address - (char *)block->start);
  else
    add(&r, "  %s%s\n", block->pool ? "no block of pool " : "memory of no pool", block->pool ? block->pool->name : "");
  if (fault->status == TC_SIZE_MISMATCH) add(&r, "  given as %zu bytes\n", fault->nbytes);
  add_site(&r, "allocated", fault->allocated);
  add_site(&r, "deallocated", fault->freed);
  add_site(&r, fault->status == TC_DOUBLE_FREE ? "deallocated again" : "found", fault->call);
  return r.length;
}

static void print(const tc_fault *fault) {
  char text[REPORT];
  size_t length = tc_fault_describe(fault, text, sizeof text);
  length = length < sizeof text ? length : sizeof text - 1;
  if (write(STDERR_FILENO, text, length) < 0) return; /* nothing else could be told of it */
}

static bool aborts(const tc_fault *fault) {
  return fault->pool && tci_has_records(fault->pool) && fault->pool->options.on_fault == TC_ON_FAULT_ABORT;
}

tc_status tci_fault_found(const tc_fault *fault) {
  last_fault = *fault;
  if (!aborts(fault)) return fault->status;
  print(fault);
  abort();
}

void tci_fault_deliver(const tc_fault *fault) {
  tci_guard *guard = fault->pool->guard;
  tci_fault_found(fault);
  tc_fault_callback callback = LOAD_ACQUIRE(guard->on_fault);
  if (callback)
    callback(fault->pool, fault, guard->on_fault_context);
  else
    print(fault);
}

void tci_guard_inspect(tc_pool *pool, const tci_entry *entries, uint32_t count, bool large) {
  const tci_guard *guard = pool->guard;
  for (uint32_t i = 0; guard && i < count; i++) {
    tci_run *run = tci_page_map_get((uintptr_t)entries[i].block);
    tci_record *record = large ? tci_run_record(run, 0) : entries[i].u.record;
    size_t capacity = run->block_size ? run->block_size : run->capacity;
    if (!(record->freed & 1) || tci_poison_intact(guard, entries[i].block, capacity)) continue;
    tc_fault fault = tci_fault_of(run, record, entries[i].block, tci_poison_damage(guard, entries[i].block, capacity));
    record->freed &= ~(uint64_t)1; /* once */
    tci_fault_deliver(&fault);
  }
}
