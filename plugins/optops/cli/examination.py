"""What `optops doctor` looks at."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, entry_points, version
from pathlib import Path

from optops.cli.console import readable_bytes
from optops.cli.doctor import Finding, State
from optops.home import optops_home

REQUIRED = (
    "tensorflow",
    "tf-keras",
    "mlflow",
    "great-expectations",
    "numpy",
    "pandas",
    "scipy",
    "pydantic",
    "sentencepiece",
    "sacrebleu",
    "onnx",
    "tensorflow-model-optimization",
    "tf2onnx",
)
OPTIONAL = {
    "apache-airflow": "only `optops run` works without it",
    "apache-airflow-providers-standard": "DAGs need it for the approval",
    "matplotlib": "plots are drawn with it; stages that draw fail",
}
STOCK = "tensorflow"
LEAST_DISK = 2_000_000_000


def examine() -> list[Finding]:
    """Returns all findings, group by group."""
    return [*_software(), *_hardware(), *_runtimes(), *_home(), *_store(), *_airflow()]


def _software() -> Iterator[Finding]:
    yield Finding("software", "python", "ok", f"{sys.version.split()[0]} ({sys.executable})")
    yield Finding("software", "optops", "ok", _version("optops") or "on the path, not installed as a package")
    for name in REQUIRED:
        found = _version(name)
        text = found or f"not installed; `uv sync --extra cpu` (or `pip install {name}`) installs it"
        yield Finding("software", name, "ok" if found else "missing", text)
    for name, without in OPTIONAL.items():
        found = _version(name)
        yield Finding("software", name, "ok" if found else "note", found or f"not installed; {without}")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _hardware() -> Iterator[Finding]:
    from optops.measurement.host import Fingerprint, load

    host, busy = Fingerprint.of_this_host(), load(0.3)
    yield Finding("hardware", "processor", "ok", host.cpu_model)
    int8 = {"avx512_vnni", "avx_vnni", "asimddp", "amx_int8"}.intersection(host.isa)
    slow = "" if int8 else "; no dot product for int8: int8 may be no faster than fp32 here"
    yield Finding(
        "hardware", "instruction sets", "ok" if int8 else "note", (", ".join(host.isa) or "none known") + slow
    )
    limits = [
        f"{name}={os.environ[name]}" for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS") if name in os.environ
    ]
    yield Finding(
        "hardware", "threads", "ok", f"{host.cores} cores may be used" + "".join(f", {one}" for one in limits)
    )
    yield Finding("hardware", "memory", "ok", readable_bytes(host.memory_bytes))
    yield Finding("hardware", "gpus", "ok" if host.gpus else "note", ", ".join(host.gpus) or "none; target `cpu` works")
    quiet = busy.others_share < 0.2
    text = f"{busy.others_share:.0%} of the CPU time goes to other processes"
    remedy = "" if quiet else "; timings will be noisy: stop them before a benchmark"
    yield Finding("hardware", "load", "ok" if quiet else "note", text + remedy)


def _runtimes() -> Iterator[Finding]:
    from optops.runtimes.base import load_runtime, runtime_names

    for name in runtime_names():
        runtime = load_runtime(name)
        reason = runtime.unavailable()
        text = reason or f"available; precisions {', '.join(sorted(runtime.precisions))}"
        worse: State = "missing" if name == STOCK else "note"
        yield Finding("runtimes", name, worse if reason else "ok", text)
    yield from _kernels()


def _kernels() -> Iterator[Finding]:
    from optops.kernels import KernelError, KernelsUnavailableError, instruction_set, instruction_sets, threads
    from optops.kernels.speed import measure_speed

    try:
        speed = measure_speed()
    except KernelsUnavailableError as error:
        yield Finding("runtimes", "compiled operators", "note", str(error))
        return
    except KernelError as error:
        yield Finding("runtimes", "compiled operators", "missing", str(error))
        return
    text = f"{instruction_set()} of {', '.join(instruction_sets())}; {threads()} threads; fp32, bf16 and int8"
    yield Finding("runtimes", "compiled operators", "ok", text)
    computed = ", ".join(f"{count / 1e9:,.0f} in {name}" for name, count in speed.operations_per_second.items())
    text = f"read {speed.bytes_per_second / 1e9:.1f} GB a second; billions of operations a second: {computed}"
    yield Finding("runtimes", "their products", "ok", text)


def _home() -> Iterator[Finding]:
    from optops.measurement.host import host_lock

    home = optops_home()
    try:
        with tempfile.TemporaryFile(dir=home):
            yield Finding("this machine", "OPTOPS_HOME", "ok", f"{home} is writable")
    except OSError as error:
        remedy = "make it writable, or set OPTOPS_HOME to a folder that is"
        yield Finding("this machine", "OPTOPS_HOME", "missing", f"{home}: {error.strerror}; {remedy}")
    free = shutil.disk_usage(home).free
    enough = free >= LEAST_DISK
    remedy = (
        "" if enough else f"; at least {readable_bytes(LEAST_DISK)} should be: `optops gc` removes what is not needed"
    )
    yield Finding(
        "this machine", "disk", "ok" if enough else "missing", f"{readable_bytes(free)} free at {home}{remedy}"
    )
    try:
        # A timing may hold the lock for minutes: that the files can be opened is all that matters here.
        with host_lock(exclusive=False, on_wait=_give_up):
            yield Finding("this machine", "host lock", "ok", "free")
    except TimeoutError:
        yield Finding("this machine", "host lock", "ok", "a benchmark is running and has the host for itself")
    except RuntimeError as error:
        yield Finding("this machine", "host lock", "missing", str(error))


def _give_up(seconds: float) -> None:
    del seconds
    raise TimeoutError


def _store() -> Iterator[Finding]:
    from optops.passwords import without_password
    from optops.tracking import Tracking, default_uri, user_interface

    try:
        with _impatient():
            experiments = Tracking().client.search_experiments()
    except Exception as error:  # noqa: BLE001 - whatever a store or server throws is the finding
        remedy = "start it, or set MLFLOW_TRACKING_URI to one that runs; unset, optops keeps a store of its own"
        text = f"{default_uri()} can not be reached: {error}; {remedy}"
        yield Finding("MLflow", "store", "missing", without_password(text))
        return
    yield Finding("MLflow", "store", "ok", f"{without_password(default_uri())}, {len(experiments)} experiments")
    yield Finding("MLflow", "links lead to", "ok", user_interface())


@contextmanager
def _impatient() -> Iterator[None]:
    # Nobody wants to wait four minutes to hear that the server is not there.
    wanted = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _airflow() -> Iterator[Finding]:
    home = Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser()
    plugin = [entry for entry in entry_points(group="airflow.plugins") if entry.value.startswith("optops.")]
    shim = (home / "plugins" / "optops_plugin.py").is_file()
    found = "as an installed package" if plugin else f"in {home / 'plugins'}" if shim else ""
    text = (
        f"Airflow finds optops {found}"
        if found
        else f"neither installed nor in {home / 'plugins'}: Airflow sees no optops"
    )
    yield Finding("Airflow", "plugin", "ok" if found else "note", text)
    if not _version("apache-airflow"):
        return
    # Importing Airflow writes a configuration where there is none; doctor only looks.
    if not (home / "airflow.cfg").is_file():
        yield Finding("Airflow", "home", "note", f"{home} is not set up; `optops run` needs none")
        return
    yield Finding("Airflow", "home", "ok", str(home))
    yield _pool()


def _pool() -> Finding:
    from airflow.configuration import conf

    name = conf.get("optops", "pool", fallback="")
    if not name:
        text = "none configured (AIRFLOW__OPTOPS__POOL); at most two items of a mapped stage run at once"
        return Finding("Airflow", "pool", "ok", text)
    from airflow.models.pool import Pool

    try:
        pool = Pool.get_pool(name)
    except Exception as error:  # noqa: BLE001 - whatever a database throws is the finding
        return Finding("Airflow", "pool", "note", f"{name!r}: the database can not be read: {error}")
    if pool is None:
        remedy = f"create it (`airflow pools set {name} 4 optops`), or its tasks never start"
        return Finding("Airflow", "pool", "missing", f"{name!r} does not exist; {remedy}")
    wanted = conf.getint("optops", "pool_slots", fallback=1)
    if 0 <= pool.slots < wanted:
        text = f"{name!r} has {pool.slots} slots: the benchmark, which takes {wanted}, never starts"
        return Finding("Airflow", "pool", "missing", f"{text}; set AIRFLOW__OPTOPS__POOL_SLOTS to {pool.slots} or less")
    return Finding("Airflow", "pool", "ok", f"{name!r} with {pool.slots} slots")
