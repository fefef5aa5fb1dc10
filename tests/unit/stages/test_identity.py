"""What a result depends on: the content of what a recipe names, not where it lies."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from optops.candidate import Artifact
from optops.pipeline import FLOW, SPLITS, make_spec
from optops.recipe_file import parse_recipe
from optops.stage_spec import Manifest, RunReference, StageResult
from optops.stages.base import make_key
from optops.stages.identity import data_digests, data_settings, model_digests
from optops.workloads.base import workload_of

RECIPE = """
name: mine
workload: arrays
data: {folder: data, train: train.npz, validation: validation.npz, test: test.npz}
model: {saved_model: MODEL}
registry: {name: mine}
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data").mkdir()
    for split in ("train", "validation", "test"):
        np.savez(tmp_path / "data" / f"{split}.npz", x=np.zeros((2, 3)), labels=np.zeros(2))
    (tmp_path / "model" / "variables").mkdir(parents=True)
    (tmp_path / "model" / "saved_model.pb").write_bytes(b"graph")
    (tmp_path / "model" / "variables" / "variables.index").write_bytes(b"weights")
    return tmp_path


def digests(folder, model="model"):
    recipe = parse_recipe(RECIPE.replace("MODEL", model), folder / "mine.yaml")
    return model_digests(workload_of(recipe), recipe)


def test_another_model_under_the_same_name_is_another_model(folder):
    before = digests(folder)
    (folder / "model" / "variables" / "variables.index").write_bytes(b"retrained")
    assert digests(folder) != before


def test_the_same_model_elsewhere_is_the_same_model(folder):
    shutil.copytree(folder / "model", folder / "moved")
    assert digests(folder, "moved") == digests(folder)


def test_a_model_that_is_not_there_is_named_with_its_key(folder):
    with pytest.raises(FileNotFoundError, match=r"model\.saved_model: .*absent does not exist"):
        digests(folder, "absent")


def test_other_data_under_the_same_name_is_other_data(folder):
    recipe = parse_recipe(RECIPE, folder / "mine.yaml")
    before = data_digests(workload_of(recipe), recipe)
    np.savez(folder / "data" / "test.npz", x=np.ones((2, 3)), labels=np.zeros(2))
    assert data_digests(workload_of(recipe), recipe) != before


def test_an_image_that_is_mended_under_an_unchanged_list_is_other_data(tmp_path):
    (tmp_path / "images").mkdir()
    for split in ("train", "validation", "test"):
        (tmp_path / f"{split}.csv").write_text(f"file,label\nimages/{split}.png,cat\n")
        (tmp_path / "images" / f"{split}.png").write_bytes(split.encode())
    splits = "train: train.csv, validation: validation.csv, test: test.csv"
    recipe = parse_recipe(
        f"name: pets\nworkload: image_classification\ndata: {{classes: [cat, dog], {splits}}}\n"
        "model: {depth: 18}\nregistry: {name: pets}\n",
        tmp_path / "pets.yaml",
    )
    seen = [data_digests(workload_of(recipe), recipe)]
    for change in (lambda path: path.write_bytes(b"mended"), lambda path: path.unlink()):
        change(tmp_path / "images" / "train.png")
        found = data_digests(workload_of(recipe), recipe)
        assert found not in seen
        seen.append(found)


def settings(folder, data):
    recipe = parse_recipe(RECIPE.replace("test: test.npz", data), folder / "mine.yaml")
    return data_settings(workload_of(recipe), recipe)


def test_what_is_made_of_the_data_counts_and_where_it_lies_does_not(folder):
    plain = settings(folder, "test: test.npz")
    shutil.copy(folder / "data" / "test.npz", folder / "data" / "other.npz")
    assert settings(folder, "test: other.npz") == plain
    assert settings(folder, "test: test.npz, metric: r2") != plain


def test_names_of_classes_count_whatever_is_in_them(tmp_path):
    for split in ("train", "validation", "test"):
        (tmp_path / f"{split}.tsv").write_text("text\tlabel\nyes\t0\n")

    def found(name):
        recipe = parse_recipe(
            "name: news\nworkload: text_classification\n"
            "data: {train: train.tsv, validation: validation.tsv, test: test.tsv, "
            f"classes: {{0: World, 4: {name}}}}}\nmodel: {{}}\n"
            "registry: {name: news}\n",
            tmp_path / "news.yaml",
        )
        return data_settings(workload_of(recipe), recipe)

    assert found("Sci/Tech") != found("Science/Technology")


@pytest.mark.parametrize("stage", [stage.name for stage in FLOW if stage.cached and "check_labels" in stage.reads])
def test_results_that_are_taken_over_from_a_file_lead_to_the_same_key(folder, stage):
    recipe = parse_recipe(RECIPE.replace("MODEL", "model"), folder / "mine.yaml")
    manifests = {split: Manifest(split, 3, f"digest of {split}", Artifact("run", split)) for split in SPLITS}
    checked = StageResult(stage="check_labels", key="checked", run_id="first", manifests=manifests)
    again = StageResult.from_json(json.loads(json.dumps(checked.to_json(), sort_keys=True)))

    def key(result):
        item = {"candidate": "train-1", "precision": "fp32", "runtime": "tensorflow", "label": "baseline fp32"}
        spec = make_spec(stage, recipe, RunReference("", "mine", "", "x"), {"check_labels": (result,)}, item=item)
        return make_key(spec, recipe, workload_of(recipe))

    assert list(again.manifests) != list(checked.manifests)
    assert key(again) == key(checked)
    changed = replace(manifests["validation"], digest="digest of others")
    assert key(replace(checked, manifests={**manifests, "validation": changed})) != key(checked)
