"""The page about image classification: its sections and examples are right, and its recipe fits the data it draws."""

import re
from pathlib import Path

import yaml

from optops.recipe_file import read_recipe
from optops.workloads.base import load_workload
from optops.workloads.image_classification.settings import ClassifiedImages, ClassifierModel

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "image_classification.md").read_text(encoding="utf-8")


def test_the_section_of_the_page_is_valid() -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert ClassifiedImages.model_validate(yaml.safe_load(block)["data"]).classes == ("cat", "dog", "3.5")


def test_the_network_of_the_page_can_be_built() -> None:
    network = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[-1]
    built: dict[str, object] = {}
    exec(compile(network, "image_classification.md", "exec"), built)
    assert built["logits"].shape == (1, 10)  # type: ignore[attr-defined]


def test_the_recipe_of_the_demo_fits_what_is_drawn_for_it(tmp_path: Path) -> None:
    workload = load_workload("image_classification")
    workload.write_demo(tmp_path, 20, seed=1)
    recipe = read_recipe(ROOT / "dags" / "recipes" / "drawn_shapes.yaml", {"data.folder": str(tmp_path)})
    splits = workload.read(recipe.data)
    assert isinstance(recipe.data, ClassifiedImages) and isinstance(recipe.model, ClassifierModel)
    assert set(splits["train"]["label"]) <= set(recipe.data.classes)
    assert recipe.model.image_size == 32
