/* test_stream_threads.c - several host threads on the same and on different streams; a forked child; a process that ends as it is. */
#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>

#include "overlap.h"
#include "streams.h"

enum { THREADS = 4, SLOTS = 64, SHARED = 50 };

static const size_t STEPS = 60000 / SLOWER;

typedef struct worker {
  rig *r;
  uint64_t seed;
  uintptr_t stream; /* its own; besides there are two that all use */
} worker;

typedef struct slot {
  void *block;
  size_t nbytes;
  uintptr_t stream;
} slot;

static void slot_fill(worker *w, slot *s) {
  size_t nbytes = random_below(&w->seed, 20) ? random_size(&w->seed, 16) : random_size(&w->seed, 21);
  uintptr_t stream = random_below(&w->seed, 3) ? w->stream : SHARED + random_below(&w->seed, 2);
  *s = (slot){claimed(w->r, nbytes, stream), nbytes, stream};
  if (!s->block) return;
  overlap_claim(s->block, nbytes);
  work(w->r, stream, random_below(&w->seed, 20), s->block, nbytes < 4096 ? nbytes : 4096);
}

static void slot_empty(worker *w, slot *s) {
  uintptr_t used = SHARED + random_below(&w->seed, 2);
  if (random_below(&w->seed, 8) == 0) {
    CHECK_STATUS(tc_pool_record_stream(w->r->pool, s->block, used), TC_OK, "a stream is recorded");
    work(w->r, used, random_below(&w->seed, 20), s->block, s->nbytes < 4096 ? s->nbytes : 4096);
  }
  overlap_release(s->block, s->nbytes);
  CHECK_STATUS(tc_pool_free_sized_on(w->r->pool, s->block, s->nbytes, TC_STREAM_OF_BLOCK), TC_OK, "a block is freed");
  s->block = NULL;
}

static void *churn(void *argument) {
  worker *w = argument;
  slot slots[SLOTS] = {0};
  for (size_t step = 0; step < STEPS; step++) {
    slot *s = &slots[random_below(&w->seed, SLOTS)];
    if (s->block)
      slot_empty(w, s);
    else
      slot_fill(w, s);
    if (step % 16 == 0) tc_fake_device_advance(w->r->device, 10);
    if (step % 2000 == 0) tc_pool_trim(w->r->pool, 0);
    if (step % 3000 == 0) tc_pool_trim_stream(w->r->pool, w->stream);
    if (step % 5000 == 0) check_pool(w->r->pool);
  }
  for (size_t i = 0; i < SLOTS; i++)
    if (slots[i].block) slot_empty(w, &slots[i]);
  return NULL;
}

static void churn_all(tc_fake_device_options device, size_t limit, uintptr_t first_stream) {
  rig r = rig_with(device, limit);
  pthread_t threads[THREADS];
  worker workers[THREADS];
  for (size_t i = 0; i < THREADS; i++) {
    workers[i] = (worker){.r = &r, .seed = i + 1, .stream = first_stream == 2 ? 2 : first_stream + i};
    CHECK_EQUAL(pthread_create(&threads[i], NULL, churn, &workers[i]), 0, "a thread is started");
  }
  for (size_t i = 0; i < THREADS; i++) CHECK_EQUAL(pthread_join(threads[i], NULL), 0, "and joined");
  rig_end(&r);
}

static void threads_share_streams_and_steal_from_each_other(void) { churn_all((tc_fake_device_options){0}, 0, 10); }

static void threads_share_a_limit(void) { churn_all((tc_fake_device_options){0}, 24 * MiB, 10); }

static void each_thread_on_its_own_stream_by_the_same_handle(void) { churn_all((tc_fake_device_options){0}, 48 * MiB, 2); }

static void threads_share_pinned_memory(void) { churn_all((tc_fake_device_options){.host_memory = 1}, 0, 10); }

/* ---- another process ------------------------------------------------------------------------------------------------------------------ */

static void child_is_refused(rig *r, void *block) {
  CHECK_STATUS(tc_pool_status(r->pool), TC_FORKED, "the pool says why");
  CHECK(tc_pool_alloc(r->pool, 1) == NULL && tc_pool_alloc_on(r->pool, MiB, 10) == NULL, "nothing is allocated");
  CHECK_STATUS(tc_pool_free(r->pool, block), TC_FORKED, "or freed");
  CHECK_STATUS(tc_free(block), TC_FORKED, "in whatever way");
  CHECK_STATUS(tc_pool_free_on(r->pool, block, 10), TC_FORKED, "on a stream");
  CHECK_STATUS(tc_pool_record_stream(r->pool, block, 11), TC_FORKED, "recorded");
  CHECK_STATUS(tc_pool_forget_stream(r->pool, 10), TC_FORKED, "forgotten");
  CHECK_STATUS(tc_pool_reserve(r->pool, 100 * MiB), TC_FORKED, "reserved");
  CHECK_STATUS(tc_pool_destroy(r->pool), TC_FORKED, "or destroyed");
  CHECK_EQUAL(tc_pool_trim(r->pool, 0) + tc_pool_trim_stream(r->pool, 10) + tc_pool_drain(r->pool), 0, "and nothing goes back");
  tc_pool_set_limit(r->pool, 1);
  tc_pool *host = pool_over(NULL);
  void *own = tc_pool_alloc(host, 5000);
  memset(own, 1, 5000);
  CHECK_STATUS(tc_pool_free(host, own), TC_OK, "a host pool works");
  rig fresh = rig_make();
  own = claimed(&fresh, 5000, 10);
  CHECK(own != NULL, "and so does a pool that the child made");
  free_on(&fresh, own, 10);
  rig_end(&fresh);
}

static void a_forked_child_may_not_use_the_parents_device(void) {
  rig r = rig_make();
  void *block = claimed(&r, 5000, 10), *freed = claimed(&r, 5000, 10);
  free_on(&r, freed, 10);
  freed = claimed(&r, 3 * MiB, 10); /* a whole segment that could go back */
  free_on(&r, freed, 10);
  tc_fake_device_counts before = device_counts(&r);
  int outcome = 0;
  pid_t child = fork();
  CHECK(child >= 0, "a child is forked");
  if (child == 0) {
    child_is_refused(&r, block);
    tc_fake_device_counts after = device_counts(&r);
    CHECK(memcmp(&before, &after, sizeof before) == 0, "the device was not called");
    _exit(0);
  }
  CHECK(waitpid(child, &outcome, 0) == child, "the child is waited for");
  CHECK(WIFEXITED(outcome) && WEXITSTATUS(outcome) == 0, "it ended well");
  CHECK_STATUS(tc_pool_status(r.pool), TC_OK, "the parent's pool is as it was");
  free_on(&r, block, 10);
  rig_end(&r);
}

static void a_process_may_end_with_live_and_pending_blocks(void) {
  int outcome = 0;
  pid_t child = fork();
  CHECK(child >= 0, "a child is forked");
  if (child == 0) {
    rig r = rig_make();
    void *pending = claimed(&r, 5000, 10);
    CHECK(claimed(&r, 5000, 10) != NULL, "a block lives");
    tc_pool_record_stream(r.pool, pending, 11);
    work(&r, 11, 100, pending, 5000);
    free_on(&r, pending, 10);
    exit(0);
  }
  CHECK(waitpid(child, &outcome, 0) == child, "the child is waited for");
  CHECK(WIFEXITED(outcome) && WEXITSTATUS(outcome) == 0, "it ended well");
}

int main(void) {
  RUN(threads_share_streams_and_steal_from_each_other);
  RUN(threads_share_a_limit);
  RUN(each_thread_on_its_own_stream_by_the_same_handle);
  RUN(threads_share_pinned_memory);
  RUN(a_forked_child_may_not_use_the_parents_device);
  RUN(a_process_may_end_with_live_and_pending_blocks);
  return 0;
}
