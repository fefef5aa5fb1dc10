"""The page about translation: its export is a translator that can be imported, its data a section of a recipe."""

import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from optops.models.keras import tf
from optops.runtimes import load_executable
from optops.workloads.translation.importing import import_translator
from optops.workloads.translation.settings import TranslationData, TranslationModel
from optops.workloads.translation.tokenizer import train_tokenizer

PAGE = (Path(__file__).parents[3] / "docs" / "translation.md").read_text(encoding="utf-8")


def test_the_export_is_a_translator_that_can_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (export,) = (code for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "tf.saved_model.save" in code)
    exec(compile(export, "translation.md", "exec"), {"model": tf.Module(), "translate": lambda ids: ids})
    train_tokenizer(["where is the station"], ["wo ist der bahnhof"], 64, tmp_path / "bpe.model")
    model = TranslationModel(saved_model=str(tmp_path / "exported"), tokenizer=str(tmp_path / "bpe.model"))
    import_translator(model, tmp_path / "imported")
    ids = np.array([[5, 7, 2], [9, 2, 0]], np.int32)
    np.testing.assert_array_equal(load_executable(tmp_path / "imported" / "serving", 1)({"ids": ids})["ids"], ids)


def test_the_recipes_sections_are_valid() -> None:
    data, sizes, imported = (yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL))
    assert TranslationData.model_validate(data["data"]).pairs()["test"].swap
    assert TranslationModel.model_validate(sizes["model"]) == TranslationModel()
    assert TranslationModel.model_validate(imported["model"]).saved_model
