"""The form's parameters, and what they change in the recipe."""

from pathlib import Path

import pytest
from airflow.sdk.exceptions import ParamValidationError
from hypothesis import given, settings
from hypothesis import strategies as st

from optops.operators.frozen_recipe import FrozenRecipe
from optops.operators.parameters import SWITCHES, defaults, form, overrides
from optops.recipe_file import RecipeError, read_recipe
from optops.sections import Distill, Quantize
from optops.workloads.translation.settings import TranslationPrune


@pytest.fixture
def run_with(recipe_file):
    """Returns a function that gives the recipe of a run with parameters."""

    def read(more: str = "", **values):
        given = {name.replace("__", "."): value for name, value in values.items()}
        return FrozenRecipe.freeze(recipe_file(more), given).read()

    return read


def test_parameters_start_at_the_recipes_values(recipe_file):
    recipe = read_recipe(recipe_file())
    fields = form(recipe)
    assert {name: field.value for name, field in fields.items()} == defaults(recipe)
    assert fields["gate.tolerance"].value == 0.03
    assert fields["prune"].value is False
    assert fields["quantize.precisions"].value == ["fp32", "int8"]


def test_every_parameter_has_a_section_a_title_and_a_help_text(recipe_file):
    for field in form(read_recipe(recipe_file())).values():
        assert field.schema["section"]
        assert field.schema["title"]
        assert field.schema["description_md"].endswith(".")


def test_every_stage_that_may_be_off_has_a_switch(recipe_file):
    recipe = read_recipe(recipe_file())
    may_be_off = {name for name in type(recipe).model_fields if name in ("distill", "prune", "quantize", "fuse")}
    assert set(SWITCHES) == may_be_off


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("gate.tolerance", -0.1),
        ("gate.minimum_speedup", 0),
        ("approval.mode", "maybe"),
        ("quantize.precisions", ["int4"]),
        ("quantize.precisions", []),
        ("prune", "perhaps"),
        ("seed", 1.5),
    ],
)
def test_the_form_refuses_what_the_recipe_would_refuse(recipe_file, name, value):
    with pytest.raises(ParamValidationError):
        form(read_recipe(recipe_file()))[name].resolve(value)


@pytest.mark.parametrize("more", ["", "fuse: off\n", "benchmark: {batches: [1], seconds_per_cell: 1}\nseed: 3\n"])
def test_parameters_left_alone_change_nothing(recipe_file, more):
    path = recipe_file(more)
    recipe = read_recipe(path)
    assert overrides(recipe, path.read_text(encoding="utf-8"), defaults(recipe)) == {}
    assert FrozenRecipe.freeze(path, defaults(recipe)).read() == recipe


def test_a_changed_parameter_changes_its_key_alone(run_with):
    plain, changed = run_with(), run_with(gate__tolerance=0.01)
    assert changed.gate.tolerance == 0.01
    assert changed.model_copy(update={"gate": plain.gate}) == plain


def test_a_stage_switched_on_uses_its_defaults(run_with):
    assert run_with(prune=True).prune == TranslationPrune()


def test_a_stage_switched_off_is_off_whatever_its_settings(run_with):
    assert run_with(quantize=False, quantize__precisions=["fp32"]).quantize == "off"


def test_a_setting_of_a_stage_that_is_off_does_not_switch_it_on(run_with):
    assert run_with("fuse: off\n", fuse__runtimes=["tensorflow"]).fuse == "off"


def test_a_stage_switched_on_takes_its_settings(run_with):
    changed = run_with("fuse: off\n", fuse=True, fuse__runtimes=["tensorflow"])
    assert changed.fuse.runtimes == ("tensorflow",)


def test_settings_of_the_recipe_survive_a_changed_parameter_of_the_same_section(run_with):
    changed = run_with("benchmark: {batches: [1, 4]}\n", quantize__precisions=["int8"])
    assert changed.quantize == Quantize(precisions=("int8",))
    assert isinstance(changed.distill, Distill)
    assert changed.distill.alpha == 0.7
    assert changed.benchmark.batches == (1, 4)


def test_the_data_folder_moves_all_files(run_with, tmp_path):
    changed = run_with(data_folder=str(tmp_path / "new"))
    paths = [pair.source for pair in changed.data.pairs().values()]
    assert paths == [str(tmp_path / "new" / f"{split}.en") for split in ("train", "validation", "test")]


def test_keys_that_are_not_in_the_form_are_taken(run_with):
    assert run_with(train__epochs=1, benchmark__seconds_per_cell=2).train.epochs == 1


def test_an_unknown_key_is_refused_with_the_nearest_right_one(run_with):
    with pytest.raises(RecipeError, match=r"unknown key 'gate\.tolerence'; did you mean 'tolerance'"):
        run_with(gate__tolerence=0.1)


@pytest.mark.parametrize("key", ["gates__tolerance", "note"])
def test_a_key_of_no_section_is_refused_like_any_other(run_with, key):
    with pytest.raises(RecipeError, match="unknown key"):
        run_with(**{key: 1})


def test_a_key_that_is_not_in_the_form_switches_its_stage_on(run_with):
    assert run_with(prune__ratios=[0.5]).prune.ratios == (0.5,)


def test_a_key_of_a_stage_that_the_run_switches_off_is_refused(run_with):
    with pytest.raises(RecipeError, match=r"`distill` is switched off for this run, and distill\.alpha is set"):
        run_with(distill=False, distill__alpha=0.5)


def test_a_value_that_does_not_fit_the_recipe_is_refused(run_with):
    with pytest.raises(RecipeError, match=r"train\.epochs"):
        run_with(train__epochs=0)


REQUIRED = "approval: {mode: required, approvers: [ann]}\n"


@pytest.mark.parametrize(
    ("more", "values"),
    [
        (REQUIRED, {"approval.mode": "automatic"}),
        (REQUIRED, {"approval.approvers": ["eve"]}),
        (REQUIRED, {"approval.approvers": []}),
        (REQUIRED, {"approval.timeout_hours": 9999}),
        (REQUIRED, {"approval": {"mode": "automatic"}}),
        ("", {"registry.name": "somebody-elses"}),
        ("", {"registry.experiment": "somebody-elses"}),
        ("", {"registry": {"name": "somebody-elses"}}),
        ("", {"name": "somebody-elses"}),
    ],
)
def test_what_only_the_file_may_say_no_run_can_change(recipe_file, more, values):
    with pytest.raises(RecipeError, match=rf"{next(iter(values)).partition('.')[0]}.*a run can not change this"):
        FrozenRecipe.freeze(recipe_file(more), values)


def test_a_run_can_not_change_the_workload_or_name_code(tmp_path):
    text = "{name: n, workload: arrays, registry: {name: r}, data: {corpus: a.npz}, model: {keras: m.keras}}"
    path = tmp_path / "arrays.yaml"
    path.write_text(text, encoding="utf-8")
    for values in ({"data.metric": "os:getlogin"}, {"data.metric.function": "os:getlogin"}):
        with pytest.raises(RecipeError, match=r"data\.metric\.function: a run can not name code to call"):
            FrozenRecipe.freeze(path, values)
    assert FrozenRecipe.freeze(path, {"data.metric": "r2"}).read().data.metric.function == "r2"
    translation = {"workload": "translation", "data": {"source_language": "en", "target_language": "de", "corpus": "c"}}
    with pytest.raises(RecipeError, match="workload: a run can not change this"):
        FrozenRecipe.freeze(path, {**translation, "model": {"width": 64}})
    path.write_text(text.replace("a.npz", "a.npz, metric: 'os:getlogin'"), encoding="utf-8")
    assert FrozenRecipe.freeze(path, {"seed": 5}).read().data.metric.function == "os:getlogin"


def test_a_required_approval_is_not_in_the_form_and_can_be_given_as_it_is(recipe_file):
    path = recipe_file(REQUIRED)
    recipe = read_recipe(path)
    assert "approval.mode" not in form(recipe)
    assert {name: field.value for name, field in form(recipe).items()} == defaults(recipe)
    assert FrozenRecipe.freeze(path, {"approval.mode": "required"}).read() == recipe


def test_a_run_can_ask_for_an_approval_that_the_recipe_does_not(run_with):
    changed = run_with(approval__mode="required", approval__approvers=["ann"])
    assert (changed.approval.mode, changed.approval.approvers) == ("required", ("ann",))


@pytest.mark.parametrize(
    "values",
    [
        {"data_folder": "/$SECRET_OF_THE_WORKER"},
        {"data_folder": "~root"},
        {"data_folder": "~/data"},
        {"data.folder": ".//./~root/data"},
        {"data.folder": "${SECRET_OF_THE_WORKER}"},
        {"data": {"source_language": "en", "target_language": "de", "corpus": ["$SECRET_OF_THE_WORKER"]}},
    ],
)
def test_variables_of_the_worker_are_not_expanded_for_a_run(recipe_file, monkeypatch, values):
    monkeypatch.setenv("SECRET_OF_THE_WORKER", "hunter2")
    with pytest.raises(RecipeError, match="variables and `~` are for recipes alone") as caught:
        FrozenRecipe.freeze(recipe_file(), values)
    assert "hunter2" not in str(caught.value)


def test_values_that_only_look_like_variables_or_code_are_taken(tmp_path):
    text = "{name: n, workload: arrays, registry: {name: r}, data: {corpus: a.npz}, model: {keras: m.keras}}"
    path = tmp_path / "arrays.yaml"
    path.write_text(text, encoding="utf-8")
    values = {"description": "~5 US$", "data.folder": "/data/v1~2", "data.labels": "dc:title", "data.output": "y$"}
    changed = FrozenRecipe.freeze(path, values).read()
    assert (changed.description, changed.data.folder) == (values["description"], values["data.folder"])
    assert (changed.data.labels, changed.data.output) == (values["data.labels"], values["data.output"])


def test_an_edit_of_the_file_does_not_reach_a_run_under_way(recipe_file):
    path = recipe_file()
    frozen = FrozenRecipe.freeze(path, {"seed": 5})
    recipe_file("seed: 99\nprune: {ratios: [0.5]}\n", text=path.read_text(encoding="utf-8").replace("prune: off\n", ""))
    assert frozen.read().seed == 5
    assert frozen.read().prune == "off"


def test_what_is_frozen_is_what_was_judged_though_the_file_is_edited_meanwhile(recipe_file, monkeypatch):
    path = recipe_file("seed: 1\n")
    read = Path.read_text

    def edited_after(self, *arguments, **options):
        text = read(self, *arguments, **options)
        if self == path:
            path.write_text(text.replace("seed: 1", "seed: 2"), encoding="utf-8")
        return text

    monkeypatch.setattr(Path, "read_text", edited_after)
    assert FrozenRecipe.freeze(path, {"seed": 1}).read().seed == 1


@pytest.fixture(scope="module")
def plain_recipe(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipe") / "phrases.yaml"
    path.write_text(
        "{name: n, workload: translation, registry: {name: r}, model: {width: 64}, prune: off, "
        "data: {source_language: en, target_language: de, corpus: all.tsv}}",
        encoding="utf-8",
    )
    return path, read_recipe(path)


@settings(max_examples=20)
@given(
    switches=st.fixed_dictionaries({}, optional={name: st.booleans() for name in SWITCHES}),
    tolerance=st.floats(0, 0.99),
    precisions=st.lists(st.sampled_from(["fp32", "fp16", "bf16", "int8"]), min_size=1, unique=True),
)
def test_switches_and_settings_do_what_they_say_in_any_combination(plain_recipe, switches, tolerance, precisions):
    path, plain = plain_recipe
    values = {**switches, "gate.tolerance": tolerance, "quantize.precisions": precisions}
    changed = FrozenRecipe.freeze(path, values).read()
    assert changed.gate.tolerance == tolerance
    for name in SWITCHES:
        assert changed.is_off(name) == (not switches[name] if name in switches else plain.is_off(name))
    if not changed.is_off("quantize"):
        assert list(changed.quantize.precisions) == precisions
