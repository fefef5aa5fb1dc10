"""Training for any workload: one loop with checkpoints, schedules, batching and losses, which knows no task."""

from optops.models.training.batching import PairBatches
from optops.models.training.checkpoints import CheckpointError
from optops.models.training.loop import TrainingDivergedError, fit
from optops.models.training.losses import sequence_loss
from optops.models.training.settings import EpochRecord, History, Progress, TrainingSettings
from optops.models.training.validation import held_out_likelihood

__all__ = [
    "CheckpointError",
    "EpochRecord",
    "History",
    "PairBatches",
    "Progress",
    "TrainingDivergedError",
    "TrainingSettings",
    "fit",
    "held_out_likelihood",
    "sequence_loss",
]
