import re

import numpy as np
import pandas as pd
import pytest

from optops.models.token_ids import END, PADDING, pad_rows
from optops.models.transformer.search import SearchSettings
from optops.recipe_file import RecipeError, parse_recipe
from optops.runtimes.base import ExecutableInfo, LoadedExecutable
from optops.runtimes.beam_search import Hypothesis
from optops.testing import check_workload
from optops.workloads.base import load_workload
from optops.workloads.representative_calls import representative_calls
from optops.workloads.translation.phrases import write_corpus
from optops.workloads.translation.tokenizer import TOKENIZER_FILE, Tokenizer, train_tokenizer
from optops.workloads.translation.translating import translate

RECIPE = """
name: tiny
workload: translation
data:
  source_language: en
  target_language: de
  folder: data
  train: {source: train.en, target: train.de}
  validation: {source: validation.en, target: validation.de}
  test: {source: test.en, target: test.de}
model: {vocabulary: 300}
registry: {name: tiny}
"""

WORKLOAD = load_workload("translation")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recipe")
    write_corpus(folder / "data", train=300, validation=40, test=40, seed=3)
    return folder


@pytest.fixture(scope="module")
def recipe(folder):
    return parse_recipe(RECIPE, folder / "tiny.yaml")


@pytest.fixture(scope="module")
def assets(folder, recipe):
    assets = folder / "assets"
    assets.mkdir()
    WORKLOAD.prepare(recipe, WORKLOAD.read(recipe.data)["train"], assets)
    return assets


def test_the_workload_conforms(recipe):
    examples = WORKLOAD.read(recipe.data)["test"]
    perfect = list(examples["target"])
    imperfect = [" ".join(text.split()[:-1]) for text in perfect]
    check_workload(recipe, imperfect, perfect=perfect)


def test_one_corpus_is_split_without_losing_a_pair(folder):
    text = (
        RECIPE.split("  train:", maxsplit=1)[0]
        + "  corpus: {source: train.en, target: train.de}\n"
        + "model: {}\nregistry: {name: t}"
    )
    recipe = parse_recipe(text, folder / "one.yaml")
    splits = WORKLOAD.read(recipe.data)
    assert sum(map(len, splits.values())) == 300
    assert len(splits["train"]) > 200
    assert not set(splits["train"]["source"]) & set(splits["test"]["source"])


def test_what_a_corpus_is_split_into_is_what_has_no_files_of_its_own(folder):
    own = "  test: {source: test.en, target: test.de}\n"
    text = RECIPE.split("  train:", maxsplit=1)[0] + "  corpus: {source: train.en, target: train.de}\n" + own
    recipe = parse_recipe(text + "model: {}\nregistry: {name: t}", folder / "two.yaml")
    splits = WORKLOAD.read(recipe.data)
    written = WORKLOAD.read(parse_recipe(RECIPE, folder / "tiny.yaml").data)
    assert list(splits) == ["train", "validation", "test"]
    assert splits["test"]["source"].tolist() == written["test"]["source"].tolist()
    assert sorted([*splits["train"]["source"], *splits["validation"]["source"]]) == sorted(written["train"]["source"])
    assert 0.01 < len(splits["validation"]) / 300 < 0.12


@pytest.mark.parametrize(
    ("wrong", "right", "message"),
    [
        ("model: {vocabulary: 300}", "model: {width: 128, heads: 3}", "width 128 is not divisible by heads 3"),
        ("model: {vocabulary: 300}", "model: {saved_model: x}", "needs `tokenizer`"),
        ("  test: {source: test.en, target: test.de}\n", "", "test missing"),
        ("target_language: de", "target_language: german", "target_language: String should match pattern"),
        ("model: {vocabulary: 300}", "model: {saved_model: x, tokenizer: y}\ndistill: {}", "write `distill: off`"),
        ("vocabulary: 300", "vocabulary: 64, serving: {beam: 32}", "a beam of 32 needs a vocabulary of at least 66"),
        (
            "model: {vocabulary: 300}",
            "model: {decoder_layers: 1}\ndistill: {}",
            "has one decoder layer, which",
        ),
    ],
)
def test_sections_that_do_not_fit_are_refused(folder, wrong, right, message):
    assert wrong in RECIPE
    with pytest.raises(RecipeError, match=message):
        parse_recipe(RECIPE.replace(wrong, right), folder / "tiny.yaml")


def test_targets_of_which_bleu_counts_nothing_are_refused_before_anything_is_trained(folder):
    words = pd.DataFrame({"source": ["dog", "the cat"], "target": ["Hund", "die Katze"], "split": "validation"})
    with pytest.raises(ValueError, match=r"data\.validation: no target has four words.*bleu_tokenizer: char"):
        WORKLOAD.label_checks(words, parse_recipe(RECIPE, folder / "tiny.yaml"))


def test_a_model_of_one_decoder_layer_has_a_student_only_where_one_is_described(folder):
    one = RECIPE.replace("vocabulary: 300", "decoder_layers: 1")
    assert parse_recipe(one, folder / "tiny.yaml").distill == "off"
    described = parse_recipe(one + "distill: {student: {encoder_layers: 2}}\n", folder / "tiny.yaml")
    assert described.distill.student == {"encoder_layers": 2}


@pytest.mark.parametrize("section", ["train", "distill.train", "prune.train"])
def test_a_batch_too_small_for_any_pair_is_refused_before_anything_is_trained(section, folder, tmp_path):
    pruned = {"prune": {"ratios": [0.3]}} if section.startswith("prune") else {}
    small = parse_recipe(RECIPE, folder / "tiny.yaml", pruned | {f"{section}.batch_tokens": 2})
    with pytest.raises(
        ValueError, match=rf"{section}\.batch_tokens is 2, and the shortest training pair has \d+ tokens"
    ):
        WORKLOAD.prepare(small, WORKLOAD.read(small.data)["train"], tmp_path)


def test_a_beam_too_wide_for_the_pieces_that_the_texts_give_is_refused_before_anything_is_trained(folder, tmp_path):
    wide = parse_recipe(RECIPE, folder / "tiny.yaml", {"model.serving.beam": 20})
    few = pd.DataFrame({"source": ["a b a b"] * 20, "target": ["b a"] * 20})
    WORKLOAD.prepare(wide, few, tmp_path)
    with pytest.raises(ValueError, match="a beam of 20 needs a vocabulary of at least 42 ids, the model has"):
        WORKLOAD.build(wide, tmp_path)


@pytest.mark.parametrize("tag", ["es-419", "zh-Hant-TW", "zh_CN", "uz-Cyrl", "de-AT", "yue"])
def test_a_language_may_be_any_tag(tag, folder):
    text = RECIPE.replace("target_language: de", f"target_language: {tag}")
    assert parse_recipe(text, folder / "tiny.yaml").data.target_language == tag


def test_relocated_data_keeps_the_names_of_its_files(recipe):
    train, test = {"source": "/far/away/train.en", "target": "/far/train.de"}, {"source": "a/x.en", "target": "b/x.en"}
    moved = WORKLOAD.relocate({"source_language": "en", "train": train, "test": test}, "/near")
    assert moved["folder"] == "/near"
    assert moved["train"] == {"source": "train.en", "target": "train.de", "swap": False}
    assert moved["test"] == {**test, "swap": False}
    assert WORKLOAD.relocate({"train": train, "corpus": None}, "/near")["corpus"] is None


def test_files_of_one_name_in_several_folders_keep_their_examples_apart(tmp_path):
    for split in ("train", "validation", "test"):
        (tmp_path / split).mkdir()
        (tmp_path / split / "pairs.tsv").write_text(f"{split} one\t{split} eins\n{split} two\t{split} zwei\n")
    splits = "\n".join(f"  {split}: {split}/pairs.tsv" for split in ("train", "validation", "test"))
    text = f"name: t\nworkload: translation\ndata:\n  source_language: en\n  target_language: de\n{splits}\n"
    recipe = parse_recipe(text + "model: {}\nregistry: {name: t}\n", tmp_path / "t.yaml")
    frames = WORKLOAD.read(recipe.data)
    ids = [example for frame in frames.values() for example in frame["id"]]
    assert len(set(ids)) == len(ids) == 6


def test_text_survives_the_tokenizer(assets, recipe):
    tokenizer = Tokenizer(assets / TOKENIZER_FILE)
    texts = list(WORKLOAD.read(recipe.data)["train"]["target"][:50])
    assert tokenizer.decode(tokenizer.encode(texts)) == texts
    assert tokenizer.decode([[*tokenizer.encode(texts[:1])[0], END, 5, 6]]) == texts[:1]


def test_a_file_that_is_no_tokenizer_is_refused(tmp_path):
    (tmp_path / "bad.model").write_bytes(b"not a model")
    with pytest.raises(ValueError, match=r"bad.model is no sentencepiece model"):
        Tokenizer(tmp_path / "bad.model")


def test_a_corpus_without_text_has_no_vocabulary(tmp_path):
    with pytest.raises(ValueError, match="no text to learn a vocabulary from"):
        train_tokenizer(["", " "], [""], 100, tmp_path / "t.model")


def echo(inputs):
    return {"ids": inputs["ids"]}


def test_translations_come_back_in_order_and_empty_texts_stay_empty(assets):
    texts = ["We go home.", "", "Where is the train station in Berlin?", "  ", "No."]
    assert translate(echo, texts, assets, cut=False) == [
        "We go home.",
        "",
        "Where is the train station in Berlin?",
        "",
        "No.",
    ]


def test_what_is_served_must_be_text(assets):
    with pytest.raises(ValueError, match="input 1 is int"):
        WORKLOAD.serve(echo, assets, ["fine", 7])


def test_calls_of_a_benchmark_cover_short_and_long_sentences(assets, recipe):
    texts = list(WORKLOAD.read(recipe.data)["train"]["source"])
    rows = Tokenizer(assets / TOKENIZER_FILE).encode(texts)
    calls = representative_calls(rows, 1, 12, seed=5)
    lengths = sorted(call["ids"].shape[1] for call in calls)
    everything = sorted(map(len, rows))
    assert len(calls) == 12
    assert lengths[0] <= np.quantile(everything, 0.1)
    assert lengths[-1] >= np.quantile(everything, 0.9)
    again = representative_calls(rows, 1, 12, seed=5)
    assert all(np.array_equal(a["ids"], b["ids"]) for a, b in zip(calls, again, strict=True))
    assert {call["ids"].shape[0] for call in representative_calls(rows, 8, 12, seed=5)} == {8}


@pytest.mark.parametrize("batch", [1, 8])
def test_a_sentence_longer_than_the_model_takes_is_cut_before_it_is_timed(batch, assets, recipe):
    examples = WORKLOAD.read(recipe.data)["validation"]
    examples.loc[examples.index[3], "source"] = "Where is the station? " * 40
    ids = {"dtype": "int32", "shape": [None, None], "largest_shape": [None, 32]}
    info = ExecutableInfo("tensorflow", "fp32", inputs={"ids": ids}, outputs={})
    (assets.parent / "serving").mkdir(exist_ok=True)
    info.save(assets.parent / "serving")
    calls = WORKLOAD.benchmark_inputs(examples, assets, batch, seed=1)
    for call in calls:
        info.check(call)
    longest = max((call["ids"] for call in calls), key=lambda ids: ids.shape[1])
    assert longest.shape[1] == 32
    assert END in longest[:, -1]


def test_the_example_of_a_registered_model_is_one_that_it_takes(assets, recipe):
    examples = WORKLOAD.read(recipe.data)["validation"]
    examples.loc[examples.index[0], "source"] = "Where is the station? " * 40
    examples.loc[examples.index[1], "source"] = " "
    ids = {"dtype": "int32", "shape": [None, None], "largest_shape": [None, 32]}
    executable = LoadedExecutable(ExecutableInfo("tensorflow", "fp32", {"ids": ids}, {}), echo)
    shown = WORKLOAD.input_example(examples)
    assert len(set(shown)) == 3 and all(text.strip() for text in shown)
    assert len(WORKLOAD.serve(executable, assets, shown)) == 3


def test_half_of_a_surrogate_pair_in_a_served_text_fails_no_request(assets):
    answers = WORKLOAD.serve(echo, assets, ["We go home.", "No. \ud83d", "\ud83d"])
    assert answers[0] == "We go home."
    assert answers[1].startswith("No.")


def test_every_check_that_a_recipe_may_name_exists():
    import pandas as pd

    from optops.workloads.translation.checks import translation_checks
    from optops.workloads.translation.settings import CHECKS, Thresholds

    frame = pd.DataFrame(
        {
            "id": ["a:1"],
            "file": ["a"],
            "line": [1],
            "split": ["train"],
            "source": ["x"],
            "target": ["y"],
            "decodable": [True],
        }
    )
    _, checks = translation_checks(frame, "en", "de", Thresholds())
    assert sorted(CHECKS) == sorted(check.label.name for check in checks)


@pytest.mark.parametrize("kind", ["teacher", "interpolated"])
def test_translations_that_were_cut_off_at_their_limit_are_not_taught(assets, recipe, tmp_path, kind):
    examples = WORKLOAD.read(recipe.data)["train"][:4]
    tokenizer = Tokenizer(assets / TOKENIZER_FILE)
    said, search = tokenizer.encode(list(examples["target"])), SearchSettings()
    loops = {tuple(tokenizer.encode([examples["source"].iloc[0]])[0])}

    def hypotheses(row):
        ids = [token for token in row if token != PADDING]
        (limit,) = search.limits(np.array([len(ids)]))
        loop = [said[0][0]] * (limit - 1)
        # The shortest is one id from its limit.
        given = [loop] if tuple(ids[:-1]) in loops else [loop, loop[:-1]]
        return [Hypothesis((*ids, END), 0.0) for ids in given]

    def call(inputs):
        return {"ids": pad_rows([hypotheses(row)[-1].ids for row in inputs["ids"].tolist()])}

    call.n_best = lambda inputs: [hypotheses(row) for row in inputs["ids"].tolist()]
    ids = {"dtype": "int32", "shape": [None, None]}
    info = ExecutableInfo("onnxruntime", "fp32", {"ids": ids}, {}, settings=search.to_json())
    executable = LoadedExecutable(info, call)
    taught = WORKLOAD.teacher_labels(examples, executable, "baseline-1", assets, tmp_path, print, kind)
    assert list(taught["id"]) == list(examples["id"])[1:]


def test_one_sentence_for_every_source_teaches_nothing_but_is_an_answer_where_the_corpus_has_it(
    assets, recipe, tmp_path
):
    examples = WORKLOAD.read(recipe.data)["train"][:20]
    said = [*Tokenizer(assets / TOKENIZER_FILE).encode([examples["target"].iloc[0]])[0], END]
    ids = {"dtype": "int32", "shape": [None, None]}
    info = ExecutableInfo("onnxruntime", "fp32", {"ids": ids}, {}, settings={})
    executable = LoadedExecutable(info, lambda inputs: {"ids": pad_rows([said] * len(inputs["ids"]))})

    def taught(given, name):
        (tmp_path / name).mkdir()
        return WORKLOAD.teacher_labels(given, executable, name, assets, tmp_path / name, print, "teacher")

    assert taught(examples, "a").empty
    assert len(taught(examples.assign(target="Ja."), "b")) == len(examples)


@pytest.mark.parametrize(
    ("key", "size", "raised"),
    [("train.batch_tokens", 4, "batch_tokens"), ("model.serving.max_length", 4, r"model\.serving\.max_length")],
)
def test_pairs_that_are_all_too_long_are_refused_with_what_to_raise(key, size, raised, folder, assets):
    recipe = parse_recipe(RECIPE, folder / "tiny.yaml", {key: size})
    examples = WORKLOAD.read(recipe.data)["train"]
    with pytest.raises(ValueError, match=rf"300 of 300 training pairs have more than 4 tokens .* raise `{raised}`"):
        WORKLOAD.batches(recipe, examples, assets, recipe.train)


def test_many_pairs_that_are_too_long_are_warned_of(folder, assets, caplog):
    recipe = parse_recipe(RECIPE, folder / "tiny.yaml", {"train.batch_tokens": 60})
    examples = WORKLOAD.read(recipe.data)["train"]
    for long, warned in ((3, False), (30, True)):
        caplog.clear()
        target = [text + " Ja." * 60 if row < long else text for row, text in enumerate(examples["target"])]
        WORKLOAD.batches(recipe, examples.assign(target=target), assets, recipe.train)
        assert any(record.levelname == "WARNING" for record in caplog.records) == warned
    assert re.search("3. of 300 training pairs have more than 60 tokens and are left out; raise `batch_", caplog.text)
