"""The contract of an architecture: a family of tf_keras models that can be built, saved, loaded and lowered."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from optops.precision import Precision

ARCHITECTURE_FILE = "architecture.json"
WEIGHTS_FILE = "weights.npz"


@dataclass(frozen=True)
class Description:
    """What `trainable/architecture.json` says.

    Attributes:
        architecture: Name in the registry.
        config: Sizes, everything `build` needs.
        serving: How the model is executed, for example the beam and the limits on length.
    """

    architecture: str
    config: Mapping[str, Any]
    serving: Mapping[str, Any]

    def save(self, folder: Path) -> None:
        """Writes `architecture.json` into a folder, which is made if need be."""
        folder.mkdir(parents=True, exist_ok=True)
        data = {"architecture": self.architecture, "config": dict(self.config), "serving": dict(self.serving)}
        (folder / ARCHITECTURE_FILE).write_text(json.dumps(data, indent=1, sort_keys=True), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "Description":
        """Reads `architecture.json` from a folder.

        Raises:
            FileNotFoundError: If the folder holds no trainable model.
        """
        path = folder / ARCHITECTURE_FILE
        if not path.is_file():
            raise FileNotFoundError(f"{path}: missing, so {folder} holds no trainable model")
        return cls(**json.loads(path.read_text(encoding="utf-8")))


@dataclass(frozen=True)
class LoweringFunction:
    """What lowers models to one runtime.

    Attributes:
        function: `module:function`, called as `f(trainable: Path, plan: PrecisionPlan, folder: Path) -> Lowering`.
        precisions: Those of plans that it can lower; what the target offers may be less.
    """

    function: str
    precisions: tuple[Precision, ...]


class Architecture(ABC):
    """A family of tf_keras models.

    Life cycle: `build` makes a model with fresh weights from a config; `save` writes config and weights to a
    `trainable/` folder; `load` brings both back. What `lowerings` names turns a saved model into an executable.
    Built-in architectures are listed in `ARCHITECTURES`, others come from the entry point group
    `optops.architectures`.
    """

    name: ClassVar[str]

    @abstractmethod
    def build(self, config: Mapping[str, Any]) -> Any:
        """Returns a tf_keras model with all variables created and freshly initialised."""

    @abstractmethod
    def config_of(self, model: Any) -> dict[str, Any]:
        """Returns the config from which `build` makes a model of the same shape."""

    def lowerings(self) -> Mapping[str, LoweringFunction]:
        """Returns runtime -> what lowers this architecture to it.

        The key `stock` names the export of the baseline: the model as its authors would serve it in TensorFlow,
        unchanged.
        """
        return {}

    def live(self) -> str:
        """Returns `module:function` that executes a model while it trains, over its own variables, as they change.

        Called as `f(model, serving) -> Executable`, with what `architecture.json` says of how it is served.
        """
        return "optops.graph.functional_live:live"

    def pruner(self) -> str | None:
        """Returns `module:function` that cuts out what a model of this architecture can spare; None if nothing can.

        Called as `f(model, settings, data: PruningData, report) -> Iterator[Step]` with the recipe's section `prune`
        and a function that tells people lines; see `optops.compression.pruning.steps`.
        """
        return None

    def planner(self) -> str:
        """Returns `module:function` that writes the precision plan of a model of this architecture.

        Called as `f(trainable: Path, precision: str, calibration, judge: Judge | None) -> PrecisionPlan`, where
        `calibration()` gives named input arrays, call by call, from the first on each time; with a judge, a plan that
        makes the model worse than allowed is to leave more of it in float. The default needs neither: activations get
        their scale at run time.
        """
        return "optops.compression.quantization.plans:make_plan"

    def quantization_trainer(self) -> str | None:
        """Returns `module:function` that makes a model learn through the roundings of its plan; None if nothing can.

        Called as `f(model, plan: PrecisionPlan) -> TrainingForm`; see
        `optops.compression.quantization.functional.training`.
        """
        return None

    def named_weights(self, model: Any) -> dict[str, Any]:
        """Returns the variables of a model by the names under which they are saved.

        Raises:
            ValueError: If two have the same name.
        """
        named = {weight.name: weight for weight in model.weights}
        if len(named) != len(model.weights):
            raise ValueError(f"architecture {self.name!r}: two weights share one name; give each layer its own")
        return named

    def save(self, model: Any, folder: Path, serving: Mapping[str, Any]) -> None:
        """Writes `architecture.json` and `weights.npz` (no pickle) into `folder`."""
        Description(self.name, self.config_of(model), serving).save(folder)
        np.savez(folder / WEIGHTS_FILE, **{name: weight.numpy() for name, weight in self.named_weights(model).items()})

    def load(self, folder: Path) -> Any:
        """Returns the model that `save` wrote.

        Raises:
            ValueError: If a weight is missing, has another shape, or is not finite.
        """
        model = self.build(Description.load(folder).config)
        with np.load(folder / WEIGHTS_FILE, allow_pickle=False) as arrays:
            for name, weight in self.named_weights(model).items():
                if name not in arrays:
                    raise ValueError(f"{folder / WEIGHTS_FILE}: weight {name!r} is missing")
                value = arrays[name]
                if value.shape != tuple(weight.shape):
                    raise ValueError(
                        f"{folder / WEIGHTS_FILE}: weight {name!r} has shape {value.shape}, "
                        f"the architecture wants {tuple(weight.shape)}"
                    )
                if not np.isfinite(value).all():
                    raise ValueError(f"{folder / WEIGHTS_FILE}: weight {name!r} holds NaN or infinity")
                weight.assign(value)
        return model


def load_function(path: str) -> Callable[..., Any]:
    """Returns what `module:function` names."""
    module, _, function = path.partition(":")
    return getattr(import_module(module), function)  # type: ignore[no-any-return]


ARCHITECTURES: dict[str, str] = {
    "bert": "optops.models.bert.architecture:BertArchitecture",
    "functional": "optops.models.functional.architecture:FunctionalArchitecture",
    "transformer": "optops.models.transformer.architecture:TransformerArchitecture",
}


def load_architecture(name: str) -> Architecture:
    """Returns an architecture by name, built in or from the entry point group `optops.architectures`.

    Raises:
        LookupError: If nothing has that name; says what there is.
    """
    if name in ARCHITECTURES:
        module, _, attribute = ARCHITECTURES[name].partition(":")
        return getattr(import_module(module), attribute)()  # type: ignore[no-any-return]
    plugged = {entry.name: entry for entry in entry_points(group="optops.architectures")}
    if name in plugged:
        return plugged[name].load()()  # type: ignore[no-any-return]
    raise LookupError(f"architecture {name!r} is unknown; known are {', '.join(sorted({*ARCHITECTURES, *plugged}))}")
