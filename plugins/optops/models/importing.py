"""Imports finished models: as executables for runtime `tensorflow`, and where that is possible to be trained on."""

import json
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py

from optops.models.base import load_architecture, load_function
from optops.models.keras import keras, tf
from optops.models.meta_graph import PROTO, keep_served
from optops.models.ragged import refuse_ragged
from optops.precision import PrecisionPlan
from optops.runtimes.base import ExecutableInfo
from optops.runtimes.tensorflow import SAVED_MODEL

SIGNATURE = "serving_default"
WEIGHTS = "model.weights.h5"
"""Where a `.keras` file of Keras 2 keeps its weights."""
UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, OSError)
"""What Keras raises for a config that it can not build a model from."""


class ServedOnlyError(Exception):
    """A finished model can be served as it is, and not be changed; says why."""


def import_saved_model(source: Path, folder: Path) -> ExecutableInfo:
    """Copies a SavedModel, what is served of it, into a `serving/` folder and describes its inputs and outputs.

    Args:
        source: Folder of the SavedModel.
        folder: The `serving/` folder; made if need be.

    Raises:
        ValueError: If it is no SavedModel, has no signature `serving_default` or one with a tensor that is ragged,
            sparse or of no rank, or several MetaGraphs of which none is known to be the one that is served.
    """
    if not (source / PROTO).is_file():
        raise ValueError(f"{source} is no SavedModel: {PROTO} is missing; give the folder that holds it")
    target = folder / SAVED_MODEL
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(source, target)
    keep_served(target)
    return describe(target, folder)


def import_keras(source: Path, folder: Path, facts: Mapping[str, str] | None = None) -> ExecutableInfo:
    """Exports a .keras file of Keras 2 or 3 as a SavedModel into a `serving/` folder.

    Args:
        source: The file.
        folder: The `serving/` folder; made if need be.
        facts: What else to put on record of the import.

    Raises:
        ValueError: If it is no .keras file, can not be loaded without running code that came with it, or has a ragged
            input.
    """
    version = _keras_version(source)
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / SAVED_MODEL
    try:
        model = _load_keras_2(source) if version.startswith("2.") else _load_keras_3(source)
    except UNREADABLE as error:
        raise ValueError(
            f"{source} (Keras {version}) can not be loaded: {error}; export it as a SavedModel yourself and import that"
        ) from error
    refuse_ragged(model)
    model.export(str(target))
    return describe(target, folder, facts)


def import_functional(source: Path, folder: Path, serving: Mapping[str, Any]) -> None:
    """Takes over a functional or sequential model of Keras so that it can be pruned, taught and quantised.

    One of Keras 3 becomes the same of Keras 2; see `to_keras_2`. All of its layers can be trained, also those that were
    frozen when it was saved: what is pruned or rounded learns. An input whose name a SavedModel can not have is
    renamed, `in-put` to `in_put`: training calls it as serving does.

    Args:
        source: A .keras file.
        folder: Gets `trainable/` and `serving/`; made if need be.
        serving: How the model is executed; see `FunctionalArchitecture`.

    Raises:
        ServedOnlyError: If it is no functional model, has layers that keep a vocabulary or carry code, or takes a fixed
            number of examples. Then nothing is written, and `import_keras` may still import it to be served.
        ValueError: If it is no .keras file, or holds weights that are not finite; names the first.
    """
    from optops.models.functional.config import to_config
    from optops.models.functional.input_names import with_served_names
    from optops.models.functional.keras_3 import to_keras_2

    of_keras_2 = _keras_version(source).startswith("2.")
    try:
        model = with_served_names(_load_keras_2(source) if of_keras_2 else to_keras_2(_load_keras_3(source)))
        model.trainable = True
        to_config(model)
    except UNREADABLE as error:
        raise ServedOnlyError(str(error)) from error
    if any(tensor.shape[0] is not None for tensor in model.inputs):
        # Its graph may hold the size, and what trains and calibrates calls with others.
        raise ServedOnlyError("it takes a fixed number of examples")
    architecture = load_architecture("functional")
    architecture.save(model, folder / "trainable", serving)
    architecture.load(folder / "trainable")
    (folder / "serving").mkdir()
    load_function(architecture.lowerings()["stock"].function)(
        folder / "trainable", PrecisionPlan("fp32"), folder / "serving"
    )


def describe(saved_model: Path, folder: Path, facts: Mapping[str, str] | None = None) -> ExecutableInfo:
    """Writes `executable.json` for a SavedModel from its signature, with facts if there are any.

    Raises:
        ValueError: If there is no signature `serving_default`, or one of its tensors is ragged, sparse or of no rank.
    """
    loaded = tf.saved_model.load(str(saved_model))
    if SIGNATURE not in loaded.signatures:
        have = ", ".join(loaded.signatures) or "none"
        raise ValueError(f"{saved_model} has no signature {SIGNATURE!r} (it has {have}); export it with one")
    signature = loaded.signatures[SIGNATURE]
    info = ExecutableInfo(
        runtime="tensorflow",
        precision="fp32",
        inputs=_tensors(signature.structured_input_signature[1]),
        outputs=_tensors(signature.structured_outputs),
        facts={"imported": "yes", **(facts or {})},
    )
    info.save(folder)
    return info


def _tensors(specs: dict[str, Any]) -> dict[str, dict[str, Any]]:
    described = {}
    for name, spec in specs.items():
        if not isinstance(spec, tf.TensorSpec | tf.Tensor):
            raise ValueError(
                f"tensor {name!r} of the signature is no plain tensor ({type(spec).__name__}); export the model with "
                "one in its place, of `.to_tensor()` or `tf.sparse.to_dense`"
            )
        if spec.shape.rank is None:
            raise ValueError(f"tensor {name!r} of the signature has no rank; export the model with a known rank")
        described[name] = {"dtype": spec.dtype.name, "shape": list(spec.shape)}
    return described


def _load_keras_2(source: Path) -> Any:
    # Keras' own safe mode stops lambdas alone: a config may name any function of any module, to be called at once.
    from optops.models.functional.config import check_config
    from optops.models.functional.derived import derive_anew

    written = json.loads(_read(source, "config.json"))
    # How it was compiled is not read.
    check_config({name: part for name, part in written.items() if name != "compile_config"})
    _refuse_weights_elsewhere(source)
    model = keras.models.load_model(source, compile=False, safe_mode=True)
    derive_anew(model)
    return model


def _load_keras_3(source: Path) -> Any:
    import keras as keras_3

    return keras_3.saving.load_model(source, compile=False, safe_mode=True)


def _refuse_weights_elsewhere(source: Path) -> None:
    # HDF5 may say that an array is what another file of this machine holds, which the model would then answer with.
    with zipfile.ZipFile(source) as archive:
        if WEIGHTS not in archive.namelist():
            return
        with archive.open(WEIGHTS) as content, h5py.File(content, "r") as weights:
            name = weights.visititems_links(_elsewhere) or weights.visititems(_elsewhere)
    if name:
        raise ValueError(f"its weight {name!r} is in another file; save the model with `model.save('NAME.keras')`")


def _elsewhere(name: str, found: Any) -> str | None:
    """Returns the name of a link or an array whose content may be in another file, else None."""
    if isinstance(found, h5py.Dataset):
        return name if found.external or found.is_virtual else None
    return None if isinstance(found, h5py.HardLink | h5py.Group) else name


def _keras_version(source: Path) -> str:
    if source.suffix != ".keras":
        # By its name Keras takes it for another format, which is checked less.
        raise ValueError(f"{source} is no .keras file by its name; save the model with `model.save('NAME.keras')`")
    try:
        return str(json.loads(_read(source, "metadata.json"))["keras_version"])
    except (OSError, zipfile.BadZipFile, KeyError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{source} is no .keras file ({error}); save the model with `model.save('NAME.keras')`"
        ) from None


def _read(source: Path, name: str) -> bytes:
    with zipfile.ZipFile(source) as archive:
        return archive.read(name)
