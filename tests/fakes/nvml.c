/* nvml.c - a made-up libnvidia-ml.so.1: cards, processes, MIG and failures as the environment says, read anew at every call.
 *
 *   FAKE_CARDS=8               how many cards, 80 GiB each, 1 GiB of it the driver's
 *   FAKE_NAMES=mixed           cards of different names
 *   FAKE_MIG=2                 every card is divided into so many instances of 10 GiB (of 4 places, every other one is empty)
 *   FAKE_PROCESSES=self:3,7:4  PID and GiB of each process on each card; '?' for bytes that the driver does not tell
 *   FAKE_USED=9                GiB in use on each card beside the driver's; else the sum of the processes
 *   FAKE_FAIL=nvmlInitWithFlags=9,nvmlDeviceGetName=4   codes that calls return instead; 'every=4': each of those about one card
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GiB (1ULL << 30)
enum { SUCCESS = 0, UNINITIALIZED = 1, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7, PLACES = 4 };

typedef struct handle {
  unsigned card, instance; /* instance PLACES: the whole card */
} handle;
typedef struct process {
  unsigned pid;
  unsigned long long bytes;
  unsigned gpu_instance, compute_instance;
} process;

static handle handles[64][PLACES + 1];
static unsigned started;

static unsigned number(const char *name) {
  const char *text = getenv(name);
  return text ? (unsigned)atoi(text) : 0;
}

static int planned(const char *function) {
  const char *plan = getenv("FAKE_FAIL"), *found = plan ? strstr(plan, function) : NULL;
  if (found && found[strlen(function)] == '=') return atoi(found + strlen(function) + 1);
  if (plan && !strncmp(plan, "every=", 6) && !strncmp(function, "nvmlDevice", 10) && !strstr(function, "Handle") && !strstr(function, "Count"))
    return atoi(plan + 6);
  return started ? SUCCESS : UNINITIALIZED;
}
#define PLANNED()                 \
  do {                            \
    int code = planned(__func__); \
    if (code) return code;        \
  } while (0)

static unsigned list_processes(process *list) { /* how many; written where there is a list */
  const char *text = getenv("FAKE_PROCESSES");
  unsigned count = 0;
  for (; text && *text; count++) {
    const char *bytes = strchr(text, ':') + 1, *next = strchr(text, ',');
    unsigned pid = !strncmp(text, "self", 4) ? (unsigned)getpid() : (unsigned)atoi(text);
    if (list) list[count] = (process){pid, *bytes == '?' ? ~0ULL : (unsigned long long)atoi(bytes) * GiB, ~0U, ~0U};
    text = next ? next + 1 : NULL;
  }
  return count;
}

static unsigned long long total_of(const handle *device) { return device->instance == PLACES ? 80 * GiB : 10 * GiB; }

static unsigned long long used_bytes(void) {
  process list[64];
  unsigned long long sum = 0;
  if (getenv("FAKE_USED")) return number("FAKE_USED") * GiB;
  for (unsigned i = list_processes(list); i-- > 0;) sum += list[i].bytes == ~0ULL ? 2 * GiB : list[i].bytes;
  return sum;
}

int nvmlInitWithFlags(unsigned flags) {
  (void)flags;
  int code = planned(__func__);
  if (code && code != UNINITIALIZED) return code;
  started++;
  return SUCCESS;
}

int nvmlShutdown(void) {
  PLANNED();
  started--;
  return SUCCESS;
}

int nvmlDeviceGetCount_v2(unsigned *count) {
  PLANNED();
  *count = number("FAKE_CARDS");
  return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, handle **device) {
  PLANNED();
  handles[index][PLACES] = (handle){index, PLACES};
  *device = &handles[index][PLACES];
  return SUCCESS;
}

int nvmlDeviceGetName(handle *device, char *name, unsigned length) {
  PLANNED();
  const char *names = getenv("FAKE_NAMES");
  snprintf(name, length, "Made-up %u", names ? device->card : 100);
  return SUCCESS;
}

int nvmlDeviceGetUUID(handle *device, char *uuid, unsigned length) {
  PLANNED();
  const char *kind = device->instance == PLACES ? "GPU" : "MIG";
  snprintf(uuid, length, "%s-%08x-0000-0000-0000-00000000000%x", kind, device->card, device->instance);
  return SUCCESS;
}

int nvmlDeviceGetMemoryInfo(handle *device, unsigned long long memory[3]) { /* version 1 counts the driver's among the used */
  PLANNED();
  memory[0] = total_of(device);
  memory[2] = used_bytes() + GiB;
  memory[1] = memory[0] - memory[2];
  return SUCCESS;
}

int nvmlDeviceGetMemoryInfo_v2(handle *device, unsigned long long memory[5]) {
  PLANNED();
  if ((unsigned)memory[0] != (40 | 2U << 24)) return 25; /* NVML_ERROR_ARGUMENT_VERSION_MISMATCH */
  memory[1] = total_of(device);
  memory[2] = GiB;
  memory[4] = used_bytes();
  memory[3] = memory[1] - memory[2] - memory[4];
  return SUCCESS;
}

int nvmlDeviceGetUtilizationRates(handle *device, unsigned rates[2]) {
  PLANNED();
  if (device->instance != PLACES) return NOT_SUPPORTED;
  rates[0] = 25;
  rates[1] = 10;
  return SUCCESS;
}

int nvmlDeviceGetTemperature(handle *device, int sensor, unsigned *degrees) {
  PLANNED();
  if (device->instance != PLACES || sensor != 0) return NOT_SUPPORTED;
  *degrees = 40 + device->card;
  return SUCCESS;
}

int nvmlDeviceGetEccMode(handle *device, int *current, int *pending) {
  PLANNED();
  *current = *pending = device->card != 1; /* the second card has it turned off */
  return SUCCESS;
}

int nvmlDeviceGetTotalEccErrors(handle *device, int type, int counter, unsigned long long *count) {
  PLANNED();
  if (counter != 0) return NOT_SUPPORTED;
  *count = type == 0 ? 5 : 0;
  return device->card == 1 ? NOT_SUPPORTED : SUCCESS;
}

int nvmlDeviceGetMigMode(handle *device, unsigned *current, unsigned *pending) {
  (void)device;
  PLANNED();
  *current = *pending = number("FAKE_MIG") > 0;
  return SUCCESS;
}

int nvmlDeviceGetMaxMigDeviceCount(handle *device, unsigned *count) {
  (void)device;
  PLANNED();
  *count = PLACES;
  return SUCCESS;
}

int nvmlDeviceGetMigDeviceHandleByIndex(handle *device, unsigned index, handle **instance) {
  PLANNED();
  if (index % 2 || index / 2 >= number("FAKE_MIG")) return NOT_FOUND;
  handles[device->card][index] = (handle){device->card, index};
  *instance = &handles[device->card][index];
  return SUCCESS;
}

static int processes_of(unsigned *count, process *list) {
  unsigned room = *count;
  *count = list_processes(NULL);
  if (*count > room) return INSUFFICIENT_SIZE;
  list_processes(list);
  return SUCCESS;
}

int nvmlDeviceGetComputeRunningProcesses_v3(handle *device, unsigned *count, process *list) {
  (void)device;
  PLANNED();
  return processes_of(count, list);
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(handle *device, unsigned *count, process *list) { /* all of them draw too */
  (void)device;
  PLANNED();
  return processes_of(count, list);
}
