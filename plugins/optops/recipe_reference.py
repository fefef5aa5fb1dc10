"""The reference of all recipe keys in Markdown, from the models themselves: `python -m optops.recipe_reference`."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from optops.recipe import Recipe
from optops.sections import Distill, Prune, StandardCheck
from optops.workloads.base import WORKLOADS, load_workload

Shown = dict[type[BaseModel], str]
"""Sections whose keys stand on the page already, and of which key."""

INTRODUCTION = """# The recipe

A recipe is a YAML file. `optops init NAME` writes one to start from, `optops validate FILE` checks it, `optops schema`
prints its JSON schema for editors. A wrong key is reported with file, line, and the nearest right key. Paths are
relative to the recipe; `~` and environment variables are expanded.

Some of the keys of all workloads change nothing for the models of one of them: it refuses them, as its part says.

This page is generated from the models (`make docs`).
"""


def reference() -> str:
    """Returns the page."""
    shown: Shown = {}
    lines = [INTRODUCTION, "## All workloads", "", *_table(Recipe, "", shown)]
    for name in WORKLOADS:
        sections, before = load_workload(name).sections(), set(shown)
        lines += ["", f"## Workload `{name}`", ""]
        for prefix, model in (
            ("data", sections.data),
            ("model", sections.model),
            ("check_labels.thresholds", sections.thresholds),
        ):
            lines += [f"### `{prefix}`", "", *_paragraph(model), *_table(model, f"{prefix}.", shown), ""]
        for prefix, model, common in (("distill", sections.distill, Distill), ("prune", sections.prune, Prune)):
            if model is not common:
                lines += [f"### `{prefix}`", "", "What is this workload's own, beside the keys above.", ""]
                lines += [*_table(model, f"{prefix}.", shown, _own_fields(model, common)), ""]
        lines += ["### `check_labels.checks`", "", *_checks(sections.checks)]
        if sections.ignored:
            lines += ["", "### What it has no use for", "", *_ignored(sections.ignored)]
        shown |= {inner: f"{key} of workload `{name}`" for inner, key in shown.items() if inner not in before}
    return "\n".join(lines).rstrip() + "\n"


def _checks(checks: Mapping[str, StandardCheck]) -> list[str]:
    rows = [
        f"| `{name}` | {check.severity} | {100 * check.limit:g} %{', fixed' if check.fixed else ''} | {check.finds} |"
        for name, check in checks.items()
    ]
    return ["| check | severity | limit | a defect is |", "|---|---|---|---|", *rows]


def _ignored(ignored: Mapping[str, str]) -> list[str]:
    keys: dict[str, list[str]] = {}
    for key, why in ignored.items():
        keys.setdefault(why, []).append(f"`{key}`")
    return ["| keys | refused, because |", "|---|---|", *(f"| {', '.join(keys[why])} | {why} |" for why in keys)]


def _paragraph(model: type[BaseModel]) -> list[str]:
    return [(model.__doc__ or "").strip(), ""]


def _table(
    model: type[BaseModel], prefix: str, shown: Shown, fields: Mapping[str, FieldInfo] | None = None
) -> list[str]:
    rows = _rows(model.model_fields if fields is None else fields, prefix, shown)
    return ["| key | default | meaning |", "|---|---|---|", *rows]


def _own_fields(model: type[BaseModel], common: type[BaseModel]) -> dict[str, FieldInfo]:
    """Returns the fields that a subclass adds, or describes, types or presets in another way."""

    def says(field: FieldInfo | None) -> object:
        return None if field is None else (_default(field), field.description, str(field.annotation))

    inherited = common.model_fields
    return {name: field for name, field in model.model_fields.items() if says(field) != says(inherited.get(name))}


def _rows(fields: Mapping[str, FieldInfo], prefix: str, shown: Shown) -> Iterator[str]:
    for name, field in fields.items():
        text = (field.description or "").replace("|", chr(92) + "|")
        rows: list[str] = []
        for inner in _sections_in(field.annotation):
            common = next((base for base in inner.__mro__ if base in shown), None)
            if common is None:
                shown[inner] = f"`{prefix}{name}`"
                rows += _rows(inner.model_fields, f"{prefix}{name}.", shown)
            else:
                own = _own_fields(inner, common)
                text += f" Keys as of {shown[common]}{', but for these' if own else ''}."
                rows += _rows(own, f"{prefix}{name}.", shown)
        yield f"| `{prefix}{name}` | {_default(field)} | {text} |"
        yield from rows


def _default(field: FieldInfo) -> str:
    if field.default_factory is not None:
        value: Any = field.get_default(call_default_factory=True, validated_data={})
        return "" if isinstance(value, BaseModel) or value == {} else f"`{value}`"
    if field.default is PydanticUndefined:
        return "required"
    if isinstance(field.default, tuple):
        return f"`[{', '.join(map(str, field.default))}]`"
    return "" if field.default in (None, "") else f"`{field.default}`"


def _sections_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [] if annotation is BaseModel else [annotation]
    return [model for argument in get_args(annotation) for model in _sections_in(argument)]


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(reference(), encoding="utf-8")
