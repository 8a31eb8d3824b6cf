/* cuda.c - a made-up libcuda.so.1: the few questions that may be asked without starting CUDA.
 *
 *   FAKE_CUDA=1,0   the cards in CUDA's order; unset: CUDA has not started in this process
 *   FAKE_ACTIVE=2   so many of the first devices have a context
 */
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, NOT_INITIALIZED = 3 };

int cuDeviceGetCount(int *count) {
  const char *order = getenv("FAKE_CUDA");
  if (!order) return NOT_INITIALIZED;
  *count = (int)(strlen(order) + 1) / 2;
  return SUCCESS;
}

int cuDeviceGet(int *device, int number) {
  *device = number;
  return SUCCESS;
}

int cuDeviceGetUuid_v2(unsigned char uuid[16], int device) {
  memset(uuid, 0, 16);
  uuid[3] = (unsigned char)(getenv("FAKE_CUDA")[2 * device] - '0');
  uuid[15] = 4; /* as nvml.c names whole cards */
  return SUCCESS;
}

int cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active) {
  const char *count = getenv("FAKE_ACTIVE");
  *flags = 0;
  *active = count && device < atoi(count);
  return SUCCESS;
}
