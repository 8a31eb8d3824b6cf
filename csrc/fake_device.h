/* fake_device.h - what the two files of the fake device share. Everything under the device's lock, but for the table of functions. */
#ifndef TCI_FAKE_DEVICE_H
#define TCI_FAKE_DEVICE_H

#include "internal.h"

#define FAKE_TRACKED 32 /* streams whose use of memory is followed, over a device's life */
#define FAKE_GRANULE_SHIFT 9
#define FAKE_THREAD_STREAM 2 /* the handle that is another stream in each thread, as CUDA has it */

/* Of each followed stream the newest work that is known to be done before something else begins; works are counted from 1. */
typedef struct fake_knowledge {
  uint32_t works[FAKE_TRACKED];
} fake_knowledge;

typedef struct fake_stream {
  struct fake_stream *next;
  uintptr_t handle;
  bool destroyed;
  int index;      /* among the followed; -1: it used no memory so far */
  uint64_t end;   /* time at which its work so far is done */
  fake_knowledge known; /* before its next work */
} fake_stream;

typedef struct fake_event {
  struct fake_event *next;
  uint64_t time; /* at which it passes */
  fake_knowledge known;
} fake_event;

typedef struct fake_piece {
  struct fake_piece *next;
  uintptr_t address;
  size_t nbytes;
  fake_knowledge *uses; /* of each granule the newest work of each stream that used it; NULL: none yet */
} fake_piece;

typedef struct fake_device {
  tc_upstream table; /* first: the table's address is the device's */
  pthread_mutex_t lock;
  tc_fake_device_options options;
  tc_fake_device_counts counts;
  uint64_t calls; /* that may fail, since the options were set */
  uint64_t now;   /* ticks */
  uintptr_t next, end; /* made-up addresses */
  fake_piece *pieces;
  fake_stream *streams;
  fake_event *events;
  uint32_t works[FAKE_TRACKED];
  int tracked;
  fake_knowledge host; /* what the host knows to be done */
} fake_device;

/* ---- fake_clock.c: streams and events, and who knows what is done ---------------------------------------------------------------------- */
void *tci_fake_record(fake_device *device, uintptr_t handle); /* NULL: the stream was destroyed */
int tci_fake_query(fake_device *device, void *event);         /* < 0: there is no such event */
bool tci_fake_event_drop(fake_device *device, void *event);   /* false: there is no such event */
int tci_fake_wait(fake_device *device, uintptr_t handle, void *event);
void tci_fake_synchronize(fake_device *device);
void tci_fake_clock_free(fake_device *device);

/* ---- upstream_fake_device.c ------------------------------------------------------------------------------------------------------------- */
fake_knowledge *tci_fake_uses(fake_device *device, uintptr_t address, size_t nbytes); /* of its first granule; NULL: not the device's memory */

#endif
