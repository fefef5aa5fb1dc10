"""Keeps tests out of the stores of whoever runs them, and time out of what they judge."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes says more of the machine than of the code.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")


@pytest.fixture(scope="session", autouse=True)
def home_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An OPTOPS_HOME for what a test starts without one of its own: a checkout's `.optops` would be found else."""
    home = tmp_path_factory.mktemp("optops-home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "OPTOPS_HOME", str(home))
        yield home
