"""The workload as stages and the served model use it: recipe, tokenizers, metric, answers to any text."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from optops.graph import bert_live
from optops.graph.lowering import lower
from optops.models.base import load_architecture
from optops.models.bert.config import BertConfig
from optops.models.bert.model import Bert
from optops.models.training import TrainingSettings, fit
from optops.precision import PrecisionPlan
from optops.recipe_file import RecipeError, read_recipe
from optops.runtimes import load_executable
from optops.served_model import ServedModel
from optops.testing import check_workload
from optops.workloads.base import load_workload
from optops.workloads.text_classification.intents import CLASSES, write_corpus
from optops.workloads.text_classification.metric import accuracy, class_statistics, macro_f1
from optops.workloads.text_classification.models import make_student
from optops.workloads.text_classification.settings import TextData, TextModel
from optops.workloads.text_classification.tokenizer import (
    SENTENCEPIECE_FILE,
    VOCABULARY_FILE,
    load_tokenizer,
    save_tokenizer,
    train_tokenizer,
)

RECIPE = """
name: intents
workload: text_classification
data:
  folder: data
  train: train.csv
  validation: validation.csv
  test: test.csv
  classes: [booking, cancellation, complaint, question]
model:
  vocabulary: 300
  max_length: 32
  width: 32
  heads: 2
  feed_forward: 64
  layers: 1
  pooling: mean
  pretrain: {epochs: 1}
distill: {student: {layers: 1}}
registry: {name: intents}
"""
TEXTS = ["我想预订房间 in Berlin", "please CANCEL my café booking", "the room was dirty, très sale"] * 3


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recipe")
    write_corpus(folder / "data", train=240, validation=40, test=40, seed=4)
    (folder / "intents.yaml").write_text(RECIPE, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def recipe(home):
    return read_recipe(home / "intents.yaml")


@pytest.fixture(scope="module")
def workload():
    return load_workload("text_classification")


@pytest.fixture(scope="module")
def trained(recipe, workload, tmp_path_factory):
    """Gives the folder of a model that was trained for a few epochs, with its executable."""
    folder = tmp_path_factory.mktemp("model")
    (folder / "assets").mkdir()
    examples = workload.read(recipe.data)["train"]
    workload.prepare(recipe, examples, folder / "assets")
    name, model = workload.build(recipe, folder / "assets")
    fit(
        model,
        batches=workload.batches(recipe, examples, folder / "assets", recipe.train),
        loss=workload.loss(recipe.train),
        validate=lambda _: 0.0,
        settings=TrainingSettings(epochs=3, learning_rate=3e-3, warmup_steps=5, replicas=1, average_checkpoints=1),
        checkpoints=folder / "checkpoints",
    )
    load_architecture(name).save(model, folder / "trainable", workload.serving(recipe))
    lower(folder / "trainable", PrecisionPlan("fp32"), "onnxruntime", folder / "serving")
    return folder, model


def test_the_workload_conforms(recipe, workload):
    labels = list(workload.read(recipe.data)["test"]["label"])
    check_workload(recipe, ["booking"] * len(labels), perfect=labels)


def test_the_live_model_and_what_is_lowered_from_it_say_the_same(recipe, workload, trained):
    folder, model = trained
    examples = workload.read(recipe.data)["validation"]
    live = workload.predict(bert_live.live(model, workload.serving(recipe)), examples, folder / "assets")
    lowered = workload.predict(load_executable(folder / "serving", 1), examples, folder / "assets")
    assert workload.agreement(live, lowered) == 1
    assert set(live) <= set(CLASSES)


def test_a_text_of_which_the_model_says_nan_is_taken_for_no_class(recipe, workload, trained):
    folder, _ = trained

    def execute(inputs):
        return {"probabilities": np.full((len(inputs["ids"]), len(CLASSES)), np.nan, np.float32)}

    examples = workload.read(recipe.data)["validation"]
    predictions = workload.predict(execute, examples, folder / "assets")
    assert set(predictions) == {None}
    assert workload.metric(workload.statistics(predictions, examples, recipe.data))[0] == 0
    served = workload.serve(execute, folder / "assets", list(examples["text"][:2]))
    assert [answer["label"] for answer in served] == [None, None]


def test_ranges_are_found_on_every_text_that_is_there_for_it(recipe, workload, trained):
    folder, _ = trained
    examples = workload.read(recipe.data)["train"][:90]
    calls = list(workload.calibration_inputs(examples, folder / "assets"))
    assert len(calls) == 90
    assert all(call["ids"].shape[0] == 1 for call in calls)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "x" * 100_000,
        "slow train " * 9_000,
        "😀👍🏽 hotel",
        "\x00\x07\x1b[31m",
        "a \ud83d half",
        "\u202egnorw",
        "𓀀 ꙮ",
    ],
    ids=["empty", "blank", "a word of 100,000", "long", "emoji", "control", "surrogate", "turned", "unknown"],
)
def test_any_text_gets_an_answer(text, workload, trained):
    folder, _ = trained
    served = ServedModel(workload, load_executable(folder / "serving", 1), folder / "assets")
    (answer,) = served.predict([text])
    assert answer["label"] in CLASSES
    assert list(answer["probabilities"]) == list(CLASSES)
    assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert answer["probabilities"][answer["label"]] == max(answer["probabilities"].values())


@pytest.mark.parametrize("value", [b"bytes", None, 7, ["nested"]])
def test_what_is_no_text_is_refused_by_its_place(value, workload, trained):
    folder, _ = trained
    with pytest.raises(ValueError, match=f"input 1 is {type(value).__name__}.*expected text"):
        workload.serve(load_executable(folder / "serving", 1), folder / "assets", ["good", value])


def test_calls_to_time_have_short_and_long_texts(recipe, workload, trained):
    examples = workload.read(recipe.data)["validation"]
    calls = workload.benchmark_inputs(examples, trained[0] / "assets", batch=1, seed=1)
    lengths = sorted(call["ids"].shape[1] for call in calls)
    assert len(calls) == 6
    assert lengths[0] < lengths[-1] <= 32
    assert workload.benchmark_inputs(examples, trained[0] / "assets", batch=8, seed=1)[0]["ids"].shape[0] == 8


@pytest.mark.parametrize("key", ["train", "distill.train", "prune.train", "model.pretrain"])
def test_a_batch_that_does_not_hold_the_longest_text_is_refused_before_anything_is_trained(
    key, home, workload, tmp_path
):
    small = read_recipe(home / "intents.yaml", {f"{key}.batch_tokens": 16, "model.vocabulary": 100})
    examples = workload.read(small.data)["train"]
    with pytest.raises(
        ValueError, match=rf"{key}\.batch_tokens is 16, and the longest training text has \d+ tokens; raise"
    ):
        workload.prepare(small, examples.assign(text="a room with a view and a bath " * 3), tmp_path)


def test_texts_that_become_unknown_are_refused_with_what_to_write(home, workload, tmp_path):
    recipe = read_recipe(home / "intents.yaml", {"model.max_length": 128})
    examples = workload.read(recipe.data)["train"]
    with pytest.raises(ValueError, match=r"are unknown, .* `tokenization: sentencepiece`, which needs no spaces"):
        workload.prepare(recipe, examples.assign(text="ไม่อร่อย" * 40), tmp_path)


def test_hidden_tokens_are_guessed_first_if_the_recipe_says_so(recipe, workload, trained):
    examples = workload.read(recipe.data)["train"]
    phase = workload.pretraining(recipe, trained[1], examples, trained[0] / "assets")
    assert phase.train.epochs == 1
    batch = next(iter(phase.batches(1)))
    assert ((batch["labels"] != 0) & (batch["ids"] != batch["labels"])).any()
    assert phase.validate(trained[1]) < 0
    without = recipe.model_copy(
        update={"model": recipe.model.model_copy(update={"pretrain": type(recipe.model.pretrain)()})}
    )
    assert workload.pretraining(without, trained[1], examples, trained[0] / "assets") is None


def test_a_class_that_only_an_older_model_knows_counts_as_wrong():
    statistics = class_statistics(["spam", "b", "a"], ["a", "b", "a"], ["a", "b"])
    assert accuracy(statistics)[0] == pytest.approx(100 * 2 / 3)


def test_accuracy_and_f1_are_those_of_an_independent_count():
    random = np.random.default_rng(0)
    classes = ["a", "b", "c"]
    labels = [*random.choice(classes, 60), "no class"]
    guesses = [str(label) if random.random() < 0.6 else str(random.choice(classes)) for label in labels[:-1]] + ["a"]
    statistics = class_statistics(guesses, labels, classes)
    right = sum(guess == label for guess, label in zip(guesses, labels, strict=True))
    assert accuracy(statistics)[0] == pytest.approx(100 * right / 61)
    scores = []
    for name in classes:
        hits = sum(guess == label == name for guess, label in zip(guesses, labels, strict=True))
        precision, recall = hits / guesses.count(name), hits / list(labels).count(name)
        scores.append(2 * precision * recall / (precision + recall))
    assert macro_f1(statistics)[0] == pytest.approx(100 * np.mean(scores))
    weights = random.integers(0, 3, (4, 61))
    for row, value in zip(weights, accuracy(statistics, weights), strict=True):
        repeated = np.repeat(np.array(guesses) == np.array(labels, dtype=object), row)
        assert value == pytest.approx(100 * repeated.mean())
    for row, value in zip(weights, macro_f1(statistics, weights), strict=True):
        assert value == pytest.approx(macro_f1(np.repeat(statistics, row, axis=0))[0])


def test_macro_f1_is_over_the_classes_that_occur():
    perfect = class_statistics(["a", "b", "b"], ["a", "b", "b"], ["a", "b", "c"])
    assert macro_f1(perfect)[0] == 100
    # Predicted or labelled, a class that nothing gets right counts.
    assert macro_f1(class_statistics(["a", "c"], ["a", "b"], ["a", "b", "c", "d"]))[0] == pytest.approx(100 / 3)
    # In a resample too.
    assert list(macro_f1(perfect, np.array([[1, 0, 0], [0, 1, 2]]))) == [100, 100]
    assert macro_f1(class_statistics([None], ["no class"], ["a", "b"]))[0] == 0


def test_statistics_of_a_thousand_classes_are_as_small_as_those_of_two():
    labels = [str(number % 1000) for number in range(5000)]
    many, few = (class_statistics(labels, labels, [str(n) for n in range(size)]) for size in (1000, 2))
    assert many.nbytes == few.nbytes
    assert (accuracy(many)[0], macro_f1(many)[0]) == (100, 100)
    assert accuracy(few)[0] == pytest.approx(0.2)


@pytest.mark.parametrize(("kind", "file"), [("wordpiece", VOCABULARY_FILE), ("sentencepiece", SENTENCEPIECE_FILE)])
def test_a_vocabulary_is_the_same_in_every_process(kind, file, tmp_path):
    code = (
        "import sys; from pathlib import Path;"
        "from optops.workloads.text_classification.tokenizer import train_tokenizer;"
        "from optops.workloads.text_classification.intents import generate_intents;"
        "texts = [text + ' 我想预订房间' for text, _ in generate_intents(400, 1)];"
        f"train_tokenizer(texts, {kind!r}, vocabulary=500, lowercase=True, max_length=32, assets=Path(sys.argv[1]))"
    )
    made = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        subprocess.run([sys.executable, "-c", code, str(tmp_path / name)], check=True, capture_output=True)
        made.append((tmp_path / name / file).read_bytes())
    assert made[0] == made[1]
    tokenizer = load_tokenizer(tmp_path / "one")
    assert tokenizer.size <= 500
    (ids,) = tokenizer.encode(["Please CANCEL 预订"])
    assert ids == tokenizer.encode(["please cancel 预订"])[0]
    assert (ids[0], ids[-1]) == (tokenizer.start, tokenizer.separator)
    assert tokenizer.unknown not in ids
    assert tokenizer.unknown in tokenizer.encode(["Ω"])[0]


def test_a_given_vocabulary_of_bert_cuts_as_bert_does(tmp_path):
    tokens = [
        "[PAD]",
        "[unused1]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "un",
        "##aff",
        "##able",
        "好",
        "的",
        "cafe",
        "!",
    ]
    given = tmp_path / "given.txt"
    given.write_text("\n".join(tokens) + "\n", encoding="utf-8")
    (tmp_path / "assets").mkdir()
    save_tokenizer(given, "wordpiece", lowercase=True, max_length=10, assets=tmp_path / "assets")
    (ids,) = load_tokenizer(tmp_path / "assets").encode(["Unaffable 好的café! xyz"])
    assert [tokens[i] for i in ids] == ["[CLS]", "un", "##aff", "##able", "好", "的", "cafe", "!", "[UNK]", "[SEP]"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a\nb\n", r"\[PAD\], \[UNK\].* missing"),
        ("x\n[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n", r"has \[PAD\] in line 2; it must be the first"),
        ("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\na\n", "names a token twice"),
    ],
)
def test_a_vocabulary_that_is_none_is_refused(content, message, tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        save_tokenizer(path, "wordpiece", lowercase=True, max_length=10, assets=tmp_path)
    with pytest.raises(ValueError, match="is no sentencepiece model"):
        save_tokenizer(path, "sentencepiece", lowercase=True, max_length=10, assets=tmp_path)


def test_there_must_be_text_to_learn_a_vocabulary_from(tmp_path):
    with pytest.raises(ValueError, match="no text to learn"):
        train_tokenizer([" ", ""], "wordpiece", vocabulary=100, lowercase=True, max_length=8, assets=tmp_path)


@pytest.mark.parametrize("kind", ["wordpiece", "sentencepiece"])
@pytest.mark.parametrize("text", ["\x01\x02", "\x07 \x07", "\u200b", "\ufeff"])
def test_control_characters_alone_are_no_text_to_learn_from(kind, text, tmp_path):
    with pytest.raises(ValueError, match="no text to learn a vocabulary from"):
        train_tokenizer([text] * 3, kind, vocabulary=100, lowercase=True, max_length=8, assets=tmp_path)


def test_a_vocabulary_too_small_for_the_characters_is_refused_with_the_least_size_that_works(tmp_path):
    letters = [chr(0x4E00 + number) for number in range(500)]
    texts = ["".join(letters[start : start + 20]) for start in range(0, 500, 20)] * 3
    common = {"lowercase": True, "max_length": 8, "assets": tmp_path}
    with pytest.raises(ValueError, match=r"model.vocabulary is 100; .* alone need \d+") as refused:
        train_tokenizer(texts, "sentencepiece", vocabulary=100, **common)
    least = int(re.search(r"need (\d+)", str(refused.value)).group(1))
    with pytest.raises(ValueError, match=f"need {least}"):
        train_tokenizer(texts, "sentencepiece", vocabulary=least - 1, **common)
    train_tokenizer(texts, "sentencepiece", vocabulary=least, **common)
    assert load_tokenizer(tmp_path).size == least


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("classes: [booking, cancellation, complaint, question]", "classes: [booking]", "leave no choice"),
        ("[booking, cancellation, complaint, question]", "{a: x, ' a': y, b: z}", "name one label twice"),
        ("[booking, cancellation, complaint, question]", "['a', ' a', b]", "name one label twice"),
        ("[booking, cancellation, complaint, question]", "[yes, no]", "class True is no text: YAML reads bare yes"),
        ("[booking, cancellation, complaint, question]", "{0: off, 1: on}", "class False .* put them in quotes"),
        ("[booking, cancellation, complaint, question]", "{null: a, b: c}", "class None .* put them in quotes"),
        ("  test: test.csv\n", "", "test missing; give all three splits"),
        ("  test: test.csv", "  test: test.data", "the name does not tell the format"),
        ("  folder: data\n", "  folder: data\n  text: 1\n", "numbers of both"),
        ("heads: 2", "heads: 3", "width 32 is not divisible by heads 3"),
        ("layers: 1\n  pooling", "layers: 3\n  groups: 2\n  pooling", "not divisible by groups 2"),
        ("max_length: 32", "max_length: 32\n  checkpoint: x", "`checkpoint` needs `vocabulary_file`"),
        ("  heads: 2\n", "  checkpoint: x\n  vocabulary_file: y\n", "`checkpoint` needs `heads`, as it was trained"),
        ("student: {layers: 1}", "student: {layer: 1}", "layer"),
        ("student: {layers: 1}", "student: {max_length: 8}", "'max_length' is no size of a student; known are width,"),
        ("student: {layers: 1}", "student: {layers: 2}", "has 2 layers .* starts from a model with 1; give it fewer"),
        ("student: {layers: 1}", "student: {feed_forward: 128}", "has 128 feed_forward units and starts from .* 64"),
        ("distill: {student: {layers: 1}}", "distill: {}", "one layer, which can not be halved"),
    ],
)
def test_a_wrong_recipe_says_what_is_wrong(old, new, message, home, tmp_path):
    assert old in RECIPE
    path = tmp_path / "intents.yaml"
    path.write_text(RECIPE.replace(old, new), encoding="utf-8")
    with pytest.raises(RecipeError, match=message):
        read_recipe(path)


@pytest.mark.parametrize(
    ("sizes", "student"),
    [
        ("layers: 2", {"layers": 1}),
        ("layers: 5", {"layers": 2}),
        ("layers: 4, groups: 4", {"layers": 2, "groups": 2}),
        ("layers: 12, groups: 1", {"layers": 6}),
        ("layers: 12, groups: 3", {"layers": 6}),
        ("layers: 9, groups: 3", {"layers": 3}),
    ],
)
def test_a_student_has_half_of_the_layers_if_the_recipe_does_not_say(sizes, student, tmp_path):
    read = yaml.safe_load(RECIPE)
    read["model"].update(yaml.safe_load(f"{{{sizes}}}"))
    del read["distill"]
    path = tmp_path / "intents.yaml"
    path.write_text(yaml.safe_dump(read), encoding="utf-8")
    found = read_recipe(path)
    assert found.distill.student == student
    again = type(found).model_validate(found.model_dump())
    assert again.distill == found.distill
    teacher = Bert(_config(found.model))
    smaller = make_student(found.model, found.distill, teacher, 1)
    assert smaller.config.depth == student["layers"]


def _config(model):
    sizes = {name: getattr(model, name) for name in ("width", "heads", "feed_forward", "layers", "groups")}
    return BertConfig.uniform(vocabulary=20, classes=4, max_positions=8, pooling=model.pooling, **sizes)


def test_labels_may_be_numbers_with_names(home, tmp_path):
    text = RECIPE.replace("[booking, cancellation, complaint, question]", "{0: bad, 1: good}")
    path = tmp_path / "intents.yaml"
    path.write_text(text, encoding="utf-8")
    assert read_recipe(path).data.classes == {"0": "bad", "1": "good"}


def test_a_number_and_its_text_are_one_label(recipe):
    given = {**recipe.data.model_dump(), "classes": {1: "a", "1": "b", 2: "c"}}
    with pytest.raises(ValueError, match="name one label twice; write each once"):
        type(recipe.data).model_validate(given)


def test_classes_have_no_white_space_around_them_for_labels_are_read_without(home, tmp_path):
    text = RECIPE.replace("[booking, cancellation, complaint, question]", "[' booking', 'question ']")
    path = tmp_path / "intents.yaml"
    path.write_text(text, encoding="utf-8")
    assert read_recipe(path).data.classes == {"booking": "booking", "question": "question"}


def test_a_student_has_the_sizes_that_the_recipe_changes(recipe, workload, trained):
    teacher = trained[1]
    student = workload.student(recipe, teacher)
    assert student.config.depth == 1
    np.testing.assert_array_equal(student.embeddings.token, teacher.embeddings.token)


def test_files_can_be_taken_from_another_folder(workload):
    data = {"folder": "a", "train": "b/all.csv", "test": "c/all.csv", "validation": "/far/d/all.csv"}
    assert workload.relocate(data, "/elsewhere") == {**data, "folder": "/elsewhere", "validation": "all.csv"}


def test_a_path_that_a_variable_leads_elsewhere_is_taken_from_the_other_folder_too(workload, monkeypatch):
    monkeypatch.setenv("ELSEWHERE", "/far")
    data = {"train": "$ELSEWHERE/d/all.csv", "test": "~/test.csv", "validation": "$UNSET_HERE/all.csv"}
    moved = {"train": "all.csv", "test": "test.csv", "validation": "$UNSET_HERE/all.csv"}
    assert workload.relocate(data, "/other") == {**moved, "folder": "/other"}


def test_the_sections_on_the_page_are_valid():
    page = Path(__file__).parents[3] / "docs" / "text_classification.md"
    blocks = re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 3
    models = {"data": TextData, "model": TextModel}
    for block in blocks:
        for name, section in yaml.safe_load(block).items():
            models[name].model_validate(section)


def test_the_recipes_of_the_repository_are_valid():
    for name in ("travel_intents", "chnsenticorp_htl_bert", "sst2_albert"):
        read = read_recipe(Path(__file__).parents[3] / "dags" / "recipes" / f"{name}.yaml")
        assert read.workload == "text_classification"
