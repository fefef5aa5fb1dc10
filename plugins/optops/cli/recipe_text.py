"""Writes a recipe in YAML with every key, its description and its default."""

from collections.abc import Collection, Iterator, Mapping
from types import UnionType
from typing import Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined, to_jsonable_python

from optops.recipe import Recipe
from optops.recipe_section import OFF
from optops.workloads.base import load_workload

FILL_IN = "FILL_IN"


def recipe_text(name: str, workload: str) -> str:
    """Returns a recipe in YAML with every key, its description and its default."""
    sections = load_workload(workload).sections()
    values = {key: _named(value, name) for key, value in sections.starting_values.items()}
    values |= {"name": name, "workload": workload, "registry.name": name}
    models = {
        "data": sections.data,
        "model": sections.model,
        "check_labels.thresholds": sections.thresholds,
        "distill": sections.distill,
        "prune": sections.prune,
    }
    leave_out = frozenset(sections.ignored)
    head = f"# The recipe {name}. Every key that counts is here; `optops schema` has the limits of their values.\n"
    return head + "\n".join(_lines(Recipe, "", values, models, leave_out)) + "\n"


def _named(value: Any, name: str) -> Any:
    return value.format(name=name) if isinstance(value, str) else value


def _lines(
    model: type[BaseModel],
    prefix: str,
    values: Mapping[str, Any],
    models: Mapping[str, type[BaseModel]],
    leave_out: Collection[str],
    defaults: BaseModel | None = None,
) -> Iterator[str]:
    indent = "  " * prefix.count(".")
    for key, field in model.model_fields.items():
        dotted = f"{prefix}{key}"
        if dotted in leave_out:
            continue
        default = field.get_default(call_default_factory=True) if defaults is None else getattr(defaults, key)
        value = values.get(dotted, default)
        section = models.get(dotted) or _section(field)
        if not prefix:
            yield ""
        yield f"{indent}# {field.description or ''}".rstrip()
        if section is not None and not section.model_fields:
            yield f"{indent}{key}: {{}}"
        elif section is None or dotted in values:
            yield f"{indent}{_entry(key, value)}"
        elif value != OFF and (dotted in models or value is not None):
            yield f"{indent}{key}:"
            given = value if isinstance(value, section) else None
            yield from _lines(section, f"{dotted}.", values, models, leave_out, given)
        else:
            # A section that is off, or left out: its keys stand there for who wants it.
            yield f"{indent}{_entry(key, value)}"
            inner = _lines(section, f"{dotted}.", values, models, leave_out)
            shown = [*([f"{indent}{key}:"] if value == OFF else []), *inner]
            yield from (f"{indent}# {line.removeprefix(indent)}" for line in shown)


def _section(field: FieldInfo) -> type[BaseModel] | None:
    # A dictionary of sections has no keys that could be written down, a section that may be `off` has.
    candidates = [field.annotation, *(get_args(field.annotation) if _is_union(field.annotation) else ())]
    found = [c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel) and c is not BaseModel]
    return found[0] if found else None


def _is_union(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, UnionType)


def _entry(key: str, value: Any) -> str:
    if value is None:
        return f"# {key}:"
    if value == OFF:
        return f"{key}: {OFF}"
    plain = FILL_IN if value is PydanticUndefined else to_jsonable_python(value)
    written = yaml.safe_dump(plain, default_flow_style=True, width=1000, sort_keys=False)
    document_end = "...\n"
    return f"{key}: {written.removesuffix(document_end).strip()}"
