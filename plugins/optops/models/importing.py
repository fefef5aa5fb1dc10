"""Imports finished models: a SavedModel or a .keras file becomes an executable for runtime `tensorflow`."""

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

from optops.models.keras import tf
from optops.runtimes.base import ExecutableInfo
from optops.runtimes.tensorflow import SAVED_MODEL

SIGNATURE = "serving_default"


def import_saved_model(source: Path, folder: Path) -> ExecutableInfo:
    """Copies a SavedModel into a `serving/` folder and describes its inputs and outputs.

    Args:
        source: Folder of the SavedModel.
        folder: The `serving/` folder; made if need be.

    Raises:
        ValueError: If it is no SavedModel or has no signature `serving_default`.
    """
    if not (source / "saved_model.pb").is_file():
        raise ValueError(f"{source} is no SavedModel: saved_model.pb is missing; give the folder that holds it")
    target = folder / SAVED_MODEL
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(source, target)
    return describe(target, folder)


def import_keras(source: Path, folder: Path) -> ExecutableInfo:
    """Exports a .keras file of Keras 2 or 3 as a SavedModel into a `serving/` folder.

    Raises:
        ValueError: If it is no .keras file or can not be loaded without running code that came with it.
    """
    version = _keras_version(source)
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / SAVED_MODEL
    try:
        if version.startswith("2."):
            import tf_keras

            model = tf_keras.models.load_model(source, compile=False, safe_mode=True)
        else:
            # Keras 3 models are serving-only here: tf_keras can not read them.
            import keras

            model = keras.saving.load_model(source, compile=False, safe_mode=True)
    except (ValueError, TypeError, OSError) as error:
        raise ValueError(f"{source} (Keras {version}) can not be loaded: {error}") from error
    model.export(str(target))
    return describe(target, folder)


def describe(saved_model: Path, folder: Path) -> ExecutableInfo:
    """Writes `executable.json` for a SavedModel from its signature.

    Raises:
        ValueError: If there is no signature `serving_default`, or one of its tensors has no rank.
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
        facts={"imported": "yes"},
    )
    info.save(folder)
    return info


def _tensors(specs: dict[str, Any]) -> dict[str, dict[str, Any]]:
    described = {}
    for name, spec in specs.items():
        if spec.shape.rank is None:
            raise ValueError(f"tensor {name!r} of the signature has no rank; export the model with a known rank")
        described[name] = {"dtype": spec.dtype.name, "shape": list(spec.shape)}
    return described


def _keras_version(source: Path) -> str:
    try:
        with zipfile.ZipFile(source) as archive:
            return str(json.loads(archive.read("metadata.json"))["keras_version"])
    except (OSError, zipfile.BadZipFile, KeyError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{source} is no .keras file ({error}); save the model with `model.save('NAME.keras')`"
        ) from None
