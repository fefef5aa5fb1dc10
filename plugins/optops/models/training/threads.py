"""How a training process divides the cores between replicas."""

import os

from optops.models.keras import tf


def share_cores(replicas: int) -> None:
    """Gives each replica its share of the cores; call it before anything else of TensorFlow runs.

    The replicas' operations run side by side (inter-op), each on its own cores (intra-op). Operations of the size that
    small models have gain little from a second thread; a second replica gains almost all of its core. One thread to
    an operation also fixes the order of sums, so that a seed gives the same weights again.

    A process whose TensorFlow has started keeps its threads; only speed depends on them.
    """
    cores = len(os.sched_getaffinity(0))
    try:
        tf.config.threading.set_inter_op_parallelism_threads(min(replicas, cores))
        tf.config.threading.set_intra_op_parallelism_threads(max(cores // replicas, 1))
    except RuntimeError:
        return
