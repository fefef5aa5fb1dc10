"""What a right recipe comes to: switches, overrides, paths, and the way through JSON."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from optops.pipeline import recipe_json
from optops.recipe import Recipe
from optops.recipe_file import RecipeError, parse_recipe, read_recipe
from optops.sections import Int8Train, PruneTrain, Quantize
from optops.workloads.arrays.settings import ArrayPrune
from optops.workloads.functional import ChannelPruneTrain
from optops.workloads.translation.settings import TranslationDistill, TranslationPrune

MINIMAL = """
name: phrases
workload: translation
data:
  source_language: en
  target_language: de
  folder: corpus
  train: {source: train.en, target: train.de}
  validation: {source: validation.en, target: validation.de}
  test: pairs.tsv
model: {}
registry: {name: phrases}
"""


def read(extra: str = "", overrides: dict[str, Any] | None = None) -> Recipe:
    return parse_recipe(MINIMAL + extra, Path("/recipes/phrases.yaml"), overrides)


@pytest.mark.parametrize("off", ["off", "false", '"off"', "no"])
@pytest.mark.parametrize("section", ["distill", "prune", "quantize", "fuse"])
def test_a_stage_can_be_switched_off_however_yaml_reads_it(section: str, off: str) -> None:
    recipe = read(f"{section}: {off}\n")
    assert recipe.is_off(section)
    assert recipe_json(recipe)[section] == "off"


@pytest.mark.parametrize("on", ["on", "true", '"on"', "", "{}"])
def test_a_stage_can_be_switched_on_with_its_defaults(on: str) -> None:
    assert read(f"prune: {on}\n").prune == TranslationPrune()


def test_training_for_int8_is_off_until_it_is_asked_for() -> None:
    assert read().quantize == Quantize()
    assert Quantize().train == "off"
    assert read("quantize: {train: on}\n").quantize == Quantize(train=Int8Train())
    assert read("quantize: {train: {epochs: 5}}\n").quantize == Quantize(train=Int8Train(epochs=5))
    with pytest.raises(RecipeError, match="add int8, or write `train: off`"):
        read("quantize: {precisions: [fp32], train: on}\n")


def test_what_a_fine_tuning_does_not_name_is_preset_for_fine_tuning() -> None:
    train = read("prune: {train: {epochs: 7, learning_rate: 0.001}}\n").prune.train
    assert (train.epochs, train.learning_rate) == (7, 0.001)
    assert (train.warmup_steps, train.batch_tokens) == (50, 2048)
    assert read("prune: on\n").prune.train == PruneTrain(epochs=3, learning_rate=3e-4, warmup_steps=50)
    # Of what is no text, a batch is counted in examples.
    assert ArrayPrune(train={"epochs": 7}).train == ChannelPruneTrain(epochs=7, warmup_steps=50, batch_tokens=16)


def test_without_a_word_the_student_is_taught_and_nothing_is_pruned() -> None:
    recipe = read()
    assert recipe.distill == TranslationDistill()
    assert recipe.is_off("prune")


@pytest.mark.parametrize(
    "section",
    [
        "distill: {initialize: false, student: {encoder_layers: 12, decoder_layers: 1}}",
        "distill: {student: {encoder_layers: 12, width: 128}}",
        "distill: {beta: 1, features: relations, student: {decoder_layers: 1, heads: 4}}",
        "distill: {features: relations, student: {heads: 2}}",
        "prune: {beta: 1, features: relations, heads: false}",
    ],
)
def test_students_of_any_size_and_features_that_can_be_compared_are_accepted(section: str) -> None:
    assert read(f"{section}\n")


@pytest.mark.parametrize("size", ["'1'", "1.0"])
def test_a_student_has_the_sizes_that_were_read_however_they_are_written(size: str) -> None:
    recipe = read(f"distill: {{student: {{decoder_layers: {size}}}}}\n")
    assert isinstance(recipe.distill, TranslationDistill)
    assert repr(recipe.distill.student) == "{'decoder_layers': 1}"


def test_a_check_can_be_switched_off() -> None:
    recipe = read("check_labels: {checks: {overlap: off}}\n")
    assert recipe.check_labels.checks["overlap"].severity == "off"


def test_a_recipe_survives_the_way_through_json() -> None:
    recipe = read(
        "prune: {method: magnitude, ratios: [0.4]}\nbenchmark: {objective: size}\nfuse: off\n"
        "check_labels: {thresholds: {max_words: 7}}\nschedule: {cron: '@daily'}\n"
    )
    carried = json.loads(json.dumps(recipe_json(recipe)))
    again = Recipe.model_validate(carried)
    assert again == recipe
    assert type(again.data) is type(recipe.data)
    assert carried["check_labels"]["thresholds"]["max_words"] == 7


def test_relative_paths_are_relative_to_the_recipe_and_absolute_in_json() -> None:
    assert recipe_json(read())["data"]["folder"] == "/recipes/corpus"


def test_variables_in_paths_are_expanded_and_an_unset_one_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORPORA", "/corpora")
    monkeypatch.delenv("NOWHERE", raising=False)
    assert recipe_json(read(overrides={"data.folder": "$CORPORA/a"}))["data"]["folder"] == "/corpora/a"
    assert "$NOWHERE" in recipe_json(read(overrides={"data.folder": "$NOWHERE/a"}))["data"]["folder"]


def test_overrides_replace_keys_at_any_depth_and_switch_stages() -> None:
    recipe = read(
        "fuse: {runtimes: [tensorflow]}\n", {"gate.tolerance": 0.5, "fuse": "off", "prune.ratios": [0.1], "seed": 9}
    )
    assert recipe.gate.tolerance == 0.5
    assert recipe.is_off("fuse")
    assert isinstance(recipe.prune, TranslationPrune) and recipe.prune.ratios == (0.1,)
    assert recipe.seed == 9


def test_an_override_by_a_mapping_leaves_the_keys_alone_that_it_does_not_name() -> None:
    gate = read("gate: {tolerance: 0.01, minimum_speedup: 1.5}\n", {"gate": {"tolerance": 0.05}}).gate
    assert (gate.tolerance, gate.minimum_speedup) == (0.05, 1.5)


def test_a_home_that_this_machine_does_not_have_is_an_error_of_its_key() -> None:
    with pytest.raises(RecipeError, match=r"data\.folder: '~nobody-at-all/a' begins with the home of a user"):
        read(overrides={"data.folder": "~nobody-at-all/a"})


def test_an_asset_of_airflows_own_scheme_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"schedule\.asset: Airflow keeps 'airflow' to itself"):
        read("schedule: {asset: 'airflow://labels'}\n")


@pytest.mark.parametrize(("given", "key"), [("'pairs.tsv'", "data.test.source"), ("['a.tsv']", "data.test.swap")])
def test_an_override_within_a_short_form_is_refused_rather_than_dropping_what_stands_there(
    given: str, key: str
) -> None:
    text = MINIMAL.replace("test: pairs.tsv", f"test: {given}")
    with pytest.raises(RecipeError) as caught:
        parse_recipe(text, Path("/recipes/phrases.yaml"), {key: "other.en"})
    assert str(caught.value) == (
        f"/recipes/phrases.yaml: {key}: `data.test` is {given}; override `data.test` as a whole, with all keys that it "
        "shall have"
    )
    assert recipe_json(read(overrides={"data.test": {"source": "other.en"}}))["data"]["test"]["source"] == "other.en"


@pytest.mark.parametrize("switch", ["on", "off", "'on'", "'off'", "", "true"])
def test_an_override_within_a_section_switches_it_on(switch: str) -> None:
    recipe = read(f"prune: {switch}\n", {"prune.ratios": [0.1]})
    assert isinstance(recipe.prune, TranslationPrune) and recipe.prune.ratios == (0.1,)


def test_a_wrong_override_is_reported_with_the_nearest_key() -> None:
    with pytest.raises(RecipeError, match=r"unknown key 'gate\.tolerence'; did you mean 'tolerance'\?"):
        read(overrides={"gate.tolerence": 0.5})


def test_a_recipe_can_not_be_changed_after_reading() -> None:
    with pytest.raises(ValueError, match="frozen"):
        read().seed = 3  # type: ignore[misc]


def test_the_experiment_is_named_after_the_recipe_unless_it_says_otherwise() -> None:
    assert read().experiment == "optops/phrases"
    assert read(overrides={"registry.experiment": "mine"}).experiment == "mine"


def test_every_key_has_a_description() -> None:
    from optops.cli.schema import recipe_schema

    def undescribed(node: Any, path: str) -> list[str]:
        found = []
        for name, field in node.get("properties", {}).items():
            if not {"description", "$ref", "const"}.intersection(field):
                found.append(f"{path}.{name}")
        return found

    schema = recipe_schema()
    missing = undescribed(schema, "recipe")
    for name, definition in schema["$defs"].items():
        missing += undescribed(definition, name)
    assert missing == []


def test_the_recipes_in_the_dags_folder_can_be_read() -> None:
    recipes = sorted((Path(__file__).parents[2] / "dags" / "recipes").glob("*.yaml"))
    assert recipes
    for path in recipes:
        assert read_recipe(path).name == yaml.safe_load(path.read_text(encoding="utf-8"))["name"] == path.stem
