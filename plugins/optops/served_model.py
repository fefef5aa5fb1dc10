"""The registered model: an MLflow pyfunc without pickle, made of files and this module as its loader."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from shutil import copytree
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from optops.candidate import Candidate, digest_folder
from optops.recipe import Recipe
from optops.runtimes.base import load_executable
from optops.workloads.base import Workload, load_workload

if TYPE_CHECKING:
    from optops.runtimes.base import Executable

MODEL_FILE = "model.json"
CARD_FILE = "model_card.md"


class ServedModel:
    """Answers raw inputs, for example texts, as `mlflow.pyfunc` calls it.

    Args:
        workload: Says how raw inputs are answered.
        executable: Of the model.
        assets: Folder with the model's assets.
    """

    def __init__(self, workload: Workload, executable: "Executable", assets: Path):
        self.workload, self.executable, self.assets = workload, executable, assets

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> list[Any]:
        """Returns one answer an input.

        Args:
            model_input: Raw inputs in any form that `raw_inputs` knows.
            params: None are known.

        Raises:
            ValueError: If an input can not be served; names it.
        """
        del params
        inputs = raw_inputs(model_input, plain=self.workload.inputs_are_plain)
        return self.workload.serve(self.executable, self.assets, inputs)


def raw_inputs(given: Any, *, plain: bool) -> list[Any]:
    """Returns the raw inputs, one an example, in whatever form MLflow hands them to a pyfunc.

    Args:
        given: A list, an array or a series with one an example, or a single one; or columns with one row an example, as
            a data frame or as a dictionary. Of JSON's `instances` MLflow makes arrays and dictionaries of arrays.
        plain: Whether an input is one value. Several columns are a dictionary by input name where it is not.

    Raises:
        ValueError: If there are several values for one, or columns do not fit together; names them.
    """
    if isinstance(given, pd.DataFrame) and len(given.columns) == 1:
        # It may have any name: where nobody gives one, pandas and Spark count.
        given = given.iloc[:, 0]
    inputs = _rows(given) if isinstance(given, pd.DataFrame | Mapping) else _values(given)
    return [_only_value(place, value) for place, value in enumerate(inputs)] if plain else inputs


def _rows(columns: pd.DataFrame | Mapping[Any, Any]) -> list[Any]:
    named = [(str(name), _values(column)) for name, column in columns.items()]
    if len(dict(named)) < len(named) or len({len(values) for _, values in named}) > 1:
        sizes = ", ".join(f"{name!r} with {len(values)}" for name, values in named)
        raise ValueError(f"expected columns of different names and the same number of inputs, got {sizes}")
    names = [name for name, _ in named]
    return [dict(zip(names, row, strict=True)) for row in zip(*(values for _, values in named), strict=True)]


def _values(given: Any) -> list[Any]:
    if isinstance(given, np.ndarray) and given.ndim < 2:
        # As Python's own texts and numbers; MLflow makes an array without axes of a single value.
        given = given.tolist()
    return list(given) if isinstance(given, list | tuple | np.ndarray | pd.Series) else [given]


def _only_value(place: int, given: Any) -> Any:
    if not isinstance(given, Mapping):
        return given
    if len(given) != 1:
        raise ValueError(f"input {place} has {', '.join(map(repr, given)) or 'nothing'}; expected one value")
    (value,) = given.values()
    return value.item() if isinstance(value, np.ndarray) and value.ndim == 0 else value


def _load_pyfunc(path: str) -> ServedModel:
    """Loads the model; MLflow calls this by name (`loader_module`).

    Raises:
        ValueError: If the files are not those that were registered.
    """
    folder = Path(path)
    facts = json.loads((folder / MODEL_FILE).read_text(encoding="utf-8"))
    there = {part.name for part in folder.iterdir() if part.is_dir()}
    if unlisted := there - facts["digests"].keys():
        raise ValueError(f"{folder / MODEL_FILE} has no digest of {', '.join(sorted(unlisted))}; load the model afresh")
    for part, digest in facts["digests"].items():
        if digest_folder(folder / part) != digest:
            raise ValueError(f"{folder / part}: the files are not those that were registered; load them afresh")
    executable = load_executable(folder / "serving", facts["threads"])
    return ServedModel(load_workload(facts["workload"]), executable, folder / "assets")


def log_served_model(
    run_id: str,
    *,
    nominee: Candidate,
    folder: Path,
    recipe: Recipe,
    input_example: Sequence[Any],
    card: str,
    tags: dict[str, str],
) -> str:
    """Logs the model as a pyfunc in a run and returns its URI, `models:/m-...`.

    Args:
        run_id: Run that it belongs to, in the store that this process is connected to.
        nominee: The accepted candidate.
        folder: Its files.
        recipe: Gives the workload, the name, and the threads.
        input_example: Raw inputs for the model's page.
        card: The model card, Markdown.
        tags: Of the logged model.
    """
    import mlflow

    from optops.stages.identity import library_versions

    with TemporaryDirectory() as temporary:
        data = Path(temporary) / "model"
        parts = [part for part in ("serving", "assets") if (folder / part).is_dir()]
        for part in parts:
            copytree(folder / part, data / part)
        facts = {
            "workload": recipe.workload,
            "threads": recipe.target.threads,
            "candidate": nominee.key,
            "digests": {part: digest_folder(data / part) for part in parts},
        }
        (data / MODEL_FILE).write_text(json.dumps(facts, indent=1), encoding="utf-8")
        (data / CARD_FILE).write_text(card, encoding="utf-8")
        served = _load_pyfunc(str(data))
        answers = served.predict(list(input_example))
        # Of answers alone: by a signature of inputs MLflow would keep the first of several columns, and make texts of
        # what is none, without a word. Arrays have none, for MLflow would look at each of their numbers.
        plain = served.workload.inputs_are_plain
        signature = mlflow.models.infer_signature(model_output=answers) if plain else False
        with mlflow.start_run(run_id=run_id):
            info = mlflow.pyfunc.log_model(
                # A logged model's name takes no dot, a registered model's does.
                name=recipe.registry.name.replace(".", "-"),
                loader_module="optops.served_model",
                data_path=str(data),
                signature=signature,
                input_example=list(input_example),
                pip_requirements=requirements(library_versions()),
                tags=tags,
                metadata={"candidate": nominee.key, "digest": nominee.artifact.digest},
            )
    return str(info.model_uri)


def requirements(versions: Mapping[str, str]) -> list[str]:
    """Returns what pip has to install for serving, of the libraries that are installed here (by name their version).

    Not optops itself: no index has it, and what one may ever have under that name is not ours.
    """
    not_served = ("great-expectations", "onnx", "sacrebleu", "tensorflow-model-optimization", "tf2onnx")
    return [f"{name}=={version}" for name, version in versions.items() if version and name not in not_served]
