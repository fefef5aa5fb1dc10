"""What `optops validate` tells of data that a run's label checks are bound to refuse."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from optops.cli import app
from optops.workloads.detection.scenes import write_scenes
from optops.workloads.image_classification.shapes import write_shapes

DETECTION = """
name: scenes
workload: detection
data:
  format: voc
  classes: [disc, triangle, cross]
  images: images
  annotations: annotations
  train: train.txt
  validation: validation.txt
  test: test.txt
model: {}
registry: {name: scenes}
"""
CLASSIFICATION = """
name: shapes
workload: image_classification
data: {classes: [cross, disc, ring, square, triangle], train: train, validation: validation, test: test}
model: {}
registry: {name: shapes}
"""
SUPER_RESOLUTION = """
name: pairs
workload: super_resolution
data: {scale: 2, train: {high: high, low: low}, validation: {high: high, low: low}, test: {high: high, low: low}}
model: {}
registry: {name: pairs}
"""


def validate(folder: Path, text: str) -> tuple[int, dict[str, Any]]:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    result = CliRunner().invoke(app, ["validate", str(path), "--json"])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, json.loads(result.stdout)


@pytest.fixture
def folder(optops_home: Path, tmp_path: Path) -> Path:
    del optops_home
    return tmp_path


def test_a_list_of_images_that_are_not_there_keeps_a_recipe_from_running(folder: Path) -> None:
    write_scenes(folder, train=4, validation=2, test=2, seed=1, side=32)
    status, found = validate(folder, DETECTION)
    assert status == 0 and found["problems"] == []
    (folder / "test.txt").write_text("one.png\ntwo.png\n", encoding="utf-8")
    status, found = validate(folder, DETECTION)
    assert status == 1
    assert "none of its 2 lines names an image" in found["problems"][0]


def test_images_of_a_split_that_are_gone_keep_a_recipe_from_running(folder: Path) -> None:
    write_scenes(folder, train=4, validation=2, test=2, seed=1, side=32)
    listed = (folder / "test.txt").read_text(encoding="utf-8").split()
    gone = [path for path in sorted((folder / "images").iterdir()) if {path.name, path.stem} & set(listed)]
    for path in gone:
        path.unlink()
    status, found = validate(folder, DETECTION)
    assert status == 1
    assert "data.test: label check unreadable: 2 of 2 images, first " in found["problems"][0]
    assert str(folder / "images" / gone[0].stem) in found["problems"][0] and "does not exist" in found["problems"][0]


def test_an_image_that_is_not_there_counts_by_the_limit_of_its_check(folder: Path) -> None:
    write_scenes(folder, train=4, validation=2, test=2, seed=1, side=32)
    next((folder / "images").glob("scene_00000.*")).unlink()
    status, found = validate(folder, DETECTION)
    assert status == 1 and "label check unreadable: 1 of 4 images" in found["problems"][0]
    for more in ("quarantine: true", "checks: {unreadable: {limit: 0.3}}", "checks: {unreadable: {severity: warning}}"):
        status, found = validate(folder, f"{DETECTION}check_labels: {{{more}}}\n")
        assert status == 0
        assert any("data.train: label check unreadable: 1 of 4 images" in warning for warning in found["warnings"])
    status, found = validate(folder, f"{DETECTION}check_labels: {{checks: {{unreadable: off}}}}\n")
    assert status == 0 and "unreadable" not in str(found["warnings"])


def test_labels_that_are_no_class_keep_a_recipe_from_running(folder: Path) -> None:
    write_shapes(folder, train=10, validation=5, test=5, seed=1)
    assert validate(folder, CLASSIFICATION)[0] == 0
    status, found = validate(folder, CLASSIFICATION.replace("triangle", "triangel"))
    assert status == 1
    assert [problem.partition(" images")[0] for problem in found["problems"]] == [
        "data.train: label check unknown_class: 2 of 10",
        "data.validation: label check unknown_class: 1 of 5",
        "data.test: label check unknown_class: 1 of 5",
    ]
    assert all("did you mean 'triangel'?; mend the data, `optops check` shows all" in p for p in found["problems"])


def test_an_image_without_its_other_size_keeps_a_recipe_from_running(folder: Path) -> None:
    for place, side in (("high", 64), ("low", 32)):
        (folder / place).mkdir()
        for name in ("a", "b"):
            Image.fromarray(np.zeros((side, side), np.uint8)).save(folder / place / f"{name}.png")
    assert validate(folder, SUPER_RESOLUTION)[0] == 0
    (folder / "low" / "b.png").unlink()
    status, found = validate(folder, SUPER_RESOLUTION)
    assert status == 1
    assert "data.test: label check missing_partner: 1 of 2 images" in found["problems"][2]
    assert "no low-resolution one of this name" in found["problems"][2]
