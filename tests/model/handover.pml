/* handover.pml - how a thread's cache changes hands: the protocol of csrc/cache.c, checked in every order that TSO allows.
 *
 * Each processor keeps its stores in a buffer of its own and reads through it; memory takes them one by one, at any time (Sewell et
 * al. 2010, doi:10.1145/1785414.1785443). Owners enter with a plain store and a plain load. Outside them, one process collects or
 * freezes (a fork, a check), one watches or closes the pool. TOKENS blocks go round between bins, hands and the depot.
 *
 * Held: owner and collector are never inside together; no block is there twice or lost; at rest every slot is open as it should be.
 * `finishes`: nobody waits for ever. ci/model checks this, then each mutant below, which must fail.
 * Limit: OWNERS threads, ROUNDS operations each. TSO keeps a thread's stores in order; on weaker machines that order comes from the
 * release stores and the address dependency in the code, which this model takes as given.
 */
#ifndef OWNERS
#define OWNERS 1
#endif
#ifndef ROUNDS
#define ROUNDS 2
#endif
#define TOKENS 1
#define CPUS (OWNERS + 2) /* owners, then the collector, then the controller */
#define COLLECTOR OWNERS
#define CONTROLLER (OWNERS + 1)
#define DEPTH 4 /* stores that a processor can hold back; a fifth waits */

/* Barriers: BARRIER_SYSTEM is membarrier, BARRIER_TIME the fall-back (what was buffered at its start is out at its end). */
#define BARRIER_SYSTEM 0
#define BARRIER_TIME 1
#define BARRIER_NONE 2 /* mutant */
#ifndef BARRIER
#define BARRIER BARRIER_SYSTEM
#endif
/* Further mutants: IGNORE_BUSY, IGNORE_TAKEN, EXIT_EARLY, KEEP_SLOT_SHUT, KEEP_TAKEN, RETIRE_UNLOCKED */

/* Words of memory, one of each kind per owner. */
#define BUSY(i) (i)
#define SLOT(i) (OWNERS + (i))
#define TAKEN(i) (2 * OWNERS + (i))
#define BIN(i) (3 * OWNERS + (i)) /* blocks in the bin */
byte memory[4 * OWNERS];

typedef buffer {
  byte length;
  byte address[DEPTH];
  byte value[DEPTH];
  byte awaited /* stores that a BARRIER_TIME waits for */
}
buffer buffers[CPUS];

byte collect; /* the mutex: 0, or 1 + who holds it */
bool closed, watched;
bool living[OWNERS];     /* cache->thread is not NULL */
bool inside[OWNERS];     /* ghost: the owner is in its cache */
bool taken_over[OWNERS]; /* ghost: somebody else is */
byte held[OWNERS];       /* blocks in the owner's hands */
byte depot;
byte finished;

#define OPEN (!closed && !watched)

inline write(a, v) {
  atomic {
    buffers[me].length < DEPTH;
    buffers[me].address[buffers[me].length] = a;
    buffers[me].value[buffers[me].length] = v;
    buffers[me].length++
  }
}

inline read(a, into) { /* the newest store of its own, else memory */
  d_step {
    into = memory[a];
    at = 0;
    do
    :: at < buffers[me].length ->
       if
       :: buffers[me].address[at] == a -> into = buffers[me].value[at]
       :: else
       fi;
       at++
    :: else -> break
    od;
    at = 0
  }
}

inline fence() { buffers[me].length == 0 } /* what a locked instruction does */
inline write_fenced(a, v) { write(a, v); fence() }
inline lock() { fence(); atomic { collect == 0; collect = me + 1 } }
inline unlock() { fence(); atomic { assert(collect == me + 1); collect = 0 } }

active [CPUS] proctype store_buffer() { /* memory takes a processor's oldest store */
  byte cpu = _pid, at;
end:
  do
  :: d_step {
       buffers[cpu].length > 0 ->
       memory[buffers[cpu].address[0]] = buffers[cpu].value[0];
       buffers[cpu].length--;
       at = 0;
       do
       :: at < buffers[cpu].length ->
          buffers[cpu].address[at] = buffers[cpu].address[at + 1];
          buffers[cpu].value[at] = buffers[cpu].value[at + 1];
          at++
       :: else -> break
       od;
       buffers[cpu].address[buffers[cpu].length] = 0;
       buffers[cpu].value[buffers[cpu].length] = 0;
       at = 0;
       if
       :: buffers[cpu].awaited > 0 -> buffers[cpu].awaited--
       :: else
       fi
     }
  od
}

/* ---- the owner: tci_cache_enter, tci_cache_enter_wait, tci_cache_exit, tci_cache_retire, tci_cache_get ------------------------- */

inline go_in() { atomic { inside[me] = true; assert(!taken_over[me]) } }
inline leave() {
#ifdef EXIT_EARLY
  write(BUSY(me), 0);
  inside[me] = false
#else
  atomic { write(BUSY(me), 0); inside[me] = false }
#endif
}
inline back_out() { write(BUSY(me), 0) } /* was never in */

inline enter_fast() {
  write(BUSY(me), 1);
  read(SLOT(me), seen);
  entered = seen;
  if
  :: entered -> go_in()
  :: else -> back_out()
  fi
}

inline enter_wait() {
  do
  :: write(BUSY(me), 1);
     read(TAKEN(me), seen);
#ifdef IGNORE_TAKEN
     seen = 0;
#endif
     if
     :: !seen -> go_in(); entered = true; break
     :: else -> back_out()
     fi;
     if
     :: closed -> entered = false; break
     :: else
     fi;
     lock(); /* whoever has taken the cache holds this */
     unlock()
  od
}

inline use() { /* inside: pop what is there, else push what is held */
  read(BIN(me), seen);
  if
  :: seen > 0 -> write(BIN(me), seen - 1); held[me]++
  :: seen == 0 && held[me] > 0 -> write(BIN(me), 1); held[me]--
  :: else
  fi;
  assert(!taken_over[me]);
  leave()
}

inline refill() { /* a magazine comes from the depot, and goes back there if the pool was closed */
  lock(); /* the depot's lock has the same effect */
  moved = depot;
  depot = 0;
  unlock();
  if
  :: moved ->
     enter_wait();
     if
     :: entered -> read(BIN(me), seen); write(BIN(me), seen + moved); leave()
     :: else -> lock(); depot = depot + moved; unlock()
     fi;
     moved = 0
  :: else
  fi
}

inline retire_and_start_anew() {
  enter_wait();
  if
  :: entered -> read(BIN(me), moved); write(BIN(me), 0); leave()
  :: else
  fi;
#ifndef RETIRE_UNLOCKED
  lock();
#endif
  depot = depot + moved;
  moved = 0;
  living[me] = false;
#ifndef RETIRE_UNLOCKED
  unlock();
#endif
  fence();
  memory[BUSY(me)] = 0; /* the record is freed; another thread finds the cache */
  memory[SLOT(me)] = 0;
  lock();
  living[me] = true;
  write(SLOT(me), OPEN);
  unlock()
}

inline free_closed() { /* the pool is closed: what is held goes to the heap */
  lock();
  assert(!taken_over[me] || closed);
  depot = depot + held[me];
  held[me] = 0;
  unlock()
}

proctype owner(byte me) {
  byte at, seen, moved, round;
  bool entered;
  do
  :: round == ROUNDS -> break
  :: round < ROUNDS ->
     round++;
     if
     :: enter_fast();
        if
        :: entered -> use()
        :: else ->
           enter_wait();
           if
           :: entered -> use()
           :: else -> free_closed()
           fi
        fi
     :: refill()
     :: retire_and_start_anew()
     fi
  od;
  fence();
  finished++
}

/* ---- outside: take, is_taken, give_back, tci_cache_collect, _freeze and _thaw, _watch, _close ------------------------------------ */

inline barrier() {
  fence();
#if BARRIER != BARRIER_NONE
  other = 0;
  do
  :: other < OWNERS ->
#if BARRIER == BARRIER_SYSTEM
     buffers[other].length == 0; /* each processor runs it at a moment of its own */
#else
     buffers[other].awaited = buffers[other].length;
     buffers[other].awaited == 0;
#endif
     other++
  :: else -> other = 0; break
  od
#endif
}

inline take(i) {
  write_fenced(TAKEN(i), 1);
  if
  :: living[i] -> write_fenced(SLOT(i), 0)
  :: else
  fi
}

inline is_taken(i) {
  alone = true;
  if
  :: living[i] ->
#ifndef IGNORE_BUSY
     read(BUSY(i), seen);
     alone = !seen;
#endif
     read(SLOT(i), seen);
     alone = alone && !seen
  :: else
  fi
}

inline give_back(i) {
  taken_over[i] = false;
#ifndef KEEP_TAKEN
  write(TAKEN(i), 0);
#endif
  if
#ifndef KEEP_SLOT_SHUT
  :: living[i] && OPEN -> write(SLOT(i), 1)
#endif
  :: else
  fi
}

inline come_in(i) { atomic { taken_over[i] = true; assert(!inside[i]) } }

inline unload(i) {
  read(BIN(i), seen);
  write(BIN(i), 0);
  assert(!inside[i]);
  depot = depot + seen
}

inline collect_caches() {
  lock();
  i = (closed -> OWNERS : 0);
  do
  :: i < OWNERS -> /* any of them may have nothing to unload */
     if
     :: take(i); chosen[i] = true
     :: skip
     fi;
     i++
  :: else -> i = 0; break
  od;
  barrier();
  do
  :: i < OWNERS ->
     if
     :: chosen[i] ->
        is_taken(i);
        if
        :: alone -> come_in(i); unload(i)
        :: else
        fi;
        give_back(i);
        chosen[i] = false
     :: else
     fi;
     i++
  :: else -> i = 0; break
  od;
  unlock()
}

inline freeze() {
  lock();
  do
  :: i < OWNERS -> take(i); i++
  :: else -> i = 0; break
  od;
  barrier();
  do
  :: i < OWNERS ->
     is_taken(i);
     if
     :: alone -> come_in(i); i++
     :: else -> take(i); barrier()
     fi
  :: else -> i = 0; break
  od
}

inline thaw() {
  i = (closed -> OWNERS : 0);
  do
  :: i < OWNERS -> give_back(i); i++
  :: else -> i = 0; break
  od;
  unlock()
}

inline watch(on) {
  lock();
  watched = on;
  do
  :: i < OWNERS ->
     if
     :: living[i] -> write(SLOT(i), OPEN)
     :: else
     fi;
     i++
  :: else -> i = 0; break
  od;
  unlock()
}

inline close() {
  closed = true;
  freeze();
  do
  :: i < OWNERS -> unload(i); i++
  :: else -> i = 0; break
  od;
  thaw()
}

proctype collector() {
  byte me = COLLECTOR, at, seen, i, other, round;
  bool alone, chosen[OWNERS];
  do
  :: round == ROUNDS -> break
  :: round < ROUNDS ->
     round++;
     if
     :: collect_caches()
     :: freeze(); thaw()
     fi
  od;
  fence();
  finished++
}

proctype controller() {
  byte me = CONTROLLER, at, seen, i, other;
  bool alone;
  if
  :: watch(true); watch(false)
  :: watch(true)
  :: close()
  :: skip
  fi;
  fence();
  finished++
}

init {
  byte i, sum;
  atomic {
    memory[BIN(0)] = TOKENS;
    do
    :: i < OWNERS -> living[i] = true; memory[SLOT(i)] = 1; run owner(i); i++
    :: else -> break
    od;
    run collector();
    run controller()
  }
  finished == OWNERS + 2;
  d_step {
    sum = depot;
    i = 0;
    do
    :: i < OWNERS ->
       assert(memory[BUSY(i)] == 0);
       assert(memory[TAKEN(i)] == closed);
       assert(memory[SLOT(i)] == (OPEN -> 1 : 0));
       sum = sum + memory[BIN(i)] + held[i];
       i++
    :: else -> break
    od;
    assert(sum == TOKENS)
  }
}

ltl finishes { <> (finished == OWNERS + 2) }
