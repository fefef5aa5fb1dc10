"""The commands that need no MLflow run: help, schema, init, validate, doctor, demo-data."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.main import get_command
from typer.testing import CliRunner

from optops.cli import app
from optops.recipe import Recipe
from optops.recipe_file import read_recipe
from optops.workloads.base import WORKLOADS, load_workload

COMMANDS = tuple(get_command(app).commands)
OPTOPS = (sys.executable, "-m", "optops")
RECIPES = Path(__file__).parents[3] / "dags" / "recipes"


def call(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def start(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*OPTOPS, *arguments], capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )


def test_help_names_every_command_and_loads_no_heavy_library() -> None:
    done = start("--help", PYTHONPROFILEIMPORTTIME="1")
    assert done.returncode == 0
    for command in COMMANDS:
        assert f" {command} " in done.stdout
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert not imported & {"tensorflow", "mlflow", "great_expectations", "onnxruntime", "pandas", "numpy", "airflow"}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    status, output = call(command, "--help")
    assert status == 0 and "Usage" in output


def test_a_wrong_command_line_is_told_apart_from_nothing_promoted() -> None:
    assert start("run", "--nonsense").returncode == 64


def test_the_schema_fits_what_a_recipe_says_and_has_the_workloads_sections() -> None:
    done = start("schema")
    schema = json.loads(done.stdout)
    assert schema["properties"]["gate"]["$ref"] == "#/$defs/Gate"
    (rule,) = [rule for rule in schema["allOf"] if rule["if"]["properties"]["workload"]["const"] == "translation"]
    properties = rule["then"]["properties"]
    for key in ("data", "model"):
        definition = schema["$defs"][properties[key]["$ref"].removeprefix("#/$defs/")]
        assert definition["additionalProperties"] is False
    assert "overlap" in properties["check_labels"]["properties"]["checks"]["propertyNames"]["enum"]
    assert all(ref.removeprefix("#/$defs/") in schema["$defs"] for ref in references(schema))


def references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [ref for inner in node.values() for ref in references(inner)]
    return [ref for inner in node for ref in references(inner)] if isinstance(node, list) else []


def test_the_schema_accepts_the_recipe_that_init_writes_and_refuses_a_typo(tmp_path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    from optops.cli.recipe_text import recipe_text
    from optops.cli.schema import recipe_schema

    recipe = yaml.safe_load(recipe_text("mine", "translation"))
    recipe["prune"] = "off"
    validator = jsonschema.Draft202012Validator(recipe_schema())
    recipe["distill"] = {"student": {"decoder_layers": 1}}
    assert list(validator.iter_errors(recipe)) == []
    recipe["distill"]["student"] = {"vocabulary": 200}
    assert any("vocabulary" in error.message for error in validator.iter_errors(recipe))
    recipe["model"]["widht"] = 8
    assert any("widht" in error.message for error in validator.iter_errors(recipe))


@pytest.mark.parametrize("workload", sorted(WORKLOADS))
def test_the_schema_accepts_what_init_writes_for_every_workload(workload: str) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    from optops.cli.recipe_text import recipe_text
    from optops.cli.schema import recipe_schema

    recipe = yaml.safe_load(recipe_text("mine", workload))
    assert list(jsonschema.Draft202012Validator(recipe_schema()).iter_errors(recipe)) == []


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_schema_accepts_the_recipes_that_are_shipped(recipe: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    from optops.cli.schema import recipe_schema

    written = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    assert list(jsonschema.Draft202012Validator(recipe_schema()).iter_errors(written)) == []


@pytest.mark.parametrize("key", ["distill", "prune", "quantize", "fuse", "quantize.train"])
@pytest.mark.parametrize("written", ["off", "on", '"off"', '"on"', ""])
def test_the_schema_accepts_a_switch_however_it_is_written(key: str, written: str) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    from optops.cli.recipe_text import recipe_text
    from optops.cli.schema import recipe_schema

    recipe = yaml.safe_load(recipe_text("mine", "image_classification"))
    section, _, inner = key.partition(".")
    value = yaml.safe_load(written)
    recipe[section] = {inner: value} if inner else value
    Recipe.model_validate(recipe)
    assert list(jsonschema.Draft202012Validator(recipe_schema()).iter_errors(recipe)) == []


@pytest.mark.parametrize("workload", sorted(WORKLOADS))
def test_init_writes_a_complete_recipe_and_its_dag_and_overwrites_nothing(tmp_path: Path, workload: str) -> None:
    status, _ = call("init", "mine", "--workload", workload, "--folder", str(tmp_path))
    assert status == 0
    path = tmp_path / "recipes" / "mine.yaml"
    assert read_recipe(path).registry.name == "mine"
    text = path.read_text(encoding="utf-8")
    ignored = load_workload(workload).sections().ignored
    for key in read_recipe(path).model_dump():
        assert key in ignored or f"\n{key}:" in text or f"\n# {key}:" in text
    assert 'recipe_dag(Path(__file__).parent / "recipes" / "mine.yaml")' in (tmp_path / "mine.py").read_text()
    path.write_text("name: other\n", encoding="utf-8")
    status, output = call("init", "mine", "--folder", str(tmp_path))
    assert status == 1 and "exists and is left as it is" in output
    assert path.read_text(encoding="utf-8") == "name: other\n"


def test_what_init_comments_out_is_right_too(tmp_path: Path) -> None:
    from optops.cli.recipe_text import recipe_text

    lines = recipe_text("mine", "translation").splitlines()
    at = lines.index("# prune:")
    end = next(n for n in range(at, len(lines)) if not lines[n])
    kept = [line for line in lines[:at] if line != "prune: off"]
    path = tmp_path / "mine.yaml"
    path.write_text("\n".join([*kept, *(line[2:] for line in lines[at:end]), *lines[end:]]), encoding="utf-8")
    from optops.workloads.translation.settings import TranslationPrune

    assert read_recipe(path).prune == TranslationPrune()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(("two words",), "can not be a recipe's name"), (("a", "--workload", "poetry"), "workload 'poetry' is unknown")],
)
def test_init_refuses_what_can_not_be(tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    status, output = call("init", *arguments, "--folder", str(tmp_path))
    assert status == 1 and says in output
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    call("init", "mine", "--folder", str(tmp_path / "dags"))
    return tmp_path / "dags" / "recipes" / "mine.yaml"


def validated(recipe: Path) -> tuple[int, dict[str, Any]]:
    status, output = call("validate", str(recipe), "--json")
    return status, json.loads(output)


def test_validate_names_missing_data_with_the_key(optops_home: Path, recipe: Path) -> None:
    del optops_home
    status, found = validated(recipe)
    assert status == 1
    assert [problem.partition(":")[0] for problem in found["problems"]] == [
        f"data.{split}.{side}" for split in ("train", "validation", "test") for side in ("source", "target")
    ]
    assert all("does not exist; put the data there or change" in problem for problem in found["problems"])


def test_validate_reports_a_typo_like_everybody_else(recipe: Path) -> None:
    recipe.write_text(recipe.read_text(encoding="utf-8").replace("\ngate:", "\ngaet:"), encoding="utf-8")
    status, found = validated(recipe)
    assert status == 1 and found["stages"] == []
    assert "unknown key 'gaet'; did you mean 'gate'?" in found["problems"][0]


def test_validate_names_a_metric_that_can_not_be_imported(optops_home: Path, tmp_path: Path) -> None:
    del optops_home
    for split in ("train", "validation", "test"):
        np.savez(tmp_path / f"{split}.npz", x=np.zeros((50, 3)), labels=np.zeros(50))
    (tmp_path / "model").mkdir()
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        "name: mine\nworkload: arrays\nmodel: {saved_model: model}\nregistry: {name: mine}\n"
        "data: {train: train.npz, validation: validation.npz, test: test.npz, metric: 'my_pakage.metrics:error'}\n",
        encoding="utf-8",
    )
    status, found = validated(recipe)
    assert status == 1
    assert found["problems"] == [
        "data: metric 'my_pakage.metrics:error' can not be loaded (No module named 'my_pakage'); install the package "
        "that has it, or put its folder on PYTHONPATH"
    ]


def test_validate_says_what_runs_what_is_off_and_what_the_test_set_can_prove(optops_home: Path, recipe: Path) -> None:
    del optops_home
    status, output = call("demo-data", str(recipe.parents[2] / "data" / "mine"), "--pairs", "200")
    assert status == 0 and "wrote 200 sentence pairs" in output
    status, found = validated(recipe)
    assert status == 0, found
    states = {stage["name"]: stage["state"] for stage in found["stages"]}
    assert (states["train"], states["prune"], states["promote"]) == ("run", "off", "run")
    warnings = "\n".join(found["warnings"])
    assert "50 test sentence pairs can prove a tolerance of about 6.2%, not 2.0%" in warnings


def test_demo_data_is_written_once_and_again_if_a_file_changed(tmp_path: Path) -> None:
    assert "wrote" in call("demo-data", str(tmp_path), "--pairs", "100")[1]
    assert "there already" in call("demo-data", str(tmp_path), "--pairs", "100")[1]
    first = (tmp_path / "test.de").read_bytes()
    (tmp_path / "test.de").write_bytes(first[:20])
    assert "wrote" in call("demo-data", str(tmp_path), "--pairs", "100")[1]
    assert (tmp_path / "test.de").read_bytes() == first
    assert "wrote" in call("demo-data", str(tmp_path), "--pairs", "100", "--seed", "2")[1]
    assert (tmp_path / "test.de").read_bytes() != first


@pytest.mark.parametrize("facts", [None, "{broken", '{"mine": 1}'])
def test_data_that_was_not_generated_is_never_overwritten(tmp_path: Path, facts: str | None) -> None:
    mine = tmp_path / "train.en"
    mine.write_text("my own sentence\n", encoding="utf-8")
    if facts is not None:
        (tmp_path / "demo.json").write_text(facts, encoding="utf-8")
    status, output = call("demo-data", str(tmp_path), "--pairs", "100")
    assert status == 1
    assert "train.en" in output and "it is left as it is" in " ".join(output.split())
    assert mine.read_text(encoding="utf-8") == "my own sentence\n"
    assert len(list(tmp_path.iterdir())) == (1 if facts is None else 2)


def test_demo_data_of_a_killed_command_is_written_anew(tmp_path: Path) -> None:
    call("demo-data", str(tmp_path), "--pairs", "100")
    facts = json.loads((tmp_path / "demo.json").read_text(encoding="utf-8"))
    (tmp_path / "demo.json").write_text(json.dumps({**facts, "sha256": {}}), encoding="utf-8")
    (tmp_path / "test.de").unlink()
    assert "wrote" in call("demo-data", str(tmp_path), "--pairs", "100")[1]
    assert json.loads((tmp_path / "demo.json").read_text(encoding="utf-8")) == facts


def test_doctor_finds_what_is_there(optops_home: Path) -> None:
    status, output = call("doctor", "--json")
    found = {finding["name"]: finding for finding in json.loads(output)}
    assert status == 0, [finding for finding in found.values() if finding["state"] == "missing"]
    assert found["tensorflow"]["state"] == found["store"]["state"] == found["OPTOPS_HOME"]["state"] == "ok"
    assert str(optops_home) in found["OPTOPS_HOME"]["text"]
    assert found["compiled operators"]["state"] == "ok"
    assert "generic" in found["compiled operators"]["text"]
    assert re.fullmatch(
        r"read [\d.]+ GB a second; billions of operations a second: [\d,]+ in fp32, [\d,]+ in bf16, [\d,]+ in int8",
        found["their products"]["text"],
    )


def test_doctor_fails_if_the_mlflow_server_is_not_there(optops_home: Path) -> None:
    done = start("doctor", "--json", MLFLOW_TRACKING_URI="http://ann:secret@127.0.0.1:9", OPTOPS_HOME=str(optops_home))
    found = {finding["name"]: finding for finding in json.loads(done.stdout)}
    assert done.returncode == 1
    assert found["store"]["state"] == "missing"
    assert "set MLFLOW_TRACKING_URI" in found["store"]["text"] and "secret" not in found["store"]["text"]


@pytest.mark.parametrize(("name", "value"), [("OPTOPS_THREADS", "two"), ("OPTOPS_ISA", "sse9")])
def test_doctor_says_which_variable_keeps_the_operators_from_running(optops_home: Path, name: str, value: str) -> None:
    done = start("doctor", "--json", **{name: value}, OPTOPS_HOME=str(optops_home))
    found = {finding["name"]: finding for finding in json.loads(done.stdout)}
    assert done.returncode == 1
    assert found["compiled operators"]["state"] == "missing"
    assert f"{name} is {value}; " in found["compiled operators"]["text"]


def test_run_refuses_a_wrong_recipe_or_setting_before_it_starts_anything(tmp_path: Path, recipe: Path) -> None:
    status, output = call("run", str(tmp_path / "nothing.yaml"))
    assert status == 1 and "no such recipe" in output
    status, output = call("run", str(recipe), "--set", "gate.tolerence=1")
    assert status == 1 and "did you mean 'tolerance'" in output
    status, output = call("run", str(recipe), "--set", "gate.tolerance")
    assert status == 1 and "is not KEY=VALUE" in output
    status, output = call("run", str(recipe), "--set", "description=2024-02-30")
    assert status == 1 and "--set description: '2024-02-30' is not valid YAML: day is out of range" in output
    status, output = call("run", str(recipe), "--label", "it's")
    assert status == 1 and "--label" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--workload", "translations"), "is unknown"),
        (("--examples", "3"), "3 are too few for three splits"),
    ],
)
def test_demo_data_that_there_is_not_is_refused(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    status, output = call("demo-data", str(tmp_path), *arguments)
    assert status != 0
    assert message in output
