"""An Airflow home of its own for this process, a recipe, and Airflow's side of a task."""

import atexit
import json
import os
import shutil
import tempfile
from pathlib import Path
from uuid import UUID

import pytest

if "AIRFLOW_HOME" not in os.environ:
    # Airflow reads its settings when it is imported, so this must come before.
    home = tempfile.mkdtemp(prefix="airflow-home-")
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    os.environ["AIRFLOW_HOME"] = home
    os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"

RECIPE = """\
schema_version: 1
name: phrases
description: Translates phrases.
workload: translation
data:
  source_language: en
  target_language: de
  train: {source: train.en, target: train.de}
  validation: {source: validation.en, target: validation.de}
  test: {source: test.en, target: test.de}
model: {width: 64}
distill: {alpha: 0.7}
prune: off
quantize: {precisions: [fp32, int8]}
gate: {tolerance: 0.03}
registry: {name: phrases_en_de}
"""


@pytest.fixture
def recipe_file(tmp_path: Path):
    """Returns a function that writes the recipe, with more sections after it."""

    def write(more: str = "", text: str = RECIPE) -> Path:
        path = tmp_path / "phrases.yaml"
        path.write_text(text + more, encoding="utf-8")
        return path

    return write


class TaskInstance:
    """Keeps XComs in memory, as Airflow keeps them in its database."""

    dag_id, run_id, task_id = "phrases", "manual__1", "the_task"
    id = UUID(int=1)

    def __init__(self):
        self.xcoms: dict[tuple[str, str], object] = {}
        self.states: dict[str, str] = {}

    def xcom_push(self, key, value):
        self.xcoms[self.task_id, key] = json.loads(json.dumps(value))

    def xcom_pull(self, task_ids, key, map_indexes=None):
        if isinstance(map_indexes, range):
            return [self.xcoms.get((f"{task}[{index}]", key)) for task in task_ids for index in map_indexes]
        if isinstance(task_ids, list):
            return [self.xcoms[task, key] for task in task_ids if (task, key) in self.xcoms]
        return self.xcoms.get((task_ids, key))

    def get_task_states(self, dag_id, run_ids):
        return {self.run_id: {**self.states, self.task_id: "running"}}


@pytest.fixture
def ti() -> TaskInstance:
    return TaskInstance()


class TaskStateStore(dict):
    """Keeps what a task wants to find again after a clear."""

    def set(self, key, value, retention):
        from airflow.sdk import NEVER_EXPIRE

        assert retention == NEVER_EXPIRE
        self[key] = value


@pytest.fixture
def store() -> TaskStateStore:
    return TaskStateStore()
