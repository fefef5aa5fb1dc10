"""Learning rate by step: a linear warm-up, then the decay that the settings name."""

import math

from optops.models.training.settings import TrainingSettings


def warmup_steps(settings: TrainingSettings, total_steps: int) -> int:
    """Returns the steps of the warm-up: those of the settings, at most a quarter of all.

    A training of few steps that spent them all on its way to the peak would hardly learn.
    """
    return min(settings.warmup_steps, total_steps // 4)


def learning_rate_at(step: int, settings: TrainingSettings, total_steps: int) -> float:
    """Returns the learning rate of one step.

    Args:
        step: Number of the step, from 1.
        settings: Peak, warm-up and kind of decay.
        total_steps: Steps of the whole run.

    Source: Vaswani et al. 2017, section 5.3, scaled to a given peak; Loshchilov & Hutter 2017, equation 5,
    without restarts.
    """
    warmup = max(warmup_steps(settings, total_steps), 1)
    if step < warmup:
        return settings.learning_rate * step / warmup
    if settings.schedule == "inverse_square_root":
        return settings.learning_rate * math.sqrt(warmup / step)
    done = min((step - warmup) / max(total_steps + 1 - warmup, 1), 1.0)
    return settings.learning_rate * 0.5 * (1.0 + math.cos(math.pi * done))
