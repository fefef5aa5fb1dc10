"""What a stage's result depends on beside its spec: data files, source code, library versions, the CPU."""

import hashlib
import os
from collections.abc import Collection, Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, entry_points, version
from importlib.util import find_spec
from itertools import accumulate
from pathlib import Path
from typing import Any

from optops.candidate import digest_file, digest_folder
from optops.measurement.host import Fingerprint
from optops.pipeline import Stage
from optops.recipe import Recipe
from optops.workloads.base import Workload

LIBRARIES = (
    "numpy",
    "scipy",
    "tensorflow",
    "tensorflow-model-optimization",
    "tf-keras",
    "tf2onnx",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "sentencepiece",
    "great-expectations",
    "sacrebleu",
    "openvino",
    "pillow",
    "pycocotools",
    "tokenizers",
)


KERNEL_VARIABLES = ("OPTOPS_ISA", "ONEDNN_MAX_CPU_ISA", "TF_ENABLE_ONEDNN_OPTS")


@cache
def library_versions() -> dict[str, str]:
    """Returns the versions of the libraries whose results we keep; empty for one that is not installed."""

    def version_of(name: str) -> str:
        try:
            return version(name)
        except PackageNotFoundError:
            return ""

    return {name: version_of(name) for name in LIBRARIES}


def instruction_sets() -> list[str]:
    """Returns what decides which kernels run, and how many levels int8 weights have.

    That is the instruction sets of this CPU, and the variables that keep libraries from using them.
    """
    chosen = [f"{name}={os.environ[name]}" for name in KERNEL_VARIABLES if os.environ.get(name)]
    return [*Fingerprint.of_this_host().isa, *chosen]


def code_of(stage: Stage, workload: Workload, runtime: str) -> tuple[str, ...]:
    """Returns the modules and packages that make a stage's result: its own, those it declares, and those of plug-ins.

    Args:
        stage: The stage.
        workload: The recipe's.
        runtime: That the stage lowers to; empty for none.
    """
    if not stage.modules:
        return (f"optops.stages.{stage.name}",)
    plugged = {type(workload).__module__}
    # Which architectures a workload builds, it alone knows.
    plugged |= {entry.module for entry in entry_points(group="optops.architectures")}
    plugged |= {entry.module for entry in entry_points(group="optops.runtimes") if entry.name == runtime}
    packages = {_package_of(module) for module in plugged} - {"optops"}
    return (f"optops.stages.{stage.name}", *stage.modules, *sorted(packages))


def _package_of(module: str) -> str:
    """Returns the outermost package that a module lies in; a namespace, which holds no code, is none."""
    for name in accumulate(module.split("."), "{}.{}".format):
        found = find_spec(name)
        if found is not None and found.has_location:
            return name
    raise ModuleNotFoundError(f"{module}: no source to take a digest of")


@cache
def code_digest(modules: Iterable[str]) -> str:
    """Returns a digest of the source of modules and packages, and of compiled libraries that lie in them."""
    total = hashlib.sha256()
    for name in sorted(modules):
        for path in _sources(name):
            total.update(f"{name}/{path.name}\0{digest_file(path)}\n".encode())
    return total.hexdigest()[:16]


def _sources(name: str) -> list[Path]:
    found = find_spec(name)
    if found is None or found.origin is None:
        raise ModuleNotFoundError(f"{name}: no source to take a digest of")
    origin = Path(found.origin)
    if origin.name != "__init__.py":
        return [origin]
    return sorted(path for pattern in ("*.py", "*.so") for path in origin.parent.rglob(pattern))


def data_digests(workload: Workload, recipe: Recipe) -> dict[str, Any]:
    """Returns the section `data` with the digest of each file or folder in place of its path, and of what they list.

    Raises:
        FileNotFoundError: If a file is missing; names the recipe's key, the path and where to change it.
        ValueError: If a list of files can not be read.
    """
    files = workload.files(recipe.data)
    for key, path in files.items():
        if not path.exists():
            raise FileNotFoundError(
                f"data.{key}: {path} does not exist; put the data there or change `data.{key}` in the recipe "
                "(or the data location of this run)"
            )
    found: dict[str, Any] = {
        "settings": data_settings(workload, recipe),
        "files": {key: digest_folder(path) for key, path in files.items()},
    }
    # The lists themselves are among the files: which name belongs to which content is known by the order.
    listed = [digest_file(path) if path.is_file() else "" for path in workload.listed_files(recipe.data)]
    return {**found, "listed": listed} if listed else found


def data_settings(workload: Workload, recipe: Recipe) -> Any:
    """Returns the section `data` without where the files lie: what is made of them."""
    settings = recipe.data.model_dump(mode="json", exclude={"folder"})
    return _without_paths(settings, list(workload.files(recipe.data)))


def model_digests(workload: Workload, recipe: Recipe) -> dict[str, Any]:
    """Returns the section `model` with the digest of each file or folder that it names in place of its path.

    Raises:
        FileNotFoundError: If one is missing; names the recipe's key and the path.
    """
    files = workload.model_files(recipe.model)
    for key, path in files.items():
        if not path.exists():
            raise FileNotFoundError(f"model.{key}: {path} does not exist; put it there or change `model.{key}`")
    settings = recipe.model.model_dump(mode="json", exclude=set(files))
    return {"settings": settings, "files": {key: digest_folder(path) for key, path in files.items()}}


def _without_paths(value: Any, files: Collection[str], at: str = "") -> Any:
    if isinstance(value, dict):
        return {key: _without_paths(inner, files, f"{at}.{key}".lstrip(".")) for key, inner in value.items()}
    # A file's key may lie below what names it: `train: FILE` is a short form of `train: {source: FILE}`.
    is_path = isinstance(value, str) and any(f"{file}.".startswith(f"{at}.") for file in files)
    return None if is_path else value
