"""What a recipe may say, section by section. Light enough to be read while Airflow parses."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, Field, SerializeAsAny, ValidationInfo, model_validator
from pydantic import field_validator as on_field

from optops.precision import Precision
from optops.recipe_section import OFF, Name, Section, Share, or_else, switch
from optops.spelling import hint

if TYPE_CHECKING:
    from pydantic import GetJsonSchemaHandler
    from pydantic_core import CoreSchema


Severity = Literal["critical", "warning"]


class CheckSetting(Section):
    """How one label check is judged."""

    severity: Literal[Severity, "off"] | None = Field(
        None, description="`critical` fails the run above the limit, `warning` reports, `off` skips the check."
    )
    limit: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        None, description="Share of a split's examples that may have this defect; the check's own if not given."
    )

    def rule(self, severity: Severity, limit: float) -> tuple[Literal[Severity, "off"], float]:
        """Returns the severity and the limit that a check is judged by whose own are these."""
        return self.severity or severity, limit if self.limit is None else self.limit

    @model_validator(mode="before")
    @classmethod
    def _accept_off(cls, value: Any) -> Any:
        return {"severity": "off"} if value is False or value == OFF else value

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: "CoreSchema", handler: "GetJsonSchemaHandler") -> dict[str, Any]:
        """Returns what `off`, however YAML reads it, or the section conforms to."""
        return or_else(handler.resolve_ref_schema(handler(core_schema)), {"const": OFF}, {"const": False})


@dataclass(frozen=True)
class StandardCheck:
    """How a workload's label check is judged where a recipe says nothing.

    Attributes:
        severity: As of `CheckSetting`.
        limit: As of `CheckSetting`.
        finds: What a defect is, for people.
        fixed: Whether a run would break down at such an example, so that no recipe may tolerate it.
    """

    severity: Severity
    limit: float
    finds: str
    fixed: bool = False


class CheckLabels(Section):
    """What `check_labels` looks for and what it does about it."""

    quarantine: bool = Field(
        False, description="Remove offending examples from the training split and go on, recording which."
    )
    checks: dict[str, CheckSetting] = Field(
        default_factory=dict,
        description="Overrides per check: severity and limit. Unnamed checks keep the workload's; those that say "
        "`fixed` can not be changed, for a run breaks down at what they find.",
    )
    thresholds: SerializeAsAny[BaseModel] | dict[str, Any] = Field(
        default_factory=dict, description="The workload's thresholds, for example the longest example allowed."
    )


class Train(Section):
    """How a model is trained; a student or a pruned model has a section of its own, with defaults of its own."""

    epochs: int = Field(20, ge=1, description="At most so many passes over the training split.")
    patience: int = Field(
        4,
        ge=1,
        description="Stop after so many epochs without a better validation metric, counted after the warm-up; not for "
        "`schedule: cosine`.",
    )
    batch_tokens: int = Field(
        2048,
        ge=1,
        description="Size of a batch, per step: tokens of text, or the workload's unit; of images the default is far "
        "too many.",
    )
    accumulate: int = Field(
        1, ge=1, description="Batches whose mean gradient makes one step: larger steps than the memory holds at once."
    )
    replicas: int = Field(
        2,
        ge=1,
        description="Parts of a batch whose gradients are computed side by side, each on a share of the cores.",
    )
    precision: Literal["fp32", "bf16"] = Field(
        "fp32",
        description="Of products while training, and of what stands between them; bf16 is faster where the processor "
        "computes with it, and can cost quality.",
    )
    learning_rate: float = Field(1e-3, gt=0, description="Peak of the learning rate.")
    schedule: Literal["inverse_square_root", "cosine"] = Field(
        "inverse_square_root",
        description="After the warm-up: decay until training stops improving, or down to zero at the last epoch.",
    )
    warmup_steps: int = Field(400, ge=0, description="Steps to the learning rate's peak, at most a quarter of all.")
    label_smoothing: float = Field(0.1, ge=0, lt=1, description="Share of probability spread over all labels.")
    average_checkpoints: int = Field(
        4, ge=1, description="Average the weights of so many epochs around the best; 1 takes the best alone."
    )
    gradient_clip: float = Field(1.0, gt=0, description="Largest global norm of the gradient.")


class Teaching(Section):
    """What a model learns from its teacher: alpha * soft + (1 - alpha) * hard + beta * features."""

    labels: Literal["teacher", "interpolated", "given"] = Field(
        "teacher",
        description="What it learns to say: the teacher's own outputs (sequence-level distillation), those of the "
        "teacher's best outputs that are closest to the given labels (`interpolated`), or the `given` labels.",
    )
    alpha: Share = Field(0.5, description="Weight of the teacher's distribution; 1 - alpha is that of the labels.")
    temperature: float = Field(1.0, ge=0.01, le=100, description="Temperature that softens both distributions.")
    beta: float = Field(0.0, ge=0, description="Weight of the features at the first step; 0 leaves them out.")
    beta_until: float = Field(
        1.0, gt=0, le=1, description="Share of the training after which the weight of the features has fallen to 0."
    )
    features: Literal["layers", "relations"] = Field(
        "layers",
        description="Attention maps and hidden states layer by layer, or attention maps and value relations of the "
        "last layers (MiniLM).",
    )
    train: Train = Field(default_factory=lambda: Train(), description="How it is trained.")


class Distill(Teaching):
    """How a student is made from the trained model."""

    student_sizes: ClassVar[tuple[str, ...]] = ()
    """Which of the model's sizes a student may have of its own; any if none is named."""

    student: dict[str, Any] = Field(
        default_factory=dict, description="Sizes of the student that differ from the model's."
    )
    initialize: bool = Field(
        True,
        description="Start the student from evenly spaced layers of the teacher; one of another width or size of heads "
        "starts afresh.",
    )
    train: Train = Field(default_factory=lambda: Train(), description="How the student is trained.")

    @classmethod
    def has_default(cls, model: Any) -> bool:
        """Returns whether a student that nobody describes is smaller than a model of the recipe's section `model`."""
        del model
        return True

    @model_validator(mode="after")
    def _relations_are_of_as_many_heads(self, info: ValidationInfo) -> Self:
        theirs = getattr((info.context or {}).get("model"), "heads", None)
        mine = self.student.get("heads", theirs)
        if self.beta and self.features == "relations" and theirs is not None and mine != theirs:
            raise ValueError(
                f"relations are compared head by head, and the student has {mine} heads for the model's {theirs}; "
                "give it the same, or write `features: layers`"
            )
        return self

    def refuse_larger(self, parts: Iterable[tuple[str, Any, int]]) -> None:
        """Refuses a student that is larger somewhere than the model it starts from.

        Args:
            parts: What there is of each part, for people; the student's number, of whatever type it was given; and the
                model's.

        Raises:
            ValueError: Names the first part that is larger.
        """
        for name, mine, most in parts:
            if isinstance(mine, int) and mine > most:
                raise ValueError(
                    f"the student has {mine} {name} and starts from a model with {most}; give it fewer in `student` or "
                    "write `initialize: false`"
                )


def refuse_all_layers(left_out: int, layers: int | None) -> int:
    """Returns how many layers pruning leaves out.

    Raises:
        ValueError: If the model has no more than that.
    """
    if layers is not None and left_out >= max(layers, 1):
        raise ValueError(f"{left_out} layers are to be left out and the model has {layers}; leave at least one")
    return left_out


STRUCTURED: Literal["structured"] = "structured"


class PruneTrain(Train):
    """How a pruned model is fine-tuned."""

    epochs: int = Field(3, ge=1, description="At most so many passes over the training split.")
    learning_rate: float = Field(3e-4, gt=0, description="Peak of the learning rate.")
    warmup_steps: int = Field(50, ge=0, description="Steps to the learning rate's peak, at most a quarter of all.")


class Prune(Teaching):
    """How pruning makes models smaller; each learns from what it was before."""

    structured_only: ClassVar[tuple[str, ...]] = ("importance_examples",)
    """Keys that mean nothing to the other methods."""

    method: Literal["structured", "magnitude", "two_of_four"] = Field(
        STRUCTURED,
        description="`structured` cuts out what a model consists of, for example heads, channels and layers: less to "
        "compute. `magnitude` and `two_of_four` set the smallest weights to zero, the latter two of any four: a "
        "smaller file at the same speed, for `objective: size`.",
    )
    ratios: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        (0.3,),
        min_length=1,
        description="Shares to remove in all, one after the other (of the units, heads or channels; or of all "
        "weights); each is pruned from the one before and becomes a candidate, so that the benchmark and the "
        "validation split choose.",
    )
    models: Literal["all", "last"] = Field(
        "all", description="Prune the trained model and its student, or the last of them alone."
    )
    importance_examples: int = Field(
        512,
        ge=1,
        description="Training examples that the importance is measured on; fewer if their arrays take over 1 GiB.",
    )
    train: PruneTrain = Field(default_factory=lambda: PruneTrain(), description="How each pruned model is fine-tuned.")

    @on_field("ratios")
    @classmethod
    def _rise(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if any(later <= earlier for earlier, later in pairwise(value)):
            raise ValueError(f"ratios {list(value)} must rise: each is the share removed in all")
        return value

    @model_validator(mode="after")
    def _heads_stay_where_they_are_compared(self) -> Self:
        cut = self.method == STRUCTURED and getattr(self, "heads", False)  # which sections of Transformers have
        if cut and self.beta and self.features == "relations":
            raise ValueError(
                "relations are compared head by head, and `heads` are removed; write `heads: false` or `features: "
                "layers`"
            )
        return self

    @model_validator(mode="after")
    def _keys_fit_the_method(self) -> Self:
        foreign = [
            name for name in self.structured_only if getattr(self, name) != type(self).model_fields[name].default
        ]
        if self.method != STRUCTURED and foreign:
            raise ValueError(f"{', '.join(foreign)}: only `method: structured` has it, not {self.method}; remove it")
        if self.method == "two_of_four" and self.ratios != (0.5,):
            raise ValueError(f"two_of_four sets half of the weights to zero; write `ratios: [0.5]`, not {self.ratios}")
        return self


class Int8Train(Train):
    """How a model is trained for its int8 plan."""

    epochs: int = Field(3, ge=1, description="So many passes over the training split.")
    batch_tokens: int = Field(
        16, ge=1, description="Size of a batch in the workload's unit: examples, images, patches."
    )
    learning_rate: float = Field(3e-4, gt=0, description="Peak of the learning rate.")
    schedule: Literal["inverse_square_root", "cosine"] = Field(
        "cosine", description="After the warm-up: decay until training stops improving, or down to zero at the end."
    )
    warmup_steps: int = Field(50, ge=0, description="Steps to the learning rate's peak, at most a quarter of all.")
    average_checkpoints: int = Field(
        1, ge=1, description="Average the weights of so many epochs around the best; 1 takes the best alone."
    )


class Quantize(Section):
    """Which precisions are offered."""

    precisions: tuple[Precision, ...] = Field(
        ("fp32", "int8"), min_length=1, description="Precisions to try; what the target lacks is left out and said."
    )
    train: Annotated[Int8Train | Literal["off"], switch(Int8Train)] = Field(
        "off",
        description="How a functional model is trained where int8 loses more than it may, before layers go back to "
        "float (quantisation-aware training); `off`, or `on` for these defaults.",
    )

    @model_validator(mode="after")
    def _there_is_int8_to_train_for(self) -> Self:
        if self.train != OFF and "int8" not in self.precisions:
            raise ValueError(
                f"train is for int8, which is not among precisions {list(self.precisions)}; add int8, or write "
                "`train: off`"
            )
        return self


class Fuse(Section):
    """Which runtimes executables are made for."""

    runtimes: tuple[str, ...] = Field(
        ("tensorflow+kernels", "onnxruntime", "openvino", "tensorflow"),
        min_length=1,
        description="Runtimes to lower to; unavailable ones are left out.",
    )

    @on_field("runtimes")
    @classmethod
    def _are_known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        from optops.runtimes.base import RUNTIMES, runtime_names

        for name in value:
            # Looking at entry points takes a while, and this runs whenever Airflow parses.
            if name not in RUNTIMES and name not in runtime_names():
                raise ValueError(f"runtime {name!r} is unknown; {hint(name, runtime_names())}")
        return value


class Budget(Section):
    """How much the search may try."""

    executables: int = Field(24, ge=1, description="At most so many combinations of model, precision and runtime.")


class Target(Section):
    """The hardware and thread budget that the recipe optimises for."""

    device: Literal["cpu", "gpu"] = Field(
        "cpu",
        description="Where the model will run. `cpu` hides GPUs from the timings, `gpu` makes `optops validate` warn "
        "where there is none, and no more: ONNX Runtime, OpenVINO and the operator library compute on the CPU in any "
        "case, TensorFlow takes a GPU if it sees one.",
    )
    threads: int = Field(2, ge=1, le=512, description="Threads that the served model may use.")


class Benchmark(Section):
    """The benchmark matrix and its time budget."""

    batches: tuple[Annotated[int, Field(ge=1, le=4096)], ...] = Field(
        (1, 8, 32), min_length=1, description="Batch sizes to measure."
    )
    primary_batch: int = Field(1, ge=1, description="The cell that must reach the minimum speed-up; one of `batches`.")
    seconds_per_cell: float = Field(
        10.0, gt=0, le=3600, description="Time budget of one cell; p99 is reported if it allows 662 samples."
    )
    objective: Literal["latency", "size"] = Field(
        "latency",
        description="What `better` means among candidates: speed in the primary cell, or the size of the compressed "
        "executable.",
    )

    @model_validator(mode="after")
    def _primary_is_measured(self) -> Self:
        if self.primary_batch not in self.batches:
            raise ValueError(f"primary_batch {self.primary_batch} is not among batches {list(self.batches)}; add it")
        return self


LATER_SHARE = 0.1
"""Share of the gate's level at which each nominee after the first is judged."""


class Gate(Section):
    """What the nominee must prove."""

    tolerance: float = Field(0.02, ge=0, description="How much worse than the baseline the metric may be.")
    tolerance_kind: Literal["relative", "absolute"] = Field(
        "relative",
        description="Whether the tolerance is a share of the baseline's metric, which must then be above 0, or in its "
        "units.",
    )
    minimum_speedup: float = Field(
        1.0,
        gt=0,
        description="What the lower bound of the speed-up must reach in the primary cell and, from 1 on, at least 1 "
        "plus the noise that is measured. Below 1 it also says how slow the other cells may be, which else may be no "
        "slower than the baseline.",
    )
    confidence: float = Field(
        0.95, gt=0.5, lt=1, description="One-sided confidence of the bounds of quality, for all nominees together."
    )
    resamples: int = Field(1000, ge=100, le=100_000, description="Bootstrap resamples.")
    anomalous_gain: float = Field(
        0.2, gt=0, description="A relative gain over the baseline proved above this is not believed: `anomalous`."
    )
    nominees: int = Field(
        3,
        ge=1,
        le=3,
        description="How many nominees are tried at most, one after the other until one is accepted. Each after the "
        "first is judged at a tenth of the level, the first at what they leave.",
    )

    def confidence_of(self, number: int, nominees: int) -> float:
        """Returns the confidence at which one of several nominees is judged.

        The levels add up to that of the gate, so that trying several makes acceptance by luck no more likely than
        trying one (Bonferroni's inequality with weights). The first, which promises most, has nearly all of it.

        Args:
            number: Which nominee, from 1 on.
            nominees: How many there are.
        """
        share = 1 - LATER_SHARE * (nominees - 1) if number == 1 else LATER_SHARE
        return 1 - (1 - self.confidence) * share

    @model_validator(mode="after")
    def _leaves_something_to_prove(self) -> Self:
        if self.tolerance_kind == "relative" and self.tolerance >= 1:
            raise ValueError(
                f"a relative tolerance of {self.tolerance:g} allows any loss; give a share below 1 (0.02 is 2 %), "
                "or set tolerance_kind to absolute"
            )
        return self

    @model_validator(mode="after")
    def _bounds_can_be_taken(self) -> Self:
        highest = self.confidence_of(self.nominees, self.nominees)
        needed = ceil(round(1 / (1 - highest), 6))
        if self.resamples < needed:
            raise ValueError(
                f"{self.resamples} resamples can not give a bound at {highest:g}, the confidence of the last of "
                f"{self.nominees} nominees; set resamples to {needed} or more"
            )
        return self


class Registry(Section):
    """Where the winner goes."""

    name: Name = Field(description="Name of the registered model in MLflow.")
    experiment: str | None = Field(None, description="MLflow experiment; `optops/NAME` if not given.")


class Schedule(Section):
    """When the DAG runs by itself."""

    cron: str | None = Field(None, description="A cron expression, for example `0 3 * * 1`.")
    asset: str | None = Field(None, description="URI of an asset of newly labelled data that triggers a run.")

    @on_field("cron")
    @classmethod
    def _names_times(cls, value: str | None) -> str | None:
        if value is None:
            return value
        if not value.startswith("@") and len(value.split()) != 5:
            raise ValueError(f"{value!r} has {len(value.split())} fields; a cron expression has five, e.g. '0 3 * * 1'")
        from croniter import CroniterError, croniter

        try:
            # Airflow knows one more name than croniter. An expression may be well formed and fit no day at all.
            croniter("0 0 1 */3 *" if value == "@quarterly" else value).get_next()
        except CroniterError as error:
            raise ValueError(f"no times to run at: {error}; write for example '0 3 * * 1' or '@weekly'") from None
        return value

    @on_field("asset")
    @classmethod
    def _is_no_asset_of_airflows_own(cls, value: str | None) -> str | None:
        if value is not None and value.partition(":")[0].lower() == "airflow":
            raise ValueError(f"Airflow keeps {value.partition(':')[0]!r} to itself; give the asset another scheme")
        return value


class Approval(Section):
    """Whether a person must agree before promotion."""

    mode: Literal["automatic", "required"] = Field("automatic", description="`required` waits for a person.")
    approvers: tuple[str, ...] = Field(
        (),
        description="Ids of the Airflow users who may answer, as its auth manager has them: names with the simple one, "
        'numbers as text with FAB (`"5"`). Anyone with access to the task if empty.',
    )
    timeout_hours: float = Field(72, gt=0, description="Reject if nobody answered by then.")
