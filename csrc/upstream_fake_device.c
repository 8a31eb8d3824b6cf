/* upstream_fake_device.c - a device for tests: memory at made-up addresses, calls that fail on demand, and the table of functions.
 *
 * Deallocating waits for the device, as cudaFree does. Limit: its lists are searched one by one; it is for tests, not for speed.
 */
#include "fake_device.h"

#define DEVICE_BASE ((uintptr_t)3 << 45) /* behind those of upstream_fake.c; each of 16 devices has 1 TiB of its own */
#define DEVICE_SPAN ((uintptr_t)1 << 40)

static bool call_fails(fake_device *device, tc_fake_call call) {
  const tc_fake_device_options *options = &device->options;
  if (!(options->failing & (uint32_t)call)) return false;
  uint64_t number = ++device->calls, count = options->fail_count ? options->fail_count : 1;
  bool fails = options->fail_at && number >= options->fail_at && number - options->fail_at < count;
  device->counts.failures += fails;
  return fails;
}

static void take_time(uint64_t ns) { /* of the caller's processor: a sleep would take far longer than asked for */
  for (uint64_t start = ns ? tci_os_now_ns() : 0; ns && tci_os_now_ns() - start < ns;) continue;
}

static uintptr_t made_up_address(fake_device *device, size_t nbytes, size_t alignment) {
  size_t own = device->options.alignment;
  uintptr_t start = tci_round_up(device->next, own ? own : alignment);
  if (start + nbytes > device->end) return 0;
  device->next = start + nbytes + own; /* so that the next is not aligned better by chance */
  return start;
}

static size_t granules(size_t nbytes) { return (nbytes + ((size_t)1 << FAKE_GRANULE_SHIFT) - 1) >> FAKE_GRANULE_SHIFT; }

static void *device_allocate(void *context, size_t nbytes, size_t alignment) {
  fake_device *device = context;
  const tc_upstream *os = tc_upstream_os();
  fake_piece *piece = tci_meta_alloc(META_OTHER, sizeof *piece);
  void *real = device->table.host_memory ? os->allocate(NULL, nbytes, alignment) : NULL;
  take_time(LOAD(device->options.latency_ns));
  pthread_mutex_lock(&device->lock);
  device->counts.allocate_calls++;
  bool refused = !piece || call_fails(device, TC_FAKE_ALLOCATE) ||
                 (device->options.capacity && device->counts.live_bytes + nbytes > device->options.capacity);
  uintptr_t address = refused ? 0 : device->table.host_memory ? (uintptr_t)real : made_up_address(device, nbytes, alignment);
  if (address) {
    *piece = (fake_piece){.next = device->pieces, .address = address, .nbytes = nbytes};
    device->pieces = piece;
    device->counts.live_bytes += nbytes;
    if (device->counts.live_bytes > device->counts.peak_bytes) device->counts.peak_bytes = device->counts.live_bytes;
  }
  pthread_mutex_unlock(&device->lock);
  if (!address && piece) tci_meta_free(META_OTHER, piece, sizeof *piece);
  if (!address && real) os->deallocate(NULL, real, nbytes);
  return (void *)address;
}

static void piece_free(fake_piece *piece) {
  if (piece->uses) tci_os_unmap(piece->uses, tci_round_up(granules(piece->nbytes) * sizeof *piece->uses, tci_os_page_size()));
  tci_meta_free(META_OTHER, piece, sizeof *piece);
}

static void device_deallocate(void *context, void *address, size_t nbytes) {
  fake_device *device = context;
  take_time(LOAD(device->options.latency_ns));
  pthread_mutex_lock(&device->lock);
  device->counts.deallocate_calls++;
  tci_fake_synchronize(device);
  fake_piece **link = &device->pieces;
  while (*link && (*link)->address != (uintptr_t)address) link = &(*link)->next;
  fake_piece *piece = *link;
  bool known = piece && piece->nbytes == nbytes;
  if (known) {
    *link = piece->next;
    device->counts.live_bytes -= nbytes;
    piece_free(piece);
  } else {
    device->counts.errors++;
  }
  pthread_mutex_unlock(&device->lock);
  if (known && device->table.host_memory) tc_upstream_os()->deallocate(NULL, address, nbytes);
}

fake_knowledge *tci_fake_uses(fake_device *device, uintptr_t address, size_t nbytes) {
  fake_piece *piece = device->pieces;
  while (piece && (address < piece->address || address + nbytes > piece->address + piece->nbytes)) piece = piece->next;
  if (!piece) return NULL;
  if (!piece->uses) /* mapped whole, of which the pages in use become memory */
    piece->uses = tci_os_map(tci_round_up(granules(piece->nbytes) * sizeof *piece->uses, tci_os_page_size()), tci_os_page_size());
  return piece->uses ? piece->uses + ((address - piece->address) >> FAKE_GRANULE_SHIFT) : NULL;
}

static void *device_record(void *context, uintptr_t stream) {
  fake_device *device = context;
  pthread_mutex_lock(&device->lock);
  device->counts.record_calls++;
  void *event = call_fails(device, TC_FAKE_RECORD) ? NULL : tci_fake_record(device, stream);
  device->counts.live_events += event != NULL;
  pthread_mutex_unlock(&device->lock);
  return event;
}

static int device_query(void *context, void *event) {
  fake_device *device = context;
  pthread_mutex_lock(&device->lock);
  device->counts.query_calls++;
  int answer = call_fails(device, TC_FAKE_QUERY) ? -1 : tci_fake_query(device, event);
  pthread_mutex_unlock(&device->lock);
  return answer;
}

static void device_event_destroy(void *context, void *event) {
  fake_device *device = context;
  pthread_mutex_lock(&device->lock);
  if (tci_fake_event_drop(device, event))
    device->counts.live_events--;
  else
    device->counts.errors++;
  pthread_mutex_unlock(&device->lock);
}

static int device_wait(void *context, uintptr_t stream, void *event) {
  fake_device *device = context;
  pthread_mutex_lock(&device->lock);
  device->counts.wait_calls++;
  int failed = call_fails(device, TC_FAKE_WAIT) ? -1 : tci_fake_wait(device, stream, event);
  pthread_mutex_unlock(&device->lock);
  return failed;
}

static int device_synchronize(void *context) {
  fake_device *device = context;
  pthread_mutex_lock(&device->lock);
  device->counts.synchronize_calls++;
  bool fails = call_fails(device, TC_FAKE_SYNCHRONIZE);
  if (!fails) tci_fake_synchronize(device);
  pthread_mutex_unlock(&device->lock);
  return fails ? -1 : 0;
}

tc_status tc_upstream_fake_device_create(const tc_fake_device_options *options, tc_upstream **upstream) {
  static uint64_t made;
  if (!upstream) return TC_INVALID_ARGUMENT;
  if (options && options->alignment & (options->alignment - 1)) return TC_INVALID_ARGUMENT;
  fake_device *device = tci_meta_alloc(META_OTHER, sizeof *device);
  if (!device) return TC_OUT_OF_MEMORY;
  pthread_mutex_init(&device->lock, NULL);
  if (options) device->options = *options;
  uint32_t missing = device->options.missing;
  uintptr_t base = DEVICE_BASE + ADD(made, 1) % 16 * DEVICE_SPAN;
  device->next = base + device->options.alignment;
  device->end = base + DEVICE_SPAN;
  device->table = (tc_upstream){.name = "fake device",
                                .context = device,
                                .allocate = device_allocate,
                                .deallocate = device_deallocate,
                                .host_memory = device->options.host_memory != 0,
                                .thread_stream = FAKE_THREAD_STREAM,
                                .event_record = device_record,
                                .event_query = device_query,
                                .event_destroy = device_event_destroy,
                                .stream_wait = missing & TC_FAKE_WAIT ? NULL : device_wait,
                                .synchronize = missing & TC_FAKE_SYNCHRONIZE ? NULL : device_synchronize};
  *upstream = &device->table;
  return TC_OK;
}

void tc_upstream_fake_device_set(tc_upstream *upstream, const tc_fake_device_options *options) {
  fake_device *device = (fake_device *)upstream;
  pthread_mutex_lock(&device->lock);
  uint64_t latency_ns = options->latency_ns;
  tc_fake_device_options fresh = *options;
  fresh.latency_ns = LOAD(device->options.latency_ns); /* the one that is read without the lock */
  device->options = fresh;
  STORE(device->options.latency_ns, latency_ns);
  device->calls = 0;
  pthread_mutex_unlock(&device->lock);
}

void tc_upstream_fake_device_counts(const tc_upstream *upstream, tc_fake_device_counts *counts) {
  fake_device *device = (fake_device *)(uintptr_t)upstream;
  pthread_mutex_lock(&device->lock);
  *counts = device->counts;
  pthread_mutex_unlock(&device->lock);
}

void tc_upstream_fake_device_destroy(tc_upstream *upstream) {
  fake_device *device = (fake_device *)upstream;
  while (device->pieces) {
    fake_piece *piece = device->pieces;
    device->pieces = piece->next;
    piece_free(piece);
  }
  tci_fake_clock_free(device);
  pthread_mutex_destroy(&device->lock);
  tci_meta_free(META_OTHER, device, sizeof *device);
}
