"""The recipe: the only place where configuration is defined. Light enough to be read while Airflow parses."""

from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    Field,
    SerializeAsAny,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from optops.recipe_section import OFF, Name, Section, read_switch, switch
from optops.sections import (
    STRUCTURED,
    Approval,
    Benchmark,
    Budget,
    CheckLabels,
    CheckSetting,
    Distill,
    Fuse,
    Gate,
    Prune,
    Quantize,
    Registry,
    Schedule,
    Target,
    Train,
)
from optops.spelling import hint


class Recipe(Section):
    """Which model, which data, which stages, which tolerance, which target."""

    schema_version: Literal[1] = Field(1, description="Version of this schema.")
    name: Name = Field(description="Name of the recipe and its DAG.")
    description: str = Field("", description="One paragraph for people.")
    workload: str = Field(description="The kind of model, for example `translation`.")
    seed: int = Field(17, ge=0, le=2**31 - 1, description="Seed of everything random.")
    data: SerializeAsAny[BaseModel] = Field(description="Where the examples are; its keys depend on the workload.")
    check_labels: CheckLabels = Field(default_factory=CheckLabels, description="Label checks and their limits.")
    model: SerializeAsAny[BaseModel] = Field(description="An architecture with sizes, or a model to import.")
    train: Train = Field(default_factory=lambda: Train(), description="How the model is trained.")
    distill: Annotated[SerializeAsAny[Distill] | Literal["off"], switch(Distill)] = Field(
        default_factory=lambda: Distill(), description="How a student is made, or `off`, as it is for an import."
    )
    prune: Annotated[SerializeAsAny[Prune] | Literal["off"], switch(Prune)] = Field(
        "off", description="How models are made smaller, or `off`."
    )
    quantize: Annotated[Quantize | Literal["off"], switch(Quantize)] = Field(
        default_factory=lambda: Quantize(), description="Precisions to try, or `off` for fp32 alone."
    )
    fuse: Annotated[Fuse | Literal["off"], switch(Fuse)] = Field(
        default_factory=lambda: Fuse(), description="Runtimes to lower to, or `off` for stock TensorFlow alone."
    )
    budget: Budget = Field(default_factory=lambda: Budget(), description="How much the search may try.")
    target: Target = Field(default_factory=lambda: Target(), description="The hardware to optimise for.")
    benchmark: Benchmark = Field(default_factory=lambda: Benchmark(), description="The benchmark matrix.")
    gate: Gate = Field(default_factory=lambda: Gate(), description="What must be proved before promotion.")
    registry: Registry = Field(description="Where the winner goes.")
    schedule: Schedule | None = Field(None, description="When the DAG runs by itself; manual only if absent.")
    approval: Approval = Field(default_factory=lambda: Approval(), description="Who must agree to a promotion.")

    @model_validator(mode="before")
    @classmethod
    def _read_workload_sections(cls, value: Any, info: ValidationInfo) -> Any:
        if not isinstance(value, dict) or not isinstance(value.get("workload"), str):
            return value
        from optops.workloads.base import load_workload

        try:
            workload = load_workload(value["workload"])
            sections = workload.sections()
        except LookupError as error:
            raise SectionError([_error("workload", str(error))], cls, "") from None
        read = dict(value)
        folder: Path | None = (info.context or {}).get("folder")
        for name, model in (("data", sections.data), ("model", sections.model)):
            if isinstance(read.get(name), dict):
                read[name] = _validate_at(name, model, read[name], {"folder": folder})
        distill = value.get("distill")
        student = distill.get("student") if isinstance(distill, dict) else None
        if isinstance(student, dict) and isinstance(value.get("model"), dict) and workload.trainable(read["model"]):
            # A wrong size must not come to light when the teacher is trained.
            _refuse_other_sizes(student, sections.model, sections.student_sizes)
            sizes = _validate_at("distill.student", sections.model, {**value["model"], **student}, {"folder": folder})
            read["distill"] = {**value["distill"], "student": {name: getattr(sizes, name) for name in student}}
        # What nobody asked for is off where it does not fit the model.
        given = read.get("model")
        fits = isinstance(given, sections.model) and "distill" in workload.compresses(given)
        fits = fits and sections.distill.has_default(given)
        absent = {"distill": {} if fits else OFF, "prune": OFF}
        for name, model in (("distill", sections.distill), ("prune", sections.prune)):
            section = read_switch(read.get(name, absent[name]))
            context = {"folder": folder, "model": read.get("model")}
            read[name] = _validate_at(name, model, section, context) if isinstance(section, dict) else section
        checks = read.get("check_labels")
        if isinstance(checks, dict) and isinstance(checks.get("thresholds", {}), dict):
            thresholds = _validate_at(
                "check_labels.thresholds", sections.thresholds, checks.get("thresholds", {}), {"folder": folder}
            )
            read["check_labels"] = {**checks, "thresholds": thresholds}
        elif checks is None:
            read["check_labels"] = {"thresholds": sections.thresholds()}
        _refuse_unknown_checks(read["check_labels"], sections.checks)
        return read

    @model_validator(mode="after")
    def _stages_fit_the_model(self) -> Self:
        from optops.workloads.base import load_workload

        possible = load_workload(self.workload).compresses(self.model)
        for name in ("distill", "prune"):
            if getattr(self, name) != OFF and name not in possible:
                raise ValueError(
                    f"{name} needs a trainable model, but `model` imports one that can only be served; "
                    f"write `{name}: off`"
                )
        return self

    @model_validator(mode="after")
    def _gives_no_key_that_is_ignored(self) -> Self:
        from optops.workloads.base import load_workload

        errors = []
        for key, why in load_workload(self.workload).sections().ignored.items():
            *parents, name = key.split(".")
            owner: Any = self
            for part in parents:
                owner = getattr(owner, part, OFF)
            if not isinstance(owner, BaseModel):
                continue
            value = getattr(owner, name)
            # 0 and `false` say that it is not done, which is true.
            if value and value != type(owner).model_fields[name].get_default(call_default_factory=True):
                message = f"workload {self.workload!r} has no use for it: {why}; remove it"
                errors.append({**_error(name, message), "loc": (*parents, name), "input": value})
        if errors:
            raise SectionError(errors, type(self), "")
        return self

    @model_validator(mode="after")
    def _tolerates_nothing_that_breaks_a_run(self) -> Self:
        from optops.workloads.base import load_workload

        errors = []
        for name, check in load_workload(self.workload).sections().checks.items():
            setting = self.check_labels.checks.get(name, CheckSetting())
            own = check.severity, check.limit
            if check.fixed and setting.rule(*own) != own:
                message = (
                    f"a run can not go on with {check.finds}; remove the key and mend or remove such files, or have "
                    "them left out of training by `check_labels.quarantine: true`"
                )
                errors.append({**_error(name, message), "loc": ("check_labels", "checks", name), "input": setting})
        if errors:
            raise SectionError(errors, type(self), "")
        return self

    @model_validator(mode="after")
    def _zeros_serve_the_objective(self) -> Self:
        if isinstance(self.prune, Prune) and self.prune.method != STRUCTURED and self.benchmark.objective != "size":
            message = (
                f"{self.prune.method} makes the file smaller and no runtime faster; set "
                "`benchmark.objective: size`, or `prune.method: structured` for speed"
            )
            raise SectionError([_error("method", message)], type(self.prune), "prune")
        return self

    @property
    def experiment(self) -> str:
        """Name of the MLflow experiment."""
        return self.registry.experiment or f"optops/{self.name}"

    def is_off(self, section: str) -> bool:
        """Returns whether the recipe switches a stage off."""
        return bool(getattr(self, section) == OFF)


class SectionError(ValueError):
    """Errors of a section whose model depends on the workload, with where they are."""

    def __init__(self, errors: list[dict[str, Any]], model: type[BaseModel], prefix: str):
        """Keeps pydantic's `errors` of `model`, which stands at the dotted path `prefix`."""
        super().__init__(f"{prefix} is not valid")
        self.errors, self.model, self.prefix = errors, model, prefix


def _validate_at(prefix: str, model: type[BaseModel], value: Any, context: dict[str, Any]) -> BaseModel:
    try:
        return model.model_validate(value, context=context)
    except ValidationError as error:
        raise SectionError(list(map(dict, error.errors())), model, prefix) from None


def _refuse_other_sizes(student: dict[str, Any], model: type[BaseModel], sizes: tuple[str, ...]) -> None:
    for name in student:
        if name in model.model_fields and name not in sizes:
            message = f"{name!r} is no size of a student; {hint(name, sizes)}"
            raise SectionError([_error(name, message)], Distill, "distill.student")


def _refuse_unknown_checks(section: Any, known: Collection[str]) -> None:
    named = section.get("checks") or {} if isinstance(section, dict) else {}
    for name in named if isinstance(named, dict) else ():
        if name not in known:
            message = f"{name!r} is no check of this workload; {hint(str(name), known)}"
            raise SectionError([_error(name, message)], CheckLabels, "check_labels.checks")


def _error(key: str, message: str) -> dict[str, Any]:
    return {"type": "value_error", "loc": (key,), "msg": message, "input": {}}
