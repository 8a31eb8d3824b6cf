/* depot.pml - how threads exchange blocks through the depot of one size class: magazines loaded, spare, full, empty, drained.
 *
 * csrc/refill.c, csrc/depot.c and the unloading in csrc/cache.c, step by step, in every order. What happens inside a cache is one step
 * here, since handover.pml shows that its thread and whoever empties it are never inside together, and so is a stay under the depot's
 * lock. A magazine is the number of blocks that it records; there is none better than another, so they have no names.
 *
 * Held: no block and no magazine is lost or doubled, and no magazine is loaded over another. ci/model checks this, then each mutant
 * below, which must fail.
 * Limit: OWNERS threads, magazines of one block, TOKENS blocks in all. Operations without end, one collection at any time.
 */
#ifndef OWNERS
#define OWNERS 2
#endif
#ifndef TOKENS
#define TOKENS 2
#endif
#define CAPACITY 1
#define MAGAZINES 8 /* more are never needed: asserted */
#define NONE 255    /* no magazine */
/* Mutants: UNLOCKED, STALE_COUNT, KEEP_SPARE, FORGET_DRAINED, EMPTY_AMONG_FULL, GIVE_TWICE, LOAD_OVER */

byte full_ones, empty_ones;    /* magazines in the depot */
byte made;                     /* magazines, ever */
byte loaded[OWNERS];           /* what it records: out of date while it is loaded */
byte top[OWNERS];              /* blocks in it */
byte spare[OWNERS];
byte hands[OWNERS];            /* blocks that the program has */
byte heap = TOKENS;            /* blocks */
byte finished;

#ifdef UNLOCKED
#define LOCKED
#else
#define LOCKED d_step /* nobody else reads or writes what the lock guards */
#endif

/* ---- the depot: called with the lock held ------------------------------------------------------------------------------------------ */

inline put(m) {
  if
  :: m == NONE -> skip
#ifdef EMPTY_AMONG_FULL
  :: m != NONE -> full_ones++
#else
  :: m == 0 -> empty_ones++
  :: m == CAPACITY -> full_ones++
#endif
  fi;
  m = NONE
}

inline get_full(into) {
  if
  :: full_ones > 0 -> full_ones--; into = CAPACITY
  :: else -> into = NONE
  fi
}

inline get_empty(into) {
  if
  :: empty_ones > 0 -> empty_ones--; into = 0
  :: else -> into = NONE
  fi
}

inline exchange_full() { /* tci_depot_exchange: hands in what the thread has, takes one with blocks */
  LOCKED {
    put(first);
    put(second);
    get_full(magazine)
  }
}

inline exchange_empty() { /* the same, takes or makes one without */
  LOCKED {
    put(first);
    put(second);
    get_empty(magazine)
  }
  d_step {
    if
    :: magazine == NONE -> made++; assert(made <= MAGAZINES); magazine = 0
    :: else -> skip
    fi
  }
}

inline drain(m) { /* its blocks to the heap, itself to the empty ones */
  d_step {
    heap = heap + m;
    m = 0
  }
#ifndef FORGET_DRAINED
  LOCKED { put(m) }
#endif
  m = NONE
}

/* ---- a thread's cache: each of these is part of one step --------------------------------------------------------------------------- */

inline write_count(i) {
#ifndef STALE_COUNT
  if
  :: loaded[i] != NONE -> loaded[i] = top[i]
  :: else -> skip
  fi
#else
  skip
#endif
}

inline load(i, m) { /* what was loaded becomes the spare; there is none */
  assert(spare[i] == NONE);
  write_count(i);
  spare[i] = loaded[i];
  loaded[i] = m;
  top[i] = m
}

inline swap(i) {
  write_count(i);
  first = spare[i];
  spare[i] = loaded[i];
  loaded[i] = first;
  top[i] = first;
  first = NONE
}

inline unload(i) {
  write_count(i);
  first = loaded[i];
#ifndef KEEP_SPARE
  second = spare[i];
#endif
  loaded[i] = NONE;
  spare[i] = NONE;
  top[i] = 0
}

inline take_spare(i) {
  first = spare[i];
#ifndef GIVE_TWICE
  spare[i] = NONE
#endif
}

/* ---- what a thread does ------------------------------------------------------------------------------------------------------------ */

inline release(one_way) { /* tc_pool_free, tci_cache_make_room, tci_cache_load; one_way: a thread that only frees keeps nothing */
  d_step { /* in the program's hands until it is pushed */
    done = true;
    if
    :: loaded[me] != NONE && top[me] < CAPACITY -> top[me]++; hands[me]--
    :: (loaded[me] == NONE || top[me] == CAPACITY) && spare[me] != NONE && spare[me] == 0 && !one_way ->
       swap(me); top[me]++; hands[me]--
    :: else ->
       done = false;
       if
       :: one_way -> unload(me)
       :: else -> take_spare(me) /* a full one, or none */
       fi
    fi
  }
  if
  :: !done ->
     exchange_empty();
     d_step { load(me, magazine); magazine = NONE; top[me]++; hands[me]-- }
  :: else -> skip
  fi
}

inline load_over_nothing() { /* tci_cache_load: a spare that came meanwhile goes to the depot */
  do
  :: true ->
     d_step {
       if
#ifndef LOAD_OVER
       :: spare[me] != NONE -> take_spare(me)
#endif
       :: else -> load(me, magazine); magazine = NONE
       fi
     }
     if
     :: first != NONE -> LOCKED { put(first) }
     :: else -> break
     fi
  od
}

inline allocate() { /* tc_pool_alloc, tci_cache_refill, tci_obtain_blocks, tci_cache_load */
  do
  :: true ->
     d_step {
       done = true;
       if
       :: top[me] > 0 -> top[me]--; hands[me]++; assert(hands[me] <= TOKENS)
       :: top[me] == 0 && spare[me] != NONE && spare[me] > 0 -> swap(me); top[me]--; hands[me]++
       :: else -> take_spare(me); done = false
       fi
     }
     if
     :: done -> break
     :: else -> skip
     fi;
     exchange_full();
     if
     :: magazine == NONE ->
        do
        :: hands[me] > 0 -> release(false) /* inside the upstream, or a callback */
        :: true -> break
        od;
        exchange_empty();
        d_step {
          if
          :: heap > 0 -> heap--; magazine = 1
          :: else -> skip
          fi
        }
     :: else -> skip
     fi;
     if
     :: magazine == 0 -> LOCKED { put(magazine) } break /* out of memory */
     :: else -> load_over_nothing()
     fi
  od
}

inline retire() { /* tci_cache_retire: with blocks or without, to the depot; another thread finds the cache */
  d_step { unload(me) }
  LOCKED {
    put(first);
    put(second)
  }
}

proctype owner(byte me) {
  byte magazine = NONE, first = NONE, second = NONE;
  bool done;
  do /* as often as it likes */
  :: true -> allocate()
  :: hands[me] > 0 -> release(false)
  :: hands[me] > 0 -> release(true)
  :: true -> retire()
  :: true -> break
  od;
  finished++
}

proctype collector() { /* tci_cache_collect: every cache, then the depot */
  byte i, magazine = NONE, first = NONE, second = NONE;
  do
  :: i < OWNERS ->
     d_step { unload(i) }
     if
     :: first != NONE -> drain(first)
     :: else -> skip
     fi;
     if
     :: second != NONE -> drain(second)
     :: else -> skip
     fi;
     i++
  :: else -> break
  od;
  do
  :: true ->
     exchange_full();
     if
     :: magazine != NONE -> drain(magazine)
     :: else -> break
     fi
  od;
  finished++
}

init {
  byte i, blocks, magazines;
  atomic {
    do
    :: i < OWNERS -> loaded[i] = NONE; spare[i] = NONE; i++
    :: else -> break
    od;
    i = 0;
    do
    :: i < OWNERS -> run owner(i); i++
    :: else -> break
    od;
    run collector()
  }
  finished == OWNERS + 1;
  d_step {
    blocks = heap + full_ones * CAPACITY;
    magazines = full_ones + empty_ones;
    i = 0;
    do
    :: i < OWNERS ->
       blocks = blocks + hands[i] + top[i] + (spare[i] == NONE -> 0 : spare[i]);
       magazines = magazines + (loaded[i] != NONE) + (spare[i] != NONE);
       i++
    :: else -> break
    od;
    assert(magazines == made);
    assert(blocks == TOKENS)
  }
}
