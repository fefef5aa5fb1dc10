"""The precision plan: which part of a model runs in which type; `quantize` writes it, `fuse` lowers it."""

import json
from collections.abc import Callable, Mapping
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
        parts: Name of a weight (as the architecture names it; of a functional model, the layer that has it in canonical
            form) to its type; a weight not named stays in fp32.
        dynamic: Whether activations get their scale at run time, per row; if not, `ranges` has them.
        ranges: Name of a tensor to its (low, high), where activations are quantised statically: exactly these tensors
            are rounded to 8 bits, to `(high - low) / 255` with a whole number for zero. In a dynamic plan, name of a
            product to the range of what it takes, for runtimes that need it beforehand.
        bias_corrections: Name of an int8 weight to what is added, per output channel, to the bias of its layer, so that
            the mean error of rounding vanishes.
        weight_levels: Magnitude of the largest int8 weight, by which a channel's scale follows from its largest value:
            127, or 63 where the CPU adds pairs of 8-bit products in 16 bits and would saturate.
        notes: Why a part stayed in float, by name, for people to read.
        range_notes: How each range was found, by name, likewise.
    """

    precision: Precision
    parts: Mapping[str, Precision] = field(default_factory=dict)
    dynamic: bool = True
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    bias_corrections: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    weight_levels: int = 127
    notes: Mapping[str, str] = field(default_factory=dict)
    range_notes: Mapping[str, str] = field(default_factory=dict)

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
        for name in ("ranges", "bias_corrections"):
            data[name] = {key: tuple(values) for key, values in data.get(name, {}).items()}
        return cls(**data)


@dataclass(frozen=True)
class Judge:
    """Says how good a model is, and how much worse a planner may make it.

    Attributes:
        evaluate: Called with a tf_keras model of the same inputs and outputs; higher is better. Costs a pass over the
            examples that it judges on.
        allowed: How much lower the value may be than that of the model before.
    """

    evaluate: Callable[[Any], float]
    allowed: float
