"""Runtime `tensorflow+kernels`: SavedModels whose graphs call the compiled operators of `optops.kernels`."""

from pathlib import Path
from typing import ClassVar

from optops.runtimes.base import Executable, ExecutableInfo
from optops.runtimes.tensorflow import TensorFlowRuntime


class TensorFlowKernelsRuntime(TensorFlowRuntime):
    """Loads `saved_model/` as the runtime `tensorflow` does, once the operators are known to TensorFlow.

    The operators take the best instruction set that the machine has, whatever the model was lowered on: weights are
    the same for all of them.
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
        from optops.kernels import set_threads
        from optops.kernels.tensorflow import load_operators

        load_operators()
        set_threads(threads)
        return super().load(folder, info, threads)
