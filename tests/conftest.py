"""Keeps tests out of the stores of whoever runs them, time out of what they judge, workers out of each other's way."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

# How long an example takes says more of the machine than of the code.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")


class ByWhatIsShared(LoadScopeScheduling):
    """Gives a file of unit tests to one worker, as they share what they made; and all that starts services to one."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return file if file.startswith("tests/unit/") else "services"


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByWhatIsShared:
    """Makes it, where tests are distributed."""
    return ByWhatIsShared(config, log)


@pytest.fixture(scope="session", autouse=True)
def home_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An OPTOPS_HOME for what a test starts without one of its own: a checkout's `.optops` would be found else."""
    home = tmp_path_factory.mktemp("optops-home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "OPTOPS_HOME", str(home))
        yield home
