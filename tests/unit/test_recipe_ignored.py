"""Keys that change nothing for the models of a workload are refused, not passed over."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from optops.cli.recipe_text import recipe_text
from optops.recipe_file import RecipeError, parse_recipe
from optops.workloads.base import WORKLOADS, load_workload

IGNORED = [(name, key) for name in WORKLOADS for key in load_workload(name).sections().ignored]
GIVEN = {"initialize": None, "features": "relations", "label_smoothing": 0.3, "train": {"epochs": 3}}


def recipe_of(workload: str, **changes: Any) -> Any:
    text = yaml.safe_load(recipe_text("mine", workload))
    if workload == "arrays":
        text["model"] = {"keras": "model.keras"}
    else:
        text["distill"] = {}
    text |= {"prune": {}, "quantize": {"train": "on"}}
    return parse_recipe(yaml.safe_dump(text), Path("/somewhere/mine.yaml"), changes)


def as_by_default(workload: str, key: str) -> Any:
    value = recipe_of(workload)
    for part in key.split("."):
        value = getattr(value, part)
    return value


@pytest.mark.parametrize(("workload", "key"), IGNORED)
def test_a_value_for_it_is_refused_with_the_reason_and_the_default_is_not(workload: str, key: str) -> None:
    default = as_by_default(workload, key)
    if key == "train":
        default = default.model_dump(mode="json")
    assert recipe_of(workload, **{key: default})
    value = GIVEN.get(key.rpartition(".")[2], 0.5)
    if value is None:
        # Only the default says that something is done.
        assert recipe_of(workload, **{key: False})
        return
    with pytest.raises(RecipeError) as error:
        recipe_of(workload, **{key: value})
    why = load_workload(workload).sections().ignored[key]
    assert f"{key}: workload {workload!r} has no use for it: {why}; remove it" in str(error.value)


@pytest.mark.parametrize(("workload", "key"), IGNORED)
def test_a_new_recipe_does_not_have_it(workload: str, key: str) -> None:
    *parents, last = key.split(".")
    section: Any = yaml.safe_load(recipe_text("mine", workload))
    for part in parents:
        section = section.get(part) if isinstance(section, dict) else None
    assert not isinstance(section, dict) or last not in section


def test_no_label_smoothing_may_be_said_where_there_is_none() -> None:
    assert recipe_of("super_resolution", **{"train.label_smoothing": 0})


def test_all_are_named_at_once() -> None:
    with pytest.raises(RecipeError) as error:
        recipe_of("super_resolution", **{"distill.temperature": 4, "distill.features": "relations"})
    assert len(str(error.value).splitlines()) == 2


def test_the_schema_refuses_it_too() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    from optops.cli.schema import recipe_schema

    validator = jsonschema.Draft202012Validator(recipe_schema())
    recipe = yaml.safe_load(recipe_text("mine", "image_classification"))
    assert list(validator.iter_errors(recipe)) == []
    recipe["distill"]["features"] = "relations"
    (error,) = validator.iter_errors(recipe)
    assert error.instance == "relations"
