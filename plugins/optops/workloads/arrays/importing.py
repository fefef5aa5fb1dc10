"""Takes over a finished model, and holds its inputs against the arrays that the recipe names."""

from pathlib import Path

from optops.models.importing import ServedOnlyError, import_functional, import_keras, import_saved_model
from optops.runtimes.base import SERVED_ONLY, ExecutableInfo, dtype_name
from optops.workloads.arrays.reading import Arrays, ArraysError, load
from optops.workloads.arrays.settings import ArrayData, ArrayModel


def import_arrays_model(model: ArrayModel, data: ArrayData, folder: Path) -> None:
    """Writes `serving/`, `assets/` and, for a functional Keras model, `trainable/` of the model that a recipe imports.

    Raises:
        ValueError: If the model is missing or can not be used.
        ArraysError: If its inputs are not the arrays of the data; says which differ.
    """
    (folder / "assets").mkdir(parents=True)
    if model.saved_model is not None:
        info = import_saved_model(Path(model.saved_model), folder / "serving")
    else:
        assert model.keras is not None
        source = Path(model.keras)
        if not source.is_file():
            raise ValueError(f"model.keras: {source} does not exist; put it there or change the recipe")
        try:
            import_functional(source, folder, {})
            info = ExecutableInfo.load(folder / "serving")
        except ServedOnlyError as error:
            info = import_keras(source, folder / "serving", {SERVED_ONLY: str(error)})
    for path in data.paths().values():
        arrays, _ = load(str(path))
        _compare(path, {name: array for name, array in arrays.items() if name != data.labels}, info)


def _compare(path: Path, arrays: Arrays, info: ExecutableInfo) -> None:
    if set(arrays) != set(info.inputs):
        raise ArraysError(
            f"{path} holds {', '.join(sorted(arrays))}, the model's inputs are {', '.join(sorted(info.inputs))}; "
            "name the arrays as the model names its inputs, and the labels, in one array, as `data.labels` says"
        )
    for name, wanted in sorted(info.inputs.items()):
        array, shape = arrays[name], list(wanted["shape"])
        if shape[:1] != [None] and info.fixed_batch is None:
            raise ArraysError(
                f"input {name!r} of the model is {shape}, and its first axis does not count the examples of all inputs "
                "and outputs: export the model with a first axis of any size, which counts the examples"
            )
        fits = array.ndim == len(shape) and all(
            size is None or size == actual for size, actual in zip(shape[1:], array.shape[1:], strict=True)
        )
        if dtype_name(array) != wanted["dtype"] or not fits:
            raise ArraysError(
                f"{path}: array {name!r} is {dtype_name(array)} {list(array.shape)}; the model takes {wanted['dtype']} "
                f"{shape} (None is any size): convert the array, or export the model with another signature"
            )
