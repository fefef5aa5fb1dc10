"""An Airflow home of its own for this process, and a recipe."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

import pytest

if "AIRFLOW_HOME" not in os.environ:
    # Airflow reads its settings when it is imported, so this must come before.
    home = tempfile.mkdtemp(prefix="airflow-home-")
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    os.environ["AIRFLOW_HOME"] = home
    os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"

RECIPE = """\
schema_version: 1
name: phrases
description: Translates phrases.
workload: translation
data:
  source_language: en
  target_language: de
  train: {source: train.en, target: train.de}
  validation: {source: validation.en, target: validation.de}
  test: {source: test.en, target: test.de}
model: {width: 64}
distill: {alpha: 0.7}
prune: off
quantize: {precisions: [fp32, int8]}
gate: {tolerance: 0.03}
registry: {name: phrases_en_de}
"""


@pytest.fixture
def recipe_file(tmp_path: Path):
    """Returns a function that writes the recipe, with more sections after it."""

    def write(more: str = "", text: str = RECIPE) -> Path:
        path = tmp_path / "phrases.yaml"
        path.write_text(text + more, encoding="utf-8")
        return path

    return write
