"""What executes a candidate: one module each behind the contract in `base`."""

from optops.runtimes.base import Executable, Runtime, load_executable, load_runtime, runtime_names

__all__ = ["Executable", "Runtime", "load_executable", "load_runtime", "runtime_names"]
