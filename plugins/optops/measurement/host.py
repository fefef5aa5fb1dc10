"""What the host is, how busy it is, and who may time on it: fingerprint, load and the host-wide lock."""

import fcntl
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

LOCK_FOLDER_VARIABLE = "OPTOPS_LOCK_FOLDER"
# Not tempfile.gettempdir(): every process of the host must meet at one place, whatever its TMPDIR says.
DEFAULT_LOCK_FOLDER = Path("/tmp/optops-lock")  # noqa: S108
WAIT_REPORT_SECONDS = 5.0
POLL_SECONDS = 0.1

# The extensions on which the runtimes choose their kernels (oneDNN, MLAS, OpenVINO; `asimd` and below: Arm).
RELEVANT_ISA = (
    "sse4_2", "avx", "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16",
    "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16", "asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve",
)  # fmt: skip


class HostLockError(RuntimeError):
    """The host lock can not be opened; says why and what to do."""


@dataclass(frozen=True)
class Fingerprint:
    """The hardware and system that a timing belongs to.

    Attributes:
        cpu_model: model name of the processor.
        isa: those of its instruction-set extensions that decide which kernels run, sorted.
        cores: cores this process may run on.
        memory_bytes: physical memory of the host.
        gpus: model names of the NVIDIA GPUs that the driver shows.
        kernel: release of the operating system's kernel.
        python: version of the interpreter.
    """

    cpu_model: str
    isa: tuple[str, ...]
    cores: int
    memory_bytes: int
    gpus: tuple[str, ...]
    kernel: str
    python: str

    @classmethod
    def of_this_host(cls) -> Self:
        """Reads the fingerprint of the host this process runs on (Linux)."""
        processor = _colon_table(Path("/proc/cpuinfo"))
        flags = set((processor.get("flags") or processor.get("Features") or "").split())
        gpu_files = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
        return cls(
            cpu_model=processor.get("model name", platform.machine()),
            isa=tuple(sorted(flags.intersection(RELEVANT_ISA))),
            cores=len(os.sched_getaffinity(0)),
            memory_bytes=int(_colon_table(Path("/proc/meminfo"))["MemTotal"].split()[0]) * 1024,
            gpus=tuple(_colon_table(file).get("Model", "unknown") for file in gpu_files),
            kernel=platform.release(),
            python=platform.python_version(),
        )


@dataclass(frozen=True)
class HostLoad:
    """How busy the host is.

    Attributes:
        load_average: runnable processes, averaged over one minute by the kernel.
        others_share: share of the host's CPU time that went to processes other than this one during the window, 0 to 1;
            time stolen by the hypervisor counts as theirs.
        window_seconds: length of the window.
    """

    load_average: float
    others_share: float
    window_seconds: float


def load(window_seconds: float = 0.5) -> HostLoad:
    """Samples how busy the host is; blocks for the window.

    Args:
        window_seconds: how long to watch, at least some clock ticks (0.1 s).

    Returns:
        Load average and the share of CPU time taken by others.
    """
    (busy_before, total_before), own_before = _cpu_ticks(), time.process_time()
    time.sleep(window_seconds)
    (busy_after, total_after), own_after = _cpu_ticks(), time.process_time()
    own_ticks = (own_after - own_before) * os.sysconf("SC_CLK_TCK")
    others = (busy_after - busy_before - own_ticks) / max(total_after - total_before, 1)
    return HostLoad(os.getloadavg()[0], min(max(others, 0.0), 1.0), window_seconds)


@contextmanager
def host_lock(
    *, exclusive: bool, folder: Path | None = None, on_wait: Callable[[float], None] | None = None
) -> Iterator[None]:
    """Holds the host-wide lock: stages hold it shared, a timing holds it exclusively and so runs alone.

    Built on flock(2): the kernel releases the lock of a process that is killed. Who waits for it exclusively is served
    before those who ask for it shared later. It is not re-entrant: a process that asks again while it holds the lock
    exclusively, or asks for it exclusively while it holds it shared, waits for itself.

    Args:
        exclusive: True to be alone, False to share it with other shared holders.
        folder: where the lock files are; default $OPTOPS_LOCK_FOLDER, else a fixed folder of this machine. Containers
            that share a host must share it.
        on_wait: called with the seconds waited so far, at once when the lock is taken and then every five seconds.

    Raises:
        HostLockError: the lock files can not be made or opened.
    """
    folder = folder or lock_folder()
    operation = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
    started = time.monotonic()
    queue, lock = open_shared_file(folder, "queue"), -1
    try:
        lock = open_shared_file(folder, "lock")
        # Who waits for the lock exclusively keeps the queue closed, or a stream of shared holders would starve it.
        _acquire(queue, operation, started, on_wait)
        _acquire(lock, operation, started, on_wait)
        fcntl.flock(queue, fcntl.LOCK_UN)
        yield
    finally:
        # Unlocked, not merely closed: a child forked meanwhile holds copies of the descriptors.
        for descriptor in (lock, queue):
            if descriptor >= 0:
                fcntl.flock(descriptor, fcntl.LOCK_UN)
                os.close(descriptor)


def _acquire(descriptor: int, operation: int, started: float, on_wait: Callable[[float], None] | None) -> None:
    next_report = 0.0
    while True:
        try:
            fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
        except BlockingIOError:
            now = time.monotonic()
            if on_wait is not None and now >= next_report:
                on_wait(now - started)
                next_report = now + WAIT_REPORT_SECONDS
            time.sleep(POLL_SECONDS)
        else:
            return


def lock_folder() -> Path:
    """Returns where the lock files of this host are: `$OPTOPS_LOCK_FOLDER`, else a fixed folder."""
    return Path(os.environ.get(LOCK_FOLDER_VARIABLE) or DEFAULT_LOCK_FOLDER)


def open_shared_file(folder: Path, name: str) -> int:
    """Opens a file that processes of every user of the host may lock; flock needs no right to write.

    Raises:
        HostLockError: It can not be made or opened.
    """
    path = folder / name
    try:
        # The modes are set apart from the creation, because the umask of whoever comes first would narrow them.
        with suppress(FileExistsError):
            folder.mkdir(parents=True)
            folder.chmod(0o1777)
        with suppress(FileExistsError):
            created = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDONLY)
            os.fchmod(created, 0o644)
            os.close(created)
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError as error:
        raise HostLockError(
            f"the host lock {path} can not be opened ({error.strerror}): make the folder writable, "
            f"or set {LOCK_FOLDER_VARIABLE} to one that all optops processes of this host share"
        ) from error


def _colon_table(path: Path) -> dict[str, str]:
    """The first value of each `key: value` line of a file in /proc."""
    table: dict[str, str] = {}
    for line in path.read_text().splitlines():
        key, _, value = line.partition(":")
        table.setdefault(key.strip(), value.strip())
    return table


def _cpu_ticks() -> tuple[int, int]:
    # user nice system idle iowait irq softirq steal; the guest columns after them are contained in user and nice.
    ticks = [int(value) for value in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    total = sum(ticks)
    return total - ticks[3] - ticks[4], total
