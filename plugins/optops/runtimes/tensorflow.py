"""Runtime `tensorflow`: one call of a SavedModel's signature, with the threads fixed."""

import warnings
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from optops.runtimes.base import Arrays, Executable, ExecutableInfo, Runtime

SAVED_MODEL = "saved_model"


class TensorFlowRuntime(Runtime):
    """Loads `saved_model/` and calls its `serving_default` signature."""

    name: ClassVar[str] = "tensorflow"
    precisions: ClassVar[frozenset[str]] = frozenset({"fp32", "bf16"})

    def unavailable(self) -> str | None:
        """Returns None: TensorFlow is a dependency of optops."""
        return None

    def load(self, folder: Path, info: ExecutableInfo, threads: int) -> Executable:
        """Returns the executable in `folder`; warns if TensorFlow already runs with another number of threads."""
        from optops.models.keras import tf

        _set_threads(tf, threads)
        model = tf.saved_model.load(str(folder / SAVED_MODEL))
        signature = model.signatures["serving_default"]

        def execute(inputs: Arrays) -> dict[str, np.ndarray]:
            info.check(inputs)
            outputs = signature(**{name: tf.constant(array) for name, array in inputs.items()})
            return {name: outputs[name].numpy() for name in info.outputs}

        # The signature holds its variables weakly: the model has to live as long as it.
        execute.model = model  # type: ignore[attr-defined]
        return execute


def _set_threads(tf: Any, threads: int) -> None:
    threading = tf.config.threading
    if (threading.get_intra_op_parallelism_threads(), threading.get_inter_op_parallelism_threads()) == (threads, 1):
        return
    try:
        threading.set_intra_op_parallelism_threads(threads)
        threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:
        warnings.warn(
            f"TensorFlow already runs with {threading.get_intra_op_parallelism_threads() or 'all'} threads and keeps "
            f"them; {threads} were asked for. Load the executable first thing in a fresh process.",
            RuntimeWarning,
            stacklevel=3,
        )
