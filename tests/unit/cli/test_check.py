"""`optops check`: what it shows of the data's defects, where it leaves them, and when it fails."""

import csv
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from optops.cli import app

RECIPE = """
name: mine
workload: arrays
data: {train: train.npz, validation: validation.npz, test: test.npz}
model: {saved_model: model}
registry: {name: mine}
"""
EXAMPLES = 50


@pytest.fixture
def recipe(optops_home: Path, tmp_path: Path) -> Path:
    """A recipe of whose training examples the first 30 hold NaN."""
    del optops_home
    for seed, split in enumerate(("train", "validation", "test")):
        x = np.random.default_rng(seed).normal(size=(EXAMPLES, 3))
        if split == "train":
            x[:30, 0] = np.nan
        np.savez(tmp_path / f"{split}.npz", x=x, labels=np.arange(EXAMPLES) % 2)
    path = tmp_path / "mine.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    return path


def check(recipe: Path, *settings: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["check", str(recipe), *(part for one in settings for part in ("--set", one))])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def test_check_shows_the_first_defects_keeps_all_and_fails_over_a_limit(recipe: Path, optops_home: Path) -> None:
    status, output = check(recipe)
    assert status == 1
    assert "not_finite in train: 30 (60.00%, limit 0.00%). Remedy: mend the data" in output
    rows = [line.split() for line in output.splitlines() if " not_finite  critical " in f"{line} "]
    assert [row[0] for row in rows] == [f"train.npz:{line}" for line in range(1, 21)]
    assert all("array 'x' holds NaN or infinity" in " ".join(row) for row in rows)
    kept = optops_home / "checks" / "mine"
    with (kept / "defects.csv").open(encoding="utf-8") as file:
        assert [int(row["line"]) for row in csv.DictReader(file)] == list(range(1, 31))
    assert f"All 30 defects: {kept}/defects.csv" in output
    assert f"Data Docs: {kept}/data_docs/index.html" in output and (kept / "data_docs" / "index.html").is_file()


@pytest.mark.parametrize("setting", ["check_labels.quarantine=true", "check_labels.checks.not_finite.limit=0.7"])
def test_check_passes_what_a_run_would_go_on_with(recipe: Path, setting: str) -> None:
    status, output = check(recipe, setting)
    assert status == 0 and "the labels pass" in output
    assert "not_finite" in output


def test_check_opens_no_run_and_forgets_what_it_found_before(recipe: Path, optops_home: Path) -> None:
    store = optops_home / "mlflow" / "mlflow.db"
    before = store.read_bytes()
    check(recipe)
    (optops_home / "checks" / "mine" / "data_docs" / "old.html").touch()
    check(recipe)
    assert not (optops_home / "checks" / "mine" / "data_docs" / "old.html").exists()
    assert store.read_bytes() == before


def test_check_says_what_keeps_data_from_being_read(recipe: Path) -> None:
    (recipe.parent / "test.npz").write_bytes(b"nothing")
    status, output = check(recipe)
    assert status == 1 and "test.npz" in output and "Traceback" not in output
