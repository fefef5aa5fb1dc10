"""Airflow homes to run Python in, and a recipe whose stages are stand-ins."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]
STAND_IN = Path(__file__).with_name("stand_in_stage.py")

RECIPE = """\
name: stand_in
description: Stages that do nothing.
workload: translation
data: {source_language: en, target_language: de, corpus: absent.tsv}
model: {width: 64}
prune: off
registry: {name: stand_in_model}
"""

DAG_FILE = """\
\"\"\"The Airflow dag of a stand-in.\"\"\"
from optops.dag import recipe_dag
dag = recipe_dag({recipe!r}, command={command!r})
"""


class Home:
    """An Airflow home with a folder of DAGs."""

    def __init__(self, folder: Path):
        self.folder, self.dags = folder, folder / "dags"
        self.dags.mkdir(parents=True)
        (folder / "plugins").mkdir()
        self.interpreter = sys.executable

    def environment(self, **more: str) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
        settings = {
            "AIRFLOW_HOME": str(self.folder),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
            "OPTOPS_HOME": str(self.folder / "optops"),
        }
        return inherited | settings | more

    def python(self, program: str, *arguments: str, **environment: str) -> str:
        """Runs a Python program in this home; returns the last line that it prints."""
        command = [self.interpreter, "-c", program, *arguments]
        ran = subprocess.run(command, env=self.environment(**environment), capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stdout[-8000:] + ran.stderr[-8000:]
        return ran.stdout.strip().splitlines()[-1]

    def add_stand_in(self) -> None:
        """Adds a recipe and its DAG, whose stages are stand-ins."""
        recipe = self.folder / "stand_in.yaml"
        recipe.write_text(RECIPE, encoding="utf-8")
        text = DAG_FILE.format(recipe=str(recipe), command=(sys.executable, str(STAND_IN)))
        (self.dags / "stand_in.py").write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Home:
    return Home(tmp_path_factory.mktemp("airflow"))


@pytest.fixture
def fresh_home(tmp_path) -> Home:
    return Home(tmp_path)


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY
