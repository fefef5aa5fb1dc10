"""Stands between a runner and its stage: when the runner lets go or dies, even by `kill -9`, the stage ends.

Started as `python -I -S guard.py LIFELINE GRACE COMMAND...` (see `guarded`). LIFELINE is the read end of a pipe whose
other end the runner alone holds; closing it, which the kernel does for a dead process too, ends the command's process
group: SIGTERM first, SIGKILL after GRACE seconds. So stopping a stage and losing the runner are the same event. The
alternative, PR_SET_PDEATHSIG, reaches only the direct child, follows the thread that started it instead of the process,
and needs code between fork and exec, which is not safe in a process with threads such as an Airflow worker.

Nothing but the standard library is imported: the guard costs about 20 ms and 10 MB.
"""

import contextlib
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence


def guarded(command: Sequence[str], lifeline: int, grace: float) -> list[str]:
    """Returns what to start in place of a command, with `pass_fds=(lifeline,)` and `start_new_session=True`."""
    return [sys.executable, "-I", "-S", __file__, str(lifeline), str(grace), *command]


def main(lifeline: int, grace: float, command: list[str]) -> int:
    """Runs the command under guard; returns its exit status or dies of the signal it died of."""
    try:
        process = subprocess.Popen(command, process_group=0)
    except OSError as error:
        sys.stderr.write(f"{command[0]} can not be started: {error.strerror}\n")
        return 127
    threading.Thread(target=_end_when_released, args=(lifeline, grace, process.pid), daemon=True).start()
    # WNOWAIT keeps the process id taken, so that nobody else's group can be meant below.
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    _signal_group(process.pid, signal.SIGKILL)
    status = process.wait()
    if status < 0:
        _die_of(-status)
    return status


def _end_when_released(lifeline: int, grace: float, group: int) -> None:
    while os.read(lifeline, 1):
        pass
    _signal_group(group, signal.SIGTERM)
    time.sleep(grace)
    _signal_group(group, signal.SIGKILL)


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _die_of(number: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]))
