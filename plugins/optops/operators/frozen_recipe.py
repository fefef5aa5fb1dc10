"""The recipe of one run: frozen when the run opens, so that an edit meanwhile can not give its tasks two recipes."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from optops.operators.limits import check_changes
from optops.operators.parameters import overrides
from optops.recipe import Recipe
from optops.recipe_file import parse_recipe, read_text


@dataclass(frozen=True)
class FrozenRecipe:
    """A recipe's text and what this run changes in it.

    Attributes:
        path: Of the file; relative paths in the recipe are relative to its folder.
        text: Its YAML when the run opened.
        overrides: Dotted keys and values, from the run's parameters.
    """

    path: str
    text: str
    overrides: Mapping[str, Any]

    @classmethod
    def freeze(cls, path: Path, parameters: Mapping[str, Any]) -> "FrozenRecipe":
        """Reads the recipe's file and works out what the run's parameters change.

        Raises:
            RecipeError: If the recipe, or what the parameters make of it, can not be used, or no run may change that.
        """
        text = read_text(path)
        recipe = parse_recipe(text, path)
        frozen = cls(str(path), text, overrides(recipe, text, parameters))
        check_changes(recipe, frozen.read())
        return frozen

    def read(self) -> Recipe:
        """Returns the run's recipe."""
        return parse_recipe(self.text, Path(self.path), self.overrides)
