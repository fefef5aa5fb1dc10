import os
from pathlib import Path
from typing import NoReturn

import pytest

from optops.home import file_lock, lock_if_free, optops_home


@pytest.fixture(autouse=True)
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory in a folder that has an `.optops`, and a user's home that is elsewhere."""
    (tmp_path / "checkout" / ".optops").mkdir(parents=True)
    (tmp_path / "checkout" / "dags" / "recipes").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "checkout" / "dags" / "recipes")
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.delenv("OPTOPS_HOME")
    return tmp_path / "checkout"


def test_the_nearest_folder_at_or_above_the_working_directory_is_the_home(checkout: Path) -> None:
    assert optops_home() == checkout / ".optops"
    (checkout / "dags" / ".optops").mkdir()
    assert optops_home() == checkout / "dags" / ".optops"


def test_without_one_the_home_is_made_in_the_users(checkout: Path, tmp_path: Path) -> None:
    (checkout / ".optops").rmdir()
    assert optops_home() == tmp_path / "user" / ".optops"
    assert optops_home().is_dir()


def test_a_folder_of_another_user_is_not_taken_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = os.getuid() + 1
    monkeypatch.setattr(os, "getuid", lambda: other)
    assert optops_home() == tmp_path / "user" / ".optops"


def test_a_working_directory_that_was_deleted_is_passed_over(tmp_path: Path) -> None:
    Path.cwd().rmdir()
    assert optops_home() == tmp_path / "user" / ".optops"


def test_a_working_directory_that_is_closed_to_this_user_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(path: Path) -> NoReturn:
        raise PermissionError(13, "Permission denied", str(path))

    # As `is_dir` does there; root, whom tests may run as, can look into every folder.
    monkeypatch.setattr(Path, "is_dir", closed)
    assert optops_home() == tmp_path / "user" / ".optops"


def test_the_environment_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPTOPS_HOME", str(tmp_path / "elsewhere"))
    assert optops_home() == tmp_path / "elsewhere"


def test_a_lock_is_free_until_somebody_holds_it() -> None:
    with lock_if_free("train-1") as held:
        assert held
    with file_lock("train-1"), lock_if_free("train-1") as held, lock_if_free("train-2") as other:
        assert not held and other
    with lock_if_free("train-1") as held:
        assert held
