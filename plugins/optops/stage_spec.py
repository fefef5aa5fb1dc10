"""What goes into a stage and what comes out of it: plain data that any runner can carry."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from optops.candidate import Artifact, Candidate

Json = dict[str, Any]

ANSWERED_AT = "answered_at"
"""Where `promote` finds in its state when a person answered, as `2026-11-30T08:00:00Z`; absent if only just now."""

STOPPED = "stopped"
"""State of the task that did not run because a person marked the whole run as failed or a success."""

EXIT_FAILED = 3
"""Exit status of a stage that failed for good: a failed check, a bad recipe, a bug. No retry helps."""

EXIT_UNREACHABLE = 75
"""Exit status of a stage that lost a server (EX_TEMPFAIL of sysexits.h): a retry may help."""


@dataclass(frozen=True)
class Manifest:
    """Reference to the immutable list of example ids and digests of one split.

    Attributes:
        split: `train`, `calibration`, `validation` or `test`.
        examples: How many.
        digest: sha256 over ids and digests; changes whenever an example does.
        artifact: Where the list is.
    """

    split: str
    examples: int
    digest: str
    artifact: Artifact


@dataclass(frozen=True)
class RunReference:
    """The MLflow parent run that a DAG run is.

    Attributes:
        tracking_uri: Of the MLflow store or server; empty for the one that the environment names.
        experiment: Name of the experiment.
        run_id: Of the parent run; empty for `open_run`, which makes it.
        label: What started it, for example Airflow's run id.
        identity: What `open_run` tells it from others of the same label by, such as those of another Airflow with the
            same tracking server; empty where the label says it all.
    """

    tracking_uri: str
    experiment: str
    run_id: str
    label: str
    identity: str = ""


@dataclass(frozen=True)
class StageSpec:
    """Everything a stage may know.

    Attributes:
        stage: Name of the stage.
        recipe: The validated recipe, whole, as JSON with absolute paths; its key covers only the declared sections.
        run: The parent run.
        results: Results of the stages upstream that this one reads, by stage; several where upstream is mapped.
        item: The item of a mapped stage, as `plan` wrote it.
        state: How the run went so far; for `close_run`, task to state, in Airflow's words or `STOPPED`; for `promote`,
            `ANSWERED_AT`.
    """

    stage: str
    recipe: Json
    run: RunReference
    results: Mapping[str, tuple["StageResult", ...]] = field(default_factory=dict)
    item: Json | None = None
    state: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> Json:
        """Returns the spec as plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "StageSpec":
        """Reads what `to_json` wrote."""
        results = {name: tuple(StageResult.from_json(r) for r in rs) for name, rs in data["results"].items()}
        return cls(**{**data, "run": RunReference(**data["run"]), "results": results})


@dataclass(frozen=True)
class StageResult:
    """What a stage hands on.

    Attributes:
        stage: Name of the stage.
        key: Key of the result (see `candidate.derive_key`).
        run_id: MLflow run of the stage.
        candidates: Candidates that go on: those taken over and those made.
        manifests: Manifests by split.
        dropped: Candidate or item to the reason why it does not go on.
        output: What else the stages downstream read, for example `plan`'s items or the verdict.
        links: Name to URL or artifact URI, for people.
        skipped: Why the stage did nothing, if so.
        cached: Whether the result was there already.
    """

    stage: str
    key: str
    run_id: str = ""
    candidates: tuple[Candidate, ...] = ()
    manifests: Mapping[str, Manifest] = field(default_factory=dict)
    dropped: Mapping[str, str] = field(default_factory=dict)
    output: Json = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    skipped: str = ""
    cached: bool = False

    def to_json(self) -> Json:
        """Returns the result as plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "StageResult":
        """Reads what `to_json` wrote."""
        manifests = {
            split: Manifest(**{**m, "artifact": Artifact(**m["artifact"])}) for split, m in data["manifests"].items()
        }
        candidates = tuple(Candidate.from_json(c) for c in data["candidates"])
        return cls(**{**data, "candidates": candidates, "manifests": manifests})
