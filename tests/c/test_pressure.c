/* test_pressure.c - a memory control group's limit is seen, and cached memory goes back before the kernel kills.
 *
 * The groups are made-up files, but for the last test, which makes a real one below the process's own, where the system allows that.
 * Each test runs in a child, since the pools of a process share what they know of its group.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>

#include "os.h"
#include "support.h"

enum { SECONDS = 120, BLOCK_MIB = 4 };

static char root[] = "/tmp/tensorcore-group-XXXXXX", membership[sizeof root + 16];

/* ---- made-up files ----------------------------------------------------------------------------------------------------------------- */

static void file_write(const char *path, const char *text) {
  FILE *file = fopen(path, "w");
  CHECK(file != NULL, "%s can be written", path);
  CHECK(fputs(text, file) >= 0 && fclose(file) == 0, "%s is written", path);
}

static void group_write(const char *folder, const char *name, const char *text) {
  char path[256];
  snprintf(path, sizeof path, "%s%s", root, folder);
  for (char *slash = path + strlen(root) + 1; slash && *folder; *slash = '/', slash++) {
    slash = strchr(slash, '/');
    if (!slash) break;
    *slash = '\0';
    mkdir(path, 0700);
  }
  mkdir(path, 0700);
  snprintf(path + strlen(path), sizeof path - strlen(path), "/%s", name);
  file_write(path, text);
}

static void bytes_write(const char *folder, const char *name, size_t nbytes) {
  char text[32];
  snprintf(text, sizeof text, "%zu\n", nbytes);
  group_write(folder, name, text);
}

static void begin(const char *member) {
  CHECK(mkdtemp(root) != NULL, "a folder for the files is made");
  snprintf(membership, sizeof membership, "%s/membership", root);
  file_write(membership, member);
  tci_os_memory_group_from(membership, root);
}

static void end(void) {
  char command[sizeof root + 16];
  snprintf(command, sizeof command, "rm -rf %s", root);
  CHECK(system(command) == 0, "the files are removed");
}

static void check_group(size_t limit, size_t used, size_t left) {
  tci_memory_group group = tci_os_memory_group();
  CHECK_EQUAL(group.limit, limit, "the limit of the group with the least left");
  CHECK_EQUAL(group.used, used, "what is used of it");
  CHECK_EQUAL(group.left, left, "what is left");
}

/* ---- what is read ------------------------------------------------------------------------------------------------------------------ */

static void read_second_version(void) {
  begin("0::/outer/inner\n");
  check_group(SIZE_MAX, 0, SIZE_MAX); /* no files at all */
  group_write("/outer/inner", "memory.max", "max\n");
  bytes_write("/outer/inner", "memory.current", 5000);
  check_group(SIZE_MAX, 0, SIZE_MAX);
  bytes_write("/outer", "memory.max", 100000);
  bytes_write("/outer", "memory.current", 60000);
  check_group(100000, 60000, 40000);
  bytes_write("/outer/inner", "memory.max", 90000); /* smaller, but more is left */
  check_group(100000, 60000, 40000);
  bytes_write("/outer/inner", "memory.high", 30000); /* where the kernel begins to slow the group down */
  check_group(30000, 5000, 25000);
  group_write("/outer/inner", "memory.stat", "anon 1\nfile 9\ninactive_file_not 5\ninactive_file 1500\nactive_file 500\n");
  check_group(30000, 3000, 27000); /* file cache goes before the kernel kills */
  bytes_write("/outer/inner", "memory.current", 40000);
  check_group(30000, 38000, 0);
  group_write("/outer", "memory.current", "");
  bytes_write("/outer/inner", "memory.current", 5000);
  check_group(30000, 3000, 27000); /* a level that can't be read is passed over */
  end();
}

static void the_nearest_limit_of_nested_groups_counts(void) { in_a_child(SECONDS, read_second_version); }

static void read_first_version(void) {
  begin("5:cpu,cpuacct:/elsewhere\n4:hugetlb,memory:/job\n1:name=systemd:/\n0::/\n");
  mkdir(root, 0700);
  group_write("/memory", "memory.limit_in_bytes", "9223372036854771712\n"); /* none */
  bytes_write("/memory", "memory.usage_in_bytes", 1 << 20);
  check_group(SIZE_MAX, 0, SIZE_MAX);
  bytes_write("/memory/job", "memory.limit_in_bytes", 5 << 20);
  bytes_write("/memory/job", "memory.usage_in_bytes", 2 << 20);
  group_write("/memory/job", "memory.stat", "inactive_file 7\ntotal_inactive_file 1024\ntotal_active_file 1024\n");
  check_group(5 << 20, (2 << 20) - 2048, (3 << 20) + 2048);
  file_write(membership, "4:memory:/docker/0123\n"); /* in a container: the host's path, which is not there */
  bytes_write("/memory", "memory.limit_in_bytes", 3 << 20);
  check_group(3 << 20, 1 << 20, 2 << 20);
  file_write(membership, "4:memory:/../../etc\n"); /* seen from a namespace that the group lies outside of */
  check_group(3 << 20, 1 << 20, 2 << 20);
  file_write(membership, "nonsense\n:\n::\n");
  bytes_write("", "memory.max", 77);
  bytes_write("", "memory.current", 7);
  check_group(77, 7, 70); /* the third line is version 2's, at the root */
  file_write(membership, "");
  check_group(SIZE_MAX, 0, SIZE_MAX);
  end();
}

static void version_1_is_read_and_a_path_of_the_hosts_leads_to_the_root(void) { in_a_child(SECONDS, read_first_version); }

/* ---- what follows ------------------------------------------------------------------------------------------------------------------ */

static tc_pool *pool_decaying(double decay) {
  tc_pool_options options;
  tc_pool *pool = NULL;
  tc_pool_options_init(&options);
  options.decay = decay;
  CHECK_STATUS(tc_pool_create(&options, &pool), TC_OK, "a pool is created");
  return pool;
}

/* Touches nbytes in blocks, and frees them: then they are cached. */
static void fill_and_free(tc_pool *pool, size_t nbytes) {
  static void *blocks[1024];
  size_t count = nbytes / (BLOCK_MIB * MiB);
  for (size_t i = 0; i < count; i++) {
    CHECK((blocks[i] = tc_pool_alloc(pool, BLOCK_MIB * MiB)) != NULL, "memory is to be had");
    memset(blocks[i], 1, BLOCK_MIB * MiB);
  }
  for (size_t i = 0; i < count; i++) CHECK_STATUS(tc_pool_free(pool, blocks[i]), TC_OK, "freed");
}

static void group_of(size_t limit, size_t used) {
  bytes_write("", "memory.max", limit);
  bytes_write("", "memory.current", used);
}

static void grow_under_a_near_limit(void) {
  begin("0::/\n");
  group_of(1024 * MiB, 100 * MiB);
  tc_pool *full = pool_over(NULL), *growing = pool_over(NULL);
  fill_and_free(full, 128 * MiB);
  size_t held = (size_t)stats_of(full).cached.current, resident = resident_bytes();
  CHECK(held >= 128 * MiB, "128 MiB are cached");
  sleep_ms(150);
  void *block = tc_pool_alloc(growing, 64 * MiB);
  CHECK_EQUAL(stats_of(full).cached.current, held, "with 900 MiB left nothing goes");
  group_of(1024 * MiB, 960 * MiB);
  sleep_ms(150); /* looks are 100 ms apart while there is room */
  void *other = tc_pool_alloc(growing, 96 * MiB);
  CHECK(block && other, "the growing pool gets its memory");
  CHECK(resident_bytes() < resident - 120 * MiB, "what the other pool had cached went back: %zu of %zu MiB", resident_bytes() / MiB,
        resident / MiB);
  check_at_rest(full);
  CHECK_STATUS(tc_pool_free(growing, block), TC_OK, "freed");
  CHECK_STATUS(tc_pool_free(growing, other), TC_OK, "freed");
  check_empties(growing);
  check_empties(full);
  CHECK_STATUS(tc_pool_destroy(growing), TC_OK, "the pool is destroyed");
  CHECK_STATUS(tc_pool_destroy(full), TC_OK, "the pool is destroyed");
  end();
}

static void a_pool_that_grows_near_the_limit_gives_back_what_all_pools_have_cached(void) { in_a_child(SECONDS, grow_under_a_near_limit); }

static void map_more_than_is_left_before_writing(void) {
  begin("0::/\n");
  group_of(1024 * MiB, 500 * MiB);
  tc_pool *full = pool_over(NULL), *growing = pool_over(NULL);
  fill_and_free(full, 128 * MiB);
  size_t resident = resident_bytes();
  sleep_ms(150);
  void *first = tc_pool_alloc(growing, 300 * MiB), *second = tc_pool_alloc(growing, 300 * MiB);
  CHECK(first && second, "memory is to be had");
  CHECK(resident_bytes() < resident - 60 * MiB, "each would fit, both together do not: cached memory went back, %zu of %zu MiB",
        resident_bytes() / MiB, resident / MiB);
  end();
}

static void blocks_not_yet_written_to_count_as_used(void) { in_a_child(SECONDS, map_more_than_is_left_before_writing); }

static void watch_while_others_allocate(void) {
  begin("0::/\n");
  group_of(1024 * MiB, 100 * MiB);
  tc_pool *pool = pool_decaying(1e6);
  fill_and_free(pool, 128 * MiB);
  size_t resident = resident_bytes();
  void *live = tc_pool_alloc(pool, 1 * MiB);
  sleep_ms(300);
  CHECK(resident_bytes() > resident - 4 * MiB, "with 900 MiB left nothing goes");
  group_of(1024 * MiB, 1000 * MiB); /* no call of the pool from here on: another program takes memory */
  while (resident_bytes() > resident - 100 * MiB) sleep_ms(5); /* the alarm ends a wait for nothing */
  check_at_rest(pool);
  CHECK_STATUS(tc_pool_free(pool, live), TC_OK, "freed");
  check_empties(pool);
  CHECK_STATUS(tc_pool_destroy(pool), TC_OK, "the pool is destroyed");
  end();
}

static void the_scavenger_gives_back_when_others_bring_the_limit_near(void) { in_a_child(SECONDS, watch_while_others_allocate); }

static void hold_nothing_to_give(void) {
  begin("0::/\n");
  group_of(64 * MiB, 64 * MiB);
  tc_pool *pool = pool_over(NULL);
  void *blocks[64];
  for (size_t i = 0; i < 64; i++) CHECK((blocks[i] = tc_pool_alloc(pool, 4 * MiB)) != NULL, "block %zu is to be had: the kernel decides", i);
  for (size_t i = 0; i < 64; i++) CHECK_STATUS(tc_pool_free(pool, blocks[i]), TC_OK, "freed");
  check_empties(pool);
  CHECK_STATUS(tc_pool_destroy(pool), TC_OK, "the pool is destroyed");
  end();
}

static void with_nothing_cached_a_full_group_refuses_nobody(void) { in_a_child(SECONDS, hold_nothing_to_give); }

/* ---- a real group ------------------------------------------------------------------------------------------------------------------ */

static char group_folder[4096];
static bool blind; /* the pools see no group */

static bool group_file_write(const char *name, const char *text) {
  char path[sizeof group_folder + 64];
  snprintf(path, sizeof path, "%s/%s", group_folder, name);
  int file = open(path, O_WRONLY);
  if (file < 0) return false;
  bool written = write(file, text, strlen(text)) == (ssize_t)strlen(text);
  close(file);
  return written;
}

/* Two pools in turn, 160 MiB each, of which only one is ever in use: together more than the group's 256 MiB. */
static int run_in_group(void) {
  char pid[32];
  snprintf(pid, sizeof pid, "%d", (int)getpid());
  if (!group_file_write("cgroup.procs", pid)) return 2;
  if (blind) tci_os_memory_group_from("/nowhere", "/nowhere");
  tc_pool *pools[] = {pool_over(NULL), pool_over(NULL)};
  for (int round = 0; round < 6; round++) fill_and_free(pools[round % 2], 160 * MiB);
  return 0;
}

static int outcome_in_group(bool see) { /* 0, an exit code, or the signal + 100 */
  int outcome = 0;
  blind = !see;
  fflush(stdout);
  pid_t child = fork();
  CHECK(child >= 0, "a child is forked");
  if (child == 0) {
    alarm(SECONDS);
    _exit(run_in_group());
  }
  CHECK(waitpid(child, &outcome, 0) == child, "the child is waited for");
  return WIFSIGNALED(outcome) ? 100 + WTERMSIG(outcome) : WEXITSTATUS(outcome);
}

/* Below the process's own group, or the root's; "": the system does not allow it. */
static bool group_make(void) {
  static const struct {
    const char *root, *line, *limit;
  } versions[] = {{"/sys/fs/cgroup/memory", ":memory:", "memory.limit_in_bytes"}, {"/sys/fs/cgroup", "0::", "memory.max"}};
  for (size_t v = 0; v < 2; v++) {
    char line[2048], own[2048] = "";
    FILE *file = fopen("/proc/self/cgroup", "r");
    while (file && fgets(line, sizeof line, file)) {
      char *found = strstr(line, versions[v].line);
      if (found) snprintf(own, sizeof own, "%s", found + strlen(versions[v].line)), own[strcspn(own, "\n")] = '\0';
    }
    if (file) fclose(file);
    const char *parents[] = {own, ""};
    for (size_t p = 0; p < 2; p++) {
      snprintf(group_folder, sizeof group_folder, "%s%s/tensorcore-test-%d", versions[v].root, parents[p], (int)getpid());
      if (mkdir(group_folder, 0755) != 0) continue;
      if (group_file_write(versions[v].limit, "268435456")) return true;
      rmdir(group_folder);
    }
  }
  return false;
}

static void in_a_group_of_256_mib_two_pools_of_160_mib_in_turn_survive(void) {
  struct sysinfo info;
  bool swap = sysinfo(&info) != 0 || info.totalswap != 0;
  if (swap || !group_make()) {
    printf("(skipped: %s) ", swap ? "there is swap, so nothing is killed" : "this process may not make a memory control group");
    return;
  }
  int seeing = outcome_in_group(true), unseeing = outcome_in_group(false);
  for (int i = 0; i < 100 && rmdir(group_folder) != 0; i++) sleep_ms(10); /* the kernel lets go of the dead in its own time */
  CHECK_EQUAL(seeing, 0, "the program lives to its end");
  CHECK_EQUAL(unseeing, 100 + SIGKILL, "the same program is killed where the pools do not look");
}

int main(void) {
  RUN(the_nearest_limit_of_nested_groups_counts);
  RUN(version_1_is_read_and_a_path_of_the_hosts_leads_to_the_root);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  RUN(a_pool_that_grows_near_the_limit_gives_back_what_all_pools_have_cached);
  RUN(blocks_not_yet_written_to_count_as_used);
  RUN(in_a_group_of_256_mib_two_pools_of_160_mib_in_turn_survive);
#else /* a sanitizer's own memory hides the pool's */
  (void)a_pool_that_grows_near_the_limit_gives_back_what_all_pools_have_cached;
  (void)blocks_not_yet_written_to_count_as_used;
  (void)in_a_group_of_256_mib_two_pools_of_160_mib_in_turn_survive;
#endif
  RUN(the_scavenger_gives_back_when_others_bring_the_limit_near);
  RUN(with_nothing_cached_a_full_group_refuses_nobody);
  return 0;
}
