"""Reading recipes from YAML files, with errors that name file, line, key and the nearest right key."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from optops.recipe import Recipe, SectionError
from optops.recipe_section import OFF, ON
from optops.spelling import hint, nearest
from optops.yaml_text import compose_yaml, load_yaml

Location = tuple[str | int, ...]


class RecipeError(ValueError):
    """A recipe that can not be used; the message names file, line, key and remedy, one problem a line."""


def read_recipe(path: Path, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Reads and validates a recipe.

    Args:
        path: A YAML file.
        overrides: Dotted keys and values that replace what the file says, for example `{"gate.tolerance": 0.01}`; a
            mapping changes the keys that it has, but replaces `data`, `model` and what is in them.

    Raises:
        RecipeError: If the file is missing, is no YAML, or does not fit the schema.
    """
    return parse_recipe(read_text(path), path, overrides)


def read_text(path: Path) -> str:
    """Returns the text of a recipe.

    Raises:
        RecipeError: If the file is missing or can not be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        near = nearest(path.name, [p.name for p in path.parent.glob("*.y*ml")])
        raise RecipeError(f"{path}: no such recipe" + (f"; did you mean {near!r}?" if near else "")) from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: can not be read: {error}") from None


def parse_recipe(text: str, path: Path, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Validates the text of a recipe; relative paths in it are relative to the folder of `path`.

    Raises:
        RecipeError: If it is no YAML or does not fit the schema.
    """
    try:
        node = compose_yaml(text)
        data = load_yaml(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise RecipeError(f"{path}:{line}: not valid YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise RecipeError(f"{path}: not valid YAML: {error}") from None
    except ValueError as error:
        # Such as 2024-02-30, of which YAML tells no line.
        raise RecipeError(f"{path}: {error}: put text that looks like a date in quotes") from None
    if not isinstance(data, dict) or node is None:
        raise RecipeError(f"{path}:1: a recipe is a mapping of keys; run `optops init` to get one to start from")
    lines = dict(_lines(node))
    repeated = [f"{path}:{line}: key {key!r} stands twice" for key, line in _repeated_keys(node)]
    if repeated:
        raise RecipeError("\n".join(repeated))
    for key, value in (overrides or {}).items():
        _set(path, data, key, value)
    try:
        return Recipe.model_validate(data, context={"folder": path.resolve().parent})
    except ValidationError as error:
        nested = [e["ctx"]["error"] for e in error.errors() if isinstance(e.get("ctx", {}).get("error"), SectionError)]
        if nested:
            prefix = tuple(part for part in nested[0].prefix.split(".") if part)
            problems = [_explain(path, lines, nested[0].model, e, prefix) for e in _without_echoes(nested[0].errors)]
        else:
            problems = [_explain(path, lines, Recipe, dict(e), ()) for e in _without_echoes(list(error.errors()))]
        raise RecipeError("\n".join(dict.fromkeys(problems))) from None


def _without_echoes(errors: list[Any]) -> list[Any]:
    # A section that may be `off` is a union: pydantic also complains, beside the real error, that it is not `off`. And
    # a list of which nothing is right is too short for it.
    def is_echo(error: Any) -> bool:
        if error["type"] == "too_short" and any(other["loc"][:-1] == error["loc"] for other in errors):
            return True
        return bool(error["loc"]) and str(error["loc"][-1]).startswith("literal[")

    real = {error["loc"][:1] for error in errors if not is_echo(error)}
    return [error for error in errors if not is_echo(error) or error["loc"][:1] not in real]


def _set(path: Path, data: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for depth, part in enumerate(parents, 1):
        found = data.get(part)
        if not isinstance(found, dict):
            # A short form says something, which a new section in its place would drop; a switch says nothing else.
            if isinstance(found, str | list) and found not in (ON, OFF):
                whole = ".".join(parents[:depth])
                raise RecipeError(
                    f"{path}: {key}: `{whole}` is {found!r}; override `{whole}` as a whole, with all keys that it "
                    "shall have"
                )
            data[part] = {}
        data = data[part]
    before = data.get(last)
    # Of `gate`, {"tolerance": 0.01} changes one key, and no other goes back to its default unseen. What `data` and
    # `model` hold comes in forms that exclude each other.
    if isinstance(before, dict) and isinstance(value, Mapping) and key.partition(".")[0] not in ("data", "model"):
        value = {**before, **value}
    data[last] = value


def _lines(node: yaml.Node, prefix: Location = ()) -> Iterator[tuple[Location, int]]:
    yield prefix, node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _lines(value, (*prefix, key.value))
            yield (*prefix, key.value), key.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _lines(value, (*prefix, index))


def _repeated_keys(node: yaml.Node) -> Iterator[tuple[str, int]]:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                yield key.value, key.start_mark.line + 1
            seen.add(key.value)
            yield from _repeated_keys(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _repeated_keys(value)


def _explain(
    path: Path, lines: Mapping[Location, int], model: type[BaseModel], error: Mapping[str, Any], prefix: Location
) -> str:
    # pydantic puts the tags of a union ("Distill", "literal['off']") into the location; they are no keys. A key that
    # nobody knows is one, whatever it looks like.
    parents = error["loc"][:-1] if error["type"] == "extra_forbidden" else error["loc"]
    unknown = error["loc"][len(parents) :]
    location: Location = (*prefix, *filter(_is_key, parents), *unknown)
    line = next((lines[location[:n]] for n in range(len(location), -1, -1) if location[:n] in lines), 1)
    dotted = ".".join(map(str, location))
    where = f"{path}:{line}: {dotted}: " if dotted else f"{path}:{line}: "
    if error["type"] == "extra_forbidden":
        known = _keys_at(model, location[len(prefix) : -1])
        return f"{path}:{line}: unknown key {dotted!r}; {hint(str(location[-1]), known)}"
    if error["type"] == "missing":
        return f"{where}this key is missing; add it"
    message = str(error["msg"]).removeprefix("Value error, ")
    given = "" if isinstance(error["input"], dict | BaseModel) else f" (it is {error['input']!r})"
    return f"{where}{message}{given}"


_TYPES = ("str", "int", "float", "bool")
_TYPES_BEGIN = ("literal[", "tuple[", "list[", "dict[", "function-", "constrained-")


def _is_key(part: str | int) -> bool:
    return isinstance(part, int) or not (part[:1].isupper() or part in _TYPES or part.startswith(_TYPES_BEGIN))


def _keys_at(model: type[BaseModel], location: Location) -> list[str]:
    parts = iter(location)
    for part in parts:
        field = model.model_fields.get(str(part))
        models = [] if field is None else _models_in(field.annotation)
        if field is None or not models:
            return []
        model = models[0]
        if get_origin(field.annotation) is dict:
            next(parts, None)  # the name of a dictionary's entry is no key of a model
    return list(model.model_fields)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models_in(argument)]
