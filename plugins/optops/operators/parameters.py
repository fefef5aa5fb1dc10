"""The form that starts a run: the recipe's most wanted keys, and how their values change the recipe for one run.

A parameter is named by the recipe's dotted key, so that the form, a run's conf, the REST API and the recipe itself
speak of the same thing; what it allows is what the recipe's schema allows. Keys that are not in the form are taken as
well. A parameter left at the recipe's value changes nothing, so the run finds the cached results of the same recipe.
"""

from collections.abc import Mapping
from typing import Any

from airflow.sdk import Param
from pydantic import BaseModel

from optops.operators.limits import check_values
from optops.precision import PRECISIONS
from optops.recipe import Recipe
from optops.recipe_file import RecipeError
from optops.recipe_section import OFF, ON
from optops.sections import Approval, Fuse, Gate, Quantize
from optops.workloads.base import load_workload, workload_of
from optops.yaml_text import load_yaml

DATA_FOLDER = "data_folder"
"""The one parameter that is no key of the recipe: it moves all data files at once."""

SWITCHES: Mapping[str, tuple[str, str]] = {
    "distill": ("Distil", "Teach a smaller, faster student from the trained model."),
    "prune": ("Prune", "Remove what matters least."),
    "quantize": ("Quantise", "Offer lower precisions. Off: fp32 alone."),
    "fuse": ("Fuse", "Offer faster runtimes and rewritten graphs. Off: stock TensorFlow alone."),
}
"""Sections that may be `off`: title and help text."""

SEARCHED = ("quantize.precisions", "fuse.runtimes")
"""Keys of sections that may be off; the form gives them either way."""

FIRST, STAGES, SEARCH, RUN = "Run Parameters", "Stages", "What is tried", "This run"
"""Sections of the form. The first has the name that Airflow gives to its default section: the one that is open."""


def form(recipe: Recipe) -> dict[str, Param]:
    """Returns the parameters of a recipe's DAG, in the order of the form; their defaults are the recipe's values."""
    values = defaults(recipe)

    def field(key: str, section: str, title: str, model: type[BaseModel], **more: Any) -> Param:
        schema = model.model_json_schema()["properties"][key.rpartition(".")[2]]
        text = more.pop("description_md", schema["description"])
        kept = {name: value for name, value in schema.items() if name not in ("default", "description", "title")}
        return Param(values[key], section=section, title=title, description_md=text, **kept, **more)

    fields = {
        "gate.tolerance": field("gate.tolerance", FIRST, "Tolerance", Gate, description_md=_tolerance_text(recipe)),
        "gate.minimum_speedup": field("gate.minimum_speedup", FIRST, "Minimum speed-up", Gate),
    }
    if "approval.mode" in values:
        fields["approval.mode"] = field(
            "approval.mode",
            FIRST,
            "Promotion",
            Approval,
            description_md="Whether a person must agree before the winner becomes champion.",
            values_display={"automatic": "automatic, if the gate accepts", "required": "after a person approved it"},
        )
    for name, (title, text) in SWITCHES.items():
        fields[name] = Param(values[name], type="boolean", section=STAGES, title=title, description_md=text)
    return {
        **fields,
        "quantize.precisions": field("quantize.precisions", SEARCH, "Precisions", Quantize, examples=list(PRECISIONS)),
        "fuse.runtimes": field("fuse.runtimes", SEARCH, "Runtimes", Fuse, examples=_runtimes(values["fuse.runtimes"])),
        DATA_FOLDER: Param(
            values[DATA_FOLDER],
            type=["null", "string"],
            section=RUN,
            title="Data folder",
            description_md="Take the data files from this folder, under the names they have in the recipe. "
            "Empty: where the recipe says.",
        ),
        "seed": field("seed", RUN, "Seed", Recipe),
    }


def defaults(recipe: Recipe) -> dict[str, Any]:
    """Returns the value of each parameter that leaves the recipe as it is."""
    quantize = recipe.quantize if isinstance(recipe.quantize, Quantize) else Quantize()
    fuse = recipe.fuse if isinstance(recipe.fuse, Fuse) else Fuse()
    values: dict[str, Any] = {
        "gate.tolerance": recipe.gate.tolerance,
        "gate.minimum_speedup": recipe.gate.minimum_speedup,
        "approval.mode": recipe.approval.mode,
        **{name: not recipe.is_off(name) for name in SWITCHES},
        "quantize.precisions": list(quantize.precisions),
        "fuse.runtimes": list(fuse.runtimes),
        DATA_FOLDER: None,
        "seed": recipe.seed,
    }
    # Where the recipe wants a person's approval, no run can do without.
    if recipe.approval.mode == "required":
        del values["approval.mode"]
    return values


def changes(recipe: Recipe, values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the parameters by which a run wants something else than the recipe says.

    Args:
        recipe: As its file says.
        values: Parameter to value; the form gives all of its own.
    """
    unchanged = defaults(recipe)
    return {key: value for key, value in values.items() if key not in unchanged or unchanged[key] != value}


def overrides(recipe: Recipe, text: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what `recipe_file.parse_recipe` must override for a run with these parameters.

    Args:
        recipe: The recipe as its file says.
        text: The file's YAML.
        values: Parameter to value.

    Raises:
        RecipeError: If a value holds a variable of the environment or `~`, or is of a stage that this run switches off.
    """
    changed = changes(recipe, values)
    check_values(changed)
    switched = {name: ON if changed.pop(name) else OFF for name in SWITCHES if name in changed}
    folder = changed.pop(DATA_FOLDER, None)
    moved = load_workload(recipe.workload).relocate(load_yaml(text)["data"], folder) if folder else None

    settings = {}
    for key, value in changed.items():
        section = key.partition(".")[0]
        if key in SEARCHED and switched.get(section, OFF if recipe.is_off(section) else ON) == OFF:
            continue  # It would switch the stage on.
        if switched.get(section) == OFF:
            raise RecipeError(f"`{section}` is switched off for this run, and {key} is set: leave out one of them")
        settings[key] = value
    return {**switched, **({} if moved is None else {"data": moved}), **settings}


def _tolerance_text(recipe: Recipe) -> str:
    metric = workload_of(recipe).metric_name
    if recipe.gate.tolerance_kind == "absolute":
        return f"How much worse than the baseline the winner may be, in units of {metric}."
    return f"How much worse than the baseline the winner may be, as a share of its {metric}: `0.02` is 2 %."


def _runtimes(chosen: list[str]) -> list[str]:
    from optops.runtimes.base import runtime_names

    return sorted({*runtime_names(), *chosen})
