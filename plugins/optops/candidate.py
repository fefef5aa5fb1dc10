"""A candidate: one version of the model on its way, its key, and the digests that vouch for it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from optops.paths import files_below

KEY_LENGTH = 16


@dataclass(frozen=True)
class Artifact:
    """Files in the artifact store, and the digest they must have when they are read.

    Attributes:
        uri: MLflow artifact URI of a folder or file (`models:/m-...` or `runs:/...`).
        digest: sha256 over names and contents, as `digest_folder` computes it.
    """

    uri: str
    digest: str


@dataclass(frozen=True)
class Candidate:
    """One version of the model; immutable.

    Attributes:
        key: Content-derived (see `derive_key`); names MLflow runs, checkpoints, locks and links.
        name: What people call it, for example `baseline` or `student int8 onnxruntime`.
        stage: The stage that made it.
        parents: Keys of the candidates it was made from; empty for the first.
        architecture: Name in the registry of architectures; `saved_model` for a serving-only import.
        precision: `fp32`, `bf16`, `fp16` or `int8`.
        runtime: What executes its `serving/` folder; None while there is nothing to execute.
        trainable: Whether the artifact holds `trainable/` (architecture, config and weights).
        artifact: Where its files are.
        metrics: Measured on the validation split, or facts such as `parameters`.
    """

    key: str
    name: str
    stage: str
    parents: tuple[str, ...]
    architecture: str
    precision: str
    runtime: str | None
    trainable: bool
    artifact: Artifact
    metrics: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Returns the candidate as plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Candidate":
        """Reads what `to_json` wrote."""
        return cls(
            **{
                **data,
                "parents": tuple(data["parents"]),
                "artifact": Artifact(**data["artifact"]),
                "metrics": dict(data["metrics"]),
            }
        )


def canonical_json(data: Any) -> str:
    """Returns JSON with one spelling for equal data, so that its digest can be a key."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def derive_key(stage: str, **inputs: Any) -> str:
    """Returns the key of what `stage` makes from `inputs`, for example `distill-3f2a9c...`.

    Args:
        stage: Name of the stage.
        **inputs: Everything that the result depends on, as plain data.
    """
    return f"{stage}-{hashlib.sha256(canonical_json(inputs).encode()).hexdigest()[:KEY_LENGTH]}"


def digest_file(path: Path) -> str:
    """Returns the sha256 of one file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest_folder(folder: Path) -> str:
    """Returns the sha256 over relative names and contents of all files in a folder, behind links too (or of a file)."""
    if folder.is_file():
        return digest_file(folder)
    total = hashlib.sha256()
    for path in sorted(files_below(folder)):
        total.update(f"{path.relative_to(folder).as_posix()}\0{digest_file(path)}\n".encode())
    return total.hexdigest()
