"""Takes over a finished translation model and its tokenizer."""

import shutil
from pathlib import Path

from optops.models.importing import import_keras, import_saved_model
from optops.workloads.translation.settings import TranslationModel
from optops.workloads.translation.tokenizer import TOKENIZER_FILE, Tokenizer


def import_translator(model: TranslationModel, folder: Path) -> None:
    """Writes `serving/` and `assets/` of the model that a recipe imports.

    Raises:
        ValueError: If a file is missing or can not be used, or the model does not map `ids` to `ids`.
    """
    assert model.tokenizer is not None
    tokenizer = Path(model.tokenizer)
    for key, path in (("tokenizer", model.tokenizer), ("saved_model", model.saved_model), ("keras", model.keras)):
        if path is not None and not Path(path).exists():
            raise ValueError(f"model.{key}: {path} does not exist; put it there or change the recipe")
    Tokenizer(tokenizer)
    (folder / "assets").mkdir(parents=True)
    shutil.copyfile(tokenizer, folder / "assets" / TOKENIZER_FILE)
    if model.saved_model is not None:
        info = import_saved_model(Path(model.saved_model), folder / "serving")
    else:
        assert model.keras is not None
        info = import_keras(Path(model.keras), folder / "serving")
    for side, tensors in (("input", info.inputs), ("output", info.outputs)):
        found = tensors.get("ids")
        if found is None or found["dtype"] != "int32" or len(found["shape"]) != 2:
            raise ValueError(
                f"the imported model's {side}s are {dict(tensors)}; a translator takes and gives `ids` int32 "
                "[batch, length], 0-padded, sources and translations closed by the end id 2"
            )
    if set(info.inputs) != {"ids"}:
        raise ValueError(
            f"the imported model also wants {sorted(set(info.inputs) - {'ids'})}; a translator takes `ids`"
        )
