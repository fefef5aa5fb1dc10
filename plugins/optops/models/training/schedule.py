"""Learning rate by step: a linear warm-up, then the decay that the settings name."""

import math

from optops.models.training.settings import TrainingSettings


def learning_rate_at(step: int, settings: TrainingSettings, total_steps: int) -> float:
    """Returns the learning rate of one step.

    Args:
        step: Number of the step, from 1.
        settings: Peak, warm-up and kind of decay.
        total_steps: Steps of the whole run; only the cosine needs it.

    Source: Vaswani et al. 2017, section 5.3, scaled to a given peak; Loshchilov & Hutter 2017, equation 5,
    without restarts.
    """
    warmup = max(settings.warmup_steps, 1)
    if step < warmup:
        return settings.learning_rate * step / warmup
    if settings.schedule == "inverse_square_root":
        return settings.learning_rate * math.sqrt(warmup / step)
    done = min((step - warmup) / max(total_steps + 1 - warmup, 1), 1.0)
    return settings.learning_rate * 0.5 * (1.0 + math.cos(math.pi * done))
