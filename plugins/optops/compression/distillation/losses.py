"""The word-level distillation loss: alpha * L_soft + (1 - alpha) * L_hard."""

from dataclasses import dataclass
from typing import Any

from optops.models.keras import tf
from optops.models.training.losses import mean_over_tokens, smoothed_cross_entropy, token_accuracy
from optops.models.training.settings import Loss


@dataclass(frozen=True)
class DistillationSettings:
    """How a student learns from its teacher, token by token.

    Attributes:
        alpha: Weight of the teacher's distribution, in [0, 1]; the labels get 1 - alpha.
        temperature: What both models' logits are divided by before they are compared, above 0.
    """

    alpha: float = 0.5
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha is {self.alpha}; it must be in [0, 1]")
        if not self.temperature > 0:
            raise ValueError(f"temperature is {self.temperature}; it must be above 0")


def soft_loss(labels: Any, student_logits: Any, teacher_logits: Any, temperature: float) -> Any:
    """Returns temperature^2 times the divergence KL(teacher || student) of the softened distributions.

    It differs from the cross-entropy of Hinton et al. by the teacher's entropy, which has no gradient; so it is zero
    where the student equals the teacher. The factor keeps the size of its gradient next to that of the hard loss
    when the temperature changes.

    Args:
        labels: int32 [batch, time]; only tells padding (0), which does not count.
        student_logits: float32 [batch, time, V].
        teacher_logits: float32 [batch, time, V]; no gradient flows into them.
        temperature: Above 0.

    Returns:
        Scalar: the mean over all tokens that are not padding.

    Source: Hinton et al. 2015, section 2; Kim & Rush 2016, section 3.1.
    """
    teacher = tf.nn.log_softmax(tf.stop_gradient(teacher_logits) / temperature)
    student = tf.nn.log_softmax(student_logits / temperature)
    divergence = tf.reduce_sum(tf.exp(teacher) * (teacher - student), axis=-1)
    return temperature**2 * mean_over_tokens(divergence, labels)


def distillation_loss(teacher: Any, settings: DistillationSettings, label_smoothing: float) -> Loss:
    """Returns alpha * L_soft + (1 - alpha) * L_hard, to be given to `fit`.

    L_soft is `soft_loss` against the teacher, which runs without dropout; L_hard is the smoothed cross-entropy against
    the labels. Reports `soft`, `hard` and `accuracy`.

    Args:
        teacher: Called as `teacher({"source": ..., "target": ...}, training=False)`, like the student; never changed.
        settings: Weight and temperature.
        label_smoothing: Of the hard loss.
    """

    def loss(student: Any, batch: Any) -> Any:
        inputs, labels = {"source": batch["source"], "target": batch["target"]}, batch["labels"]
        logits = student(inputs, training=True)
        soft = soft_loss(labels, logits, teacher(inputs, training=False), settings.temperature)
        hard = smoothed_cross_entropy(labels, logits, label_smoothing)
        total = settings.alpha * soft + (1 - settings.alpha) * hard
        return total, {"soft": soft, "hard": hard, "accuracy": token_accuracy(labels, logits)}

    return loss
