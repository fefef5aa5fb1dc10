"""A real MLflow store on SQLite for each test that asks for one."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def new_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh MLflow database; making its tables takes seconds, so tests copy it."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments(max_results=1)
    return path


@pytest.fixture
def optops_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new_store: Path) -> Iterator[Path]:
    """An OPTOPS_HOME with an empty embedded store."""
    import mlflow

    home = tmp_path / "home"
    (home / "mlflow").mkdir(parents=True)
    shutil.copy(new_store, home / "mlflow" / "mlflow.db")
    monkeypatch.setenv("OPTOPS_HOME", str(home))
    # MLflow keeps the URI that a process set last in these variables.
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.setenv(name, f"sqlite:///{home / 'mlflow' / 'mlflow.db'}")
    before = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
    yield home
    mlflow.set_tracking_uri(before[0])
    mlflow.set_registry_uri(before[1])
