"""A small process that starts one program, waits, and writes what it used as one line of JSON.

Run as a script by an isolated interpreter (``python -I -S``): a process inherits the peak RSS of the one that started it, so that
one must be small. Its floor, about 9 MB, is below that of any Python program.
"""

import json
import os
import signal
import sys
import time


def main() -> None:
    """``_launcher.py FD PROGRAM ARGUMENTS...``: the line goes to the open file descriptor FD, which the program doesn't get."""
    out = int(sys.argv[1])
    os.set_inheritable(out, False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal interrupts the program too, and its figures are wanted
    start = time.perf_counter()
    child = os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ, setsigdef=[signal.SIGINT])
    signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGTERM))
    _, status, usage = os.wait4(child, 0)
    wall = time.perf_counter() - start
    figures = {
        "exit_code": os.waitstatus_to_exitcode(status),
        "wall_s": wall,
        "user_s": usage.ru_utime,
        "system_s": usage.ru_stime,
        "minor_faults": usage.ru_minflt,
        "major_faults": usage.ru_majflt,
        "peak_rss_bytes": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
    }
    os.write(out, json.dumps(figures).encode() + b"\n")


main()
