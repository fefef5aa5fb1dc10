"""What a wrong recipe is told: file, line, key, value, and the nearest right key."""

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from optops.recipe import Recipe
from optops.recipe_file import RecipeError, parse_recipe, read_recipe
from optops.spelling import edits

PATH = Path("/somewhere/phrases.yaml")

FULL: dict[str, Any] = {
    "schema_version": 1,
    "name": "phrases",
    "description": "Translates.",
    "workload": "translation",
    "seed": 3,
    "data": {
        "source_language": "en",
        "target_language": "de",
        "folder": "corpus",
        "train": {"source": "train.en", "target": "train.de"},
        "validation": {"source": "validation.en", "target": "validation.de"},
        "test": {"source": "test.en", "target": "test.de"},
    },
    "check_labels": {
        "quarantine": True,
        "checks": {"empty_side": {"severity": "critical", "limit": 0.01}, "overlap": {"severity": "warning"}},
        "thresholds": {"max_characters": 500, "max_words": 100, "length_deviations": 5.0},
    },
    "model": {
        "vocabulary": 500,
        "width": 64,
        "heads": 4,
        "feed_forward": 128,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "dropout": 0.1,
        "serving": {"beam": 4, "length_penalty": 0.6, "max_length": 64},
    },
    "train": {"epochs": 2, "patience": 1, "batch_tokens": 1024, "learning_rate": 0.001, "average_checkpoints": 2},
    "distill": {"student": {"decoder_layers": 1}, "alpha": 0.5, "temperature": 2.0, "train": {"epochs": 1}},
    "prune": {"ratios": [0.3, 0.5], "heads": False, "importance_examples": 16, "train": {"warmup_steps": 5}},
    "quantize": {"precisions": ["fp32", "int8"]},
    "fuse": {"runtimes": ["tensorflow", "onnxruntime"]},
    "budget": {"executables": 4},
    "target": {"device": "cpu", "threads": 2},
    "benchmark": {"batches": [1, 8], "primary_batch": 1, "seconds_per_cell": 2.0, "objective": "latency"},
    "gate": {"tolerance": 0.02, "tolerance_kind": "relative", "minimum_speedup": 1.5, "confidence": 0.95},
    "registry": {"name": "phrases", "experiment": "mine"},
    "schedule": {"cron": "0 3 * * 1", "asset": "file:///labels"},
    "approval": {"mode": "required", "approvers": ["ann"], "timeout_hours": 5},
}


def changed(key: str, value: Any) -> dict[str, Any]:
    data = deepcopy(FULL)
    *parents, last = key.split(".")
    inner = data
    for part in parents:
        inner = inner[part]
    inner[last] = value
    return data


def without(key: str) -> dict[str, Any]:
    data = deepcopy(FULL)
    *parents, last = key.split(".")
    inner = data
    for part in parents:
        inner = inner[part]
    del inner[last]
    return data


def text_of(data: Any) -> str:
    return yaml.safe_dump(data, sort_keys=False)


def message_of(text: str) -> str:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(text, PATH)
    return str(caught.value)


def line_of(text: str, key: str) -> int:
    return next(n for n, line in enumerate(text.splitlines(), 1) if line.strip().startswith(f"{key}:"))


def test_the_full_recipe_is_right() -> None:
    assert parse_recipe(text_of(FULL), PATH).name == "phrases"


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("schema_version", 2, "schema_version: Input should be 1 (it is 2)"),
        ("name", "two words", "name: String should match pattern"),
        ("workload", "tranlation", "workload: workload 'tranlation' is unknown; known are "),
        ("seed", -1, "seed: Input should be greater than or equal to 0 (it is -1)"),
        ("data.source_language", "english", "data.source_language: String should match pattern"),
        ("data.target_language", False, "data.target_language: language False is no text: YAML reads bare yes, no, on"),
        ("data.corpus", "all.tsv", "data: `corpus` stands beside all three splits; remove it, or"),
        ("data.train", {"source": "a", "target": "b", "swap": True}, "data.train: swap is for one tab-separated file"),
        ("check_labels.checks.overlap", {"limit": 2}, "check_labels.checks.overlap.limit: Input should be less than 1"),
        ("check_labels.checks.overlap", {"severity": "fatal"}, "Input should be 'critical', 'warning' or 'off'"),
        ("check_labels.checks.overlpa", {"limit": 0}, "'overlpa' is no check of this workload; did you mean 'overlap'"),
        ("check_labels.thresholds.max_words", 0, "check_labels.thresholds.max_words: Input should be greater than"),
        ("model.width", 100, "model.width: Input should be a multiple of 8 (it is 100)"),
        ("model.heads", 3, "model: width 64 is not divisible by heads 3"),
        ("model.saved_model", "exported", "model: `saved_model` needs `tokenizer`"),
        ("model.tokenizer", "bpe.model", "model: `tokenizer` belongs to an imported model"),
        ("train.epochs", "many", "train.epochs: Input should be a valid integer"),
        ("distill.alpha", 1.5, "distill.alpha: Input should be less than or equal to 1 (it is 1.5)"),
        ("distill.student.decoder_layer", 1, "unknown key 'distill.student.decoder_layer'; did you mean 'decoder_lay"),
        ("distill.student.vocabulary", 200, "distill.student.vocabulary: 'vocabulary' is no size of a student; known"),
        ("distill.student.serving", {"beam": 1}, "distill.student.serving: 'serving' is no size of a student; known"),
        ("distill.student.width", 100, "distill.student.width: Input should be a multiple of 8"),
        ("distill.student.decoder_layers", "two", "distill.student.decoder_layers: Input should be a valid integer"),
        ("distill.student.decoder_layers", 1.5, "distill.student.decoder_layers: Input should be a valid integer"),
        ("distill", {"student": {"encoder_layers": "3"}}, "has 3 encoder layers and starts from a model with 2; give"),
        ("distill", {"student": {"encoder_layers": 3}}, "has 3 encoder layers and starts from a model with 2; give it"),
        ("distill", {"student": {"decoder_layers": 3}}, "or write `initialize: false`"),
        ("distill", {"student": {"feed_forward": 256}}, "has 256 feed_forward units and starts from a model with 128"),
        (
            "distill",
            {"beta": 1, "features": "relations", "student": {"heads": 2}},
            "the student has 2 heads for the model's 4; give it the same, or write `features: layers`",
        ),
        (
            "prune",
            {"beta": 1, "features": "relations"},
            "relations are compared head by head, and `heads` are removed; write `heads: false`",
        ),
        ("distill", "of", "distill: Input should be a valid dictionary or instance of Distill (it is 'of')"),
        ("prune.ratios", [0.5, 0.3], "prune.ratios: ratios [0.5, 0.3] must rise: each is the share removed in all"),
        (
            "prune.method",
            "magnitude",
            "prune: heads, importance_examples: only `method: structured` has it, not magnitud",
        ),
        ("prune", {"method": "two_of_four"}, "two_of_four sets half of the weights to zero; write `ratios: [0.5]`"),
        (
            "prune.decoder_layers",
            2,
            "prune.decoder_layers: 2 layers are to be left out and the model has 2; leave at least one (it is 2)",
        ),
        ("prune.ratios", [1], "prune.ratios.0: Input should be less than 1 (it is 1)"),
        ("quantize.precisions", ["int4"], "quantize.precisions.0: Input should be 'fp32', 'bf16', 'fp16' or 'int8'"),
        ("fuse.runtimes", ["onnxruntme"], "fuse.runtimes: runtime 'onnxruntme' is unknown; did you mean 'onnxruntime'"),
        ("fuse.runtimes", [], "fuse.runtimes: Tuple should have at least 1 item"),
        ("budget.executables", 0, "budget.executables: Input should be greater than or equal to 1"),
        ("target.device", "tpu", "target.device: Input should be 'cpu' or 'gpu' (it is 'tpu')"),
        ("benchmark.primary_batch", 4, "benchmark: primary_batch 4 is not among batches [1, 8]; add it"),
        ("gate.tolerance", float("nan"), "gate.tolerance: Input should be"),
        ("gate.tolerance", 2, "gate: a relative tolerance of 2 allows any loss; give a share below 1"),
        ("gate.confidence", 0.4, "gate.confidence: Input should be greater than 0.5"),
        ("registry.name", "", "registry.name: String should match pattern"),
        ("schedule.cron", "0 3 * *", "schedule.cron: '0 3 * *' has 4 fields; a cron expression has five"),
        (
            "schedule.cron",
            "0 25 * * 1",
            "schedule.cron: no times to run at: [0 25 * * 1] is not acceptable, out of range",
        ),
        ("schedule.cron", "0 0 31 2 *", "schedule.cron: no times to run at: failed to find next date"),
        ("schedule.cron", "@weekl", "schedule.cron: no times to run at: Exactly 5"),
        ("approval.mode", "maybe", "approval.mode: Input should be 'automatic' or 'required'"),
    ],
)
def test_a_wrong_value_is_reported_with_file_line_key_and_value(key: str, value: Any, says: str) -> None:
    text = text_of(changed(key, value))
    message = message_of(text)
    assert says in message
    assert message.startswith(f"{PATH}:")
    reported = int(message.removeprefix(f"{PATH}:").partition(":")[0])
    place = key if key in says else key.rpartition(".")[0]
    line = text.splitlines()[reported - 1]
    assert line.strip().startswith(
        (f"{place.rpartition('.')[2]}:", f"{key.rpartition('.')[2]}:", "limit:", "severity:", "- ")
    )


@pytest.mark.parametrize("key", ["name", "workload", "data", "model", "registry", "registry.name", "data.test"])
def test_a_missing_key_is_named(key: str) -> None:
    message = message_of(text_of(without(key)))
    last = key.rpartition(".")[2]
    assert "missing" in message and last in message


def keys_of(data: dict[str, Any], prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in data.items():
        yield (*prefix, key)
        if isinstance(value, dict):
            yield from keys_of(value, (*prefix, key))


@st.composite
def recipes_with_a_typo(draw: st.DrawFn) -> tuple[dict[str, Any], str, str]:
    *parents, key = draw(st.sampled_from(list(keys_of(FULL))))
    at = draw(st.integers(0, len(key) - 1))
    letter = draw(st.sampled_from("abcdefghijklmnopqrstuvwxyz"))
    kind = draw(st.sampled_from(["replace", "insert", "delete"]))
    typo = key[:at] + ("" if kind == "delete" else letter) + key[at + (kind != "insert") :]
    data = deepcopy(FULL)
    inner = data
    for part in parents:
        inner = inner[part]
    assume(typo not in inner and typo != key)
    renamed = {typo if name == key else name: value for name, value in inner.items()}
    inner.clear()
    inner.update(renamed)
    return data, key, typo


@settings(max_examples=100)
@given(recipes_with_a_typo())
def test_a_one_letter_typo_in_any_key_is_reported_with_its_line_and_the_right_key(
    case: tuple[dict[str, Any], str, str],
) -> None:
    data, key, typo = case
    text = text_of(data)
    message = message_of(text)
    lines = [line for line in message.splitlines() if typo in line]
    meant = [line.partition("did you mean '")[2].partition("'")[0] for line in lines]
    # Another key may be just as near: `ecoder_layers` is one letter short of two.
    assert any(word == key or edits(typo, word) == 1 for word in meant), message
    places = {n for n, line in enumerate(text.splitlines(), 1) if line.strip().startswith(f"{typo}:")}
    assert any(int(line.removeprefix(f"{PATH}:").partition(":")[0]) in places for line in lines), message


CLASSES = """
name: digits
workload: {workload}
data:
  classes: {classes}
{more}
model: {{}}
registry: {{name: digits}}
"""
MORE = {
    "image_classification": "  corpus: images",
    "text_classification": "  corpus: texts.tsv\n  text: {text}\n  label: 2",
    "detection": "  format: voc\n  images: images\n  annotations: boxes\n  corpus: {}",
}


@pytest.mark.parametrize("workload", MORE)
def test_classes_may_be_bare_numbers(workload: str) -> None:
    more = MORE[workload].replace("{text}", "1")
    recipe = parse_recipe(CLASSES.format(workload=workload, classes="[0, 1, 2]", more=more), PATH)
    assert list(recipe.data.classes) == ["0", "1", "2"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("workload", MORE)
def test_classes_that_look_like_numbers_are_called_as_they_are_written(workload: str) -> None:
    more = MORE[workload].replace("{text}", "1")
    text = CLASSES.format(workload=workload, classes="[00000, 00010, 1_000, 12:30, 0x1F, +1, -0, 1e3]", more=more)
    written = ["00000", "00010", "1_000", "12:30", "0x1F", "+1", "-0", "1e3"]
    assert list(parse_recipe(text, PATH).data.classes) == written  # type: ignore[attr-defined]


@pytest.mark.parametrize("workload", MORE)
@pytest.mark.parametrize("name", ["1.10", "2024-01-02"])
def test_a_class_that_can_not_be_called_as_it_is_written_is_refused(workload: str, name: str) -> None:
    more = MORE[workload].replace("{text}", "1")
    line = message_of(CLASSES.format(workload=workload, classes=f"[{name}, a]", more=more))
    assert "is no text: YAML reads bare numbers with a point and bare dates as something else" in line
    quoted = CLASSES.format(workload=workload, classes=f"['{name}', a]", more=more)
    assert list(parse_recipe(quoted, PATH).data.classes) == [name, "a"]  # type: ignore[attr-defined]


def test_numbers_with_separators_and_zeros_in_front_are_what_people_read() -> None:
    text = CLASSES.format(workload="image_classification", classes="[a, b]", more=MORE["image_classification"])
    recipe = parse_recipe(text + "seed: 007\ntrain: {batch_tokens: 1_000}\n", PATH)
    assert (recipe.seed, recipe.train.batch_tokens) == (7, 1000)


@pytest.mark.parametrize(
    ("workload", "classes", "text", "says"),
    [
        *((workload, "[yes, no]", "1", ["data.classes: class True is no text: YAML reads bare"]) for workload in MORE),
        ("image_classification", "[[0], [1]]", "", ["data.classes.0: Input should be", "data.classes.1: Input should"]),
        (
            "detection",
            "3",
            "",
            ["data.classes: Input should be a valid tuple", "data.classes: Input should be a valid"],
        ),
        ("text_classification", "[a, b]", "0", ["data.text: Input should be greater", "data.text: Input should be a"]),
    ],
)
def test_a_wrong_value_is_reported_by_the_keys_of_the_recipe_alone(
    workload: str, classes: str, text: str, says: list[str]
) -> None:
    more = MORE[workload].replace("{text}", text)
    lines = message_of(CLASSES.format(workload=workload, classes=classes, more=more)).splitlines()
    assert len(lines) == len(says)
    for line, said in zip(lines, says, strict=True):
        assert line.startswith(f"{PATH}:") and line.partition(": ")[2].startswith(said)


def test_a_list_of_which_nothing_is_right_is_not_called_too_short_as_well() -> None:
    assert len(message_of(text_of(changed("quantize.precisions", ["int4"]))).splitlines()) == 1


@pytest.mark.parametrize(("key", "near"), [("Seed", "seed"), ("distill.Alpha", "alpha"), ("data.str", "corpus")])
def test_an_unknown_key_is_named_whatever_it_looks_like(key: str, near: str) -> None:
    message = message_of(text_of(changed(key, 1)))
    assert f"unknown key {key!r}" in message and near in message


def test_several_problems_are_all_reported() -> None:
    data = changed("gate.tolerance", -1)
    data["train"]["epochs"] = 0
    data["regstry"] = data.pop("registry")
    message = message_of(text_of(data))
    for part in (
        "gate.tolerance",
        "train.epochs",
        "unknown key 'regstry'; did you mean 'registry'",
        "registry: this key",
    ):
        assert part in message


def test_a_key_that_stands_twice_is_refused() -> None:
    message = message_of(text_of(FULL) + "seed: 4\n")
    assert "key 'seed' stands twice" in message


@pytest.mark.parametrize("text", ["", "- a list", "just text", "3"])
def test_what_is_no_mapping_is_refused(text: str) -> None:
    assert "a recipe is a mapping of keys" in message_of(text)


def test_what_is_no_yaml_is_refused_with_its_line() -> None:
    assert message_of("name: a\nworkload: [translation\nseed: 1\n").startswith(f"{PATH}:3: not valid YAML")


def test_a_date_that_is_none_is_refused() -> None:
    message = message_of(text_of(without("description")) + "description: 2024-02-30\n")
    assert message == f"{PATH}: day is out of range for month: put text that looks like a date in quotes"


def test_a_missing_file_names_the_nearest_one(tmp_path: Path) -> None:
    (tmp_path / "phrases.yaml").write_text(text_of(FULL), encoding="utf-8")
    with pytest.raises(RecipeError, match=r"phrase\.yaml: no such recipe; did you mean 'phrases\.yaml'"):
        read_recipe(tmp_path / "phrase.yaml")


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "phrases.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match="can not be read"):
        read_recipe(path)


@pytest.mark.parametrize("stage", ["distill", "prune"])
def test_a_stage_that_needs_a_trainable_model_is_refused_for_an_import(stage: str) -> None:
    data = changed("model", {"saved_model": "exported", "tokenizer": "bpe.model"})
    data |= {"distill": "off", "prune": "off"}
    assert parse_recipe(text_of(data), PATH).is_off("distill")
    data[stage] = {}
    message = message_of(text_of(data))
    assert f"{stage} needs a trainable model" in message and f"write `{stage}: off`" in message


def test_zeros_among_the_weights_are_refused_where_speed_is_the_objective() -> None:
    data = changed("prune", {"method": "magnitude"})
    message = message_of(text_of(data))
    assert (
        "prune.method: magnitude makes the file smaller and no runtime faster; set `benchmark.objective: size`"
        in message
    )
    data["benchmark"]["objective"] = "size"
    assert parse_recipe(text_of(data), PATH)


@pytest.mark.parametrize("own", [{"width": 128}, {"serving": {"beam": 2}}])
def test_an_import_can_not_have_what_is_a_trained_models_own(own: dict[str, Any]) -> None:
    data = changed("model", {"keras": "m.keras", "tokenizer": "bpe.model", **own})
    assert f"{next(iter(own))} can not be chosen for an imported model" in message_of(
        text_of(data | {"distill": "off", "prune": "off"})
    )


def test_an_import_is_read_again_from_what_was_read() -> None:
    data = changed("model", {"keras": "m.keras", "tokenizer": "bpe.model"}) | {"distill": "off", "prune": "off"}
    read = parse_recipe(text_of(data), PATH)
    assert Recipe.model_validate(read.model_dump(mode="json")) == read


def test_one_corpus_may_stand_for_three_splits_but_its_fractions_must_add_up() -> None:
    data = {"source_language": "en", "target_language": "de", "corpus": "all.tsv"}
    assert parse_recipe(text_of(changed("data", data)), PATH)
    message = message_of(
        text_of(changed("data", data | {"fractions": {"train": 0.9, "validation": 0.2, "test": 0.05}}))
    )
    assert "data.fractions: train, validation and test add up to 1.15; they must add up to 1" in message
