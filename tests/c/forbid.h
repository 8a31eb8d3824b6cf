/* forbid.h - a kernel without membarrier, from some moment on: a seccomp filter on the calling thread and all that it starts. Linux only. */
#ifndef TENSORCORE_TESTS_FORBID_H
#define TENSORCORE_TESTS_FORBID_H

#if defined(__linux__) && __has_include(<linux/filter.h>) /* musl's compiler comes without the kernel's headers */
#define CAN_FORBID 1
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "check.h"

/* From here on the kernel answers membarrier as one that was built without it. */
static inline void forbid_membarrier(void) {
  struct sock_filter steps[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_membarrier, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog filter = {.len = sizeof steps / sizeof *steps, .filter = steps};
  CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "no new privileges");
  CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0, "the filter is set");
  CHECK(syscall(SYS_membarrier, 0, 0, 0) == -1 && errno == ENOSYS, "membarrier is gone");
}
#endif

#endif /* TENSORCORE_TESTS_FORBID_H */
