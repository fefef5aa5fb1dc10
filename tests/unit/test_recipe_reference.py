from pathlib import Path

from optops.recipe_reference import reference


def test_the_page_about_recipes_is_that_of_the_models():
    page = Path(__file__).parents[2] / "docs" / "recipe.md"
    assert page.read_text(encoding="utf-8") == reference(), "docs/recipe.md is out of date: run `make docs`"


def test_the_page_says_which_keys_a_workload_refuses():
    _, _, arrays = reference().partition("## Workload `arrays`")
    assert "| `prune.temperature` | outputs are learnt by their squared error" in arrays.partition("\n## ")[0]


def test_the_page_says_how_each_label_check_is_judged():
    _, _, detection = reference().partition("## Workload `detection`")
    assert "| `doubled_box` | critical | 2 % | two boxes of a class that overlap" in detection.partition("\n## ")[0]
    _, _, pairs = reference().partition("## Workload `super_resolution`")
    assert "| `missing_partner` | critical | 0 %, fixed | one image of a pair" in pairs.partition("\n## ")[0]
