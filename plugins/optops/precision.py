"""The precision plan: which part of a model runs in which type; `quantize` writes it, `fuse` lowers it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

Precision = Literal["fp32", "bf16", "fp16", "int8"]
PRECISIONS: tuple[str, ...] = get_args(Precision)


@dataclass(frozen=True)
class PrecisionPlan:
    """Which part of a model runs in which type.

    Attributes:
        precision: The type most of the arithmetic runs in.
        parts: Name of a weight (as the architecture names it) to its type; a weight not named stays in fp32.
        dynamic: Whether activations get their scale at run time, per row; if not, `ranges` has them.
        ranges: Name of a tensor to its (low, high), where activations are quantised statically.
        notes: Why a part stayed in float, by name, for people to read.
    """

    precision: Precision
    parts: Mapping[str, Precision] = field(default_factory=dict)
    dynamic: bool = True
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Writes the plan as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1, sort_keys=True), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "PrecisionPlan":
        """Reads what `save` wrote.

        Raises:
            ValueError: If the precision is not one that optops knows.
        """
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if data["precision"] not in PRECISIONS:
            raise ValueError(f"{path}: precision {data['precision']!r} is unknown; known are {', '.join(PRECISIONS)}")
        data["ranges"] = {name: (low, high) for name, (low, high) in data["ranges"].items()}
        return cls(**data)
