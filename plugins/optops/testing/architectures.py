"""What every architecture must do."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from optops.graph.lowering import STOCK
from optops.models.base import WEIGHTS_FILE, Architecture, Description
from optops.precision import PRECISIONS


def check_architecture(architecture: Architecture, config: Mapping[str, Any], folder: Path) -> None:
    """Checks that models are built from their config, survive saving and loading, and that bad weights are refused.

    Args:
        architecture: What is checked.
        config: A valid config, small.
        folder: An empty folder.

    Raises:
        AssertionError: Says what does not hold.
    """
    model = architecture.build(config)
    assert model.weights, "build gives a model whose variables do not exist yet"
    weights = architecture.named_weights(model)
    assert len({id(w) for w in weights.values()}) == len(model.weights), "named_weights does not name every weight once"
    rebuilt = architecture.named_weights(architecture.build(architecture.config_of(model)))
    shapes = {name: tuple(weight.shape) for name, weight in weights.items()}
    assert {n: tuple(w.shape) for n, w in rebuilt.items()} == shapes, "config_of does not describe the model"
    architecture.save(model, folder, {})
    assert Description.load(folder).architecture == architecture.name, "save writes another architecture's name"
    loaded = architecture.named_weights(architecture.load(folder))
    for name, weight in weights.items():
        assert np.array_equal(weight.numpy(), loaded[name].numpy()), f"weight {name!r} changed in save and load"
    _check_bad_weights_are_refused(architecture, folder)
    lowerings = architecture.lowerings()
    assert STOCK in lowerings, f"there is no lowering {STOCK!r}: the baseline could not be executed"
    for runtime, lowering in lowerings.items():
        unknown = set(lowering.precisions) - set(PRECISIONS)
        assert lowering.precisions and not unknown, f"lowering to {runtime} names precisions {lowering.precisions}"
    named = {f"lowering to {runtime}": lowering.function for runtime, lowering in lowerings.items()}
    for use, dotted in {**named, "live": architecture.live(), "planner": architecture.planner()}.items():
        module, _, function = dotted.partition(":")
        assert callable(getattr(import_module(module), function, None)), f"{use}: no such {dotted}"


def _check_bad_weights_are_refused(architecture: Architecture, folder: Path) -> None:
    path = folder / WEIGHTS_FILE
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    name = next(key for key, value in arrays.items() if value.dtype.kind == "f" and value.size)
    broken = arrays[name].copy()
    broken.flat[0] = np.nan
    np.savez(path, **{**arrays, name: broken})
    try:
        architecture.load(folder)
    except ValueError as error:
        assert name in str(error), f"the error for NaN does not name the weight {name!r}: {error}"
    else:
        raise AssertionError("a weight that is NaN is not refused")
    finally:
        np.savez(path, **arrays)
