"""The flow as data: its order, what each stage may see, and that every stage is there."""

import ast
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

import optops
from optops.candidate import Artifact
from optops.pipeline import FLOW, ORDER, SPLITS, STAGES, TEST, make_spec
from optops.recipe import Recipe
from optops.recipe_file import read_recipe
from optops.stage_spec import Manifest, RunReference, StageResult, StageSpec

RECIPE = Path(__file__).parents[2] / "dags" / "recipes" / "travel_phrases.yaml"
REFERENCE = RunReference("", "optops/test", "parent", "label")
PLUGINS = Path(optops.__file__).parents[1]
NAMED = re.compile(r"(optops(?:\.\w+)+):\w+")

CARRIERS = frozenset(
    {
        *("optops.candidate", "optops.figures", "optops.home", "optops.paths", "optops.spelling", "optops.tracking"),
        *("optops.pipeline", "optops.recipe", "optops.recipe_section", "optops.sections", "optops.stage_spec"),
        *("optops.stages.base", "optops.stages.checkpoints", "optops.stages.identity"),
    }
)
"""What every stage is handed its work by, and says things with; what decides a result is in the key as a value."""

NOT_CALLED = {
    # It reads and checks data, and warns of what the test set can not prove.
    "check_labels": (
        *("optops.models", "optops.runtimes", "optops.compression"),
        *("optops.measurement", "optops.stages.judgement"),
    ),
    # Nothing is compressed: the stock model is fp32, its loss that of the labels. It warns of a baseline that is worth
    # nothing, and hands on the same.
    "train": ("optops.compression", "optops.stages.naive"),
    # A student has no plan to be lowered by, and a model is lowered as it is.
    "fuse": ("optops.compression.distillation", "optops.compression.pruning"),
}
"""What a stage's code imports for other stages."""


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return read_recipe(RECIPE)


@pytest.fixture
def results() -> dict[str, tuple[StageResult, ...]]:
    manifests = {split: Manifest(split, 3, "d", Artifact(f"runs:/r/{split}", "d")) for split in SPLITS}
    done = {name: (StageResult(name, f"{name}-1"),) for name in ORDER}
    done["check_labels"] = (StageResult("check_labels", "check_labels-1", manifests=manifests),)
    return done


def test_the_flow_is_a_topological_order() -> None:
    for position, stage in enumerate(FLOW):
        before = ORDER[:position]
        assert set(stage.reads) <= set(before), stage.name
        assert stage.over is None or "plan" in before
        assert len(set(stage.reads)) == len(stage.reads)


def test_names_are_unique_and_the_brackets_stand_at_the_ends() -> None:
    assert len(STAGES) == len(FLOW)
    assert (ORDER[0], ORDER[-1]) == ("open_run", "close_run")


@pytest.mark.parametrize("stage", ORDER)
def test_every_stage_has_a_module(stage: str) -> None:
    assert find_spec(f"optops.stages.{stage}") is not None


@pytest.mark.parametrize("stage", ORDER)
def test_every_section_and_module_that_a_key_covers_exists(stage: str) -> None:
    for name in STAGES[stage].sections:
        section, _, key = name.partition(".")
        assert section in Recipe.model_fields
        assert not key or key in Recipe.model_fields[section].annotation.model_fields
    for module in STAGES[stage].modules:
        assert find_spec(module) is not None


@cache
def imports_of(module: str) -> frozenset[str]:
    """Returns the modules of optops that a module imports anywhere, or names as `module:function`."""
    names: set[str] = set()
    file = PLUGINS / module.replace(".", "/")
    path = file / "__init__.py" if file.is_dir() else file.with_suffix(".py")
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            members = [f"{node.module}.{alias.name}" for alias in node.names]
            names |= {member if is_module(member) else str(node.module) for member in members}
        elif isinstance(node, ast.Constant) and (named := NAMED.fullmatch(str(node.value))):
            names.add(named[1])
    return frozenset(name for name in names if name.startswith("optops."))


def is_module(name: str) -> bool:
    path = PLUGINS / name.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").is_file()


def lies_in(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


@pytest.mark.parametrize("stage", [stage.name for stage in FLOW if stage.cached])
def test_a_key_covers_all_code_that_makes_the_result(stage: str) -> None:
    own = f"optops.stages.{stage}"
    seen, left = set(), [own]
    while left:
        module = left.pop()
        if module in seen or module in CARRIERS or lies_in(module, NOT_CALLED.get(stage, ())):
            continue
        assert lies_in(module, (own, *STAGES[stage].modules)), f"`modules` of {stage} lack {module}"
        seen.add(module)
        left += imports_of(module)


def test_the_test_split_reaches_the_gate_alone() -> None:
    assert [stage.name for stage in FLOW if TEST in stage.splits] == ["gate"]


@pytest.mark.parametrize("stage", ORDER)
def test_a_stage_is_handed_only_what_it_declares(
    stage: str, recipe: Recipe, results: dict[str, tuple[StageResult, ...]]
) -> None:
    spec = make_spec(stage, recipe, REFERENCE, results)
    assert set(spec.results) == set(STAGES[stage].reads)
    seen = {split for handed in spec.results.values() for result in handed for split in result.manifests}
    assert seen == (set(STAGES[stage].splits) if "check_labels" in STAGES[stage].reads else set())


def test_whoever_sees_a_split_reads_the_manifests() -> None:
    assert all("check_labels" in stage.reads for stage in FLOW if stage.splits)


def test_what_did_not_run_is_handed_on_as_nothing(recipe: Recipe) -> None:
    spec = make_spec("close_run", recipe, REFERENCE, {}, state={"train": "failed"})
    assert all(handed == () for handed in spec.results.values())
    assert spec.state == {"train": "failed"}


def test_a_spec_and_a_result_survive_the_way_through_json(
    recipe: Recipe, results: dict[str, tuple[StageResult, ...]]
) -> None:
    import json

    spec = make_spec("gate", recipe, REFERENCE, results, item={"label": "a"})
    assert StageSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    for (result,) in results.values():
        assert StageResult.from_json(json.loads(json.dumps(result.to_json()))) == result
