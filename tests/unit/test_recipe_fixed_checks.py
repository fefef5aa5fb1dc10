"""No recipe tolerates what a run breaks down at: an image that can not be read, half a pair."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from optops.cli.recipe_text import recipe_text
from optops.recipe_file import RecipeError, parse_recipe
from optops.workloads.base import WORKLOADS, load_workload

FIXED = [
    (workload, name)
    for workload in WORKLOADS
    for name, check in load_workload(workload).sections().checks.items()
    if check.fixed
]
KEPT: list[Any] = [{}, {"limit": 0}, {"severity": "critical"}, {"severity": None, "limit": None}]
CHANGED: list[Any] = [{"limit": 0.1}, {"severity": "warning"}, {"severity": "off"}, "off", False]


def recipe_with(workload: str, check: str, setting: Any) -> dict[str, Any]:
    text: dict[str, Any] = yaml.safe_load(recipe_text("mine", workload))
    return {**text, "check_labels": {"checks": {check: setting}}}


def test_what_can_not_be_read_is_fixed_where_a_run_can_not_go_on_without_it() -> None:
    pairs = {("super_resolution", name) for name in ("unreadable", "missing_partner", "wrong_scale")}
    assert set(FIXED) == pairs | {("image_classification", "unreadable")}


@pytest.mark.parametrize("setting", CHANGED, ids=str)
@pytest.mark.parametrize(("workload", "check"), FIXED)
def test_another_severity_or_limit_is_refused_with_the_remedy(workload: str, check: str, setting: Any) -> None:
    text = yaml.safe_dump(recipe_with(workload, check, setting))
    with pytest.raises(RecipeError) as error:
        parse_recipe(text, Path("/somewhere/mine.yaml"))
    assert f"check_labels.checks.{check}: a run can not go on with " in str(error.value)
    assert "mend or remove such files" in str(error.value)


@pytest.mark.parametrize("setting", KEPT, ids=str)
@pytest.mark.parametrize(("workload", "check"), FIXED)
def test_what_is_so_anyway_may_be_said(workload: str, check: str, setting: Any) -> None:
    recipe = parse_recipe(yaml.safe_dump(recipe_with(workload, check, setting)), Path("/somewhere/mine.yaml"))
    assert check in recipe.check_labels.checks


@pytest.mark.parametrize(("workload", "check"), FIXED)
def test_the_schema_says_the_same(workload: str, check: str) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    from optops.cli.schema import recipe_schema

    validator = jsonschema.Draft202012Validator(recipe_schema())
    assert all(validator.is_valid(recipe_with(workload, check, setting)) for setting in KEPT)
    assert not any(validator.is_valid(recipe_with(workload, check, setting)) for setting in CHANGED)
