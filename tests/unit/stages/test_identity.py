"""What a result depends on: the content of what a recipe names, not where it lies."""

import json
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest

from optops.candidate import Artifact, Candidate
from optops.measurement.host import Fingerprint
from optops.pipeline import FLOW, SPLITS, STAGES, make_spec
from optops.recipe_file import parse_recipe
from optops.stage_spec import Manifest, RunReference, StageResult
from optops.stages.base import make_key
from optops.stages.identity import code_digest, data_digests, data_settings, model_digests
from optops.workloads.base import workload_of

RECIPE = """
name: mine
workload: arrays
data: {folder: data, train: train.npz, validation: validation.npz, test: test.npz}
model: {saved_model: MODEL}
registry: {name: mine}
"""

CACHED = [stage.name for stage in FLOW if stage.cached]

PLUG_INS = """
[optops.workloads]
plugged = theirs.inner.workload:Plugged
[optops.architectures]
plugged = their_models:Plugged
[optops.runtimes]
plugged = their_runtime:Plugged
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


@pytest.mark.parametrize("short", [False, True], ids=["files named like their languages", "one file of pairs"])
def test_a_setting_counts_though_a_file_is_called_the_same(tmp_path, short):
    text = "name: m\nworkload: translation\nregistry: {name: m}\nmodel: {width: 64}\ndata:\n"
    text += "  source_language: en\n  target_language: de\n"
    for split in ("train", "validation", "test"):
        (tmp_path / split).mkdir()
        for name in ("en", "de"):
            (tmp_path / split / name).write_text("one\teins\n")
        text += f"  {split}: {split}/en\n" if short else f"  {split}: {{source: {split}/en, target: {split}/de}}\n"
    swapped = text.replace("source_language: en\n  target_language: de", "source_language: de\n  target_language: en")
    one, other = (parse_recipe(each, tmp_path / "m.yaml") for each in (text, swapped))
    assert data_settings(workload_of(one), one) != data_settings(workload_of(other), other)
    elsewhere = parse_recipe(text.replace("train/en", "train/de" if short else "test/en"), tmp_path / "m.yaml")
    assert data_settings(workload_of(one), one) == data_settings(workload_of(elsewhere), elsewhere)


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


def candidate(digest="digest"):
    facts = {"architecture": "functional", "precision": "fp32", "runtime": "tensorflow", "trainable": True}
    return Candidate("train-1", "baseline", "train", (), **facts, artifact=Artifact("models:/m-1", digest))


def key_of(stage, recipe, results=None, runtime="tensorflow"):
    item = {"candidate": "train-1", "precision": "fp32", "runtime": runtime, "label": "baseline fp32"}
    item = item if STAGES[stage].over else None
    spec = make_spec(stage, recipe, RunReference("", "mine", "", "x"), results or {}, item=item)
    return make_key(spec, recipe, workload_of(recipe))


@pytest.mark.parametrize("stage", [name for name in CACHED if "check_labels" in STAGES[name].reads])
def test_a_class_that_is_added_to_the_file_of_names_leads_to_another_key(tmp_path, stage):
    recipe = parse_recipe(
        "name: pets\nworkload: detection\ndata: {format: voc, classes: classes.txt, images: images, annotations: boxes,"
        " train: train.txt, validation: validation.txt, test: test.txt}\nmodel: {}\nregistry: {name: pets}\n",
        tmp_path / "pets.yaml",
    )
    keys = set()
    for classes in ("cat", "cat\ndog"):
        (tmp_path / "classes.txt").write_text(classes)
        keys.add(key_of(stage, recipe))
    assert len(keys) == 2


@pytest.mark.parametrize("stage", [name for name in CACHED if "check_labels" in STAGES[name].reads])
def test_results_that_are_taken_over_from_a_file_lead_to_the_same_key(folder, stage):
    recipe = parse_recipe(RECIPE.replace("MODEL", "model"), folder / "mine.yaml")
    manifests = {split: Manifest(split, 3, f"digest of {split}", Artifact("run", split)) for split in SPLITS}
    checked = StageResult(stage="check_labels", key="checked", run_id="first", manifests=manifests)
    again = StageResult.from_json(json.loads(json.dumps(checked.to_json(), sort_keys=True)))

    def key(result):
        return key_of(stage, recipe, {"check_labels": (result,)})

    assert list(again.manifests) != list(checked.manifests)
    assert key(again) == key(checked)
    changed = replace(manifests["validation"], digest="digest of others")
    assert key(replace(checked, manifests={**manifests, "validation": changed})) != key(checked)


@pytest.mark.parametrize("stage", ["distill", "prune", "quantize", "fuse"])
def test_a_model_that_was_made_again_with_other_weights_leads_to_another_key(folder, stage):
    recipe = parse_recipe(RECIPE.replace("MODEL", "model"), folder / "mine.yaml")

    def key(model):
        results = {name: (StageResult(name, "key", candidates=(model,)),) for name in ("train", "distill", "prune")}
        return key_of(stage, recipe, results)

    assert key(candidate()) == key(candidate())
    assert key(candidate("digest of other weights")) != key(candidate())


def test_an_executable_goes_by_its_plan_and_the_weights_that_were_trained_for_it(folder):
    recipe = parse_recipe(RECIPE.replace("MODEL", "model"), folder / "mine.yaml")

    def key(trained, plan="digest of the plan"):
        output = {"candidate": "train-1", "precision": "fp32", "plan": {"uri": "run", "digest": plan}}
        return key_of("fuse", recipe, {"quantize": (StageResult("quantize", "key", "", (trained,), output=output),)})

    assert key(candidate("digest of other weights")) != key(candidate())
    assert key(candidate(), "digest of other ranges") != key(candidate())


@pytest.mark.parametrize("setting", ["tolerance: 0.03", "resamples: 2000"])
def test_of_the_gate_a_plan_depends_on_the_tolerance_alone(folder, setting):
    text = RECIPE.replace("MODEL", "model")
    assert "gate:" not in text
    one, other = (parse_recipe(text + gate, folder / "mine.yaml") for gate in ("", f"gate: {{{setting}}}\n"))
    assert (key_of("quantize", one) == key_of("quantize", other)) == ("tolerance" not in setting)


@pytest.mark.parametrize("stage", CACHED)
def test_only_what_is_made_for_a_cpu_depends_on_its_instruction_sets(folder, stage, monkeypatch):
    recipe = parse_recipe(RECIPE.replace("MODEL", "model"), folder / "mine.yaml")
    here = Fingerprint.of_this_host()
    keys = set()
    for isa in (("avx2",), ("avx2", "avx512_vnni")):
        # A host of another name and size with the same instruction sets makes the same.
        for cores in (2, 64):
            host = replace(here, isa=isa, cores=cores)
            monkeypatch.setattr(Fingerprint, "of_this_host", lambda host=host: host)
            keys.add(key_of(stage, recipe))
    assert len(keys) == (2 if stage in ("quantize", "fuse") else 1)


@pytest.mark.parametrize("stage", ["quantize", "fuse"])
def test_what_is_made_with_instruction_sets_held_back_is_made_again_without(folder, stage, monkeypatch):
    recipe = parse_recipe(RECIPE.replace("MODEL", "model"), folder / "mine.yaml")
    monkeypatch.delenv("OPTOPS_ISA", raising=False)
    free = key_of(stage, recipe)
    monkeypatch.setenv("OPTOPS_ISA", "generic")
    assert key_of(stage, recipe) != free


@pytest.fixture
def plug_ins(folder, monkeypatch):
    """A distribution with a workload, an architecture and a runtime of its own, and a recipe of that workload."""
    site = folder / "site"
    for path, text in {
        "theirs-1.dist-info/METADATA": "Name: theirs\nVersion: 1\n",
        "theirs-1.dist-info/entry_points.txt": PLUG_INS,
        # A namespace, in which others may have packages as well.
        "theirs/inner/__init__.py": "",
        "theirs/inner/batches.py": "",
        "theirs/inner/workload.py": "from optops.workloads.arrays.workload import ArraysWorkload\n"
        "class Plugged(ArraysWorkload):\n    name = 'plugged'\n",
        "theirs/other/__init__.py": "",
        "their_models.py": "",
        "their_runtime.py": "",
    }.items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_text(text)
    monkeypatch.syspath_prepend(site)
    recipe = parse_recipe(
        RECIPE.replace("MODEL", "model").replace("workload: arrays", "workload: plugged"), folder / "mine.yaml"
    )
    yield site, recipe
    for name in [name for name in sys.modules if name.startswith("their")]:
        del sys.modules[name]


def changes(site, file, *keys):
    """Returns which keys an edit of a file changes; keys are given as functions."""
    code_digest.cache_clear()
    before = [key() for key in keys]
    (site / file).write_text((site / file).read_text() + "# edited\n")
    code_digest.cache_clear()
    return [key() != old for key, old in zip(keys, before, strict=True)]


@pytest.mark.parametrize("stage", CACHED)
def test_an_edit_of_a_workload_of_ones_own_is_another_key(plug_ins, stage):
    site, recipe = plug_ins
    key = lambda: key_of(stage, recipe)  # noqa: E731
    for file in ("theirs/inner/workload.py", "theirs/inner/batches.py", "their_models.py"):
        assert changes(site, file, key) == [True]
    assert changes(site, "theirs/other/__init__.py", key) == [False]


def test_an_edit_of_a_plugged_runtime_is_another_key_for_what_is_lowered_to_it(plug_ins):
    site, recipe = plug_ins
    keys = [lambda: key_of("fuse", recipe, runtime="plugged"), lambda: key_of("fuse", recipe)]
    keys += [lambda stage=stage: key_of(stage, recipe) for stage in CACHED if stage != "fuse"]
    assert changes(site, "their_runtime.py", *keys) == [True, *[False] * (len(keys) - 1)]
