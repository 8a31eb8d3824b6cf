/* os_cgroup.c - what the memory control groups of this process leave it, on Linux; elsewhere there are none.
 *
 * Every group from the process's own up to the root is read anew, for both versions of the interface: a process may be moved, and limits
 * change. File cache does not count as used: the kernel drops it before it kills. Costs some 10 us, and 30 us a level with a limit.
 */
#include "os.h"

#ifdef __linux__
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PATH_BYTES 4096
#define FILE_BYTES 16384 /* memory.stat has 2 to 4 KB */

static const char *membership_file = "/proc/self/cgroup", *root_folder = "/sys/fs/cgroup";

void tci_os_memory_group_from(const char *membership, const char *root) {
  membership_file = membership;
  root_folder = root;
}

/* The whole of a small file as a string, without malloc: it may be the pool's turn to give malloc memory. */
static bool file_read(const char *path, char *text, size_t size) {
  int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return false;
  size_t length = 0;
  for (ssize_t n = 1; n > 0 && length < size - 1;) {
    n = read(file, text + length, size - 1 - length);
    if (n > 0) length += (size_t)n;
  }
  close(file);
  text[length] = '\0';
  return length > 0;
}

static bool folder_read(const char *folder, const char *name, char *text, size_t size) {
  char path[PATH_BYTES + 64];
  return snprintf(path, sizeof path, "%s/%s", folder, name) < (int)sizeof path && file_read(path, text, size);
}

static size_t number_of(const char *folder, const char *name) { /* SIZE_MAX: no such file, or "max" */
  char text[64], *end;
  if (!folder_read(folder, name, text, sizeof text)) return SIZE_MAX;
  unsigned long long value = strtoull(text, &end, 10);
  return end == text || value >> 62 ? SIZE_MAX : (size_t)value; /* version 1 says 'none' by a number next to 2^63 */
}

/* Of the lines "name value". */
static size_t line_of(const char *text, const char *name) {
  size_t length = strlen(name);
  for (const char *line = text; line; line = strchr(line, '\n'), line += line != NULL)
    if (strncmp(line, name, length) == 0 && line[length] == ' ') return (size_t)strtoull(line + length, NULL, 10);
  return 0;
}

static size_t file_cache(const char *folder, bool second) {
  char text[FILE_BYTES];
  if (!folder_read(folder, "memory.stat", text, sizeof text)) return 0;
  return second ? line_of(text, "inactive_file") + line_of(text, "active_file")
                : line_of(text, "total_inactive_file") + line_of(text, "total_active_file");
}

static void level_read(const char *folder, bool second, tci_memory_group *least) {
  size_t limit = number_of(folder, second ? "memory.max" : "memory.limit_in_bytes");
  size_t high = second ? number_of(folder, "memory.high") : SIZE_MAX; /* above it the kernel slows the group down */
  if (high < limit) limit = high;
  if (limit == SIZE_MAX) return;
  size_t used = number_of(folder, second ? "memory.current" : "memory.usage_in_bytes"), cache = file_cache(folder, second);
  if (used == SIZE_MAX) return;
  used = used > cache ? used - cache : 0;
  size_t left = limit > used ? limit - used : 0;
  if (left < least->left || least->limit == SIZE_MAX) *least = (tci_memory_group){.limit = limit, .used = used, .left = left};
}

/* From the group up to the root. In a container the path may be the host's: the levels that are not there are passed over. */
static void levels_read(const char *root, const char *path, bool second, tci_memory_group *least) {
  char folder[PATH_BYTES];
  size_t bottom = strlen(root);
  if (snprintf(folder, sizeof folder, "%s%s", root, strstr(path, "/..") ? "" : path) >= (int)sizeof folder) return;
  for (size_t length = strlen(folder); length >= bottom;) {
    folder[length] = '\0';
    if (length == bottom || folder[length - 1] != '/') level_read(folder, second, least);
    while (length > bottom && folder[length - 1] != '/') length--;
    if (length-- == bottom) break;
  }
}

static bool names_memory(const char *controllers, const char *end) {
  for (const char *name = controllers; name < end;) {
    const char *comma = memchr(name, ',', (size_t)(end - name));
    size_t length = (size_t)((comma ? comma : end) - name);
    if (length == 6 && memcmp(name, "memory", 6) == 0) return true;
    name += length + 1;
  }
  return false;
}

tci_memory_group tci_os_memory_group(void) {
  tci_memory_group least = {SIZE_MAX, 0, SIZE_MAX};
  char text[FILE_BYTES], folder[PATH_BYTES];
  if (!file_read(membership_file, text, sizeof text)) return least;
  for (char *line = text, *next; *line; line = next) { /* number:controllers:path; version 2 names no controllers */
    next = line + strcspn(line, "\n");
    if (*next) *next++ = '\0';
    char *controllers = strchr(line, ':'), *path = controllers ? strchr(controllers + 1, ':') : NULL;
    if (!path) continue;
    bool second = path == controllers + 1;
    if (!second && !names_memory(controllers + 1, path)) continue;
    if (snprintf(folder, sizeof folder, "%s%s", root_folder, second ? "" : "/memory") < (int)sizeof folder)
      levels_read(folder, path + 1, second, &least);
  }
  return least;
}
#else
void tci_os_memory_group_from(const char *membership, const char *root) { (void)membership, (void)root; }
tci_memory_group tci_os_memory_group(void) { return (tci_memory_group){SIZE_MAX, 0, SIZE_MAX}; }
#endif
