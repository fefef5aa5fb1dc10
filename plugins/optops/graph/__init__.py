"""Pattern matching and rewriting of graphs; lowering; ONNX export."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optops.graph.optimizer.report import Report


def optimize(source: Any, out: Path | str, **options: Any) -> "Report":
    """Writes a SavedModel that computes the same as a model and is not slower.

    See `optops.graph.optimizer.optimizer.optimize`; here it is found without importing TensorFlow early.
    """
    from optops.graph.optimizer.optimizer import optimize as implementation

    return implementation(source, out, **options)
