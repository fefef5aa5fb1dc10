"""What Airflow imports while it parses DAGs and loads plugins: light, and one bad recipe hurts only itself."""

import json
import shutil
import sys
from pathlib import Path

HEAVY = ("tensorflow", "tf_keras", "mlflow", "great_expectations", "onnxruntime", "pandas", "matplotlib", "sacrebleu")

PARSE = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(sys.argv[1])
print(json.dumps({"dags": sorted(bag.dags), "errors": bag.import_errors, "modules": sorted(sys.modules)}))
"""

PLUGINS = """
import json, sys
from airflow import plugins_manager
plugins, errors = plugins_manager._get_plugins()
links = plugins_manager.get_operator_extra_links()
print(json.dumps({
    "plugins": [plugin.name for plugin in plugins if plugin.name == "optops"],
    "errors": errors,
    "links": sorted(link.name for link in links),
    "file": sys.modules["optops"].__file__,
    "modules": sorted(sys.modules),
}))
"""

LINKS = ["Data Docs", "MLflow run", "Model version"]


def heavy(answer: dict) -> list[str]:
    return [name for name in HEAVY if name in answer["modules"]]


def test_all_dags_parse_without_the_libraries_that_stages_need(fresh_home, repository):
    answer = json.loads(fresh_home.python(PARSE, str(repository / "dags")))
    assert answer["errors"] == {}
    recipes = {path.stem for path in (repository / "dags" / "recipes").glob("*.yaml")}
    assert set(answer["dags"]) == recipes
    assert heavy(answer) == []


def test_a_recipe_whose_data_is_absent_parses_and_a_broken_one_hurts_only_itself(fresh_home):
    fresh_home.add_stand_in()
    broken = fresh_home.folder / "broken.yaml"
    broken.write_text("name: broken\nworkload: translation\ntolerance: 1\n", encoding="utf-8")
    text = (fresh_home.dags / "stand_in.py").read_text(encoding="utf-8").replace("stand_in.yaml", "broken.yaml")
    (fresh_home.dags / "broken.py").write_text(text, encoding="utf-8")
    answer = json.loads(fresh_home.python(PARSE, str(fresh_home.dags)))
    assert answer["dags"] == ["stand_in"]
    ((file, message),) = answer["errors"].items()
    assert file.endswith("broken.py")
    assert f"{broken}:3: unknown key 'tolerance'" in message


def test_the_installed_plugin_is_found_once_and_is_light(fresh_home):
    answer = json.loads(fresh_home.python(PLUGINS))
    assert answer["plugins"] == ["optops"]
    assert answer["errors"] == {}
    assert answer["links"] == LINKS
    assert heavy(answer) == []


def test_installed_and_in_the_plugins_folder_it_is_still_found_once(fresh_home, repository):
    shutil.copy(repository / "plugins" / "optops_plugin.py", fresh_home.folder / "plugins")
    answer = json.loads(fresh_home.python(PLUGINS))
    assert answer["plugins"] == ["optops"]
    assert answer["errors"] == {}


LOAD_PLUGINS = """
from airflow import plugins_manager
plugins_manager._get_plugins()
"""

# An unknown stage gets as far as the stage program's own usage message: the package was found.
RUN_STAGE = """
import json
from optops.runners.base import StageFailed
from optops.runners.subprocess import SubprocessRunner
from optops.stage_spec import RunReference, StageSpec
lines = []
try:
    SubprocessRunner().run(StageSpec("unknown", {}, RunReference("", "e", "r", "l")), lines.append, lambda *_: None)
except StageFailed as failure:
    lines.append(failure.message)
print(json.dumps(lines))
"""


def packages_without_optops(folder: Path) -> dict[str, str]:
    """Returns an environment in which everything is installed but optops, for the Python that this one stands on."""
    folder.mkdir()
    packages = next(Path(path) for path in sys.path if path.endswith("site-packages"))
    for entry in packages.iterdir():
        if "optops" not in entry.name and entry.suffix != ".pth":
            (folder / entry.name).symlink_to(entry)
    return {"PYTHONPATH": str(folder)}


def test_placed_in_a_plugins_folder_it_works_without_being_installed(fresh_home, repository, tmp_path_factory):
    environment = packages_without_optops(tmp_path_factory.mktemp("site") / "packages")
    fresh_home.interpreter = sys._base_executable
    plugins = fresh_home.folder / "plugins"
    shutil.copy(repository / "plugins" / "optops_plugin.py", plugins)
    ignored = shutil.ignore_patterns("__pycache__", "*.so")
    shutil.copytree(repository / "plugins" / "optops", plugins / "optops", ignore=ignored)
    answer = json.loads(fresh_home.python(PLUGINS, **environment))
    assert answer["plugins"] == ["optops"]
    assert answer["errors"] == {}
    assert answer["links"] == LINKS
    assert answer["file"] == str(plugins / "optops" / "__init__.py")
    assert "recipe" not in answer["modules"], "Airflow must not run the package's files as plugins"
    fresh_home.add_stand_in()
    parsed = json.loads(fresh_home.python(LOAD_PLUGINS + PARSE, str(fresh_home.dags), **environment))
    assert parsed["dags"] == ["stand_in"]
    said = json.loads(fresh_home.python(LOAD_PLUGINS + RUN_STAGE, **environment))
    assert any("stage" in line for line in said), said
    assert not any("No module named" in line for line in said), said
