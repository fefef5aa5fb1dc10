"""Lowering: a trained model and a precision plan become an executable for one runtime."""

from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

from optops.models.base import Description, load_architecture
from optops.precision import PrecisionPlan

STOCK = "stock"


class LoweringError(RuntimeError):
    """A model that can not be lowered to a runtime in a precision; the message says why."""


@dataclass(frozen=True)
class Lowering:
    """What came of lowering one model.

    Attributes:
        facts: Counts for reports, for example `nodes_before`, `nodes_after`, `nodes_quantized`.
        notes: What was rewritten, or left alone and why, one line each.
    """

    facts: dict[str, float | str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def lower(trainable: Path, plan: PrecisionPlan, runtime: str, folder: Path) -> Lowering:
    """Lowers the model in a `trainable/` folder to `runtime` and writes the executable into `folder`.

    Args:
        trainable: Folder with `architecture.json` and weights.
        plan: Which part runs in which type.
        runtime: Name of a runtime, or `stock` for the baseline in unchanged TensorFlow.
        folder: Where the executable goes (`serving/`); made if need be.

    Raises:
        LoweringError: If the architecture has no lowering to this runtime, or the plan does not fit it.
    """
    name = Description.load(trainable).architecture
    lowerings = load_architecture(name).lowerings()
    if runtime not in lowerings:
        raise LoweringError(f"architecture {name!r} has no lowering to {runtime!r}; it has {', '.join(lowerings)}")
    module, _, function = lowerings[runtime].partition(":")
    folder.mkdir(parents=True, exist_ok=True)
    result: Lowering = getattr(import_module(module), function)(trainable, plan, folder)
    return result
