"""What the parameters of a run can not do: whoever may trigger a DAG need not be who wrote its recipe.

The recipe's author decides what is promoted to where, who must agree, and which code is called; and what a worker's
environment holds is no affair of who triggers.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from optops.recipe import Recipe
from optops.recipe_file import RecipeError
from optops.recipe_section import NAMES_CODE

FIXED = ("name", "workload", "registry")
_VARIABLE = re.compile(r"\$(\w|\{)")
# `./~` too: a path leaves out the dot.
_USERS_FOLDER = re.compile(r"(\./+)*~[^/\s]*(/|$)")


def check_values(values: Mapping[str, Any]) -> None:
    """Refuses values that would be expanded: a path that does not exist is shown to everybody.

    Args:
        values: Parameter to value.

    Raises:
        RecipeError: Names the parameter.
    """
    for key, value in values.items():
        for text in _texts(value):
            if _VARIABLE.search(text) or _USERS_FOLDER.match(text):
                raise RecipeError(
                    f"parameter {key!r} holds {text!r}: variables and `~` are for recipes alone; write the path out"
                )


def check_changes(recipe: Recipe, changed: Recipe) -> None:
    """Refuses what only the recipe's file may say.

    Args:
        recipe: As the file says.
        changed: With the run's parameters.

    Raises:
        RecipeError: Names the key.
    """
    fixed = (*FIXED, "approval") if recipe.approval.mode == "required" else FIXED
    before, code = dict(_leaves(recipe.model_dump())), set(_names_of_code(changed))
    for key, value in _leaves(changed.model_dump()):
        if key in before and before[key] == value:
            continue
        if key.partition(".")[0] in fixed:
            raise RecipeError(f"{key}: a run can not change this; change it in the recipe's file")
        # What is built in has a name without a module.
        if key in code and ":" in str(value):
            raise RecipeError(
                f"{key}: a run can not name code to call, as {value!r} does; name it in the recipe's file"
            )


def _names_of_code(section: BaseModel, prefix: str = "") -> Iterator[str]:
    """Gives the dotted keys that may name code to call."""
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from _names_of_code(value, f"{prefix}{name}.")
        elif NAMES_CODE in field.metadata:
            yield f"{prefix}{name}"


def _leaves(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, part in value.items():
        if isinstance(part, Mapping):
            yield from _leaves(part, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", part


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _texts(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _texts(part)
