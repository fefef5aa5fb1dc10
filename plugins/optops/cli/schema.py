"""`optops schema`: the recipe's JSON schema, with the sections of every workload."""

from typing import TYPE_CHECKING, Any

from optops.cli.console import explained, show_json

if TYPE_CHECKING:
    from pydantic import BaseModel

    from optops.sections import StandardCheck

SWITCH = ({"const": "off"}, {"const": "on"}, {"type": "boolean"}, {"type": "null"})
"""What may stand in place of a section that can be off."""
DIALECT = "https://json-schema.org/draft/2020-12/schema"


@explained
def schema() -> None:
    """Print the recipe's JSON schema, for editors and other programs."""
    show_json(recipe_schema())


def recipe_schema() -> dict[str, Any]:
    """Returns the schema; `workload` decides which of the workloads' sections apply."""
    from optops.recipe import Recipe
    from optops.workloads.base import load_workload, workload_names

    whole = Recipe.model_json_schema()
    definitions, rules = whole["$defs"], []
    for name in workload_names():
        sections = load_workload(name).sections()
        resolved = {
            "data": _define(definitions, f"{name}.data", sections.data),
            "model": _define(definitions, f"{name}.model", sections.model),
            "check_labels": {
                "properties": {
                    "checks": {
                        "propertyNames": {"enum": list(sections.checks)},
                        "properties": {name: _kept(check) for name, check in sections.checks.items() if check.fixed},
                    },
                    "thresholds": _define(definitions, f"{name}.thresholds", sections.thresholds),
                }
            },
        }
        for key, section in (("distill", sections.distill), ("prune", sections.prune)):
            resolved[key] = {"anyOf": [_define(definitions, f"{name}.{key}", section), *SWITCH]}
        student = definitions[f"{name}.distill"]["properties"]["student"]
        student["propertyNames"] = {"enum": list(sections.student_sizes)}
        chosen = {"properties": {"workload": {"const": name}}, "required": ["workload"]}
        refused = [_without(key) for key in sections.ignored]
        rules.append({"if": chosen, "then": {"properties": resolved, "allOf": refused or [{}]}})
    for name in ("data", "model", "distill", "prune"):
        whole["properties"][name] = {"description": whole["properties"][name]["description"]}
    whole["properties"]["workload"]["enum"] = workload_names()
    return {"$schema": DIALECT, **whole, "allOf": rules}


def _kept(check: "StandardCheck") -> dict[str, Any]:
    """Returns a schema of a setting that says of a check no more than is so anyway."""
    said = {"severity": {"enum": [check.severity, None]}, "limit": {"enum": [check.limit, None]}}
    return {"type": "object", "properties": said}


def _without(key: str) -> dict[str, Any]:
    """Returns a schema that refuses a dotted key."""
    schema: Any = False
    for part in reversed(key.split(".")):
        schema = {"properties": {part: schema}}
    return dict(schema)


def _define(definitions: dict[str, Any], name: str, model: "type[BaseModel]") -> dict[str, str]:
    described = model.model_json_schema(ref_template="#/$defs/{model}")
    definitions |= described.pop("$defs", {})
    definitions[name] = described
    return {"$ref": f"#/$defs/{name}"}
