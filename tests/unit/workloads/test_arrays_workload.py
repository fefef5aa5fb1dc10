"""Bring your own model: arrays as examples, a metric named in the recipe."""

import json
import shutil

import numpy as np
import pytest

from optops.models.keras import keras, tf
from optops.recipe_file import RecipeError, parse_recipe
from optops.runtimes.base import ExecutableInfo, LoadedExecutable
from optops.testing import check_workload
from optops.workloads.arrays.reading import ArraysError
from optops.workloads.base import load_workload, workload_of

RECIPE = """
name: mine
workload: arrays
data: {folder: data, train: train.npz, validation: validation.npz, test: test.npz}
model: {saved_model: saved_model}
distill: off
registry: {name: mine}
"""


def write(path, count, seed, **others):
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(count, 4)).astype(np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **{"x": x, "labels": x[:, :3].argmax(axis=1), **others})


@pytest.fixture
def folder(tmp_path):
    for seed, (split, count) in enumerate({"train": 60, "validation": 20, "test": 30}.items()):
        write(tmp_path / "data" / f"{split}.npz", count, seed)
    return tmp_path


def recipe_in(folder, **changes):
    text = RECIPE
    for key, value in changes.items():
        text = text.replace(key, value)
    return parse_recipe(text, folder / "mine.yaml")


def outputs_for(recipe, wrong=0):
    """Predictions that hit all labels of the test split but the first `wrong`."""
    workload = workload_of(recipe)
    examples = workload.read(recipe.data)["test"]
    with np.load(examples["path"].iloc[0]) as arrays:
        scores = np.eye(3, dtype=np.float32)[arrays["labels"]]
    scores[:wrong] = np.roll(scores[:wrong], 1, axis=1)
    executable = LoadedExecutable(
        ExecutableInfo("tensorflow", "fp32", {}, {}), lambda inputs: {"scores": scores[: len(inputs["x"])]}
    )
    return workload.predict(executable, examples, None)


def test_the_workload_conforms(folder):
    recipe = recipe_in(folder)
    check_workload(recipe, outputs_for(recipe, wrong=7), perfect=outputs_for(recipe))


def test_accuracy_is_the_share_of_hits(folder):
    recipe = recipe_in(folder)
    workload = workload_of(recipe)
    examples = workload.read(recipe.data)["test"]
    found = workload.metric(workload.statistics(outputs_for(recipe, wrong=6), examples, recipe.data))
    assert found == pytest.approx([80.0])


def test_explained_variance_resamples_like_its_definition(folder):
    generator = np.random.default_rng(5)
    wanted = generator.normal(size=40).astype(np.float32)
    found = wanted + generator.normal(scale=0.3, size=40).astype(np.float32)
    write(folder / "data" / "test.npz", 40, 9, labels=wanted)
    recipe = recipe_in(folder, **{"test: test.npz}": "test: test.npz, metric: r2}"})
    workload = workload_of(recipe)
    executable = LoadedExecutable(ExecutableInfo("tensorflow", "fp32", {}, {}), lambda _: {"y": found[:, None]})
    examples = workload.read(recipe.data)["test"]
    from optops.workloads.arrays.outputs import examples_of

    predictions = list(examples_of(executable({}), 40))
    statistics = workload.statistics(predictions, examples, recipe.data)
    weights = generator.multinomial(40, np.full(40, 1 / 40), size=5)
    for value, counts in zip(workload.metric(statistics, weights), weights, strict=True):
        rows = np.repeat(np.arange(40), counts)
        y, f = wanted[rows].astype(np.float64), found[rows].astype(np.float64)
        # Held against the mean of all examples, as the model is: a resample has none of its own.
        mean = wanted.astype(np.float64).mean()
        assert value == pytest.approx(100 * (1 - ((y - f) ** 2).sum() / ((y - mean) ** 2).sum()), rel=1e-9)


def test_numbers_that_stand_for_never_neither_differ_nor_hide_what_does():
    from optops.workloads.arrays.outputs import examples_of, same_share

    def answers(**changes):
        logits = np.array([[1.0, 2.0, -np.inf], [3.0, -1e9, 0.5]], np.float32)
        for place, value in changes.items():
            logits[tuple(map(int, place[1:].split("_")))] = value
        return list(examples_of({"y": logits}, 2))

    assert same_share(answers(), answers()) == 1
    assert same_share(answers(p1_0=3.0001), answers()) == 1
    assert same_share(answers(p1_0=3.1), answers()) == 0.5
    assert same_share(answers(p0_2=5.0), answers()) == 0.5
    assert same_share(answers(p0_0=np.nan), answers()) == 0.5


def test_an_output_of_another_size_for_another_example_is_refused_with_what_to_do():
    from optops.workloads.arrays.outputs import examples_of, stack

    predictions = [*examples_of({"boxes": np.zeros((2, 3, 4))}, 2), *examples_of({"boxes": np.zeros((1, 5, 4))}, 1)]
    with pytest.raises(
        ValueError, match=r"output 'boxes' is \[3, 4\] for one .* \[5, 4\] for another; export .* padded"
    ):
        stack(predictions)


def test_a_metric_of_ones_own_gives_the_recipe_its_name_and_direction(folder, monkeypatch):
    (folder / "my_metrics.py").write_text(
        "import numpy as np\n\n\ndef error(outputs, labels):\n"
        "    return (outputs['scores'].argmax(axis=1) != labels).astype(float)\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(folder)
    metric = "metric: {function: 'my_metrics:error', name: mistakes, higher_is_better: false}}"
    recipe = recipe_in(folder, **{"test: test.npz}": f"test: test.npz, {metric}"})
    workload = workload_of(recipe)
    assert (workload.metric_name, workload.higher_is_better) == ("mistakes", False)
    assert "my_metrics:error" in workload.metric_signature(recipe.data)
    check_workload(recipe, outputs_for(recipe, wrong=7), perfect=outputs_for(recipe))


def test_a_metric_may_be_anything_that_can_be_called(folder, monkeypatch):
    (folder / "made_metrics.py").write_text(
        "import functools, operator\n\n\ndef _error(power, outputs, labels):\n"
        "    return [power] * len(labels)\n\n\nerror = functools.partial(_error, 2)\ngot = operator.itemgetter(0)\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(folder)
    from optops.candidate import digest_file
    from optops.workloads.arrays.metrics import metric_signature
    from optops.workloads.arrays.settings import Metric

    for name in ("error", "got"):
        signature = metric_signature(Metric(function=f"made_metrics:{name}"))
        assert digest_file(folder / "made_metrics.py")[:16] in signature
    assert "source unknown" in metric_signature(Metric(function="builtins:len"))


def test_outputs_of_all_examples_that_can_not_be_kept_are_refused_after_the_first_call(monkeypatch):
    from optops.workloads.arrays import outputs

    monkeypatch.setattr(outputs, "MOST_BYTES", 100_000)
    calls = []

    def dense(inputs):
        calls.append(len(inputs["x"]))
        return {"map": np.zeros((len(inputs["x"]), 16, 16), np.float32), "class": np.zeros(len(inputs["x"]))}

    executable = LoadedExecutable(ExecutableInfo("tensorflow", "fp32", {}, {}), dense)
    assert len(outputs.predict_in_calls(executable, {"x": np.zeros((90, 1))}, None)) == 90
    calls.clear()
    with pytest.raises(ValueError, match=r"outputs of 110 examples take 0\.0 GB.*'map', \[16, 16\].*with an argmax"):
        outputs.predict_in_calls(executable, {"x": np.zeros((110, 1))}, None)
    assert calls == [outputs.CALL_SIZE]


def test_a_metric_takes_labels_of_several_outputs_apart_by_their_fields(folder, monkeypatch):
    (folder / "two_metrics.py").write_text(
        "def both(outputs, labels):\n"
        "    return (outputs['scores'].argmax(axis=1) == labels['kind']) & (labels['age'] > 0)\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(folder)
    with np.load(folder / "data" / "test.npz") as arrays:
        x, kinds = arrays["x"], arrays["labels"]
    labels = np.zeros(len(x), [("kind", np.int64), ("age", np.float32)])
    labels["kind"], labels["age"][:3] = kinds, 1
    recipe = recipe_in(folder, **{"test: test.npz}": "test: test.npz, metric: 'two_metrics:both'}"})
    predictions = outputs_for(recipe)
    np.savez(folder / "data" / "test.npz", x=x, labels=labels)
    workload = workload_of(recipe)
    examples = workload.read(recipe.data)["test"]
    assert workload.metric(workload.statistics(predictions, examples, recipe.data)) == pytest.approx([3 / len(x)])


def test_a_metric_that_fails_says_what_it_was_called_with(folder, monkeypatch):
    (folder / "failing_metrics.py").write_text(
        "def age(outputs, labels):\n    return outputs['age']\n", encoding="utf-8"
    )
    monkeypatch.syspath_prepend(folder)
    recipe = recipe_in(folder, **{"test: test.npz}": "test: test.npz, metric: 'failing_metrics:age'}"})
    examples = workload_of(recipe).read(recipe.data)["test"]
    says = r"failing_metrics:age fails with KeyError: 'age'; .*scores float32 \[30, 3\] and labels int64 \[30\]"
    with pytest.raises(ValueError, match=says):
        workload_of(recipe).statistics(outputs_for(recipe), examples, recipe.data)


def test_a_metric_that_gives_nonsense_is_refused(folder, monkeypatch):
    (folder / "bad_metrics.py").write_text("def one(outputs, labels):\n    return [1.0]\n", encoding="utf-8")
    monkeypatch.syspath_prepend(folder)
    recipe = recipe_in(folder, **{"test: test.npz}": "test: test.npz, metric: 'bad_metrics:one'}"})
    examples = workload_of(recipe).read(recipe.data)["test"]
    with pytest.raises(ValueError, match="one number for each of the 30 examples"):
        workload_of(recipe).statistics(outputs_for(recipe), examples, recipe.data)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"test: test.npz}": "test: test.npz, metric: acuracy}"}, "'acuracy' is no metric; give accuracy or r2"),
        ({"validation: validation.npz, ": ""}, "validation missing; give all three splits, or a `corpus` to split"),
        ({"{saved_model: saved_model}": "{}"}, "either `saved_model` or `keras`"),
        ({"distill: off": "distill: {}"}, "distill needs a trainable model"),
        ({"distill: off": "distill: off\nprune: {}"}, "prune needs a trainable model"),
    ],
)
def test_a_recipe_that_can_not_work_is_refused_when_it_is_read(folder, changes, says):
    with pytest.raises(RecipeError, match=says):
        recipe_in(folder, **changes)


def test_a_keras_file_may_be_pruned_and_has_no_student_unless_asked(folder):
    changes = {"saved_model: saved_model": "keras: model.keras", "distill: off": "prune: {}"}
    recipe = recipe_in(folder, **changes)
    assert recipe.prune.ratios == (0.3,)
    assert recipe.distill == "off"


def test_planted_defects_are_found_each_with_its_row(folder):
    x = np.random.default_rng(4).normal(size=(12, 4)).astype(np.float32)
    labels = np.arange(12) % 3
    x[3, 1] = np.nan
    x[5] = 2.5
    x[7] = x[6]
    labels[7] = labels[6]
    x[9] = x[8]
    labels[9] = labels[8] + 1
    with np.load(folder / "data" / "test.npz") as arrays:
        x[11] = arrays["x"][2]
    np.savez(folder / "data" / "train.npz", x=x, labels=labels)
    recipe = recipe_in(folder)
    workload = workload_of(recipe)
    report = workload.check(workload.read(recipe.data), recipe, folder / "docs")
    found = sorted((defect.check, defect.line) for defect in report.defects)
    assert found == [
        ("conflicting_label", 9),
        ("conflicting_label", 10),
        ("constant", 6),
        ("duplicate", 8),
        ("not_finite", 4),
        ("overlap", 3),
        ("overlap", 12),
    ]
    assert report.quarantine == {"train.npz:3", "train.npz:11"}


def test_one_label_that_is_no_number_is_over_the_limit(folder):
    labels = np.zeros(1000, np.float32)
    labels[7] = np.nan
    np.savez(folder / "data" / "train.npz", x=np.random.default_rng(3).normal(size=(1000, 4)), labels=labels)
    recipe = recipe_in(folder)
    workload = workload_of(recipe)
    report = workload.check(workload.read(recipe.data), recipe, folder / "docs")
    over = [outcome.check for outcome in report.outcomes if not outcome.within_limit]
    assert over == ["label_not_finite"]


def test_a_field_of_structured_labels_that_is_no_number_is_found(folder):
    labels = np.zeros(12, [("age", np.float32), ("sex", np.int8), ("box", np.float32, 4)])
    labels["age"][3] = np.nan
    labels["box"][5, 1] = np.inf
    np.savez(folder / "data" / "train.npz", x=np.random.default_rng(3).normal(size=(12, 4)), labels=labels)
    recipe = recipe_in(folder)
    workload = workload_of(recipe)
    report = workload.check(workload.read(recipe.data), recipe, folder / "docs")
    found = {(defect.check, defect.line): defect.reason for defect in report.defects}
    assert found == {
        ("label_not_finite", 4): "array 'labels.age' holds NaN or infinity",
        ("label_not_finite", 6): "array 'labels.box' holds NaN or infinity",
    }


def test_an_input_that_is_constant_in_every_example_is_no_defect_of_an_example(folder):
    for split in ("train", "validation", "test"):
        with np.load(folder / "data" / f"{split}.npz") as arrays:
            held = dict(arrays)
        count = len(held["labels"])
        masks = {"attention_mask": np.ones((count, 8), np.int32), "token_type_ids": np.zeros((count, 8), np.int32)}
        np.savez(folder / "data" / f"{split}.npz", **held, **masks)
    from optops.workloads.arrays.checks import find_constant

    rows = load_workload("arrays").read(recipe_in(folder).data)["train"]
    assert find_constant(rows, "labels").empty


def test_a_clean_set_raises_no_alarm(folder):
    recipe = recipe_in(folder)
    workload = workload_of(recipe)
    assert workload.check(workload.read(recipe.data), recipe, folder / "docs").defects == []


def test_a_corpus_is_split_by_content_and_equal_inputs_stay_together(folder):
    generator = np.random.default_rng(1)
    x = np.repeat(generator.normal(size=(100, 4)).astype(np.float32), 2, axis=0)
    np.savez(folder / "data" / "all.npz", x=x, labels=np.arange(200) % 3)
    splits = "train: train.npz, validation: validation.npz, test: test.npz"
    recipe = recipe_in(folder, **{splits: "corpus: all.npz, fractions: {train: 0.6, validation: 0.2, test: 0.2}"})
    frames = load_workload("arrays").read(recipe.data)
    assert sum(map(len, frames.values())) == 200
    seen = [set(frame["input_digest"]) for frame in frames.values()]
    assert all(not one & other for one, other in [(seen[0], seen[1]), (seen[0], seen[2]), (seen[1], seen[2])])
    assert all(len(frame) for frame in frames.values())
    # A label that is corrected moves no example.
    np.savez(folder / "data" / "all.npz", x=x, labels=np.zeros(200, np.int64))
    again = load_workload("arrays").read(recipe.data)
    assert {name: list(frame["id"]) for name, frame in again.items()} == {
        name: list(frame["id"]) for name, frame in frames.items()
    }


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"labels": np.zeros(3)}, "holds labels alone"),
        ({"x": np.zeros((3, 4))}, "has no array 'labels'"),
        ({"x": np.zeros((3, 4)), "labels": np.zeros(2)}, "lengths are"),
        ({"x": np.array([{}, {}], object), "labels": np.zeros(2)}, "can not be read as an .npz file without objects"),
        (
            {"x": np.array([b"\x89PNG", b"a"]), "labels": np.zeros(2)},
            "array 'x' holds bytes that are no text.*as uint8",
        ),
    ],
)
def test_files_that_can_not_be_used_are_refused_by_name(folder, content, says):
    np.savez(folder / "data" / "train.npz", **content)
    recipe = recipe_in(folder)
    with pytest.raises(ArraysError, match=says) as error:
        load_workload("arrays").read(recipe.data)
    assert "train.npz" in str(error.value)


def test_a_cut_off_file_is_refused_by_name(folder):
    path = folder / "data" / "train.npz"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ArraysError, match=r"train\.npz can not be read"):
        load_workload("arrays").read(recipe_in(folder).data)


def test_a_file_of_one_array_without_a_name_is_refused_by_name(folder):
    path = folder / "data" / "train.npz"
    np.save(folder / "one.npy", np.zeros((3, 4)))
    (folder / "one.npy").rename(path)
    with pytest.raises(ArraysError, match=r"train\.npz can not be read.*one array without a name.*numpy\.savez"):
        load_workload("arrays").read(recipe_in(folder).data)


def test_a_file_with_a_damaged_byte_is_refused_by_name(folder):
    path = folder / "data" / "train.npz"
    np.savez_compressed(path, x=np.arange(4000.0).reshape(-1, 4), labels=np.zeros(1000))
    content = bytearray(path.read_bytes())
    content[300:340] = b"\xff" * 40
    path.write_bytes(content)
    with pytest.raises(ArraysError, match=r"train\.npz can not be read"):
        load_workload("arrays").read(recipe_in(folder).data)


def saved_model(folder, dtype=tf.float32):
    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([None, 4], dtype, name="x")])
    def serve(x):
        return {"scores": tf.cast(x, tf.float32)[:, :3]}

    tf.saved_model.save(module, str(folder / "saved_model"), signatures={"serving_default": serve})


def test_a_saved_model_is_imported_and_its_answers_are_its_own(folder):
    saved_model(folder)
    recipe = recipe_in(folder)
    workload = workload_of(recipe)
    workload.import_model(recipe, folder / "imported")
    from optops.runtimes.base import load_executable

    executable = load_executable(folder / "imported" / "serving", 1)
    examples = workload.read(recipe.data)["test"]
    found = workload.metric(workload.statistics(workload.predict(executable, examples, None), examples, recipe.data))
    assert found == pytest.approx([100.0])
    raw = workload.input_example(examples)
    assert workload.serve(executable, None, raw)[1]["scores"] == pytest.approx(raw[1][:3])
    with pytest.raises(ValueError, match=r"input 0, 'x': shape \[3\]; expected \[4\]"):
        workload.serve(executable, None, [[1.0, 2.0, 3.0]])
    with pytest.raises(ValueError, match="input 1, 'x': no array of float32"):
        workload.serve(executable, None, [[1.0] * 4, ["a"] * 4])


def test_a_model_that_takes_texts_and_answers_with_texts_is_imported_read_and_served(folder):
    module = tf.Module()

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def serve(text):
        length = tf.strings.length(text, "UTF8_CHAR")
        return {"scores": tf.one_hot(tf.minimum(length, 2), 3), "upper": tf.strings.upper(text, "utf-8")}

    tf.saved_model.save(module, str(folder / "saved_model"), signatures={"serving_default": serve})
    texts = {
        "train": ["grün", "a"],
        "validation": ["", "b", "a much longer text than those of training"],
        "test": ["b"],
    }
    for split, rows in texts.items():
        labels = [min(len(text), 2) for text in rows]
        np.savez(folder / "data" / f"{split}.npz", text=np.array(rows), labels=np.array(labels))
    # Bytes are texts, too: UTF-8.
    np.savez(folder / "data" / "test.npz", text=np.char.encode(["b", "ü"], "utf-8"), labels=np.array([1, 1]))
    recipe = recipe_in(folder, **{"test: test.npz}": "test: test.npz, output: scores}"})
    workload = workload_of(recipe)
    workload.import_model(recipe, folder / "imported")
    from optops.runtimes.base import load_executable

    executable = load_executable(folder / "imported" / "serving", 1)
    examples = workload.read(recipe.data)
    for frame in examples.values():
        predictions = workload.predict(executable, frame, None)
        assert workload.metric(workload.statistics(predictions, frame, recipe.data)) == pytest.approx([100.0])
        assert workload.agreement(predictions, predictions) == 1
        # What is registered is JSON, and the model must take it.
        raw = json.loads(json.dumps(workload.input_example(frame)))
        assert len(workload.serve(executable, None, raw)) == len(raw)
    assert workload.input_example(examples["train"]) == ["grün", "a"]
    answers = workload.serve(executable, None, ["straße", ""])
    assert answers == [{"scores": [0, 0, 1], "upper": "STRASSE"}, {"scores": [1, 0, 0], "upper": ""}]
    # An example is the same however long the other texts of its file are.
    assert examples["validation"]["input_digest"][1] == examples["test"]["input_digest"][0]
    report = workload.check(examples, recipe, folder / "docs")
    assert [defect.check for defect in report.defects] == ["overlap", "overlap"]


def test_a_model_that_takes_other_inputs_is_refused_with_both(folder):
    saved_model(folder, tf.float64)
    recipe = recipe_in(folder)
    with pytest.raises(ArraysError, match=r"array 'x' is float32 \[\d+, 4\]; the model takes float64 \[None, 4\]"):
        workload_of(recipe).import_model(recipe, folder / "imported")


def fixed(folder, sizes, output=None):
    """A SavedModel whose signature fixes the first axis of its inputs."""
    specs = {name: tf.TensorSpec(shape, tf.float32, name=name) for name, shape in sizes.items()}

    @tf.function(input_signature=[specs])
    def serve(inputs):
        return {"scores": tf.reduce_sum(inputs["x"]) if output == "sum" else inputs["x"][:, :3]}

    tf.saved_model.save(tf.Module(), str(folder / "saved_model"), signatures={"serving_default": serve})


def test_a_model_that_takes_a_fixed_number_of_examples_is_judged_timed_and_served_as_any_other(folder):
    fixed(folder, {"x": [4, 4]})
    recipe = recipe_in(folder)
    workload = workload_of(recipe)
    workload.import_model(recipe, folder / "imported")
    from optops.graph.lowering import lower_serving
    from optops.precision import PrecisionPlan
    from optops.runtimes.base import load_executable

    lower_serving(folder / "imported" / "serving", PrecisionPlan("fp32"), "onnxruntime", folder / "lowered")
    examples = workload.read(recipe.data)["test"]
    for place in (folder / "imported" / "serving", folder / "lowered"):
        executable = load_executable(place, 1)
        predictions = workload.predict(executable, examples, None)
        found = workload.metric(workload.statistics(predictions, examples, recipe.data))
        assert found == pytest.approx([100.0])
        for batch in (1, 6):
            (inputs, *_) = workload.benchmark_inputs(examples, folder, batch, 1)
            assert executable(inputs)["scores"].shape == (batch, 3)
        raw = workload.input_example(examples)
        assert workload.serve(executable, None, raw[:1])[0]["scores"] == pytest.approx(raw[0][:3])


@pytest.mark.parametrize(("sizes", "output"), [({"x": [2, 4], "y": [1, 4]}, None), ({"x": [2, 4]}, "sum")])
def test_a_fixed_first_axis_that_does_not_count_examples_is_refused_early(folder, sizes, output):
    fixed(folder, sizes, output)
    for seed, split in enumerate(("train", "validation", "test")):
        others = {name: np.ones((20, 4), np.float32) for name in sizes if name != "x"}
        write(folder / "data" / f"{split}.npz", 20, seed, **others)
    recipe = recipe_in(folder)
    with pytest.raises(ArraysError, match=r"'x' of the model is \[2, 4\].*export the model with a first axis of any"):
        workload_of(recipe).import_model(recipe, folder / "imported")


def functional(folder):
    keras.utils.set_random_seed(3)
    x = keras.Input((4,), name="x")
    hidden = keras.layers.Dense(32, "relu")(x)
    model = keras.Model(x, keras.layers.Dense(3, name="scores")(hidden))
    model.save(folder / "model.keras")
    return model


def test_a_functional_keras_model_stays_trainable(folder):
    model = functional(folder)
    recipe = recipe_in(folder, **{"saved_model: saved_model": "keras: model.keras"})
    workload_of(recipe).import_model(recipe, folder / "imported")
    from optops.models.base import Description, load_architecture

    trainable = folder / "imported" / "trainable"
    again = load_architecture(Description.load(trainable).architecture).load(trainable)
    x = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    np.testing.assert_array_equal(model(x), again(x))
    shutil.rmtree(trainable)


def test_a_pruned_model_learns_from_its_teacher_and_from_the_labels_if_a_loss_is_named(folder):
    model = functional(folder)
    batch = {"x": np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32), "labels": np.array([0, 1, 2, 0, 1])}
    changes = {"saved_model: saved_model": "keras: model.keras", "distill: off": "distill: off\nprune: {alpha: 0.25}"}
    plain = recipe_in(folder, **changes)
    assert float(workload_of(plain).distillation_loss(model, model, plain.prune)(model, batch, 0.0)) == 0
    with pytest.raises(ValueError, match=r"write one to `model\.loss`"):
        workload_of(plain).loss(plain.prune.train)(model, batch, 0.0)
    changes["saved_model: saved_model"] = "keras: model.keras, loss: mean_squared_error"
    labels = np.random.default_rng(1).normal(size=(5, 3)).astype(np.float32)
    named = recipe_in(folder, **changes)
    loss = workload_of(named).distillation_loss(model, model, named.prune)(model, {**batch, "labels": labels}, 0.0)
    assert float(loss) == pytest.approx(0.75 * np.mean((model(batch["x"]) - labels) ** 2), rel=1e-5)


def test_training_takes_labels_only_for_a_loss_and_only_numbers(folder):
    recipe = recipe_in(folder, **{"saved_model: saved_model": "keras: model.keras", "distill: off": "prune: {}"})
    named = recipe_in(
        folder, **{"saved_model: saved_model": "keras: model.keras, loss: mse", "distill: off": "prune: {}"}
    )
    for labels in (np.zeros(60, np.int32), np.zeros(60, [("age", np.float32), ("sex", np.int8)])):
        write(folder / "data" / "train.npz", 60, 0, labels=labels)
        examples = workload_of(recipe).read(recipe.data)["train"]
        batches = workload_of(recipe).batches(recipe, examples, folder, recipe.prune.train)
        assert set(next(iter(batches(1)))) == {"x"}
        if labels.dtype.names:
            with pytest.raises(ValueError, match=r"model\.loss: mse needs labels that are one array of numbers"):
                workload_of(named).batches(named, examples, folder, named.prune.train)
        else:
            batches = workload_of(named).batches(named, examples, folder, named.prune.train)
            assert set(next(iter(batches(1)))) == {"x", "labels"}


def test_features_that_functional_models_do_not_have_are_refused(folder):
    changes = {"saved_model: saved_model": "keras: model.keras", "distill: off": "prune: {beta: 0.5}"}
    with pytest.raises(RecipeError, match=r"prune\.beta: .*functional models have no features .*; remove it"):
        recipe_in(folder, **changes)


def test_the_loss_looks_at_the_output_that_the_recipe_names(folder):
    x = keras.Input((4,), name="x")
    model = keras.Model(x, [keras.layers.Dense(2, name="a")(x), keras.layers.Dense(3, name="b")(x)])
    batch = {"x": np.ones((5, 4), np.float32), "labels": np.zeros((5, 3), np.float32)}
    changes = {
        "test: test.npz}": "test: test.npz, output: b}",
        "saved_model: saved_model": "keras: model.keras, loss: mean_squared_error",
        "distill: off": "prune: {}",
    }
    recipe = recipe_in(folder, **changes)
    loss = workload_of(recipe).loss(recipe.prune.train)(model, batch, 0.0)
    assert float(loss) == pytest.approx(float(np.mean(model(batch["x"])[1] ** 2)), rel=1e-5)


def test_the_loss_finds_an_output_by_its_key_where_the_model_gives_a_dictionary(folder):
    x = keras.Input((4,), name="x")
    model = keras.Model(x, {"a": keras.layers.Dense(3, name="z")(x), "b": keras.layers.Dense(3, name="y")(x)})
    batch = {"x": np.ones((5, 4), np.float32), "labels": np.zeros((5, 3), np.float32)}
    for name in ("a", "b"):
        changes = {
            "test: test.npz}": f"test: test.npz, output: {name}}}",
            "saved_model: saved_model": "keras: model.keras, loss: mean_squared_error",
            "distill: off": "prune: {}",
        }
        recipe = recipe_in(folder, **changes)
        loss = workload_of(recipe).loss(recipe.prune.train)(model, batch, 0.0)
        assert float(loss) == pytest.approx(float(np.mean(model(batch["x"])[name] ** 2)), rel=1e-5)


@pytest.mark.parametrize("function", ["mean_squared_error", "mean_absolute_error", "binary_crossentropy"])
@pytest.mark.parametrize("flat_output", [False, True])
def test_each_label_is_held_against_its_own_output_with_and_without_an_axis_of_one(folder, function, flat_output):
    x = keras.Input((4,), name="x")
    y = keras.layers.Dense(1, activation="sigmoid", name="y")(x)
    model = keras.Model(x, y[:, 0] if flat_output else y)
    inputs, labels = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32), np.array([0, 1, 1, 0, 1])
    changes = {"saved_model: saved_model": f"keras: model.keras, loss: {function}", "distill: off": "prune: {}"}
    recipe = recipe_in(folder, **changes)
    loss = workload_of(recipe).loss(recipe.prune.train)
    given = np.asarray(model(inputs), np.float64).reshape(5)
    by_hand = {
        "mean_squared_error": (given - labels) ** 2,
        "mean_absolute_error": np.abs(given - labels),
        "binary_crossentropy": -np.log(np.where(labels == 1, given, 1 - given)),
    }[function]
    for shaped in (labels, labels[:, None]):
        found = loss(model, {"x": inputs, "labels": shaped}, 0.0)
        assert float(found) == pytest.approx(by_hand.mean(), rel=1e-5)
