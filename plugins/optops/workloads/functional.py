"""Sections of the recipe that workloads share whose models are functional Keras models. Light: read while parsing."""

from collections.abc import Mapping
from typing import ClassVar, Final, Literal, Self

from pydantic import Field, model_validator

from optops.sections import Distill, Prune, PruneTrain

_WITHOUT_FEATURES: Final = "functional models have no features that could be compared"

IGNORED: Final[Mapping[str, str]] = {
    **{
        f"{stage}.{key}": _WITHOUT_FEATURES
        for stage in ("distill", "prune")
        for key in ("beta", "beta_until", "features")
    },
    "quantize.train.label_smoothing": "what is trained for int8 learns from what it gives in float, not from labels",
}
"""Keys that change nothing for functional models, and why."""


class FunctionalDistill(Distill):
    """How a student is made from the trained model."""

    labels: Literal["given"] = Field(
        "given", description="It learns from the given labels and, weighted by `alpha`, from what the teacher predicts."
    )


class ChannelPruneTrain(PruneTrain):
    """How a pruned functional model is fine-tuned."""

    batch_tokens: int = Field(
        16, ge=1, description="Size of a batch in the workload's unit: examples, images, patches."
    )


class ChannelPrune(Prune):
    """How channels are pruned; each model learns from what it was before."""

    structured_only: ClassVar[tuple[str, ...]] = (
        "criterion",
        "multiple",
        "floor",
        "scale_penalty",
        "sparsity_epochs",
        *Prune.structured_only,
    )

    labels: Literal["given"] = Field(
        "given",
        description="A pruned model learns from the given labels and, weighted by `alpha`, from what it was before.",
    )
    criterion: Literal["batch_norm_scale", "l1_norm", "l2_norm", "taylor"] = Field(
        "l2_norm",
        description="What tells how much a channel matters: the scale of its batch norm (Network Slimming), the norm "
        "of its weights, or the change of the loss without it.",
    )
    multiple: int = Field(8, ge=1, description="Widths stay multiples of it, for others can be slower.")
    floor: float = Field(0.1, ge=0, lt=1, description="Share of every group of channels that stays in any case.")
    scale_penalty: float = Field(
        1e-4, gt=0, description="Weight of the batch norms' scales in the loss of the sparsity training."
    )
    sparsity_epochs: int = Field(
        0, ge=0, description="Epochs of sparsity training before pruning, for `batch_norm_scale`; 0 for none."
    )

    train: ChannelPruneTrain = Field(
        default_factory=lambda: ChannelPruneTrain(), description="How each pruned model is fine-tuned."
    )

    @model_validator(mode="after")
    def _sparsity_serves_the_criterion(self) -> Self:
        if self.sparsity_epochs and self.criterion != "batch_norm_scale":
            raise ValueError(
                f"sparsity_epochs drives batch norms' scales to zero, which `criterion: {self.criterion}` does not "
                "look at; write `criterion: batch_norm_scale`, or remove it"
            )
        return self
