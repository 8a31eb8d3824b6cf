/* mailbox.h - a place where threads leave blocks for one another: bounded, one mutex, empty or full is no wait but an answer.
 *
 * The mutex orders what the threads did to the block's contents, as any program that hands memory over would; the pool's own
 * ordering is not helped by it beyond that.
 */
#ifndef TENSORCORE_TESTS_MAILBOX_H
#define TENSORCORE_TESTS_MAILBOX_H

#include <pthread.h>
#include <stdbool.h>

#include "check.h"

typedef struct parcel {
  void *start;
  size_t nbytes;  /* requested */
  uint64_t stamp; /* of the contents' pattern */
} parcel;

enum { MAILBOX_CAPACITY = 256 };

typedef struct mailbox {
  pthread_mutex_t lock;
  size_t count;
  parcel parcels[MAILBOX_CAPACITY];
} mailbox;

static inline void mailbox_init(mailbox *box) {
  CHECK_EQUAL(pthread_mutex_init(&box->lock, NULL), 0, "a mailbox has its lock");
  box->count = 0;
}

static inline bool mailbox_put(mailbox *box, parcel sent) {
  pthread_mutex_lock(&box->lock);
  bool fits = box->count < MAILBOX_CAPACITY;
  if (fits) box->parcels[box->count++] = sent;
  pthread_mutex_unlock(&box->lock);
  return fits;
}

static inline bool mailbox_take(mailbox *box, parcel *received) {
  pthread_mutex_lock(&box->lock);
  bool any = box->count > 0;
  if (any) *received = box->parcels[--box->count];
  pthread_mutex_unlock(&box->lock);
  return any;
}

#endif /* TENSORCORE_TESTS_MAILBOX_H */
