"""The sections of a recipe that are the own of workload `arrays`. Light: read while Airflow parses."""

import re
from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from optops.paths import resolve_path
from optops.recipe_section import NAMES_CODE, OFF, NamedSection, Section
from optops.sections import StandardCheck
from optops.workloads import functional
from optops.workloads.functional import ChannelPrune
from optops.workloads.splits import Fractions, SplitData

CHECKS = {
    "not_finite": StandardCheck("critical", 0.0, "an input that holds NaN or infinity"),
    "constant": StandardCheck("warning", 0.01, "an input of one number everywhere, where not every example's is"),
    "label_not_finite": StandardCheck("critical", 0.0, "a label that is NaN or infinite"),
    "duplicate": StandardCheck("warning", 0.05, "an example again in its split"),
    "conflicting_label": StandardCheck("warning", 0.05, "equal inputs with different labels"),
    "overlap": StandardCheck("critical", 0.05, "an example that is also in another split, each split by its own share"),
}
BUILT_IN_METRICS = ("accuracy", "r2")

STARTING_VALUES = {
    "distill": OFF,
    "data.folder": "../../data/{name}",
    "data.corpus": "examples.npz",
    "model.saved_model": "../../data/{name}/saved_model",
}
"""What a new recipe says of its data and model, to be changed."""

IGNORED = {
    **{key: why for key, why in functional.IGNORED.items() if not key.startswith("distill.")},
    "train": "a finished model is not trained; what is pruned learns by `prune.train`",
    "prune.temperature": "outputs are learnt by their squared error, whatever they mean",
    "prune.train.label_smoothing": "labels are learnt by the Keras loss that `model.loss` names",
}
"""Keys that change nothing for finished models, and why."""


class Metric(NamedSection):
    """What quality means: `accuracy`, `r2`, or a function of your own."""

    main_key: ClassVar[str] = "function"

    function: Annotated[str, NAMES_CODE] = Field(
        description="`accuracy` (of the largest output, in percent), `r2` (explained variance, in percent), or "
        "`package.module:function`, called as `function(outputs, labels)` with the model's outputs by name and the "
        "labels; returns one number an example, whose mean is the metric."
    )
    name: str = Field("", description="What it is called in reports; the function's name if not given.")
    higher_is_better: bool = Field(True, description="Its direction.")

    @field_validator("function", mode="after")
    @classmethod
    def _is_known_or_dotted(cls, value: str) -> str:
        if value in BUILT_IN_METRICS or re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", value):
            return value
        raise ValueError(f"{value!r} is no metric; give {' or '.join(BUILT_IN_METRICS)}, or `package.module:function`")


class ArrayData(SplitData):
    """Examples as NumPy files (`.npz`): arrays by name whose first axis is the example."""

    folder: str = Field(".", description="Folder that the files are in; relative to the recipe.")
    train: str | None = Field(None, description="The training split: for calibration, and for what is pruned to learn.")
    validation: str | None = Field(None, description="The validation split, for every choice.")
    test: str | None = Field(None, description="The test split, for the gate alone.")
    corpus: str | None = Field(
        None, description="What the splits that have no file of their own are made of, by `fractions`."
    )
    fractions: Fractions = Field(default_factory=lambda: Fractions(), description="How `corpus` is split.")
    labels: str = Field("labels", description="Name of the array that holds the labels; all others are model inputs.")
    metric: Metric = Field(
        default_factory=lambda: Metric(function="accuracy"), description="What quality means; a name or a section."
    )
    output: str | None = Field(
        None, description="The model's output that `accuracy`, `r2` and the loss look at; its only one if not given."
    )
    threshold: float = Field(
        0.5,
        description="For `accuracy` of an output of one number that is no integer: above it is class 1; 0.5 for a "
        "probability, 0 for a logit.",
    )

    def paths(self) -> dict[str, Path]:
        """Returns the files by split (or `corpus`), absolute."""
        return {name: resolve_path(path, Path(self.folder)) for name, path in self.given().items()}


class ArrayModel(Section):
    """A finished model."""

    saved_model: str | None = Field(
        None, description="Folder of a SavedModel with the signature `serving_default`; it is served, not trained."
    )
    keras: str | None = Field(
        None,
        description="A `.keras` file. A functional model can be pruned; any other is served as it is.",
    )
    loss: str = Field(
        "",
        description="Keras loss between the model's output and the labels while a pruned model learns, for example "
        "`sparse_categorical_crossentropy`; without it, it learns from the whole model's outputs alone.",
    )

    @field_validator("saved_model", "keras", mode="after")
    @classmethod
    def _resolve(cls, value: str | None, info: ValidationInfo) -> str | None:
        return None if value is None else str(resolve_path(value, (info.context or {}).get("folder")))

    @model_validator(mode="after")
    def _is_one_model(self) -> Self:
        if (self.saved_model is None) == (self.keras is None):
            raise ValueError("give the model to import: either `saved_model` or `keras`")
        return self


class ArrayThresholds(Section):
    """What the label checks call a defect; nothing of it can be set."""


class ArrayPrune(ChannelPrune):
    """How channels of a functional model are pruned; each model learns from what it was before."""
