/* simd_threads.c - the threads that share the work on one large array: started at first need, asleep otherwise, and ended before a fork
 * and at exit.
 *
 * Waking them costs some ten microseconds, so that callers ask for them from some MiB on. They serve one caller at a time; another
 * caller meanwhile works alone rather than wait. The lock is held only to hand work out, never while anything is computed.
 */
#include <fenv.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "simd_internal.h"

typedef struct job {
  void (*body)(void *context, size_t begin, size_t end);
  void *context;
  size_t count, step;
  size_t next;       /* atomic: the first element that nobody has taken; may run past `count` */
  int exceptions;    /* atomic: that the other threads raised */
  fenv_t arithmetic; /* the caller's: how it rounds, and what it makes of subnormal numbers */
} job;

static struct {
  pthread_mutex_t lock;
  pthread_cond_t wake, left;
  pthread_t threads[TC_SIMD_MAX_THREADS - 1];
  unsigned started; /* threads */
  job *job;         /* NULL: none, or nobody may join it any more */
  uint64_t serial;  /* of the job: a thread joins each once */
  unsigned seats;   /* threads that may still join */
  unsigned inside;  /* threads that joined and did not leave */
  bool stop;        /* the threads end, and none is started */
  bool watched;     /* fork and exit are */
} team = {.lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER, .left = PTHREAD_COND_INITIALIZER};

static unsigned thread_count; /* atomic; 0: not known yet */

/* ---- how many ---------------------------------------------------------------------------------------------------------------------- */

static unsigned usable_cpus(void) {
  long count = sysconf(_SC_NPROCESSORS_ONLN);
#ifdef __linux__
  cpu_set_t allowed; /* refused where the machine has more CPUs than the set has room for */
  if (sched_getaffinity(0, sizeof allowed, &allowed) == 0) count = CPU_COUNT(&allowed);
#endif
  return count < 1 ? 1 : count > TC_SIMD_MAX_THREADS ? TC_SIMD_MAX_THREADS : (unsigned)count;
}

unsigned tc_simd_threads(void) {
  unsigned count = __atomic_load_n(&thread_count, __ATOMIC_RELAXED);
  if (count) return count;
  __atomic_compare_exchange_n(&thread_count, &count, usable_cpus(), false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
  return __atomic_load_n(&thread_count, __ATOMIC_RELAXED);
}

unsigned tc_simd_set_threads(unsigned threads) {
  unsigned old = tc_simd_threads();
  if (threads < 1 || threads > TC_SIMD_MAX_THREADS) return 0;
  __atomic_store_n(&thread_count, threads, __ATOMIC_RELAXED);
  return old;
}

/* ---- working ----------------------------------------------------------------------------------------------------------------------- */

static void take_shares(job *j) {
  size_t begin;
  while ((begin = __atomic_fetch_add(&j->next, j->step, __ATOMIC_RELAXED)) < j->count)
    j->body(j->context, begin, j->count - begin < j->step ? j->count : begin + j->step);
}

static void help(job *j) {
  fesetenv(&j->arithmetic);
  tc_simd_take_exceptions(); /* the caller's of before */
  take_shares(j);
  __atomic_fetch_or(&j->exceptions, tc_simd_take_exceptions(), __ATOMIC_RELAXED);
}

static void *thread_main(void *unused) {
  (void)unused;
  uint64_t seen = 0;
  pthread_mutex_lock(&team.lock);
  while (!team.stop) {
    if (team.job == NULL || team.seats == 0 || team.serial == seen) {
      pthread_cond_wait(&team.wake, &team.lock);
      continue;
    }
    job *j = team.job;
    seen = team.serial;
    team.seats--;
    team.inside++;
    pthread_mutex_unlock(&team.lock);
    help(j);
    pthread_mutex_lock(&team.lock);
    if (--team.inside == 0) pthread_cond_signal(&team.left);
  }
  pthread_mutex_unlock(&team.lock);
  return NULL;
}

/* ---- fork and exit ----------------------------------------------------------------------------------------------------------------- */

/* Lock held, but not while waiting for them to finish what they have in hand. Nothing starts while `stop` is set. */
static void end_threads(void) {
  for (team.stop = true; team.started > 0; team.stop = true) {
    pthread_t ending[TC_SIMD_MAX_THREADS - 1];
    unsigned count = team.started;
    memcpy(ending, team.threads, count * sizeof *ending);
    team.started = 0;
    pthread_cond_broadcast(&team.wake);
    pthread_mutex_unlock(&team.lock);
    for (unsigned i = 0; i < count; i++) pthread_join(ending[i], NULL);
    pthread_mutex_lock(&team.lock);
  }
}

static void fork_prepare(void) { /* a process that forks should have no hidden threads, and the child has none */
  pthread_mutex_lock(&team.lock);
  end_threads();
}

static void fork_parent(void) {
  team.stop = false;
  pthread_mutex_unlock(&team.lock);
}

static void fork_child(void) { /* whoever had given them work stayed with the parent */
  pthread_cond_init(&team.wake, NULL);
  pthread_cond_init(&team.left, NULL);
  team.job = NULL;
  fork_parent();
}

static void end_at_exit(void) {
  pthread_mutex_lock(&team.lock);
  end_threads();
  pthread_mutex_unlock(&team.lock);
}

static void watch(void) { /* lock held */
  if (team.watched) return;
  team.watched = pthread_atfork(fork_prepare, fork_parent, fork_child) == 0 && atexit(end_at_exit) == 0;
}

/* ---- handing out ------------------------------------------------------------------------------------------------------------------- */

/* Lock held. Fewer where the system refuses some. */
static unsigned start_threads(unsigned wanted) {
  sigset_t all, old;
  watch();
  if (!team.watched || team.started >= wanted) return team.watched ? wanted : 0;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &old); /* the threads inherit it: no signal handler runs there */
  while (team.started < wanted && pthread_create(&team.threads[team.started], NULL, thread_main, NULL) == 0) team.started++;
  pthread_sigmask(SIG_SETMASK, &old, NULL);
  return team.started;
}

static bool open_job(job *j, unsigned helpers) {
  pthread_mutex_lock(&team.lock);
  bool opened = team.job == NULL && team.inside == 0 && !team.stop && (team.seats = start_threads(helpers)) > 0;
  if (opened) {
    team.job = j;
    team.serial++;
    for (unsigned i = 0; i < team.seats; i++) pthread_cond_signal(&team.wake);
  }
  pthread_mutex_unlock(&team.lock);
  return opened;
}

static void close_job(void) {
  pthread_mutex_lock(&team.lock);
  team.job = NULL;
  while (team.inside > 0) pthread_cond_wait(&team.left, &team.lock);
  pthread_mutex_unlock(&team.lock);
}

void tci_simd_share(size_t count, size_t step, unsigned threads, void (*body)(void *context, size_t begin, size_t end), void *context) {
  job j = {.body = body, .context = context, .count = count, .step = step};
  size_t shares = count / step + (count % step != 0);
  if (threads > shares) threads = (unsigned)shares;
  bool opened = threads > 1 && fegetenv(&j.arithmetic) == 0 && open_job(&j, threads - 1);
  take_shares(&j);
  if (!opened) return;
  close_job();
  tci_simd_raise_exceptions(j.exceptions);
}
