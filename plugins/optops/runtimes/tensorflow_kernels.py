"""Runtime `tensorflow+kernels`: SavedModels whose graphs call the compiled operators of `optops.kernels`."""

import warnings
from pathlib import Path
from typing import ClassVar

from optops.runtimes.base import Executable, ExecutableInfo
from optops.runtimes.tensorflow import TensorFlowRuntime


class TensorFlowKernelsRuntime(TensorFlowRuntime):
    """Loads `saved_model/` as the runtime `tensorflow` does, once the operators are known to TensorFlow.

    The operators take the best instruction set that the machine has: weights are the same for all of them. If it lacks
    the one that the model was lowered and timed with, a warning says so.
    """

    name: ClassVar[str] = "tensorflow+kernels"
    precisions: ClassVar[frozenset[str]] = frozenset({"fp32", "bf16", "int8"})

    def unavailable(self) -> str | None:
        """Returns why the operators can not be loaded here, or None if they can."""
        from optops.kernels import KernelsUnavailableError
        from optops.kernels.library import library

        try:
            library()
        except KernelsUnavailableError as error:
            return str(error)
        return None

    def load(self, folder: Path, info: ExecutableInfo, threads: int) -> Executable:
        """Returns the executable in `folder`; the operators use `threads` threads in this process from now on."""
        from optops.kernels import instruction_set, instruction_sets, set_threads
        from optops.kernels.tensorflow import load_operators

        load_operators()
        set_threads(threads)
        timed_with = info.facts.get("instruction_set")
        if timed_with and timed_with not in instruction_sets():
            warnings.warn(
                f"{folder} was lowered and timed with {timed_with}, which this processor lacks: it runs with "
                f"{instruction_set()}, and may be slower than its record says",
                RuntimeWarning,
                stacklevel=2,
            )
        return super().load(folder, info, threads)
