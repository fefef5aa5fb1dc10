"""What MLflow's pages are started with."""

import pytest

from optops.services.pages import mlflow_command, mlflow_environment


def test_mlflow_learns_the_store_from_its_environment_and_not_from_arguments_that_others_can_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    uri = "postgresql://bot:secret@host/mlflow"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert mlflow_environment()["MLFLOW_BACKEND_STORE_URI"] == uri
    assert not any("host/mlflow" in argument or "secret" in argument for argument in mlflow_command(5000))
