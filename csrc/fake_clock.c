/* fake_clock.c - the fake device's streams and events on a clock that tests advance, and who knows which work is done.
 *
 * Time says what a query answers. Knowledge says what is safe: a vector clock (Fidge 1988, Mattern 1989) over works of streams, carried
 * by a stream's order, by events that passed or are waited for, and by the host. So a hand-over is found to be early also where the
 * clock happened to let it pass. Limit: FAKE_TRACKED streams that use memory in a device's life.
 */
#include "fake_device.h"

static void learn(fake_knowledge *known, const fake_knowledge *other) {
  for (int i = 0; i < FAKE_TRACKED; i++)
    if (other->works[i] > known->works[i]) known->works[i] = other->works[i];
}

static uintptr_t resolved(uintptr_t handle) {
  static _Thread_local char mine;
  return handle == FAKE_THREAD_STREAM ? (uintptr_t)&mine : handle;
}

static fake_stream *stream_find(const fake_device *device, uintptr_t handle) { /* the newest of that handle */
  fake_stream *stream = device->streams;
  handle = resolved(handle);
  while (stream && stream->handle != handle) stream = stream->next;
  return stream;
}

static fake_stream *stream_make(fake_device *device, uintptr_t handle) {
  fake_stream *stream = tci_meta_alloc(META_OTHER, sizeof *stream);
  if (!stream) return NULL;
  stream->handle = resolved(handle);
  stream->index = -1;
  stream->next = device->streams;
  return device->streams = stream;
}

static fake_stream *stream_alive(fake_device *device, uintptr_t handle) { /* NULL: destroyed */
  fake_stream *stream = stream_find(device, handle);
  if (!stream) stream = stream_make(device, handle);
  return stream && !stream->destroyed ? stream : NULL;
}

static fake_event **event_link(fake_device *device, const void *event) { /* to NULL: there is none */
  fake_event **link = &device->events;
  while (*link && *link != event) link = &(*link)->next;
  return link;
}

void *tci_fake_record(fake_device *device, uintptr_t handle) {
  fake_stream *stream = stream_alive(device, handle);
  fake_event *event = stream ? tci_meta_alloc(META_OTHER, sizeof *event) : NULL;
  if (!event) return NULL;
  learn(&stream->known, &device->host);
  *event = (fake_event){.next = device->events, .time = stream->end, .known = stream->known};
  return device->events = event;
}

int tci_fake_query(fake_device *device, void *pointer) {
  fake_event *event = *event_link(device, pointer);
  if (!event) device->counts.errors++;
  if (!event) return -1;
  if (event->time > device->now) return 0;
  learn(&device->host, &event->known);
  return 1;
}

bool tci_fake_event_drop(fake_device *device, void *pointer) {
  fake_event **link = event_link(device, pointer), *event = *link;
  if (!event) return false;
  *link = event->next;
  tci_meta_free(META_OTHER, event, sizeof *event);
  return true;
}

int tci_fake_wait(fake_device *device, uintptr_t handle, void *pointer) {
  fake_stream *stream = stream_alive(device, handle);
  fake_event *event = *event_link(device, pointer);
  if (!event) device->counts.errors++;
  if (!event || !stream) return -1;
  learn(&stream->known, &event->known);
  if (event->time > stream->end) stream->end = event->time;
  return 0;
}

void tci_fake_synchronize(fake_device *device) {
  for (fake_stream *stream = device->streams; stream; stream = stream->next)
    if (stream->end > device->now) device->now = stream->end;
  memcpy(device->host.works, device->works, sizeof device->works);
}

void tci_fake_clock_free(fake_device *device) {
  for (fake_stream *stream; (stream = device->streams);) {
    device->streams = stream->next;
    tci_meta_free(META_OTHER, stream, sizeof *stream);
  }
  for (fake_event *event; (event = device->events);) {
    device->events = event->next;
    tci_meta_free(META_OTHER, event, sizeof *event);
  }
}

void tc_fake_device_advance(tc_upstream *upstream, uint64_t ticks) {
  fake_device *device = (fake_device *)upstream;
  pthread_mutex_lock(&device->lock);
  device->now += ticks;
  pthread_mutex_unlock(&device->lock);
}

static size_t granules_touched(uintptr_t address, size_t nbytes) {
  uintptr_t first = address >> FAKE_GRANULE_SHIFT, end = (address + nbytes + ((size_t)1 << FAKE_GRANULE_SHIFT) - 1) >> FAKE_GRANULE_SHIFT;
  return nbytes ? end - first : 0;
}

tc_status tc_fake_device_enqueue(tc_upstream *upstream, uintptr_t handle, uint64_t ticks, const void *address, size_t nbytes) {
  fake_device *device = (fake_device *)upstream;
  pthread_mutex_lock(&device->lock);
  fake_stream *stream = stream_alive(device, handle);
  fake_knowledge *uses = nbytes ? tci_fake_uses(device, (uintptr_t)address, nbytes) : NULL;
  if (stream && stream->index < 0 && nbytes && device->tracked < FAKE_TRACKED) stream->index = device->tracked++;
  bool done = stream && (!nbytes || (uses && stream->index >= 0));
  if (done) {
    learn(&stream->known, &device->host);
    stream->end = (stream->end > device->now ? stream->end : device->now) + ticks;
    if (stream->index >= 0) stream->known.works[stream->index] = ++device->works[stream->index];
    for (size_t i = 0; i < granules_touched((uintptr_t)address, nbytes); i++) uses[i].works[stream->index] = device->works[stream->index];
  }
  pthread_mutex_unlock(&device->lock);
  return done ? TC_OK : TC_INVALID_ARGUMENT;
}

int tc_fake_device_claim(tc_upstream *upstream, uintptr_t handle, const void *address, size_t nbytes) {
  fake_device *device = (fake_device *)upstream;
  bool early = false;
  pthread_mutex_lock(&device->lock);
  fake_knowledge known = device->host;
  fake_stream *stream = handle == TC_STREAM_OF_BLOCK ? NULL : stream_find(device, handle);
  if (stream) learn(&known, &stream->known);
  const fake_knowledge *uses = tci_fake_uses(device, (uintptr_t)address, nbytes);
  for (size_t i = 0; uses && i < granules_touched((uintptr_t)address, nbytes) && !early; i++)
    for (int index = 0; index < device->tracked; index++) early |= uses[i].works[index] > known.works[index];
  device->counts.early += early || !uses;
  pthread_mutex_unlock(&device->lock);
  return early || !uses;
}

void tc_fake_device_stream_destroy(tc_upstream *upstream, uintptr_t handle) {
  fake_device *device = (fake_device *)upstream;
  pthread_mutex_lock(&device->lock);
  fake_stream *stream = stream_alive(device, handle);
  if (stream) stream->destroyed = true;
  pthread_mutex_unlock(&device->lock);
}

void tc_fake_device_stream_create(tc_upstream *upstream, uintptr_t handle) {
  fake_device *device = (fake_device *)upstream;
  pthread_mutex_lock(&device->lock);
  stream_make(device, handle); /* found before the old one */
  pthread_mutex_unlock(&device->lock);
}
