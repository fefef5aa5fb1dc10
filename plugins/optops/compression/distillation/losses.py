"""The distillation loss: alpha * L_soft + (1 - alpha) * L_hard + beta * L_AT_FMT."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, Self, get_args

from optops.compression.distillation.features import LastLayerRelations, LayerByLayer
from optops.models.keras import tf
from optops.models.training.losses import (
    class_accuracy,
    mean_over_tokens,
    row_cross_entropy,
    smoothed_cross_entropy,
    token_accuracy,
)
from optops.sections import Teaching

FeatureKind = Literal["layers", "relations"]


@dataclass(frozen=True)
class DistillationSettings:
    """How a student learns from its teacher.

    Attributes:
        alpha: Weight of the teacher's distribution, in [0, 1]; the labels get 1 - alpha.
        temperature: What both models' logits are divided by before they are compared, from 0.01 to 100.
        beta: Weight of the features at the first step; 0 leaves them out.
        beta_until: Share of the training, in (0, 1], after which the weight has fallen to 0, in a straight line:
            features lead the way, what counts in the end is the output.
        features: `layers` compares attention maps and hidden states layer by layer (`LayerByLayer`), `relations`
            attention maps and value relations of the last layers (`LastLayerRelations`, MiniLM).
    """

    alpha: float = 0.5
    temperature: float = 1.0
    beta: float = 0.0
    beta_until: float = 1.0
    features: FeatureKind = "layers"

    @classmethod
    def of(cls, teaching: Teaching) -> Self:
        """Returns the settings that a section of a recipe gives."""
        return cls(**{name.name: getattr(teaching, name.name) for name in fields(cls)})

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha is {self.alpha}; it must be in [0, 1]")
        if not 0.01 <= self.temperature <= 100:
            # Beyond, its square or the softened distribution is nothing but 0 or NaN in float32.
            raise ValueError(f"temperature is {self.temperature}; it must be from 0.01 to 100")
        if not self.beta >= 0:
            raise ValueError(f"beta is {self.beta}; it must be at least 0")
        if not 0 < self.beta_until <= 1:
            raise ValueError(f"beta_until is {self.beta_until}; it must be above 0 and at most 1")
        if self.features not in get_args(FeatureKind):
            raise ValueError(f"features is {self.features!r}; choose one of {', '.join(get_args(FeatureKind))}")


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
    return mean_over_tokens(softened_divergence(student_logits, teacher_logits, temperature), labels)


def softened_divergence(student_logits: Any, teacher_logits: Any, temperature: float) -> Any:
    """Returns temperature^2 times KL(teacher || student) of the softened distributions over the last axis."""
    teacher = tf.nn.log_softmax(tf.stop_gradient(teacher_logits) / temperature)
    student = tf.nn.log_softmax(student_logits / temperature)
    return temperature**2 * tf.reduce_sum(tf.exp(teacher) * (teacher - student), axis=-1)


class DistillationLoss:
    """alpha * L_soft + (1 - alpha) * L_hard + beta * L_AT_FMT, to be given to `fit`.

    L_soft is `soft_loss` against the teacher, which runs without dropout; L_hard is the smoothed cross-entropy against
    the labels; the features are those of `settings.features`, with a weight that falls. Reports `soft`, `hard`,
    `accuracy` and, where they count, `features`.

    Args:
        teacher: A model with `features({"source": ..., "target": ...})`, like the student; never changed.
        student: The model that will be trained with this loss; only its sizes are read.
        settings: Weights and temperature.
        label_smoothing: Of the hard loss.

    Attributes:
        variables: Weights of the loss's own (a projection between widths), trained with the student.

    Raises:
        ValueError: If features of such a teacher and student can not be compared.
    """

    def __init__(self, teacher: Any, student: Any, settings: DistillationSettings, label_smoothing: float) -> None:
        self._teacher, self._settings, self._label_smoothing = teacher, settings, label_smoothing
        self._features = _features(teacher, student, settings)
        self.variables: Sequence[Any] = self._features.variables if self._features else ()

    def __call__(self, student: Any, batch: Any, progress: Any) -> Any:
        """Returns the loss and its parts; see `Loss`."""
        settings, labels = self._settings, batch["labels"]
        inputs = {"source": batch["source"], "target": batch["target"]}
        mine, theirs = student.features(inputs, training=True), self._teacher.features(inputs, training=False)
        # A student with a smaller output vocabulary can say what comes first in the teacher's.
        known = theirs.logits[..., : mine.logits.shape[-1]]
        soft = soft_loss(labels, mine.logits, known, settings.temperature)
        hard = smoothed_cross_entropy(labels, mine.logits, self._label_smoothing)
        total = settings.alpha * soft + (1 - settings.alpha) * hard
        scalars = {"soft": soft, "hard": hard, "accuracy": token_accuracy(labels, mine.logits)}
        if self._features:
            scalars["features"] = self._features(mine, theirs, inputs)
            total += beta_at(settings, progress) * scalars["features"]
        return total, scalars


class ClassDistillationLoss:
    """The same for classifiers: alpha * L_soft + (1 - alpha) * L_hard + beta * features, over the examples of a batch.

    Args:
        teacher: A model with `features({"ids": ...})`, like the student; never changed.
        student: The model that will be trained with this loss; only its sizes are read.
        settings: Weights and temperature.
        label_smoothing: Of the hard loss.

    Attributes:
        variables: Weights of the loss's own (a projection between widths), trained with the student.

    Raises:
        ValueError: If features of such a teacher and student can not be compared.
    """

    def __init__(self, teacher: Any, student: Any, settings: DistillationSettings, label_smoothing: float) -> None:
        self._teacher, self._settings, self._label_smoothing = teacher, settings, label_smoothing
        self._features = _features(teacher, student, settings)
        self.variables: Sequence[Any] = self._features.variables if self._features else ()

    def __call__(self, student: Any, batch: Any, progress: Any) -> Any:
        """Returns the loss and its parts for a batch with `ids` and `labels`; see `Loss`."""
        settings, labels = self._settings, batch["labels"]
        mine, theirs = student.features(batch, training=True), self._teacher.features(batch, training=False)
        soft = tf.reduce_mean(softened_divergence(mine.logits, theirs.logits, settings.temperature))
        hard = tf.reduce_mean(row_cross_entropy(mine.logits, labels, self._label_smoothing))
        total = settings.alpha * soft + (1 - settings.alpha) * hard
        scalars = {"soft": soft, "hard": hard, "accuracy": class_accuracy(labels, mine.logits)}
        if self._features:
            scalars["features"] = self._features(mine, theirs, {"source": batch["ids"]})
            total += beta_at(settings, progress) * scalars["features"]
        return total, scalars


def _features(teacher: Any, student: Any, settings: DistillationSettings) -> LayerByLayer | LastLayerRelations | None:
    if not settings.beta:
        return None
    kind = LayerByLayer if settings.features == "layers" else LastLayerRelations
    return kind(teacher.config, student.config)


def beta_at(settings: DistillationSettings, progress: Any) -> Any:
    """Returns the weight of the features when a share of the training is done (a scalar in [0, 1])."""
    return settings.beta * tf.maximum(0.0, 1.0 - progress / settings.beta_until)
